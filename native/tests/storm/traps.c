/*
 * Small scenes, each aimed at one law that a kill storm meets too seldom.
 *
 *   generation   every write of a key gives it a number it never had before
 *   version      a key's version changes before its value does, and again when that is
 *                over, also if its writer dies
 *   expiry       nothing is served after its deadline
 *   place        a lock whose owner died is inherited at once, also when a new
 *                process has taken the dead one's place
 *   stopped      a stopped owner costs others the lock timeout, never a hang
 *   adoption     what was found in a kept pool is served only if its checksum fits
 *   splitting    a key that is there is found while its bucket is split
 *   adding       no finished increment is lost, however many processes die
 *   overtaking   whoever allocates memory may find that others took it meanwhile, or
 *                gave it back again
 *   scribbling   random bytes in the files lead to misses, never to a crash
 *
 * traps [NAME]    only the traps whose name begins so
 */
#include "harness.h"

#include <fcntl.h>

#include "pool_geometry.h"

#define POOL_BYTES (1024u * 1024u)
#define LOCK_TIMEOUT_MS 400u
/* Above the timeout: a machine that is busy with other things. */
#define MARGIN_MS 20000u

static uint64_t random_state = 1;

static struct pmc_options
pool_options(void)
{
    struct pmc_options options =
        options_in_folder("traps.pool", POOL_BYTES, LOCK_TIMEOUT_MS);

    options.eviction = PMC_EVICT_NONE;
    return options;
}

static struct pmc_cache *
new_pool_waiting(uint32_t lock_timeout_ms)
{
    struct pmc_options options = pool_options();
    struct pmc_cache *cache;

    empty_folder();
    options.lock_timeout_ms = lock_timeout_ms;
    cache = open_pool(&options);
    if (!cache)
        exit(2);
    return cache;
}

static struct pmc_cache *
new_pool(void)
{
    return new_pool_waiting(LOCK_TIMEOUT_MS);
}

static size_t
size_of(uint32_t number)
{
    return STAMP_BYTES + mix(number) % 300;
}

static enum pmc_status
put(struct pmc_cache *cache, uint32_t number, uint64_t sequence)
{
    return put_stamped(cache, number, sequence, size_of(number), NULL);
}

/* The sequence that a get finds; 0 for a miss, UINT64_MAX for wrong bytes. */
static uint64_t
get(struct pmc_cache *cache, uint32_t number, uint64_t *generation_out)
{
    struct pmc_found found;
    uint64_t sequence;
    enum pmc_status status = get_stamped(cache, number, &sequence, &found);

    if (status == PMC_EDAMAGED)
        return UINT64_MAX;
    if (status != PMC_OK)
        return 0;
    if (generation_out)
        *generation_out = found.generation;
    return sequence;
}

/* Fork a child that dies at a named step of a put of this key. */
static void
die_putting(struct pmc_cache *cache, uint32_t number, const char *step_name)
{
    pid_t child = fork_child();

    if (child == 0) {
        pmc_fault_arm(1, step_name);
        put(cache, number, 999);
        _exit(0);
    }
    check(was_killed(wait_child(child)), "nobody died at %s", step_name);
}

/* ---- generation ------------------------------------------------------ */

static void
trap_generation(void)
{
    struct pmc_cache *cache = new_pool();
    uint64_t last = 0;

    for (uint64_t turn = 1; turn <= 20; turn++) {
        uint64_t now = 0;

        if (turn % 5 == 0)
            die_putting(cache, 1, turn % 2 ? "write.value" : "put.replaced");
        check(put(cache, 1, turn) == PMC_OK && get(cache, 1, &now) == turn,
              "what was put is not got");
        check(now > last, "generation %" PRIu64 " after %" PRIu64, now, last);
        last = now;
    }
    pmc_close(cache);
}

/* ---- version --------------------------------------------------------- */

/* Copies of a value are good as long as its version stays. */
static void
trap_version(void)
{
    struct pmc_cache *cache = new_pool();
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, 1);
    size_t count;
    const volatile uint64_t *version = pmc_versions(cache, &count);
    uint64_t before;

    version += pmc_version_index(cache, key, key_size);
    check(put(cache, 1, 1) == PMC_OK, "put");
    before = *version;
    check(put(cache, 1, 2) == PMC_OK && *version > before && *version % 2 == 0,
          "version %" PRIu64 " before a change, %" PRIu64 " after it", before,
          *version);
    before = *version;
    die_putting(cache, 1, "update.written");
    check(*version > before && *version % 2 == 1,
          "version %" PRIu64 " before a change, %" PRIu64 " in it", before, *version);
    before = *version;
    check(put(cache, 2, 1) == PMC_OK, "put after a death");
    check(*version > before && *version % 2 == 0,
          "version %" PRIu64 " at a death, %" PRIu64 " after it", before, *version);
    pmc_close(cache);
}

