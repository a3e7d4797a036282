/*
 * Places, the gate, and fork; see pool_seat.h.
 */
#include "pool_seat.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "count.h"
#include "fault.h"
#include "lock.h"
#include "pool_byte.h"
#include "pool_guard.h"

#define GATE_BYTE 0
#define PLACE_BYTE 1
#define GATE_POLL_NS UINT64_C(1000000)

/* Zeroed by the kernel in every child (MADV_WIPEONFORK), however it was made. */
enum fork_state { FORK_CHILD = 0, FORK_ATTACHING = 1, FORK_ATTACHED = 2 };
struct fork_page {
    _Atomic uint32_t state;
};

/* Every published pool of this process, so that a child can attach to each. */
static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct pool *process_pools;

/* ---- locks on the lock file ------------------------------------------ */

bool
seat_gate_close(int fd, uint64_t patience_ns)
{
    uint64_t began_ns = clock_now_ns();

    while (!byte_lock(fd, F_WRLCK, GATE_BYTE)) {
        if (clock_now_ns() - began_ns >= patience_ns)
            return false;
        clock_sleep_ns(GATE_POLL_NS);
    }
    return true;
}

bool
seat_nobody_else(int lock_fd)
{
    return !bytes_held_elsewhere(lock_fd, PLACE_BYTE, ATTACHMENTS_MAX);
}

/* Take the first free place on this description of the lock file. */
static bool
take_seat(struct pool *pool, int lock_fd, struct seat *seat_out)
{
    for (uint32_t place = 0; place < ATTACHMENTS_MAX; place++) {
        struct attachment *attachment = &pool->attachments[place];
        uint32_t incarnation;

        if (!byte_lock(lock_fd, F_WRLCK, PLACE_BYTE + (off_t)place))
            continue;
        incarnation = add_relaxed(&attachment->incarnation, 1) + 1;
        *seat_out = (struct seat){.lock_fd = lock_fd,
                                  .place = place,
                                  .owner = lock_owner(place, incarnation)};
        return true;
    }
    return false;
}

/* From now on this process is the one at that place. */
static void
sit(struct pool *pool, const struct seat *seat)
{
    pool->lock_fd = seat->lock_fd;
    store_relaxed(&pool->attachments[seat->place].process_id, (uint32_t)getpid());
    store_relaxed(&pool->own, &pool->attachments[seat->place]);
    store_release(&pool->owner, seat->owner);
}

bool
pool_owner_lives(void *context, uint32_t owner)
{
    struct pool *pool = context;
    uint32_t place = lock_owner_place(owner);
    uint32_t mine = load_relaxed(&pool->owner);

    if (place >= ATTACHMENTS_MAX)
        return false; /* no process ever wrote this: damaged */
    if (owner == mine)
        return true; /* another thread of this process */
    if (!pool_has_its_files(pool))
        return guard_give_up(pool); /* nothing is known of anybody, and we seem dead */
    if (!lock_owner_is(owner, place,
                       load_acquire(&pool->attachments[place].incarnation)) &&
        !MUTANT("skip-incarnation"))
        return false;
    return bytes_held_elsewhere(pool->lock_fd, PLACE_BYTE + (off_t)place, 1);
}

uint64_t
pool_attached(struct pool *pool)
{
    uint64_t count = pool_owner(pool) != 0;

    for (uint32_t place = 0; place < ATTACHMENTS_MAX; place++)
        if (load_relaxed(&pool->attachments[place].incarnation) != 0 &&
            &pool->attachments[place] != pool_own_attachment(pool) &&
            bytes_held_elsewhere(pool->lock_fd, PLACE_BYTE + (off_t)place, 1))
            count++;
    return count;
}

/* ---- fork ------------------------------------------------------------ */

