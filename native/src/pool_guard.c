/*
 * The handler of SIGBUS; see pool_guard.h. It makes system calls and touches
 * atomic words, and takes no lock: it may interrupt anything.
 */
#include "pool_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the handler knows of a pool. Ranges are made, used again, and never freed,
 * so that the handler can walk over them at any time. */
struct guarded {
    _Atomic(struct pool *) pool; /* NULL: free */
    struct guarded *next;
};

static _Atomic(struct guarded *) all_guarded;
static struct sigaction previous_action;
static bool installed;

/* Zeroed memory in place of a mapping. */
static bool
replace_mapping(void *start, size_t size)
{
    return mmap(start, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                0) != MAP_FAILED;
}

/* The index goes first: no reader may see zeros in the heap while the number of
 * its bucket still is what it was. */
bool
guard_give_up(struct pool *pool)
{
    store_release(&pool->lost, true);
    return replace_mapping(pool->header, pool->index_bytes) &&
           replace_mapping(pool->heap, pool->heap_bytes);
}

static bool
lies_within(uintptr_t address, const void *start, size_t size)
{
    return address - (uintptr_t)start < size;
}

/* Another thread may have replaced the mapping since the fault. */
static bool
answer_fault(const void *address)
{
    uintptr_t at = (uintptr_t)address;

    for (struct guarded *guarded = load_acquire(&all_guarded); guarded;
         guarded = guarded->next) {
        struct pool *pool = load_acquire(&guarded->pool);

        if (pool && (lies_within(at, pool->header, pool->index_bytes) ||
                     lies_within(at, pool->heap, pool->heap_bytes)))
            return guard_give_up(pool);
    }
    return false;
}

static bool
is_cut_short(int fd, size_t size)
{
    struct stat about;

    return fstat(fd, &about) == 0 && (uint64_t)about.st_size < size;
}

/* A handler that was installed after ours, such as Python's faulthandler, has
 * sent the signal on by raise(), which loses the address. */
static bool
answer_raise(void)
{
    bool answered = false;

    for (struct guarded *guarded = load_acquire(&all_guarded); guarded;
         guarded = guarded->next) {
        struct pool *pool = load_acquire(&guarded->pool);

        if (pool && !load_acquire(&pool->lost) &&
            (is_cut_short(pool->index_fd, pool->index_bytes) ||
             is_cut_short(pool->heap_fd, pool->heap_bytes)))
            answered = guard_give_up(pool) || answered;
    }
    return answered;
}

/* Not ours: as if this handler had never been there. */
static void
pass_on(int number, siginfo_t *info, void *context)
{
    if (previous_action.sa_flags & SA_SIGINFO) {
        previous_action.sa_sigaction(number, info, context);
        return;
    }
    if (previous_action.sa_handler == SIG_IGN && info->si_code <= 0)
        return;
    if (previous_action.sa_handler != SIG_DFL &&
        previous_action.sa_handler != SIG_IGN) {
        previous_action.sa_handler(number);
        return;
    }
    /* A fault repeats itself on return; a signal that was sent does not. */
    signal(number, SIG_DFL);
    if (info->si_code <= 0)
        raise(number);
}

static void
handle_bus_error(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    bool was_sent = info->si_code <= 0;

    if (!(was_sent ? info->si_pid == getpid() && answer_raise()
                   : answer_fault(info->si_addr)))
        pass_on(number, info, context);
    errno = saved;
}

static void
install(void)
{
    struct sigaction action = {.sa_sigaction = handle_bus_error,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    /* The handler may run as soon as it is there, and reads this. */
    installed = sigaction(SIGBUS, NULL, &previous_action) == 0 &&
                sigaction(SIGBUS, &action, NULL) == 0;
}

static struct guarded *
new_guarded(struct pool *pool)
{
    struct guarded *guarded = calloc(1, sizeof *guarded);

    if (!guarded)
        return NULL;
    store_relaxed(&guarded->pool, pool);
    guarded->next = load_relaxed(&all_guarded);
    while (!atomic_compare_exchange_weak(&all_guarded, &guarded->next, guarded))
        ;
    return guarded;
}

bool
guard_add(struct pool *pool)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct guarded *guarded = load_acquire(&all_guarded);
    struct pool *none = NULL;

    pthread_once(&once, install);
    while (guarded && !atomic_compare_exchange_strong(&guarded->pool, &none, pool)) {
        guarded = guarded->next;
        none = NULL;
    }
    if (!guarded)
        guarded = new_guarded(pool);
    return guarded != NULL && installed;
}

void
guard_remove(const struct pool *pool)
{
    for (struct guarded *guarded = load_acquire(&all_guarded); guarded;
         guarded = guarded->next)
        if (load_relaxed(&guarded->pool) == pool)
            store_release(&guarded->pool, NULL);
}