/* ---- expiry ---------------------------------------------------------- */

static void
trap_expiry(void)
{
    struct pmc_cache *cache = new_pool();
    struct pmc_put_options soon = {.ttl_ms = 1000};
    struct pmc_put_options absent = {.ttl_ms = PMC_TTL_NONE,
                                     .condition = PMC_IF_ABSENT};
    char byte[1];
    int64_t sum;

    check(pmc_put(cache, "k", 1, "7", 1, &soon) == PMC_OK, "put with a ttl");
    check(pmc_exists(cache, "k", 1) == PMC_OK, "an entry before its deadline");
    pmc_advance_clock(cache, 2000);
    check(pmc_get(cache, "k", 1, byte, 1, 0, NULL) == PMC_MISS, "get: expired");
    check(pmc_exists(cache, "k", 1) == PMC_MISS, "exists: expired");
    check(pmc_touch(cache, "k", 1, 1000, 0) == PMC_MISS, "touch: expired");
    check(pmc_incr(cache, "k", 1, 1, NULL, &sum) == PMC_MISS, "incr: expired");
    check(pmc_put(cache, "k", 1, "8", 1, &absent) == PMC_OK, "put if absent: expired");
    check(is_whole(cache), "broken invariants");
    pmc_close(cache);
}

/* ---- place ----------------------------------------------------------- */

struct readiness {
    _Atomic uint32_t ready;
};

/* The next to attach gets the place of the one that died holding the lock, and
 * does nothing with it. */
static void
trap_place(void)
{
    struct pmc_cache *cache = new_pool();
    struct readiness *heirs = share_memory(sizeof *heirs);
    pid_t heir;

    check(put(cache, 1, 1) == PMC_OK, "put");
    die_putting(cache, 2, "put.room");
    heir = fork_child(); /* attached by the fork itself */
    if (heir == 0) {
        atomic_store(&heirs->ready, 1);
        for (;;)
            pause();
    }
    while (!atomic_load(&heirs->ready))
        sleep_us(1000);
    check(put(cache, 3, 1) == PMC_OK, "the dead owner is taken for alive");
    check(get(cache, 1, NULL) == 1 && is_whole(cache), "content after inheriting");
    kill(heir, SIGKILL);
    wait_child(heir);
    munmap(heirs, sizeof *heirs);
    pmc_close(cache);
}

/* ---- stopped --------------------------------------------------------- */

static void
put_for_ever(struct pmc_cache *cache)
{
    for (uint64_t turn = 1;; turn++)
        put(cache, 100 + (uint32_t)(turn % 50), turn);
}

/* Stop the child until it is stopped inside the lock. */
static bool
stop_inside(struct pmc_cache *cache, pid_t child)
{
    struct pmc_put_options nowait = {.ttl_ms = PMC_TTL_NONE, .flags = PMC_NOWAIT};

    for (int attempt = 0; attempt < 20000; attempt++) {
        int status;

        sleep_us(draw(&random_state, 300));
        kill(child, SIGSTOP);
        if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status))
            return false;
        if (pmc_put(cache, "probe", 5, "1", 1, &nowait) == PMC_BUSY)
            return true;
        kill(child, SIGCONT);
    }
    return false;
}

static void
trap_stopped(void)
{
    struct pmc_cache *cache = new_pool();
    uint64_t waited_ms;
    uint64_t began_ns;
    pid_t child;

    check(put(cache, 1, 1) == PMC_OK, "put");
    child = fork_child();
    if (child == 0)
        put_for_ever(cache);
    if (check(stop_inside(cache, child), "the child never held the lock")) {
        began_ns = time_ns();
        check(put(cache, 1, 2) == PMC_ETIMEDOUT, "put: the owner is alive");
        waited_ms = (time_ns() - began_ns) / 1000000;
        check(waited_ms >= LOCK_TIMEOUT_MS && waited_ms < LOCK_TIMEOUT_MS + MARGIN_MS,
              "waited for %" PRIu64 " ms", waited_ms);
        check(pmc_delete(cache, "probe", 5, 0) == PMC_ETIMEDOUT, "delete");
        check(get(cache, 1, NULL) <= 1, "a read is a hit or a miss");
        kill(child, SIGCONT);
        check(put(cache, 1, 3) == PMC_OK && get(cache, 1, NULL) == 3, "afterwards");
    }
    kill(child, SIGKILL);
    wait_child(child);
    check(is_whole(cache), "broken invariants");
    pmc_close(cache);
}

