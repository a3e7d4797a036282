/*
 * Histories of several processes on few keys, recorded, and checked one key at a
 * time for linearizability; see linear.h for what that means and what a cache may
 * do besides.
 *
 * A round: all workers wait at the start line, then each performs a few operations
 * on the round's keys - two registers and a counter, which no round before had - and
 * notes when it called and when it was answered, on the clock that all share. The
 * parent waits for them, buries who died, and checks each key's history.
 *
 *   strict     nothing may be forgotten: the pool is large, eviction is off
 *   evicting   the pool is tiny; keys may be forgotten, and nothing else
 *   ... with kills: half of the workers are armed to die at a step of a write, and
 *   the parent sends SIGKILL whenever it likes
 *
 * Between recorded operations workers put other keys, so that buckets are split,
 * entries moved and evicted meanwhile.
 *
 * histories [--rounds N] [--seed N]    rounds for each of the four kinds; ends with the
 *                                      first history that is not right
 */
#include <getopt.h>

#include "harness.h"
#include "linear.h"

#define WORKERS 3u
#define REGISTERS 2u
#define KEYS (REGISTERS + 1u) /* the last is a counter */
#define COUNTER REGISTERS
#define OPERATIONS_MAX 10u /* of a worker in a round, on one key */
#define ROUNDS_A_POOL 50u
#define STRICT_POOL_BYTES (8u * 1024u * 1024u)
#define TINY_POOL_BYTES PMC_POOL_MIN_BYTES
#define VALUE_MAX_BYTES 3000u
#define LOCK_TIMEOUT_MS 20000u
#define ROUND_PATIENCE_NS UINT64_C(10000000000)
static_assert(WORKERS * OPERATIONS_MAX < LINEAR_OPERATIONS_MAX, "room for all");

/* What a worker noted of one key in this round. */
struct notes {
    struct linear_operation operations[OPERATIONS_MAX];
    _Atomic uint32_t count; /* the last may be under way */
};

/* Shared by all; survives the workers. */
struct board {
    struct notes notes[WORKERS][KEYS];
    _Atomic uint64_t round; /* the one that workers may perform */
    _Atomic uint64_t done[WORKERS];
    _Atomic uint32_t stop;
    _Atomic uint64_t wrong; /* bytes that nobody put, statuses that nothing explains */
};

struct kind {
    const char *name;
    bool evicting;
    bool killing;
};

/* What a worker last saw of a register: what it may swap. */
struct sight {
    uint64_t generation;
    uint32_t value;
};

struct worker {
    struct pmc_cache *cache;
    struct sight sights[REGISTERS];
    struct linear_operation *current;
    uint64_t random;
    uint64_t round;
    uint32_t number;
    uint32_t puts; /* in this round: makes values unique */
    bool crowding;
    uint8_t value[VALUE_MAX_BYTES];
    uint8_t buffer[VALUE_MAX_BYTES];
};

struct tally {
    uint64_t rounds;
    uint64_t histories;
    uint64_t operations;
    uint64_t overlapping; /* operations that began while another of the key ran */
    uint64_t kills;
    uint64_t pending;
    uint64_t forgotten; /* histories that hold only because keys may be forgotten */
    uint64_t broken;
};

static struct board *board;
static struct pmc_options pool_options;
static uint64_t random_state;
static pid_t workers[WORKERS];

/* ---- keys and values ------------------------------------------------- */

static uint32_t
key_number(uint64_t round, uint32_t key)
{
    return (uint32_t)(round * KEYS + key);
}

static size_t
size_of(uint64_t random)
{
    return STAMP_BYTES + random % (random % 7 ? 200 : VALUE_MAX_BYTES - STAMP_BYTES);
}

static void
complain(const struct worker *me, const char *what, enum pmc_status status)
{
    if (atomic_fetch_add(&board->wrong, 1) < 20)
        dprintf(STDERR_FILENO, "round %" PRIu64 ": %s: %s\n", me->round, what,
                pmc_status_text(status));
}

/* ---- operations that are recorded ------------------------------------ */

