/*
 * The handler of SIGBUS; see pool_guard.h. It makes system calls and touches
 * atomic words, and takes no lock: it may interrupt anything.
 */
#include "pool_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "lock.h"
#include "pool_geometry.h"

/* pool.patches: a page was replaced; below it, the number of handlers at work. */
#define PATCHED 0x80000000u

/* How long a fault may come again while this process holds the shard's lock. */
#define PATCH_TRIES 500u
#define PATCH_PAUSE_NS UINT64_C(1000000)
#define FAULTS_MAX 100u

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

static bool
is_cut_short(int fd, size_t size)
{
    struct stat about;

    return fstat(fd, &about) == 0 && (uint64_t)about.st_size < size;
}

/* ---- pages without memory -------------------------------------------- */

/* Does a thread of this process hold the lock of the shard that has this byte of
 * the heap? What is in no shard, nobody writes. */
static bool
is_locked_by_us(struct pool *pool, size_t heap_off)
{
    const struct pool_identity *identity = &pool->header->identity;
    uint64_t number =
        (heap_off - HEAP_HEADER_BYTES) / max_u64(identity->shard_bytes, 1);
    uint32_t owner = atomic_load(&pool->owner);

    return heap_off >= HEAP_HEADER_BYTES && number < identity->shards && owner != 0 &&
           lock_is_held_by(&pool_shard_header(pool, (uint32_t)number)->lock, owner);
}

/* A page that has memory, and faults again and again, is one that cannot be read. */
static bool
is_unreadable(struct pool *pool, size_t heap_off)
{
    if (atomic_exchange(&pool->fault_off, heap_off) != heap_off)
        atomic_store(&pool->faults, 0);
    return atomic_fetch_add(&pool->faults, 1) > FAULTS_MAX;
}

enum patch { PATCH_DONE, PATCH_LATER, PATCH_FAILED };

static enum patch
patch_page(struct pool *pool, size_t heap_off)
{
    enum patch result = PATCH_FAILED;

    atomic_fetch_add(&pool->patches, 1);
    if (fallocate(pool->heap_fd, 0, (off_t)heap_off, PAGE_BYTES) == 0) {
        if (!is_unreadable(pool, heap_off))
            result = PATCH_DONE; /* it has memory now */
    } else if (is_locked_by_us(pool, heap_off)) {
        result = PATCH_LATER;
    } else if (replace_mapping(pool->heap + heap_off, PAGE_BYTES)) {
        atomic_fetch_or(&pool->patches, PATCHED);
        result = PATCH_DONE;
    }
    atomic_fetch_sub(&pool->patches, 1);
    return result;
}

/* A writer of ours is at work in that shard: leave it the time to end. If it is this
 * very thread, somebody wrote over what is away. */
static bool
answer_missing_page(struct pool *pool, size_t heap_off)
{
    for (unsigned try = 0; try < PATCH_TRIES; try++) {
        enum patch result = patch_page(pool, heap_off / PAGE_BYTES * PAGE_BYTES);

        if (result != PATCH_LATER)
            return result == PATCH_DONE;
        clock_sleep_ns(PATCH_PAUSE_NS);
    }
    return false;
}

void
guard_mend_slowly(struct pool *pool)
{
    uint32_t patches;

    while (((patches = atomic_load(&pool->patches)) & ~PATCHED) != 0)
        cpu_relax();
    if (!(patches & PATCHED) || pool_is_lost(pool))
        return;
    /* Before, so that a page replaced meanwhile is not forgotten. */
    atomic_fetch_and(&pool->patches, ~PATCHED);
    if (!pool_has_its_files(pool) ||
        mmap(pool->heap, pool->heap_bytes, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_NORESERVE | MAP_FIXED, pool->heap_fd, 0) == MAP_FAILED)
        guard_give_up(pool);
}

/* ---- the handler ----------------------------------------------------- */

/* A fault inside of a pool. */
static bool
answer_fault_of(struct pool *pool, uintptr_t at)
{
    if (lies_within(at, pool->heap, pool->heap_bytes) && pool_has_its_files(pool) &&
        !is_cut_short(pool->index_fd, pool->index_bytes) &&
        !is_cut_short(pool->heap_fd, pool->heap_bytes) &&
        answer_missing_page(pool, at - (uintptr_t)pool->heap))
        return true;
    return guard_give_up(pool);
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
            return answer_fault_of(pool, at);
    }
    return false;
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
