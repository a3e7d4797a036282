/*
 * Counting; see count.h.
 */
#include "count.h"

#include <pthread.h>

_Thread_local enum count_mode count_mode NEAR_THREAD;

/* Does a thread of this process have the quick counters? */
static atomic_bool quick_is_taken;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static bool has_key;

/* Another destructor of this thread may still read a cache: it then decides anew. */
static void
thread_ends(void *value)
{
    (void)value;
    count_mode = COUNT_UNDECIDED;
    atomic_store(&quick_is_taken, false);
}

static void
make_key(void)
{
    has_key = pthread_key_create(&thread_key, thread_ends) == 0;
}

/* The end of a thread that cannot be noticed would keep the counters for ever, so
 * such a thread must do without. */
static void
decide(void)
{
    pthread_once(&key_once, make_key);
    count_mode = COUNT_SHARED;
    if (!has_key || atomic_exchange(&quick_is_taken, true))
        return;
    if (pthread_setspecific(thread_key, &thread_key) == 0)
        count_mode = COUNT_QUICK;
    else
        atomic_store(&quick_is_taken, false);
}

void
count_otherwise(_Atomic uint64_t *quick, _Atomic uint64_t *shared)
{
    if (count_mode == COUNT_UNDECIDED)
        decide();
    if (count_mode == COUNT_QUICK)
        store_relaxed(quick, load_relaxed(quick) + 1);
    else
        add_relaxed(shared, 1);
}

void
count_after_fork(void)
{
    if (count_mode != COUNT_QUICK) {
        count_mode = COUNT_UNDECIDED;
        atomic_store(&quick_is_taken, false);
    }
}
