/*
 * Clocks that jump: the wall clock, which means nothing to the engine, and the
 * monotonic one, which runs ahead when a machine is woken or moved, and differs
 * between two time namespaces. Every call of clock_gettime() in this program is
 * answered here.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "cache.h"
#include "support.h"

#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)
#define TIMEOUT_MS 300u
#define PATIENCE_MS 30000u
/* Longer than any wait in here, and ended by the kernel's own clock. */
#define HANG_SECONDS 60u

static _Atomic int64_t wall_ahead_ms;
static _Atomic int64_t monotonic_ahead_ms;

static int
true_clock(clockid_t clock, struct timespec *now_out)
{
    return (int)syscall(SYS_clock_gettime, clock, now_out);
}

int
clock_gettime(clockid_t clock, struct timespec *now_out)
{
    bool is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int64_t ahead_ms = atomic_load(is_wall ? &wall_ahead_ms : &monotonic_ahead_ms);
    int result = true_clock(clock, now_out);

    now_out->tv_sec += ahead_ms / 1000;
    return result;
}

static uint64_t
true_milliseconds(void)
{
    struct timespec now;

    true_clock(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* A pool with an entry for an hour and one for ever, on a clock that shows two days. */
static struct pmc_cache *
open_with_entries(void)
{
    struct pmc_put_options for_an_hour = {.ttl_ms = HOUR_MS};
    struct pmc_options options;
    struct pmc_cache *cache;

    atomic_store(&wall_ahead_ms, 0);
    atomic_store(&monotonic_ahead_ms, 2 * DAY_MS);
    pmc_options_default(&options);
    options.size_bytes = UINT64_C(1) << 20;
    options.lock_timeout_ms = TIMEOUT_MS;
    cache = open_with(&options);
    CHECK_EQ(pmc_put(cache, "hour", 4, "v", 1, &for_an_hour), PMC_OK);
    CHECK_EQ(put_text(cache, "ever", "v"), PMC_OK);
    return cache;
}

static void
check_goes_on(struct pmc_cache *cache)
{
    struct pmc_put_options for_an_hour = {.ttl_ms = HOUR_MS};
    struct pmc_lease lease;

    CHECK(holds_text(cache, "ever", "v"));
    CHECK_EQ(pmc_put(cache, "new", 3, "w", 1, &for_an_hour), PMC_OK);
    CHECK(holds_text(cache, "new", "w"));
    CHECK_EQ(pmc_lease_take(cache, "l", 1, 60000, &lease), PMC_OK);
    CHECK_EQ(pmc_lease_release(cache, "l", 1, lease.token), PMC_OK);
    check_sound(cache);
}

/* ---- deadlines ------------------------------------------------------- */

/* Planted bug: deadlines by the wall clock. */
static void
test_a_wall_clock_that_is_set_changes_nothing(void)
{
    static const int64_t settings[] = {400 * DAY_MS, -400 * DAY_MS, 2 * HOUR_MS,
                                       -2 * HOUR_MS};

    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct pmc_cache *cache = open_with_entries();
        struct pmc_info info = {0};

        atomic_store(&wall_ahead_ms, settings[i]);
        CHECK(holds_text(cache, "hour", "v"));
        CHECK_EQ(pmc_info(cache, "hour", 4, &info), PMC_OK);
        CHECK(info.ttl_ms > HOUR_MS / 2 && info.ttl_ms <= HOUR_MS);
        check_goes_on(cache);
        pmc_close(cache);
    }
}

static void
test_a_clock_that_leaps_ahead_ends_what_is_over_and_nothing_else(void)
{
    struct pmc_cache *cache = open_with_entries();
    struct pmc_lease lease;

    CHECK_EQ(pmc_lease_take(cache, "held", 4, 60000, &lease), PMC_OK);
    atomic_fetch_add(&monotonic_ahead_ms, DAY_MS);
    CHECK(!get_text(cache, "hour"));
    CHECK_EQ(pmc_lease_wait(cache, "held", 4, lease.token, 10), PMC_OK);
    CHECK_EQ(pmc_lease_take(cache, "held", 4, 60000, &lease), PMC_OK);
    check_goes_on(cache);
    pmc_close(cache);
}

static void
test_a_clock_that_falls_back_forgets_nothing(void)
{
    struct pmc_cache *cache = open_with_entries();

    atomic_fetch_sub(&monotonic_ahead_ms, DAY_MS);
    CHECK(holds_text(cache, "hour", "v"));
    check_goes_on(cache);
    atomic_fetch_add(&monotonic_ahead_ms, DAY_MS + 2 * HOUR_MS);
    CHECK(!get_text(cache, "hour"));
    pmc_close(cache);
}

/* ---- waits ----------------------------------------------------------- */

/* Lets a wait begin, and then jumps. */
static void *
jump_soon(void *context)
{
    const int64_t *by_ms = context;

    usleep(TIMEOUT_MS * 1000u / 3);
    atomic_fetch_add(&monotonic_ahead_ms, *by_ms);
    return NULL;
}

/* What somebody waits for while the clock jumps must end, by true time. */
static void
expect_wait_to_end(enum pmc_status (*wait)(struct pmc_cache *), struct pmc_cache *cache,
                   enum pmc_status expected, int64_t by_ms)
{
    uint64_t began = true_milliseconds();
    pthread_t jumper;

    alarm(HANG_SECONDS);
    pthread_create(&jumper, NULL, jump_soon, &by_ms);
    CHECK_EQ(wait(cache), expected);
    CHECK(true_milliseconds() - began < PATIENCE_MS);
    pthread_join(jumper, NULL);
    alarm(0);
}

static enum pmc_status
wait_for_lock(struct pmc_cache *cache)
{
    return put_text(cache, "k", "v");
}

static enum pmc_status
wait_for_lease(struct pmc_cache *cache)
{
    struct pmc_lease lease = {0};

    CHECK_EQ(pmc_lease_take(cache, "held", 4, UINT32_MAX, &lease), PMC_BUSY);
    return pmc_lease_wait(cache, "held", 4, lease.token, TIMEOUT_MS);
}

/* Planted bug: the wait ends at a time of day instead of after a while. */
static void
test_a_wait_for_a_lock_ends_wherever_the_clock_jumps(void)
{
    static const int64_t jumps[] = {-DAY_MS, DAY_MS};

    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        struct pmc_cache *cache = open_with_entries();
        uint32_t owner = pool_owner(cache->pool);

        store_relaxed(&cache->shards[0].header->lock, owner); /* another thread's */
        expect_wait_to_end(wait_for_lock, cache, PMC_ETIMEDOUT, jumps[i]);
        store_relaxed(&cache->shards[0].header->lock, 0);
        check_goes_on(cache);
        pmc_close(cache);
    }
}

