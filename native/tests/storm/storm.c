/*
 * The storm: workers that put, delete, add, clear and read on one small pool,
 * while a parent kills them at any moment, and starts new ones.
 *
 * What must hold, whoever dies when:
 *   wrong     a read gives the exact bytes of a value that was put under its key
 *   stale     a read that began after a put, delete or clear had returned does
 *             not see what was there before; each key has one writer at a time,
 *             and the shared board remembers its last finished operation; copies
 *             that workers keep by version are held to the same
 *   hangs     no operation takes longer than the lock timeout and a margin
 *   timeouts  nobody stops for as long as the timeout, so no lock times out
 *   damaged   recovery finds nothing that death alone cannot explain
 * and pmc_check() finds every invariant whole.
 *
 * Half of the workers die at a numbered step of a write, the others whenever the
 * parent sends SIGKILL. Now and then all die at once, and the pool is opened
 * again, or a new one is made, so that the index grows and splits anew.
 *
 * storm [--kills N] [--at-least N] [--seconds S] [--progress S] [--workers W] [--seed N]
 *
 * It ends after --kills, or after --seconds; fewer kills than --at-least are a failure
 * too, and --progress says every so many seconds how far it is.
 */
#include <getopt.h>

#include "harness.h"

#define KEYS 1024u
#define COUNTERS 4u
#define WORKERS_MAX 16u
#define VALUE_MAX_BYTES (24u * 1024u)
#define POOL_BYTES (384u * 1024u)
#define LOCK_TIMEOUT_MS 3000u
#define HANG_NS (UINT64_C(1000000) * (LOCK_TIMEOUT_MS + 5000u))
#define KILLS_A_ROUND 40u
#define CHECKS_A_ROUND 4u
#define COMPLAINTS_MAX 20u
#define COPIES 64u

struct key_state {
    _Atomic uint64_t started;   /* sequence of the last operation begun */
    _Atomic uint64_t completed; /* ... of the last that returned */
    _Atomic uint64_t floor;     /* nothing older may be read any more */
};

/* Survives the workers; shared by all. */
struct board {
    struct key_state keys[KEYS];
    _Atomic uint64_t adds_started[COUNTERS];
    _Atomic uint64_t busy_since_ns[WORKERS_MAX]; /* 0: between operations */
    _Atomic uint64_t operations;
    _Atomic uint64_t hits;
    _Atomic uint64_t copies; /* uses of one that was good */
    _Atomic uint64_t wrong;
    _Atomic uint64_t stale;
    _Atomic uint64_t timeouts;
    _Atomic uint64_t odd_results; /* statuses that nothing explains */
    _Atomic uint32_t stop;
};

/* A worker's own copy of a value, good for as long as its version stays. */
struct copy {
    uint64_t version;
    uint64_t sequence; /* 0: none */
    size_t version_index;
    uint32_t key;
};

struct worker {
    struct pmc_cache *cache;
    const volatile uint64_t *versions;
    struct copy copies[COPIES];
    uint32_t number;
    uint64_t random;
    uint8_t value[VALUE_MAX_BYTES];
    uint8_t buffer[VALUE_MAX_BYTES + 64];
};

struct settings {
    uint64_t kills;
    uint64_t at_least;
    uint64_t seconds;
    uint64_t progress_seconds; /* 0: say nothing */
    uint64_t seed;
    uint32_t workers;
};

struct totals {
    uint64_t kills;
    uint64_t stops;
    uint64_t recoveries;
    uint64_t damaged;
    uint64_t moved_bytes;
    uint64_t evict;
    uint64_t lock_timeouts;
    uint64_t crashes;
    uint64_t hangs;
    uint64_t pools;
};

static struct board *board;
static struct settings settings = {
    .kills = 2000, .at_least = 1000, .seconds = 600, .seed = 1, .workers = 4};
static struct totals totals;

/* ---- what is stored -------------------------------------------------- */

static bool
is_delete(uint32_t key, uint64_t sequence)
{
    return mix((uint64_t)key << 32 ^ sequence) % 6 == 0;
}