static void
called(struct worker *me, uint32_t key, enum linear_kind kind, uint32_t argument,
       uint32_t expected)
{
    struct notes *notes = &board->notes[me->number][key];
    uint32_t number = atomic_load(&notes->count);

    me->current = &notes->operations[number];
    *me->current = (struct linear_operation){.called = time_ns(),
                                             .returned = LINEAR_PENDING,
                                             .argument = argument,
                                             .expected = expected,
                                             .process = (uint16_t)me->number,
                                             .kind = (uint8_t)kind};
    atomic_store(&notes->count, number + 1);
}

static void
answered(struct worker *me, const char *what, enum pmc_status status, uint32_t result)
{
    uint64_t now_ns = time_ns();

    me->current->outcome = status == PMC_OK        ? LINEAR_YES
                           : status == PMC_DROPPED ? LINEAR_DROPPED
                                                   : LINEAR_NO;
    if (status != PMC_OK && status != PMC_DROPPED && status != PMC_MISS &&
        status != PMC_UNMET)
        complain(me, what, status);
    me->current->result = result;
    atomic_thread_fence(memory_order_release);
    me->current->returned = now_ns;
}

/* The value that was read is its sequence; wrong bytes are nobody's. */
static uint32_t
value_of(struct worker *me, uint32_t key, size_t size)
{
    uint64_t sequence = 0;

    if (size > sizeof me->buffer ||
        !value_is_whole(me->buffer, size, key_number(me->round, key), &sequence)) {
        complain(me, "wrong bytes", PMC_EDAMAGED);
        return UINT32_MAX;
    }
    return (uint32_t)sequence;
}

static void
read_register(struct worker *me, uint32_t key)
{
    char name[KEY_ROOM_BYTES];
    size_t name_size = key_write(name, key_number(me->round, key));
    struct pmc_found found;
    enum pmc_status status;
    uint32_t value = 0;

    called(me, key, LINEAR_GET, 0, 0);
    status =
        pmc_get(me->cache, name, name_size, me->buffer, sizeof me->buffer, 0, &found);
    if (status == PMC_OK) {
        value = value_of(me, key, found.value_size);
        me->sights[key] =
            (struct sight){.generation = found.generation, .value = value};
    }
    answered(me, "get", status, value);
}

static void
write_register(struct worker *me, uint32_t key, enum linear_kind kind)
{
    static const uint8_t conditions[] = {[LINEAR_PUT] = PMC_ALWAYS,
                                         [LINEAR_ADD] = PMC_IF_ABSENT,
                                         [LINEAR_REPLACE] = PMC_IF_PRESENT,
                                         [LINEAR_SWAP] = PMC_IF_GENERATION};
    uint32_t number = key_number(me->round, key);
    uint32_t value = ++me->puts * WORKERS + me->number;
    size_t size = size_of(draw(&me->random, UINT64_MAX));
    const struct sight *sight = &me->sights[key];
    struct pmc_put_options options = {.ttl_ms = PMC_TTL_NONE,
                                      .condition = conditions[kind],
                                      .generation = sight->generation};
    char name[KEY_ROOM_BYTES];
    size_t name_size = key_write(name, number);

    value_write(me->value, number, value, size);
    called(me, key, kind, value, sight->value);
    answered(me, "put", pmc_put(me->cache, name, name_size, me->value, size, &options),
             0);
}

static void
remove_register(struct worker *me, uint32_t key)
{
    char name[KEY_ROOM_BYTES];
    size_t name_size = key_write(name, key_number(me->round, key));

    called(me, key, LINEAR_DELETE, 0, 0);
    answered(me, "delete",
             draw(&me->random, 4) == 0
                 ? pmc_evict(me->cache, name, name_size, NULL, NULL)
                 : pmc_delete(me->cache, name, name_size, 0),
             0);
}

static void
look_at_register(struct worker *me, uint32_t key)
{
    char name[KEY_ROOM_BYTES];
    size_t name_size = key_write(name, key_number(me->round, key));

    called(me, key, LINEAR_EXISTS, 0, 0);
    answered(me, "exists or touch",
             draw(&me->random, 2) == 0
                 ? pmc_exists(me->cache, name, name_size)
                 : pmc_touch(me->cache, name, name_size, PMC_TTL_NONE, 0),
             0);
}

