/*
 * The shard lock: a word in shared memory, robust against its owner's death.
 *
 * Who an owner is, and whether it lives, is a matter of a file lock: every
 * attached process holds an open-file-description lock on "its" byte of the
 * pool's lock file, which the kernel drops when the process ends, whatever way.
 * The word names the byte (place) and how often the place has changed hands
 * (incarnation), so a dead owner is never mistaken for the process that
 * inherited its place. Unlike a robust pthread mutex this needs no list that a
 * raw clone, an unmapping or a second pid namespace could break; see
 * docs/locking.md.
 *
 *   word   waiters 1 | incarnation 18 | place + 1: 13      0: free
 *          LOCK_LEFT: nobody's, of those who died with everybody else
 */
#ifndef PMC_LOCK_H
#define PMC_LOCK_H

#include "base.h"

enum lock_result {
    LOCK_TAKEN,
    LOCK_INHERITED, /* taken from an owner that died: repair before use */
    LOCK_BUSY,      /* not free, and the caller would not wait */
    LOCK_TIMED_OUT,
};

/* What whoever adopts a pool writes in place of a dead owner: to be repaired before
 * use, and no place to look at for a sign of life. */
#define LOCK_LEFT UINT32_C(0x1fff)

/* Is the process that this owner word names still alive? */
typedef bool (*lock_owner_lives_fn)(void *context, uint32_t owner);

struct lock_wait {
    lock_owner_lives_fn owner_lives;
    void *context;
    uint64_t timeout_ns; /* 0: do not sleep, return LOCK_BUSY */
};

/* The word that an owner writes. Never 0, never LOCK_WAITERS. */
uint32_t lock_owner(uint32_t place, uint32_t incarnation);
uint32_t lock_owner_place(uint32_t owner);
bool lock_owner_is(uint32_t owner, uint32_t place, uint32_t incarnation);

/*
 * Take the lock for owner. Spins briefly, then sleeps in slices, looking after
 * each whether the owner still lives. Never waits longer than timeout_ns by
 * more than one slice (10 ms). A lock that was left is inherited at once, by who would
 * wait.
 */
enum lock_result lock_take(_Atomic uint32_t *word, uint32_t owner,
                           const struct lock_wait *wait);

/* Is the lock this owner's, right now? */
bool lock_is_held_by(_Atomic uint32_t *word, uint32_t owner);

/* Sleep until the word is changed and woken, or duration_ns have passed, or it is
 * not expected any more. May return early. */
void lock_sleep(_Atomic uint32_t *word, uint32_t expected, uint64_t duration_ns);
/* Wake everybody who sleeps on the word. */
void lock_wake_all(_Atomic uint32_t *word);

/* Give the lock back and wake a waiter. False: the word is not the owner's. Somebody
 * wrote over it, and it is left alone, as it may be another's by now. */
bool lock_release(_Atomic uint32_t *word, uint32_t owner);

#endif