static size_t
size_of(uint32_t key, uint64_t sequence)
{
    uint64_t random = mix((uint64_t)key << 24 ^ sequence);
    uint64_t kind = random % 64;
    uint64_t span = kind == 0   ? VALUE_MAX_BYTES - STAMP_BYTES
                    : kind < 6  ? 4096
                    : kind < 24 ? 700
                                : 120;

    return STAMP_BYTES + (size_t)(random / 64 % span);
}

static void complain(_Atomic uint64_t *counter, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
complain(_Atomic uint64_t *counter, const char *format, ...)
{
    va_list arguments;

    if (atomic_fetch_add(counter, 1) >= COMPLAINTS_MAX)
        return;
    va_start(arguments, format);
    vdprintf(STDERR_FILENO, format, arguments);
    va_end(arguments);
}

/* ---- operations of a worker ------------------------------------------ */

static void
begin(const struct worker *me)
{
    atomic_store(&board->busy_since_ns[me->number], time_ns());
}

static void
end(const struct worker *me, const char *what, enum pmc_status status)
{
    atomic_store(&board->busy_since_ns[me->number], 0);
    atomic_fetch_add(&board->operations, 1);
    if (status == PMC_ETIMEDOUT)
        complain(&board->timeouts, "%s timed out\n", what);
    else if (status != PMC_OK && status != PMC_MISS && status != PMC_DROPPED)
        complain(&board->odd_results, "%s: %s\n", what, pmc_status_text(status));
}

static void
raise_floor(uint32_t key, uint64_t sequence)
{
    uint64_t seen = atomic_load(&board->keys[key].floor);

    while (seen < sequence &&
           !atomic_compare_exchange_weak(&board->keys[key].floor, &seen, sequence))
        continue;
}

/* A key that this worker alone writes. */
static uint32_t
own_key(struct worker *me)
{
    uint32_t keys = KEYS / settings.workers;

    return (uint32_t)draw(&me->random, keys) * settings.workers + me->number;
}

static void
write_key(struct worker *me)
{
    uint32_t number = own_key(me);
    struct key_state *state = &board->keys[number];
    uint64_t sequence = atomic_load(&state->started) + 1;
    struct pmc_put_options options = {.ttl_ms = draw(&me->random, 10) == 0
                                                    ? 1 + (int64_t)draw(&me->random, 30)
                                                    : PMC_TTL_NONE};
    size_t size = size_of(number, sequence);
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);
    enum pmc_status status;

    atomic_store(&state->started, sequence);
    value_write(me->value, number, sequence, size);
    begin(me);
    if (is_delete(number, sequence))
        status = pmc_delete(me->cache, key, key_size, 0);
    else
        status = pmc_put(me->cache, key, key_size, me->value, size, &options);
    end(me, "write", status);
    if (status < 0)
        return;
    atomic_store(&state->completed, sequence);
    raise_floor(number, sequence);
}

static void
judge(uint32_t number, uint64_t floor, const uint8_t *value, size_t size)
{
    uint64_t sequence = 0;

    atomic_fetch_add(&board->hits, 1);
    if (size > VALUE_MAX_BYTES || !value_is_whole(value, size, number, &sequence) ||
        is_delete(number, sequence) || size != size_of(number, sequence) ||
        sequence > atomic_load(&board->keys[number].started))
        complain(&board->wrong, "wrong bytes under key %u, %zu of them\n", number,
                 size);
    else if (sequence < floor)
        complain(&board->stale,
                 "key %u: saw operation %" PRIu64 " after %" PRIu64 " had returned\n",
                 number, sequence, floor);
}

static void
read_key(struct worker *me)
{
    uint32_t number = (uint32_t)draw(&me->random, KEYS);
    uint64_t floor = atomic_load(&board->keys[number].floor);
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);
    struct pmc_found found;
    enum pmc_status status;

    begin(me);
    status =
        pmc_get(me->cache, key, key_size, me->buffer, sizeof me->buffer, 0, &found);
    end(me, "get", status);
    if (status == PMC_OK)
        judge(number, floor, me->buffer, found.value_size);
}

static void *
reserve_buffer(void *context, size_t value_size)
{
    struct worker *me = context;

    return value_size <= sizeof me->buffer ? me->buffer : NULL;
}