/* ---- adoption -------------------------------------------------------- */

#define ADOPTED_KEYS 60u

static void
fill_and_die(const struct pmc_options *options)
{
    pid_t child = fork_child();

    if (child == 0) {
        struct pmc_cache *cache = open_pool(options);

        if (!cache)
            _exit(3);
        for (uint32_t number = 0; number < ADOPTED_KEYS; number++)
            put(cache, number, 1);
        raise(SIGKILL);
    }
    check(was_killed(wait_child(child)), "no content to adopt");
}

/* Change one byte of the value of a key, wherever it lies in the file. */
static bool
spoil_value(const char *path, uint32_t number)
{
    struct stamp stamp = {
        .key = number, .size = (uint32_t)size_of(number), .sequence = 1};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t *file = malloc(POOL_BYTES * 2);
    ssize_t size = fd < 0 || !file ? 0 : pread(fd, file, POOL_BYTES * 2, 0);
    uint8_t *found = size > 0 ? memmem(file, (size_t)size, &stamp, sizeof stamp) : NULL;
    bool spoiled = false;

    if (found) {
        uint8_t *byte = found + size_of(number) - 1;

        *byte ^= 0x10;
        spoiled = pwrite(fd, byte, 1, byte - file) == 1;
    }
    free(file);
    close(fd);
    return spoiled;
}

static void
trap_adoption(void)
{
    struct pmc_options options = pool_options();
    struct pmc_cache *cache;

    empty_folder();
    options.lifetime = PMC_RESTART;
    fill_and_die(&options);
    for (uint32_t number = 0; number < ADOPTED_KEYS; number += 3)
        check(spoil_value(options.path, number), "no value to spoil");
    cache = open_pool(&options);
    if (!check(cache != NULL, "the pool is not adopted"))
        return;
    for (uint32_t number = 0; number < ADOPTED_KEYS; number++) {
        uint64_t sequence = get(cache, number, NULL);

        check(sequence == (number % 3 ? 1 : 0), "adopted key %u: %" PRIu64, number,
              sequence);
    }
    check(is_whole(cache), "broken invariants");
    pmc_close(cache);
}

/* ---- splitting ------------------------------------------------------- */

#define STABLE_KEYS 24u
#define ADDED_KEYS 1500u
#define SPLITTING_ROUNDS 40

/* One round: keys that are there from the beginning, and a child that adds so
 * many others that the index grows from one bucket to hundreds. */
static uint64_t
misses_while_splitting(void)
{
    struct pmc_cache *cache = new_pool();
    uint64_t misses = 0;
    int status = 0;
    pid_t child;

    for (uint32_t number = 0; number < STABLE_KEYS; number++)
        put(cache, number, 1);
    child = fork_child();
    if (child == 0) {
        for (uint32_t number = 100; number < 100 + ADDED_KEYS; number++)
            put(cache, number, 1);
        _exit(0);
    }
    while (waitpid(child, &status, WNOHANG) == 0)
        for (uint32_t number = 0; number < STABLE_KEYS; number++)
            misses += get(cache, number, NULL) != 1;
    check(status == 0 && is_whole(cache), "the pool after splitting");
    pmc_close(cache);
    return misses;
}

static void
trap_splitting(void)
{
    uint64_t misses = 0;

    for (int round = 0; round < SPLITTING_ROUNDS && misses == 0; round++)
        misses += misses_while_splitting();
    check(misses == 0, "%" PRIu64 " reads missed keys that were there", misses);
}

/* ---- adding ---------------------------------------------------------- */

#define ADDERS 4
#define ADDING_KILLS 600

struct sums {
    _Atomic uint64_t started;
    _Atomic uint64_t completed;
    _Atomic uint64_t refused; /* lost counters, locks not had */
};

