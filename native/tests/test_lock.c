/*
 * The lock word and the places that owners stand for.
 */
#include "lock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "cache.h"
#include "check.h"
#include "support.h"

static bool
always_lives(void *context, uint32_t owner)
{
    (void)context;
    (void)owner;
    return true;
}

static bool
never_lives(void *context, uint32_t owner)
{
    (void)context;
    (void)owner;
    return false;
}

static struct lock_wait
wait_of(lock_owner_lives_fn lives, uint64_t timeout_ms)
{
    return (struct lock_wait){.owner_lives = lives,
                              .timeout_ns = timeout_ms * 1000000u};
}

struct contest {
    _Atomic uint32_t word;
    uint64_t counter; /* deliberately not atomic: the lock protects it */
    int rounds;
    pthread_barrier_t start;
};

static void *
count_up(void *context)
{
    struct contest *contest = context;
    const struct lock_wait wait = wait_of(always_lives, 60000);
    uint32_t owner = lock_owner(1, 1);

    pthread_barrier_wait(&contest->start);
    for (int i = 0; i < contest->rounds; i++) {
        if (!CHECK_EQ(lock_take(&contest->word, owner, &wait), LOCK_TAKEN))
            break;
        contest->counter++;
        for (int turn = 0; turn < 20; turn++) /* for long enough that others spin */
            cpu_relax();
        lock_release(&contest->word, owner);
    }
    return NULL;
}

static void
test_threads_exclude_each_other(void)
{
    static struct contest contest;
    pthread_t threads[4];

    contest.rounds = ROUNDS_OF(20000);
    pthread_barrier_init(&contest.start, NULL, 4);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count_up, &contest);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(contest.counter, 4 * (uint64_t)contest.rounds);
    CHECK_EQ(atomic_load(&contest.word), 0);
}

struct sleeper {
    _Atomic uint32_t word;
    enum lock_result result;
};

static void *
sleep_for_lock(void *context)
{
    struct sleeper *sleeper = context;
    const struct lock_wait wait = wait_of(always_lives, 60000);

    sleeper->result = LOCK_TIMED_OUT;
    sleeper->result = lock_take(&sleeper->word, lock_owner(1, 1), &wait);
    return NULL;
}

/* Planted bugs: who finds the lock free after a sleep takes it for a dead one's; it takes it
 * and says something else. */
static void
test_who_slept_takes_what_was_given_back(void)
{
    struct sleeper sleeper = {.word = lock_owner(2, 1)};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, sleep_for_lock, &sleeper), 0);
    while (atomic_load(&sleeper.word) == lock_owner(2, 1))
        clock_sleep_ns(100000);
    CHECK(lock_is_held_by(&sleeper.word, lock_owner(2, 1)));
    CHECK(lock_release(&sleeper.word, lock_owner(2, 1)));
    pthread_join(thread, NULL);
    CHECK_EQ(sleeper.result, LOCK_TAKEN);
    CHECK(lock_is_held_by(&sleeper.word, lock_owner(1, 1)));
    CHECK(lock_release(&sleeper.word, lock_owner(1, 1)));
    CHECK_EQ(atomic_load(&sleeper.word), 0);
}

static void
test_the_timeout_is_honoured(void)
{
    const struct lock_wait wait = wait_of(always_lives, 60);
    _Atomic uint32_t word = lock_owner(2, 1);
    uint64_t started = milliseconds();
    uint64_t waited;

    CHECK_EQ(lock_take(&word, lock_owner(1, 1), &wait), LOCK_TIMED_OUT);
    waited = milliseconds() - started;
    CHECK(waited >= 59 && waited < 20000); /* far above: a busy machine */
    CHECK(lock_owner_is(atomic_load(&word), 2, 1));
}