static void
test_a_wait_for_a_lease_ends_wherever_the_clock_jumps(void)
{
    struct pmc_cache *cache = open_with_entries();
    struct pmc_lease lease;

    CHECK_EQ(pmc_lease_take(cache, "held", 4, UINT32_MAX, &lease), PMC_OK);
    expect_wait_to_end(wait_for_lease, cache, PMC_BUSY, -DAY_MS);
    expect_wait_to_end(wait_for_lease, cache, PMC_BUSY, DAY_MS);
    check_goes_on(cache);
    pmc_close(cache);
}

/* Planted bug: giving up, late by the clock, before the owner was looked at. */
static void
test_the_dead_are_inherited_wherever_the_clock_jumps(void)
{
    static const int64_t jumps[] = {-DAY_MS, DAY_MS};

    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        struct pmc_cache *cache = open_with_entries();
        pid_t child = fork();

        if (child == 0) {
            CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
            check_exit();
        }
        check_child(child);
        atomic_fetch_add(&monotonic_ahead_ms, jumps[i]);
        CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
        check_goes_on(cache);
        pmc_close(cache);
    }
}

/* ---- somebody stopped while opening ------------------------------------ */

static struct pmc_options gated;

static enum pmc_status
wait_to_open(struct pmc_cache *cache)
{
    struct pmc_error error = {0};
    enum pmc_status status = pmc_open(&gated, &cache, &error);

    CHECK(strstr(error.message, "another process has been opening") != NULL);
    return status;
}

static enum pmc_status
wait_to_close(struct pmc_cache *cache)
{
    pmc_close(cache);
    return PMC_OK;
}

/* A process that has the gate, as one that opens the pool has it, and is stopped. */
static pid_t
stop_in_the_gate(const struct place *place)
{
    pid_t child = fork();
    char path[200];
    int status;

    if (child == 0) {
        struct flock gate = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

        snprintf(path, sizeof path, "%s.lock", place->path);
        if (fcntl(open(path, O_RDWR | O_CLOEXEC), F_OFD_SETLK, &gate) == 0)
            raise(SIGSTOP);
        _exit(1);
    }
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    return child;
}

/* Planted bug: the gate is waited for without end. */
static void
test_who_is_stopped_while_opening_costs_others_their_patience(void)
{
    static const int64_t jumps[] = {-DAY_MS, DAY_MS};

    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        struct place place = make_place();
        struct pmc_cache *cache;
        pid_t stopped;

        atomic_store(&monotonic_ahead_ms, 2 * DAY_MS);
        gated = options_at(&place, UINT64_C(1) << 20);
        cache = open_with(&gated);
        CHECK_EQ(put_text(cache, "ever", "v"), PMC_OK);
        stopped = stop_in_the_gate(&place);
        check_goes_on(cache); /* who has it needs no gate */
        expect_wait_to_end(wait_to_open, NULL, PMC_ETIMEDOUT, jumps[i]);
        expect_wait_to_end(wait_to_close, cache, PMC_OK, jumps[i]);
        kill_child(stopped);
        cache = open_with(&gated);
        CHECK(!get_text(cache, "ever")); /* nobody had it */
        pmc_close(cache);
        CHECK_EQ(count_files(place.directory, ""), 0);
        remove_place(&place);
    }
}

int
main(void)
{
    RUN(test_a_wall_clock_that_is_set_changes_nothing);
    RUN(test_a_clock_that_leaps_ahead_ends_what_is_over_and_nothing_else);
    RUN(test_a_clock_that_falls_back_forgets_nothing);
    RUN(test_a_wait_for_a_lock_ends_wherever_the_clock_jumps);
    RUN(test_a_wait_for_a_lease_ends_wherever_the_clock_jumps);
    RUN(test_the_dead_are_inherited_wherever_the_clock_jumps);
    RUN(test_who_is_stopped_while_opening_costs_others_their_patience);
    return check_report();
}