static void
read_key_reserved(struct worker *me)
{
    uint32_t number = (uint32_t)draw(&me->random, KEYS);
    uint64_t floor = atomic_load(&board->keys[number].floor);
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);
    struct pmc_found found;
    enum pmc_status status;

    begin(me);
    status = pmc_get_reserve(me->cache, key, key_size, reserve_buffer, me, &found);
    end(me, "get with reserve", status);
    if (status == PMC_OK)
        judge(number, floor, me->buffer, found.value_size);
}

static uint64_t
version_now(const struct worker *me, size_t version_index)
{
    return __atomic_load_n(&me->versions[version_index], __ATOMIC_ACQUIRE);
}

/* Read with a version, and keep a copy if nothing happened meanwhile. */
static void
take_copy(struct worker *me)
{
    uint32_t number = (uint32_t)draw(&me->random, KEYS);
    uint64_t floor = atomic_load(&board->keys[number].floor);
    struct copy *copy = &me->copies[draw(&me->random, COPIES)];
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);
    struct pmc_versioned seen;
    struct stamp stamp;
    enum pmc_status status;

    begin(me);
    status = pmc_get_versioned(me->cache, key, key_size, 0, reserve_buffer, me, &seen);
    end(me, "get with version", status);
    if (status != PMC_OK)
        return;
    judge(number, floor, me->buffer, seen.found.value_size);
    memcpy(&stamp, me->buffer, sizeof stamp);
    if (seen.version % 2 == 0 && version_now(me, seen.version_index) == seen.version)
        *copy = (struct copy){.key = number,
                              .version = seen.version,
                              .version_index = seen.version_index,
                              .sequence = stamp.sequence};
}

/* A copy whose version stayed is as good as what a get would find. */
static void
use_copy(struct worker *me)
{
    const struct copy *copy = &me->copies[draw(&me->random, COPIES)];
    uint64_t floor = atomic_load(&board->keys[copy->key].floor);

    if (copy->sequence == 0 || version_now(me, copy->version_index) != copy->version)
        return;
    if (copy->sequence < floor)
        complain(&board->stale,
                 "key %u: a copy of operation %" PRIu64 " counts as good after %" PRIu64
                 " had returned\n",
                 copy->key, copy->sequence, floor);
    else
        atomic_fetch_add(&board->copies, 1);
}

static void
touch_key(struct worker *me)
{
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, own_key(me));
    enum pmc_status status;

    begin(me);
    status =
        pmc_touch(me->cache, key, key_size, 1 + (int64_t)draw(&me->random, 200), 0);
    end(me, "touch", status);
}

static void
add_to_counter(struct worker *me)
{
    uint32_t number = (uint32_t)draw(&me->random, COUNTERS);
    struct pmc_incr_options options = {.create = true, .ttl_ms = PMC_TTL_NONE};
    char key[32];
    int key_size = snprintf(key, sizeof key, "counter:%u", number);
    int64_t result = 0;
    enum pmc_status status;

    atomic_fetch_add(&board->adds_started[number], 1);
    begin(me);
    status = pmc_incr(me->cache, key, (size_t)key_size, 1, &options, &result);
    end(me, "incr", status);
    if (status == PMC_OK &&
        (result < 1 || (uint64_t)result > atomic_load(&board->adds_started[number])))
        complain(&board->wrong, "counter %u became %" PRId64 "\n", number, result);
}

/* What had been written before the clear began must not be seen after it. */
static void
clear_all(struct worker *me)
{
    uint64_t before[KEYS];
    enum pmc_status status;

    for (uint32_t key = 0; key < KEYS; key++)
        before[key] = atomic_load(&board->keys[key].completed);
    begin(me);
    status = pmc_clear(me->cache);
    end(me, "clear", status);
    for (uint32_t key = 0; status == PMC_OK && key < KEYS; key++)
        raise_floor(key, before[key] + 1);
}

static void
evict_one(struct worker *me)
{
    enum pmc_status status;

    begin(me);
    status = pmc_evict(me->cache, NULL, 0, NULL, NULL);
    end(me, "evict", status);
}