static void
use_register(struct worker *me, uint32_t key)
{
    uint64_t choice = draw(&me->random, 20);

    if (choice < 8)
        read_register(me, key);
    else if (choice < 9)
        look_at_register(me, key);
    else if (choice < 13)
        write_register(me, key, LINEAR_PUT);
    else if (choice < 14)
        write_register(me, key, LINEAR_REPLACE);
    else if (choice < 16)
        write_register(me, key, LINEAR_ADD);
    else if (choice < 18 && me->sights[key].generation != 0)
        write_register(me, key, LINEAR_SWAP);
    else
        remove_register(me, key);
}

static void
read_counter(struct worker *me)
{
    char name[KEY_ROOM_BYTES];
    size_t name_size = key_write(name, key_number(me->round, COUNTER));
    char text[24];
    struct pmc_found found = {0};
    enum pmc_status status;

    called(me, COUNTER, LINEAR_GET, 0, 0);
    status = pmc_get(me->cache, name, name_size, text, sizeof text - 1, 0, &found);
    /* Behind the value may be bytes of a look that was in vain. */
    text[found.value_size < sizeof text ? found.value_size : 0] = '\0';
    answered(me, "get of a counter", status, (uint32_t)strtoul(text, NULL, 10));
}

/* Steps of 1 to 60: the number grows in length, so it is sometimes stored anew. */
static void
use_counter(struct worker *me)
{
    struct pmc_incr_options make = {.create = true, .ttl_ms = PMC_TTL_NONE};
    bool may_make = draw(&me->random, 3) != 0;
    uint32_t delta = 1 + (uint32_t)draw(&me->random, 60);
    char name[KEY_ROOM_BYTES];
    size_t name_size = key_write(name, key_number(me->round, COUNTER));
    int64_t sum = 0;
    enum pmc_status status;

    if (draw(&me->random, 3) == 0) {
        read_counter(me);
        return;
    }
    called(me, COUNTER, may_make ? LINEAR_ADVANCE_NEW : LINEAR_ADVANCE, delta, 0);
    status = pmc_incr(me->cache, name, name_size, delta, may_make ? &make : NULL, &sum);
    answered(me, "incr", status, (uint32_t)sum);
}

/* ---- workers --------------------------------------------------------- */

/* Other keys: they fill buckets and, where it is crowded, push the round's keys out:
 * many of the sizes that those have. */
static void
put_fillers(struct worker *me)
{
    uint64_t puts = me->crowding ? 1 + draw(&me->random, 60) : 1;

    for (; puts > 0; puts--) {
        uint64_t random = draw(&me->random, UINT64_MAX);
        size_t size = me->crowding ? size_of(random) : random % 60;

        memset(me->value, 'f', size);
        pmc_put(me->cache, &random, sizeof random, me->value, size, NULL);
    }
}

static void
pause_a_moment(struct worker *me)
{
    for (uint64_t turn = draw(&me->random, UINT64_C(1) << draw(&me->random, 10));
         turn > 0; turn--)
        cpu_relax();
}

static void
perform(struct worker *me)
{
    uint64_t operations = 4 + draw(&me->random, 2 * OPERATIONS_MAX);

    me->puts = 0;
    memset(me->sights, 0, sizeof me->sights);
    for (uint64_t turn = 0; turn < operations; turn++) {
        uint32_t key = (uint32_t)draw(&me->random, KEYS);

        if (draw(&me->random, 3) == 0)
            put_fillers(me);
        pause_a_moment(me);
        if (atomic_load(&board->notes[me->number][key].count) == OPERATIONS_MAX)
            continue;
        if (key == COUNTER)
            use_counter(me);
        else
            use_register(me, key);
    }
}

_Noreturn static void
work(struct pmc_cache *cache, uint32_t number, uint64_t seed, uint64_t done,
     const struct kind *kind)
{
    static struct worker me;

    me = (struct worker){.cache = cache,
                         .number = number,
                         .random = seed,
                         .round = done,
                         .crowding = kind->evicting};
    if (kind->killing && draw(&me.random, 2) == 0)
        pmc_fault_arm(1 + (long)draw(&me.random, 400), NULL);
    while (!atomic_load(&board->stop)) {
        if (atomic_load(&board->round) == me.round) {
            sched_yield();
            continue;
        }
        me.round = atomic_load(&board->round);
        perform(&me);
        atomic_store(&board->done[number], me.round);
    }
    _exit(0);
}

