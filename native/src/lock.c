/*
 * The shard lock; see lock.h. After "mutex2" of Drepper, Futexes Are Tricky
 * (2011), with an owner in the word and a way to inherit from the dead.
 */
#include "lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define LOCK_WAITERS 0x80000000u
#define PLACE_BITS 13u
#define PLACE_MASK ((1u << PLACE_BITS) - 1)
static_assert((LOCK_LEFT & PLACE_MASK) == PLACE_MASK, "the place of no owner");
#define INCARNATION_MASK ((1u << 18) - 1)

#define SPINS 200
#define FIRST_SLICE_NS UINT64_C(1000000)
#define LAST_SLICE_NS UINT64_C(10000000)

static_assert(ATOMIC_INT_LOCK_FREE == 2, "futex words must be lock-free");

uint32_t
lock_owner(uint32_t place, uint32_t incarnation)
{
    assert(place < PLACE_MASK);
    return (incarnation & INCARNATION_MASK) << PLACE_BITS | (place + 1);
}

uint32_t
lock_owner_place(uint32_t owner)
{
    return (owner & PLACE_MASK) - 1;
}

bool
lock_owner_is(uint32_t owner, uint32_t place, uint32_t incarnation)
{
    return (owner & ~LOCK_WAITERS) == lock_owner(place, incarnation);
}

bool
lock_is_held_by(_Atomic uint32_t *word, uint32_t owner)
{
    return (atomic_load(word) & ~LOCK_WAITERS) == owner;
}

void
lock_sleep(_Atomic uint32_t *word, uint32_t expected, uint64_t duration_ns)
{
    struct timespec slice = {(time_t)(duration_ns / 1000000000u),
                             (long)(duration_ns % 1000000000u)};

    syscall(SYS_futex, word, FUTEX_WAIT, expected, &slice, NULL, 0);
}

void
lock_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void
futex_wake_one(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool
swap_word(_Atomic uint32_t *word, uint32_t expected, uint32_t desired)
{
    /* Of two that look at each other's word after writing their own, one sees the
     * other: see pool_guard.h. */
    return atomic_compare_exchange_strong_explicit(
        word, &expected, desired, memory_order_seq_cst, memory_order_relaxed);
}

static bool
release_word(_Atomic uint32_t *word, uint32_t *expected)
{
    return atomic_compare_exchange_strong_explicit(
        word, expected, 0, memory_order_release, memory_order_relaxed);
}

static bool
spin_for(_Atomic uint32_t *word, uint32_t owner)
{
    for (int spin = 0; spin < SPINS; spin++) {
        if (load_relaxed(word) == 0 && swap_word(word, 0, owner))
            return true;
        cpu_relax();
    }
    return false;
}

/* One look at a lock that was not free: take it, inherit it, or sleep. */
static bool
take_or_sleep(_Atomic uint32_t *word, uint32_t owner, const struct lock_wait *wait,
              uint64_t slice_ns, bool slept, enum lock_result *result_out)
{
    uint32_t seen = load_relaxed(word);

    if (seen == 0) {
        /* Others may sleep too: whoever slept keeps the waiters bit. */
        *result_out = LOCK_TAKEN;
        return swap_word(word, 0, owner | LOCK_WAITERS);
    }
    if (slept && !wait->owner_lives(wait->context, seen & ~LOCK_WAITERS)) {
        *result_out = LOCK_INHERITED;
        return swap_word(word, seen, owner | LOCK_WAITERS);
    }
    if (!(seen & LOCK_WAITERS) && !swap_word(word, seen, seen | LOCK_WAITERS))
        return false;
    lock_sleep(word, seen | LOCK_WAITERS, slice_ns);
    return false;
}

enum lock_result
lock_take(_Atomic uint32_t *word, uint32_t owner, const struct lock_wait *wait)
{
    enum lock_result result;
    uint64_t slice_ns = FIRST_SLICE_NS;
    uint64_t began_ns;
    bool slept = false;

    if (LIKELY(swap_word(word, 0, owner)))
        return LOCK_TAKEN;
    if (load_relaxed(word) == LOCK_LEFT) {
        if (wait->timeout_ns == 0)
            return LOCK_BUSY; /* repairing takes time as well */
        if (swap_word(word, LOCK_LEFT, owner))
            return LOCK_INHERITED;
    }
    if (spin_for(word, owner))
        return LOCK_TAKEN;
    if (wait->timeout_ns == 0)
        return LOCK_BUSY;
    began_ns = clock_now_ns();
    while (!take_or_sleep(word, owner, wait, slice_ns, slept, &result)) {
        /* Not before the owner was looked at once: it may be dead. */
        if (slept && clock_now_ns() - began_ns >= wait->timeout_ns)
            return LOCK_TIMED_OUT;
        if (slept)
            slice_ns = min_u64(slice_ns * 2, LAST_SLICE_NS);
        slept = true;
    }
    return result;
}

bool
lock_release(_Atomic uint32_t *word, uint32_t owner)
{
    uint32_t seen = owner;

    if (LIKELY(release_word(word, &seen)))
        return true;
    /* Somebody may sleep: that bit is all that others write. */
    if (seen != (owner | LOCK_WAITERS) || !release_word(word, &seen))
        return false;
    futex_wake_one(word);
    return true;
}