/* Every fourth worker mostly reads, the others mostly write. */
static void
operate(struct worker *me)
{
    uint64_t choice = draw(&me->random, 1000);
    uint64_t writes = me->number % 4 == 3 ? 100 : 600;

    use_copy(me);
    if (choice < writes)
        write_key(me);
    else if (choice < writes + 15)
        touch_key(me);
    else if (choice < writes + 40)
        add_to_counter(me);
    else if (choice < writes + 45)
        evict_one(me);
    else if (choice == 999 && draw(&me->random, 20) == 0)
        clear_all(me);
    else if (choice % 4 == 0)
        read_key_reserved(me);
    else if (choice % 4 == 1)
        take_copy(me);
    else
        read_key(me);
}

_Noreturn static void
work(uint32_t number, struct pmc_cache *inherited, const struct pmc_options *options,
     uint64_t seed)
{
    static struct worker me;
    size_t versions;

    me = (struct worker){.cache = inherited, .number = number, .random = seed};
    pmc_fault_arm(draw(&me.random, 2) ? 1 + (long)draw(&me.random, 20000) : 0, NULL);
    if (!me.cache) {
        begin(&me);
        me.cache = open_pool(options);
        atomic_store(&board->busy_since_ns[number], 0);
    }
    if (!me.cache)
        _exit(3);
    me.versions = pmc_versions(me.cache, &versions);
    while (!atomic_load(&board->stop))
        operate(&me);
    pmc_close(me.cache);
    _exit(0);
}

/* ---- the parent ------------------------------------------------------ */

static pid_t workers[WORKERS_MAX];
static uint64_t random_state;
static struct pmc_options pool_options;
static char pool_path[160];
static struct pmc_cache *attached; /* the parent's own, in every other round */

static void
start_worker(uint32_t number)
{
    uint64_t seed = draw(&random_state, UINT64_MAX);

    atomic_store(&board->busy_since_ns[number], 0);
    workers[number] = fork_child();
    if (workers[number] == 0)
        work(number, attached, &pool_options, seed);
}

/* A worker ended: by SIGKILL, as it should, or because something is broken. */
static void
note_end(uint32_t number, int status)
{
    workers[number] = 0;
    if (was_killed(status)) {
        totals.kills++;
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        totals.crashes++;
        fprintf(stderr, "a worker ended with wait status %#x\n", (unsigned)status);
    }
}

static void
bury(uint32_t number)
{
    if (workers[number] == 0)
        return;
    kill(workers[number], SIGKILL);
    note_end(number, wait_child(workers[number]));
}

static void
replace_dead(void)
{
    for (uint32_t number = 0; number < settings.workers; number++) {
        int status;

        if (workers[number] && waitpid(workers[number], &status, WNOHANG) > 0)
            note_end(number, status);
        if (!workers[number])
            start_worker(number);
    }
}

/* Kill those that have been busy for too long: they would stay so. */
static void
watch_for_hangs(void)
{
    for (uint32_t number = 0; number < settings.workers; number++) {
        uint64_t since = atomic_load(&board->busy_since_ns[number]);

        if (since == 0 || time_ns() < since + HANG_NS)
            continue;
        totals.hangs++;
        fprintf(stderr, "worker %u has been in one operation for too long\n", number);
        bury(number);
    }
}

static void
stop_for_a_while(uint32_t number)
{
    if (!workers[number])
        return;
    totals.stops++;
    kill(workers[number], SIGSTOP);
    sleep_us(draw(&random_state, 50000));
    kill(workers[number], SIGCONT);
}

static void
check_pool(struct pmc_cache *cache)
{
    check(is_whole(cache), "broken invariants");
}

static void
add_stats(struct pmc_cache *cache)
{
    struct pmc_stats stats;

    if (pmc_stats(cache, &stats) != PMC_OK)
        return;
    totals.recoveries += stats.recoveries;
    totals.damaged += stats.damaged;
    totals.moved_bytes += stats.moved_bytes;
    totals.evict += stats.evict;
    totals.lock_timeouts += stats.lock_timeouts;
}