static void
test_without_a_timeout_a_held_lock_is_busy(void)
{
    const struct lock_wait wait = wait_of(never_lives, 0);
    _Atomic uint32_t word = lock_owner(2, 1);

    CHECK_EQ(lock_take(&word, lock_owner(1, 1), &wait), LOCK_BUSY);
    CHECK_EQ(atomic_load(&word), lock_owner(2, 1));
    atomic_store(&word, 0);
    CHECK_EQ(lock_take(&word, lock_owner(1, 1), &wait), LOCK_TAKEN);
}

/* Planted bug: giving up before the owner was ever looked at. */
static void
test_the_dead_are_inherited_however_short_the_timeout(void)
{
    for (uint64_t timeout_ms = 1; timeout_ms <= 4; timeout_ms++) {
        const struct lock_wait wait = wait_of(never_lives, timeout_ms);
        _Atomic uint32_t word = lock_owner(2, 1);

        CHECK_EQ(lock_take(&word, lock_owner(1, 1), &wait), LOCK_INHERITED);
        CHECK(lock_owner_is(atomic_load(&word), 1, 1));
    }
}

/* Planted bugs: whoever would not wait repairs, which takes longer than a wait; the one
 * who would sleeps first, or looks for a sign of life. */
static void
test_what_was_left_is_inherited_at_once_by_who_would_wait(void)
{
    const struct lock_wait no_wait = wait_of(always_lives, 0);
    const struct lock_wait wait = wait_of(always_lives, 60000);
    _Atomic uint32_t word = LOCK_LEFT;

    CHECK_EQ(lock_take(&word, lock_owner(1, 1), &no_wait), LOCK_BUSY);
    CHECK_EQ(atomic_load(&word), LOCK_LEFT);
    CHECK_EQ(lock_take(&word, lock_owner(1, 1), &wait), LOCK_INHERITED);
    CHECK_EQ(atomic_load(&word), lock_owner(1, 1));
    lock_release(&word, lock_owner(1, 1));
    CHECK_EQ(atomic_load(&word), 0);
    CHECK(lock_owner_place(LOCK_LEFT) >= ATTACHMENTS_MAX);
}

static void
test_owner_words_tell_places_and_incarnations_apart(void)
{
    CHECK(lock_owner(0, 0) != 0);
    CHECK(lock_owner(0, 1) != lock_owner(0, 2));
    CHECK(lock_owner(1, 1) != lock_owner(2, 1));
    for (uint32_t place = 0; place < ATTACHMENTS_MAX; place += 97) {
        CHECK_EQ(lock_owner_place(lock_owner(place, 77)), place);
        CHECK(lock_owner_is(lock_owner(place, 77) | 0x80000000u, place, 77));
        CHECK(!lock_owner_is(lock_owner(place, 77), place, 78));
        CHECK_EQ(lock_owner(place, 0xffffffffu) & 0x80000000u, 0);
    }
}

/* ---- with a pool ----------------------------------------------------- */

static struct shard *
first_shard(struct pmc_cache *cache)
{
    return &cache->shards[0];
}

static struct pmc_cache *
open_impatient(const struct place *place, uint32_t timeout_ms)
{
    struct pmc_options options = options_at(place, 1u << 20);

    options.lock_timeout_ms = timeout_ms;
    return open_with(&options);
}

static void
lock_first_shard(struct pmc_cache *cache)
{
    CHECK_EQ(shard_lock(first_shard(cache), false), PMC_OK);
}

/* Start a child that takes the shard's lock and sleeps. */
static pid_t
start_holder(struct pmc_cache *cache)
{
    return start_child(fork, cache, lock_first_shard);
}