/* ---- the parent ------------------------------------------------------ */

static void
start_worker(struct pmc_cache *cache, uint32_t number, const struct kind *kind)
{
    uint64_t seed = draw(&random_state, UINT64_MAX);
    uint64_t done = atomic_load(&board->round);

    workers[number] = fork_child();
    if (workers[number] == 0)
        work(cache, number, seed, done, kind);
}

/* Has a worker ended, as only the killed may? */
static void
look_after(uint32_t number, struct tally *tally)
{
    int status;

    if (!workers[number] || waitpid(workers[number], &status, WNOHANG) <= 0)
        return;
    workers[number] = 0;
    tally->kills += was_killed(status);
    check(was_killed(status), "a worker ended with wait status %#x", (unsigned)status);
}

static bool
is_over(uint64_t round)
{
    for (uint32_t number = 0; number < WORKERS; number++)
        if (workers[number] && atomic_load(&board->done[number]) != round)
            return false;
    return true;
}

/* From the start line until everybody has finished or died. */
static void
run_round(struct pmc_cache *cache, const struct kind *kind, struct tally *tally)
{
    uint64_t round = atomic_load(&board->round) + 1;
    uint64_t began_ns = time_ns();
    uint64_t kill_at_ns = began_ns + draw(&random_state, 400000);
    bool kills = kind->killing && draw(&random_state, 3) == 0;

    memset(board->notes, 0, sizeof board->notes);
    for (uint32_t number = 0; number < WORKERS; number++)
        if (!workers[number])
            start_worker(cache, number, kind);
    atomic_store(&board->round, round);
    while (!is_over(round)) {
        for (uint32_t number = 0; number < WORKERS; number++)
            look_after(number, tally);
        if (kills && time_ns() >= kill_at_ns) {
            uint32_t victim = (uint32_t)draw(&random_state, WORKERS);

            kills = false;
            if (workers[victim])
                kill(workers[victim], SIGKILL);
        }
        if (time_ns() - began_ns > ROUND_PATIENCE_NS) {
            check(false, "%s, round %" PRIu64 " hangs", kind->name, round);
            exit(finish());
        }
        sched_yield();
    }
    tally->rounds++;
}

static void
gather(uint32_t key, struct linear_history *history_out)
{
    history_out->count = 0;
    for (uint32_t number = 0; number < WORKERS; number++) {
        const struct notes *notes = &board->notes[number][key];
        uint32_t count = atomic_load(&notes->count);

        memcpy(&history_out->operations[history_out->count], notes->operations,
               count * sizeof notes->operations[0]);
        history_out->count += count;
    }
}

static void
count_operations(const struct linear_history *history, struct tally *tally)
{
    for (uint32_t i = 0; i < history->count; i++) {
        const struct linear_operation *one = &history->operations[i];
        bool overlaps = false;

        for (uint32_t j = 0; j < history->count; j++)
            overlaps =
                overlaps || (i != j && history->operations[j].called <= one->called &&
                             history->operations[j].returned >= one->called);
        tally->operations++;
        tally->overlapping += overlaps;
        tally->pending += one->returned == LINEAR_PENDING;
    }
}

static void
check_history(const struct kind *kind, uint32_t key, struct tally *tally)
{
    struct linear_history history = {.may_forget = false};
    enum linear_verdict verdict;

    gather(key, &history);
    count_operations(&history, tally);
    tally->histories++;
    verdict = linear_check(&history);
    if (verdict != LINEAR_HOLDS && kind->evicting) {
        history.may_forget = true;
        tally->forgotten++;
        verdict = linear_check(&history);
    }
    if (check(
            verdict == LINEAR_HOLDS, "%s, round %" PRIu64 ": the history of key %u %s",
            kind->name, atomic_load(&board->round), key,
            verdict == LINEAR_BROKEN ? "is not linearizable" : "is too long to decide"))
        return;
    tally->broken++;
    linear_print(&history, stderr);
}