static void
name_new_pool(void)
{
    totals.pools++;
    snprintf(pool_path, sizeof pool_path, "%s/storm-%" PRIu64 ".pool", folder,
             totals.pools);
    pmc_options_default(&pool_options);
    pool_options.path = pool_path;
    pool_options.size_bytes = POOL_BYTES;
    pool_options.shards = 1;
    pool_options.lock_timeout_ms = LOCK_TIMEOUT_MS;
    pool_options.lifetime = PMC_RESTART;
    pool_options.eviction = totals.pools % 3 == 0 ? PMC_EVICT_LRU : PMC_EVICT_S3FIFO;
}

static uint64_t
failures(void)
{
    return atomic_load(&board->wrong) + atomic_load(&board->stale) +
           atomic_load(&board->timeouts) + atomic_load(&board->odd_results) +
           totals.hangs + totals.crashes + (uint64_t)checks_failed;
}

static void
say_progress(uint64_t began_ns)
{
    static uint64_t next_ns;
    uint64_t now_ns = time_ns();

    if (settings.progress_seconds == 0)
        return;
    if (next_ns != 0 && now_ns >= next_ns) {
        printf("%5" PRIu64 " s: %" PRIu64 " of %" PRIu64 " kills, %" PRIu64
               " stops, %" PRIu64 " operations, %" PRIu64 " failures\n",
               (now_ns - began_ns) / 1000000000u, totals.kills, settings.kills,
               totals.stops, atomic_load(&board->operations), failures());
        fflush(stdout);
    }
    if (next_ns == 0 || now_ns >= next_ns)
        next_ns = now_ns + settings.progress_seconds * 1000000000u;
}

/* Everybody is dead. Open what they left, check it, and read it once more. */
static void
examine_remains(bool last_use)
{
    static struct worker me;
    struct pmc_cache *cache = attached ? attached : open_pool(&pool_options);

    if (!check(cache != NULL, "the pool cannot be opened after all died"))
        return;
    me = (struct worker){.cache = cache, .random = draw(&random_state, UINT64_MAX)};
    for (uint32_t turn = 0; turn < 200; turn++)
        read_key(&me);
    check_pool(cache);
    if (last_use)
        add_stats(cache);
    pmc_close(cache);
    attached = NULL;
}

/* Between two kills: from no time at all to a good part of a worker's life. */
static void
wait_a_moment(void)
{
    uint64_t shift = draw(&random_state, 14);

    sleep_us(draw(&random_state, UINT64_C(2) << shift));
}

/* From the start of all workers until all are killed at once. */
static void
run_round(uint64_t kills_wanted, uint64_t end_ns)
{
    uint64_t check_at = totals.kills;

    while (totals.kills < kills_wanted && time_ns() < end_ns &&
           failures() < COMPLAINTS_MAX) {
        uint32_t number = (uint32_t)draw(&random_state, settings.workers);

        replace_dead();
        wait_a_moment();
        watch_for_hangs();
        if (draw(&random_state, 12) == 0)
            stop_for_a_while(number);
        else
            bury(number);
        if (attached && totals.kills >= check_at) {
            check_pool(attached);
            check_at += KILLS_A_ROUND / CHECKS_A_ROUND;
        }
    }
}

static void
kill_all(void)
{
    for (uint32_t number = 0; number < settings.workers; number++)
        if (workers[number])
            kill(workers[number], SIGKILL);
    for (uint32_t number = 0; number < settings.workers; number++)
        bury(number);
}

/* The end of the last round: all finish what they are at, and detach. */
static void
let_all_finish(void)
{
    uint64_t give_up_ns = time_ns() + HANG_NS;

    atomic_store(&board->stop, 1);
    for (uint32_t number = 0; number < settings.workers; number++) {
        int status = 0;

        while (workers[number] && waitpid(workers[number], &status, WNOHANG) == 0) {
            if (time_ns() > give_up_ns) {
                totals.hangs++;
                bury(number);
            }
            sleep_us(1000);
        }
        if (workers[number])
            note_end(number, status);
    }
}