_Noreturn static void
add_for_ever(struct pmc_cache *cache, struct sums *sums, uint64_t seed)
{
    pmc_fault_arm(seed % 3 ? (long)(seed / 3 % 400) + 1 : 0, NULL);
    for (;;) {
        int64_t sum;

        atomic_fetch_add(&sums->started, 1);
        if (pmc_incr(cache, "sum", 3, 1, NULL, &sum) == PMC_OK)
            atomic_fetch_add(&sums->completed, 1);
        else
            atomic_fetch_add(&sums->refused, 1);
    }
}

static void
trap_adding(void)
{
    struct pmc_cache *cache = new_pool_waiting(MARGIN_MS);
    struct sums *sums = share_memory(sizeof *sums);
    pid_t adders[ADDERS] = {0};
    int64_t sum = -1;

    check(pmc_put(cache, "sum", 3, "0", 1, NULL) == PMC_OK, "put");
    for (int kills = 0; kills < ADDING_KILLS + ADDERS; kills++) {
        pid_t *adder = &adders[kills % ADDERS];
        uint64_t seed = draw(&random_state, UINT64_MAX);

        if (*adder) {
            kill(*adder, SIGKILL);
            wait_child(*adder);
        }
        if (kills < ADDING_KILLS) {
            *adder = fork_child();
            if (*adder == 0)
                add_for_ever(cache, sums, seed);
            sleep_us(draw(&random_state, 1500));
        }
    }
    check(pmc_incr(cache, "sum", 3, 0, NULL, &sum) == PMC_OK, "the counter is gone");
    check(sum >= (int64_t)atomic_load(&sums->completed) &&
              sum <= (int64_t)atomic_load(&sums->started),
          "the sum is %" PRId64 ", %" PRIu64 " were completed, %" PRIu64 " started",
          sum, atomic_load(&sums->completed), atomic_load(&sums->started));
    check(atomic_load(&sums->completed) > 0 && atomic_load(&sums->refused) == 0,
          "%" PRIu64 " increments were refused", atomic_load(&sums->refused));
    check(is_whole(cache), "broken invariants");
    munmap(sums, sizeof *sums);
    pmc_close(cache);
}

/* ---- overtaking ------------------------------------------------------ */

#define OVERTAKEN_POOL_BYTES (4u * 1024u * 1024u)
#define OVERTAKING_KEYS 50u

/* Put keys that fill most of the pool. */
static void
use_most(void *context)
{
    static const uint8_t value[60000];
    struct pmc_cache *cache = context;

    for (uint32_t key = 0; key < OVERTAKING_KEYS; key++)
        check(pmc_put(cache, &key, sizeof key, value, sizeof value, NULL) == PMC_OK,
              "put %u", key);
}

/* ... and delete them: all of it is given back. */
static void
use_and_give_back(void *context)
{
    struct pmc_cache *cache = context;

    use_most(cache);
    for (uint32_t key = 0; key < OVERTAKING_KEYS; key++)
        check(pmc_delete(cache, &key, sizeof key, 0) == PMC_OK, "delete %u", key);
}

/* What the pool says it has of its file system, and what its file has of it. */
static void
check_memory(struct pmc_cache *cache, const char *path)
{
    struct pmc_stats stats = {0};
    struct stat about = {0};

    check(pmc_stats(cache, &stats) == PMC_OK && stat(path, &about) == 0, "the sizes");
    check(stats.allocated_bytes <= (uint64_t)about.st_blocks * 512,
          "%" PRIu64 " bytes are believed to be allocated, %" PRIu64 " are",
          stats.allocated_bytes, (uint64_t)about.st_blocks * 512);
    check(stats.recoveries == 0, "somebody found it damaged");
}

/* Whoever takes memory at this step, of an empty pool, is overtaken by others. */
static void
check_overtaken(const char *step_name, void (*others)(void *context))
{
    struct pmc_options options =
        options_in_folder("traps.pool", OVERTAKEN_POOL_BYTES, LOCK_TIMEOUT_MS);
    struct pmc_cache *cache;

    empty_folder();
    options.memory = PMC_MEMORY_CONSERVATIVE;
    cache = open_pool(&options);
    if (!check(cache != NULL, "no pool"))
        return;
    if (strncmp(step_name, "refill", 6) == 0)
        use_and_give_back(cache);
    check_memory(cache, options.path);
    pmc_fault_call(step_name, others, cache);
    check(put_stamped(cache, 1, 1, VALUE_ROOM_BYTES, NULL) == PMC_OK, "put");
    check(get(cache, 1, NULL) == 1, "what was put is not got");
    check_memory(cache, options.path);
    check(is_whole(cache), "broken invariants");
    pmc_close(cache);
}