static struct pmc_cache *
new_pool(const struct kind *kind, uint64_t number)
{
    struct pmc_cache *cache;

    pool_options = options_in_folder(
        "histories.pool", kind->evicting ? TINY_POOL_BYTES : STRICT_POOL_BYTES,
        LOCK_TIMEOUT_MS);
    pool_options.eviction = (uint8_t)(!kind->evicting ? PMC_EVICT_NONE
                                      : number % 2    ? PMC_EVICT_LRU
                                                      : PMC_EVICT_S3FIFO);
    cache = open_pool(&pool_options);
    if (!cache)
        exit(2);
    /* A tiny pool is full from the beginning. */
    for (uint32_t filler = 0; kind->evicting && filler < 400; filler++)
        put_stamped(cache, UINT32_MAX / 2 + filler, 1, STAMP_BYTES + filler * 37 % 2000,
                    NULL);
    return cache;
}

static void
end_workers(struct tally *tally)
{
    atomic_store(&board->stop, 1);
    for (uint32_t number = 0; number < WORKERS; number++) {
        int status = workers[number] ? wait_child(workers[number]) : 0;

        workers[number] = 0;
        tally->kills += was_killed(status);
        check(status == 0 || was_killed(status), "a worker ended with wait status %#x",
              (unsigned)status);
    }
    atomic_store(&board->stop, 0);
}

static void
report(const struct kind *kind, const struct tally *tally)
{
    printf("%-20s %" PRIu64 " histories of %" PRIu64 " operations (%" PRIu64
           " began while another ran), %" PRIu64 " kills, %" PRIu64
           " died in an operation, %" PRIu64 " histories forgot, %" PRIu64 " broken\n",
           kind->name, tally->histories, tally->operations, tally->overlapping,
           tally->kills, tally->pending, tally->forgotten, tally->broken);
    fflush(stdout);
    if (checks_failed > 0)
        return;
    check(tally->overlapping * 20 > tally->operations,
          "%s: hardly anything happened at the same time", kind->name);
    check(!kind->killing || tally->pending > 0, "%s: nobody died in an operation",
          kind->name);
    check(!kind->evicting || tally->forgotten > 0, "%s: nothing was evicted",
          kind->name);
}

static void
run_kind(const struct kind *kind, uint64_t rounds)
{
    struct tally tally = {0};

    for (uint64_t pool = 0; tally.rounds < rounds && checks_failed == 0; pool++) {
        struct pmc_cache *cache = new_pool(kind, pool);

        for (uint64_t turn = 0;
             turn < ROUNDS_A_POOL && tally.rounds < rounds && checks_failed == 0;
             turn++) {
            run_round(cache, kind, &tally);
            for (uint32_t key = 0; key < KEYS; key++)
                check_history(kind, key, &tally);
        }
        end_workers(&tally);
        check(is_whole(cache), "%s: broken invariants", kind->name);
        pmc_close(cache);
        empty_folder();
    }
    report(kind, &tally);
}

static void
read_arguments(int count, char **arguments, uint64_t *rounds_out, uint64_t *seed_out)
{
    static const struct option known[] = {{"rounds", required_argument, NULL, 'n'},
                                          {"seed", required_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        if (option == '?')
            exit(2);
        *(option == 'n' ? rounds_out : seed_out) = number_argument(optarg);
    }
}

int
main(int count, char **arguments)
{
    static const struct kind kinds[] = {{"strict", false, false},
                                        {"strict, kills", false, true},
                                        {"evicting", true, false},
                                        {"evicting, kills", true, true}};
    uint64_t rounds = 1000;
    uint64_t seed = 1;

    read_arguments(count, arguments, &rounds, &seed);
    setenv("PMC_FAULT_READ_DELAY_US", "20", 0);
    random_state = mix(seed);
    board = share_memory(sizeof *board);
    make_folder();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && checks_failed == 0; i++)
        run_kind(&kinds[i], rounds);
    check(atomic_load(&board->wrong) == 0, "%" PRIu64 " answers that nothing explains",
          atomic_load(&board->wrong));
    return finish();
}