static void
storm(void)
{
    uint64_t began_ns = time_ns();
    uint64_t end_ns = began_ns + settings.seconds * 1000000000u;
    bool more = true;

    for (uint64_t round = 0; more; round++) {
        if (round % 2 == 0)
            name_new_pool();
        attached = round % 4 < 2 ? open_pool(&pool_options) : NULL;
        run_round(totals.kills + KILLS_A_ROUND < settings.kills
                      ? totals.kills + KILLS_A_ROUND
                      : settings.kills,
                  end_ns);
        say_progress(began_ns);
        more = totals.kills < settings.kills && time_ns() < end_ns &&
               failures() < COMPLAINTS_MAX;
        if (more)
            kill_all();
        else
            let_all_finish();
        examine_remains(round % 2 == 1 || !more);
        if (round % 2 == 1)
            empty_folder();
    }
}

static void
report(void)
{
    uint64_t hits = atomic_load(&board->hits);

    printf("kills %" PRIu64 ", recoveries %" PRIu64 ", operations %" PRIu64 " (%" PRIu64
           " hits, %" PRIu64 " of copies), wrong %" PRIu64 ", stale %" PRIu64
           ", hangs %" PRIu64 "\n",
           totals.kills, totals.recoveries, atomic_load(&board->operations), hits,
           atomic_load(&board->copies), atomic_load(&board->wrong),
           atomic_load(&board->stale), totals.hangs);
    printf("stops %" PRIu64 ", pools %" PRIu64 ", evicted %" PRIu64 ", moved %" PRIu64
           " bytes, damaged %" PRIu64 ", timeouts %" PRIu64 ", crashes %" PRIu64
           ", seed %" PRIu64 "\n",
           totals.stops, totals.pools, totals.evict, totals.moved_bytes, totals.damaged,
           totals.lock_timeouts, totals.crashes, settings.seed);
    check(totals.kills >= settings.at_least,
          "only %" PRIu64 " kills in %" PRIu64 " s, too few to say anything",
          totals.kills, settings.seconds);
    check(hits > 0 && atomic_load(&board->copies) > 0, "no read ever found anything");
    check(totals.stops > 0, "nobody was stopped");
    check(totals.recoveries > 0, "nobody died holding the lock");
    check(totals.evict > 0 && totals.moved_bytes > 0, "nothing was evicted, or moved");
    check(atomic_load(&board->wrong) == 0, "wrong bytes were read");
    check(atomic_load(&board->stale) == 0, "stale values were read");
    check(atomic_load(&board->odd_results) == 0, "results that nothing explains");
    check(atomic_load(&board->timeouts) == 0 && totals.lock_timeouts == 0,
          "locks timed out");
    check(totals.hangs == 0, "operations hung");
    check(totals.crashes == 0, "workers crashed");
    check(totals.damaged == 0, "recovery found damage");
}

static void
read_arguments(int count, char **arguments)
{
    static const struct option known[] = {{"kills", required_argument, NULL, 'k'},
                                          {"at-least", required_argument, NULL, 'a'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"progress", required_argument, NULL, 'p'},
                                          {"workers", required_argument, NULL, 'w'},
                                          {"seed", required_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        uint64_t *target = option == 'k'   ? &settings.kills
                           : option == 'a' ? &settings.at_least
                           : option == 's' ? &settings.seconds
                           : option == 'p' ? &settings.progress_seconds
                                           : &settings.seed;

        if (option == '?')
            exit(2);
        if (option == 'w')
            settings.workers = (uint32_t)number_argument(optarg);
        else
            *target = number_argument(optarg);
    }
    if (settings.workers < 1 || settings.workers > WORKERS_MAX) {
        fprintf(stderr, "--workers is 1 to %u\n", WORKERS_MAX);
        exit(2);
    }
}

int
main(int count, char **arguments)
{
    read_arguments(count, arguments);
    setenv("PMC_FAULT_READ_DELAY_US", "100", 0);
    random_state = mix(settings.seed);
    board = share_memory(sizeof *board);
    make_folder();
    alarm((unsigned)settings.seconds + 60);
    storm();
    report();
    printf("%s: %" PRIu64 " kills, %" PRIu64 " of %" PRIu64 " promises broken\n",
           checks_failed == 0 ? "held" : "BROKEN", totals.kills,
           (uint64_t)checks_failed, (uint64_t)(checks_failed + checks_passed));
    return finish();
}