static void
test_a_live_owner_is_waited_for_and_a_dead_one_inherited(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 50);
    struct pmc_put_options nowait = {.ttl_ms = PMC_TTL_NONE, .flags = PMC_NOWAIT};
    struct pmc_stats stats;
    pid_t holder;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    holder = start_holder(cache);
    CHECK_EQ(put_text(cache, "k", "new"), PMC_ETIMEDOUT);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_ETIMEDOUT);
    CHECK_EQ(pmc_put(cache, "k", 1, "new", 3, &nowait), PMC_BUSY);
    CHECK_EQ(pmc_delete(cache, "k", 1, PMC_NOWAIT), PMC_BUSY);
    CHECK(holds_text(cache, "k", "old")); /* readers need no lock */
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.lock_timeouts, 2);
    CHECK_EQ(stats.rejected, 1);
    kill_child(holder);
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    CHECK(holds_text(cache, "k", "new"));
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.recoveries, 1);
    check_sound(cache);
    pmc_close(cache);
    remove_place(&place);
}

/* Planted bug: a thread that must not sleep in here does. */
static void
test_a_thread_that_does_not_wait_is_told_so(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 50);
    struct pmc_stats stats;
    pid_t holder;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    holder = start_holder(cache);
    pmc_thread_waits(false);
    CHECK_EQ(put_text(cache, "k", "new"), PMC_EWOULD_WAIT);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_EWOULD_WAIT);
    pmc_thread_waits(true);
    CHECK_EQ(put_text(cache, "k", "new"), PMC_ETIMEDOUT);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.lock_timeouts, 1);
    kill_child(holder);
    pmc_thread_waits(false); /* who inherits has waited */
    CHECK_EQ(put_text(cache, "k", "new"), PMC_EWOULD_WAIT);
    pmc_thread_waits(true);
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    pmc_close(cache);
    remove_place(&place);
}

/* Planted bug: every item waits for its lock. */
static void
test_a_batch_waits_in_vain_once(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 50);
    struct pmc_item items[20] = {{0}};
    const size_t count = sizeof items / sizeof *items;
    struct pmc_stats stats;
    pid_t holder;

    for (size_t i = 0; i < count; i++)
        items[i] = (struct pmc_item){.key = &"abcdefghijklmnopqrstuvwxyz"[i],
                                     .key_size = 1,
                                     .value = "value",
                                     .value_size = 5};
    CHECK_EQ(pmc_put_many(cache, items, count, NULL), count);
    holder = start_holder(cache);
    CHECK_EQ(pmc_put_many(cache, items, count, NULL), 0);
    CHECK_EQ(pmc_delete_many(cache, items, count, 0), 0);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(items[i].status, PMC_ETIMEDOUT);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.lock_timeouts, 2);
    CHECK_EQ(stats.rejected, count);
    kill_child(holder);
    CHECK_EQ(pmc_delete_many(cache, items, count, 0), count);
    pmc_close(cache);
    remove_place(&place);
}

/* The place of a dead owner is taken again: the word must not seem to be the
 * newcomer's, or it would be held for as long as that one lives. */
static void
test_an_owner_whose_place_was_taken_again_is_dead(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 200);
    struct pmc_cache *newcomer;
    pid_t holder = start_holder(cache);
    uint32_t dead_owner = load_relaxed(&first_shard(cache)->header->lock);

    CHECK(pool_owner_lives(cache->pool, dead_owner & 0x7fffffffu));
    kill_child(holder);
    newcomer = open_impatient(&place, 200);
    CHECK(pool_own_attachment(newcomer->pool) ==
          &newcomer->pool->attachments[lock_owner_place(dead_owner & 0x7fffffffu)]);
    CHECK(!pool_owner_lives(cache->pool, dead_owner & 0x7fffffffu));
    CHECK(!pool_owner_lives(newcomer->pool, dead_owner & 0x7fffffffu));
    CHECK_EQ(put_text(newcomer, "k", "v"), PMC_OK);
    CHECK(holds_text(cache, "k", "v"));
    pmc_close(newcomer);
    pmc_close(cache);
    remove_place(&place);
}