/* Open the lock file anew: another description of the same file. -1 on failure. */
static int
reopen_lock_file(const struct pool *pool)
{
    char self[64];
    int fd;

    snprintf(self, sizeof self, "/proc/self/fd/%d", pool->lock_fd);
    fd = open(self, O_RDWR | O_CLOEXEC);
    if (fd < 0 && pool->named)
        fd = openat(pool->directory_fd, pool->lock_name,
                    O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd;
}

/* Before a fork: take the place that the child will have, so that the pool counts
 * as attached however soon the parent leaves. */
static void
reserve_for_child(struct pool *pool)
{
    int fd =
        file_is_marked(pool->lock_fd, pool->lock_mark) ? reopen_lock_file(pool) : -1;

    pool->child = (struct seat){.lock_fd = -1};
    if (fd >= 0 && take_seat(pool, fd, &pool->child))
        return;
    if (fd >= 0)
        close(fd);
}

/* Give a child its own description of the lock file and its own place: the one
 * that was reserved, or, for children made by a raw clone, a new one. The
 * inherited description is closed last. */
static void
attach_child(struct pool *pool)
{
    int inherited = pool->lock_fd;

    if (pool->child.lock_fd < 0)
        reserve_for_child(pool);
    if (pool->child.lock_fd >= 0) {
        sit(pool, &pool->child);
        pool->child.lock_fd = -1;
    } else {
        /* Others may remove the pool and make another: this one is not theirs. */
        store_relaxed(&pool->owner, 0);
        pool->lock_fd = -1;
        (void)guard_give_up(pool);
        if (file_is_marked(pool->index_fd, pool->index_mark))
            close(pool->index_fd); /* open, it would look as if it were in use */
        pool->index_fd = -1;
    }
    /* Kept open, it would make a parent that died look alive. */
    if (file_is_marked(inherited, pool->lock_mark))
        close(inherited);
}

uint32_t
pool_owner(struct pool *pool)
{
    uint32_t child = FORK_CHILD;

    if (LIKELY(load_acquire(&pool->fork_page->state) == FORK_ATTACHED))
        return load_relaxed(&pool->owner);
    if (atomic_compare_exchange_strong(&pool->fork_page->state, &child,
                                       FORK_ATTACHING)) {
        attach_child(pool);
        store_release(&pool->fork_page->state, FORK_ATTACHED);
    }
    while (load_acquire(&pool->fork_page->state) != FORK_ATTACHED)
        clock_sleep_ns(GATE_POLL_NS);
    return load_relaxed(&pool->owner);
}

static void
before_fork(void)
{
    pthread_mutex_lock(&process_mutex);
    for (struct pool *pool = process_pools; pool; pool = pool->next_in_process)
        reserve_for_child(pool);
}

/* The child has the reserved descriptions too; if there is none, closing them
 * gives the places back. */
static void
after_fork_in_parent(void)
{
    for (struct pool *pool = process_pools; pool; pool = pool->next_in_process) {
        if (pool->child.lock_fd >= 0)
            close(pool->child.lock_fd);
        pool->child.lock_fd = -1;
    }
    pthread_mutex_unlock(&process_mutex);
}

static void
after_fork_in_child(void)
{
    count_after_fork();
    for (struct pool *pool = process_pools; pool; pool = pool->next_in_process)
        (void)pool_owner(pool);
    pthread_mutex_unlock(&process_mutex);
}

static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void
seat_change_begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&process_mutex);
}

void
seat_change_end(void)
{
    pthread_mutex_unlock(&process_mutex);
}

void
seat_change_pause(void)
{
    seat_change_end();
    clock_sleep_ns(GATE_POLL_NS);
    seat_change_begin();
}

struct fork_page *
seat_fork_page(void)
{
    struct fork_page *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, PAGE_BYTES, MADV_WIPEONFORK) != 0) {
        munmap(page, PAGE_BYTES);
        return NULL;
    }
    store_relaxed(&page->state, FORK_ATTACHED);
    return page;
}

bool
seat_attach(struct pool *pool)
{
    struct seat seat;

    if (!take_seat(pool, pool->lock_fd, &seat))
        return false;
    sit(pool, &seat);
    pool->next_in_process = process_pools;
    process_pools = pool;
    return true;
}

void
seat_detach(const struct pool *pool)
{
    for (struct pool **link = &process_pools; *link; link = &(*link)->next_in_process)
        if (*link == pool) {
            *link = pool->next_in_process;
            break;
        }
}

void
seat_gate_open(int lock_fd)
{
    byte_lock(lock_fd, F_UNLCK, GATE_BYTE);
}

void
seat_leave(int lock_fd)
{
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET}; /* to the end */

    fcntl(lock_fd, F_OFD_SETLK, &all);
}

void
seat_fork_page_free(struct fork_page *page)
{
    munmap(page, PAGE_BYTES);
}
