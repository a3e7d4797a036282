/*
 * Counting what readers do, who hold no lock.
 *
 * A locked instruction waits for all loads before it, and they for memory: with one in
 * every look-up the processor could not begin the next look-up meanwhile. So each
 * counter is two words. One thread of a process at a time adds to the quick one, with
 * a plain load and store, and all others to the shared one.
 */
#ifndef PMC_COUNT_H
#define PMC_COUNT_H

#include "base.h"

enum count_mode {
    COUNT_UNDECIDED = 0,
    COUNT_QUICK,
    COUNT_SHARED,
};

/* Reached without a call where the loader has room for that. */
#if defined(__GLIBC__)
#define NEAR_THREAD __attribute__((tls_model("initial-exec")))
#else
#define NEAR_THREAD
#endif

extern _Thread_local enum count_mode count_mode NEAR_THREAD;

/* One more, from a thread that has not the quick counters, or not asked for them yet;
 * they are free again when the thread that has them ends. */
void count_otherwise(_Atomic uint64_t *quick, _Atomic uint64_t *shared);

/* In a child, whose only thread this is. */
void count_after_fork(void);

static ALWAYS_INLINE void
count_one(_Atomic uint64_t *quick, _Atomic uint64_t *shared)
{
    if (LIKELY(count_mode == COUNT_QUICK))
        store_relaxed(quick, load_relaxed(quick) + 1);
    else
        count_otherwise(quick, shared);
}

#endif