/* Of many that wait when an owner dies, one inherits; none is left asleep. */
static void
test_all_who_wait_get_their_turn_after_a_death(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 20000);
    pid_t holder = start_holder(cache);
    pid_t waiters[4];
    int64_t sum = 0;

    for (int i = 0; i < 4; i++) {
        waiters[i] = fork();
        if (waiters[i] == 0) {
            struct pmc_incr_options create = {.create = true, .ttl_ms = PMC_TTL_NONE};
            int64_t result;

            CHECK_EQ(pmc_incr(cache, "n", 1, 1, &create, &result), PMC_OK);
            check_exit();
        }
    }
    kill_child(holder);
    for (int i = 0; i < 4; i++)
        check_child(waiters[i]);
    CHECK_EQ(pmc_incr(cache, "n", 1, 0, NULL, &sum), PMC_OK);
    CHECK_EQ(sum, 4);
    pmc_close(cache);
    remove_place(&place);
}

/* A word that no process can have written is damage, not an owner. */
static void
test_a_lock_word_of_garbage_is_inherited(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 500);

    store_relaxed(&first_shard(cache)->header->lock, 0x7fffffffu);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    store_relaxed(&first_shard(cache)->header->lock, 0x80000000u);
    CHECK_EQ(put_text(cache, "k", "w"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    remove_place(&place);
}

/* Planted bug: the word becomes free, whoever has it. */
static void
test_a_lock_that_another_has_by_now_is_not_given_back(void)
{
    uint32_t owner = lock_owner(3, 1);
    uint32_t other = lock_owner(4, 1);
    _Atomic uint32_t word = owner;

    CHECK(lock_release(&word, owner));
    CHECK_EQ(atomic_load(&word), 0);
    atomic_store(&word, other);
    CHECK(!lock_release(&word, owner));
    CHECK_EQ(atomic_load(&word), other);
    CHECK(!lock_release(&word, lock_owner(3, 2)));
    CHECK_EQ(atomic_load(&word), other);
}

/* Somebody wrote over the lock of one who is at work, and another inherits it. Planted
 * bug: who finds another's word when it has done its work says nothing of it. */
static void
test_a_shard_in_which_two_were_at_work_is_recovered(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_impatient(&place, 500);
    struct pmc_cache *other = open_impatient(&place, 500);
    struct shard *shard = first_shard(cache);
    struct pmc_stats before;
    struct pmc_stats after;

    CHECK_EQ(shard_lock(shard, false), PMC_OK);
    store_relaxed(&shard->header->lock, 0);
    CHECK_EQ(shard_lock(first_shard(other), false), PMC_OK);
    shard_unlock(shard);
    CHECK(load_relaxed(&shard->header->lock) == load_relaxed(&other->pool->owner));
    pmc_stats(cache, &before);
    shard_unlock(first_shard(other));
    pmc_stats(cache, &after);
    CHECK_EQ(load_relaxed(&shard->header->lock), 0);
    CHECK_EQ(after.recoveries, before.recoveries + 1);
    check_sound(cache);
    pmc_close(other);
    pmc_close(cache);
    remove_place(&place);
}

int
main(void)
{
    RUN(test_threads_exclude_each_other);
    RUN(test_who_slept_takes_what_was_given_back);
    RUN(test_the_timeout_is_honoured);
    RUN(test_without_a_timeout_a_held_lock_is_busy);
    RUN(test_the_dead_are_inherited_however_short_the_timeout);
    RUN(test_what_was_left_is_inherited_at_once_by_who_would_wait);
    RUN(test_owner_words_tell_places_and_incarnations_apart);
    RUN(test_a_live_owner_is_waited_for_and_a_dead_one_inherited);
    RUN(test_a_thread_that_does_not_wait_is_told_so);
    RUN(test_a_batch_waits_in_vain_once);
    RUN(test_an_owner_whose_place_was_taken_again_is_dead);
    RUN(test_all_who_wait_get_their_turn_after_a_death);
    RUN(test_a_lock_word_of_garbage_is_inherited);
    RUN(test_a_lock_that_another_has_by_now_is_not_given_back);
    RUN(test_a_shard_in_which_two_were_at_work_is_recovered);
    return check_report();
}