static void
trap_overtaking(void)
{
    check_overtaken("grow.allocated", use_most);
    check_overtaken("grow.allocated", use_and_give_back);
    check_overtaken("refill.allocated", use_most);
    check_overtaken("refill.allocated", use_and_give_back);
}

/* ---- scribbling ------------------------------------------------------ */

#define SCRIBBLE_ROUNDS 60
#define SCRIBBLES 400
#define SCRIBBLED_KEYS 300u

/* Where the buckets of the only shard begin in the index. What comes before them,
 * the headers, is taken for granted by every process that is attached. */
static off_t
first_bucket(const char *path)
{
    struct pool_identity identity;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, &identity, sizeof identity, 0) != sizeof identity)
        give_up("read the pool's header");
    close(fd);
    return (off_t)pool_shards_off(&identity) + (off_t)PAGE_BYTES;
}

static void
scribble(const char *path, const char *suffix, off_t from)
{
    char name[200];
    struct stat about;
    int fd;

    snprintf(name, sizeof name, "%s%s", path, suffix);
    fd = open(name, O_RDWR | O_CLOEXEC);
    if (!check(fd >= 0 && fstat(fd, &about) == 0 && about.st_size > from,
               "nothing to scribble on in %s", name))
        return;
    for (int turn = 0; turn < SCRIBBLES; turn++) {
        uint64_t noise = mix(draw(&random_state, UINT64_MAX));
        uint64_t span = (uint64_t)(about.st_size - from) / 4;
        /* Most of the index is sparse: stay near its beginning. */
        uint64_t at = draw(&random_state, turn % 2 ? span : span / 16);

        if (pwrite(fd, &noise, 4, from + (off_t)at * 4) != 4)
            give_up("scribble");
    }
    close(fd);
}

_Noreturn static void
use_scribbled(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < SCRIBBLED_KEYS; number++)
        get(cache, number, NULL);
    for (uint32_t number = 0; number < SCRIBBLED_KEYS; number++) {
        char key[KEY_ROOM_BYTES];
        size_t key_size = key_write(key, number);

        if (number % 3 == 0)
            put(cache, number + 1000, 2);
        else if (number % 3 == 1)
            pmc_delete(cache, key, key_size, 0);
        else
            put(cache, number, 2);
    }
    for (uint32_t number = 0; number < 2 * SCRIBBLED_KEYS; number++)
        get(cache, number, NULL);
    _exit(0);
}

static void
trap_scribbling(void)
{
    for (int round = 0; round < SCRIBBLE_ROUNDS; round++) {
        struct pmc_options options = pool_options();
        struct pmc_cache *cache;
        pid_t child;
        int status;

        empty_folder();
        options.verify = true;
        options.eviction = round % 2 ? PMC_EVICT_S3FIFO : PMC_EVICT_LRU;
        options.size_bytes = PMC_POOL_MIN_BYTES;
        cache = open_pool(&options);
        if (!check(cache != NULL, "no pool"))
            return;
        for (uint32_t number = 0; number < SCRIBBLED_KEYS; number++)
            put(cache, number, 1);
        scribble(options.path, ".index", first_bucket(options.path));
        scribble(options.path, "", 4096);
        child = fork_child();
        if (child == 0) {
            alarm(20);
            use_scribbled(cache);
        }
        status = wait_child(child);
        check(status == 0, "round %d: wait status %#x", round, (unsigned)status);
        pmc_close(cache);
    }
}

/* ---- all ------------------------------------------------------------- */

int
main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } traps[] = {
        {"generation", trap_generation}, {"version", trap_version},
        {"expiry", trap_expiry},         {"place", trap_place},
        {"stopped", trap_stopped},       {"adoption", trap_adoption},
        {"splitting", trap_splitting},   {"adding", trap_adding},
        {"overtaking", trap_overtaking}, {"scribbling", trap_scribbling},
    };

    setenv("PMC_FAULT_READ_DELAY_US", "200", 0);
    make_folder();
    alarm(880);
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        int failed_before = checks_failed;

        if (!is_wanted(traps[i].name, count, arguments))
            continue;
        traps[i].run();
        printf("%-12s %s\n", traps[i].name,
               checks_failed == failed_before ? "held" : "broken");
        fflush(stdout);
    }
    return finish();
}
