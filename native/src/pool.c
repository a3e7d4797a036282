/*
 * A pool's files; see pool.h.
 */
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "clock.h"
#include "fault.h"
#include "lock.h"
#include "pool_geometry.h"
#include "pool_sweep.h"

#define GATE_BYTE 0
#define PLACE_BYTE 1
#define GATE_PATIENCE_NS UINT64_C(10000000000)
#define GATE_POLL_NS UINT64_C(1000000)
#define REFUSED_FOR_MS 1000u
#define DRAM_DIRECTORY "/dev/shm"
#define NEW_SUFFIX ".new"
/* What suffixes leave of the 255 bytes that a file's name may have. */
#define NAME_MAX_BYTES 240u

/* Zeroed by the kernel in every child (MADV_WIPEONFORK), however it was made. */
enum fork_state { FORK_CHILD = 0, FORK_ATTACHING = 1, FORK_ATTACHED = 2 };
struct fork_page {
    _Atomic uint32_t state;
};

/* Every published pool of this process, so that a child can attach to each. */
static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct pool *process_pools;

enum pmc_status
pool_fail(struct pmc_error *error_out, enum pmc_status status, int system_errno,
          const char *format, ...)
{
    va_list arguments;
    size_t used;

    if (!error_out)
        return status;
    error_out->system_errno = system_errno;
    va_start(arguments, format);
    vsnprintf(error_out->message, sizeof error_out->message, format, arguments);
    va_end(arguments);
    used = strlen(error_out->message);
    if (system_errno)
        snprintf(error_out->message + used, sizeof error_out->message - used, " (%s)",
                 strerror(system_errno));
    return status;
}

static enum pmc_status
fail_system(struct pmc_error *error_out, const char *what, const char *name)
{
    int saved = errno;

    if (saved == ENOSPC || saved == EDQUOT)
        return pool_fail(error_out, PMC_ENOSPACE, saved,
                         "cannot %s %s: the file system has no room for the "
                         "smallest pool; free some or choose another path",
                         what, name);
    if (saved == EROFS || saved == EACCES || saved == EPERM)
        return pool_fail(error_out, PMC_ESYSTEM, saved,
                         "cannot %s %s: choose a path that this user may write", what,
                         name);
    return pool_fail(error_out, PMC_ESYSTEM, saved, "cannot %s %s", what, name);
}

/* ---- locks on the lock file ------------------------------------------ */

/* Take (F_WRLCK) or drop (F_UNLCK) one byte. False: somebody else has it. */
static bool
byte_lock(int fd, short type, off_t byte)
{
    struct flock range = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

/* Does another open file description hold a byte of [first, first + count)?
 * On an error the answer is yes: nothing of a live process is taken away. */
static bool
bytes_held_elsewhere(int fd, off_t first, off_t count)
{
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};

    if (fcntl(fd, F_OFD_GETLK, &range) != 0)
        return true;
    return range.l_type != F_UNLCK;
}

static bool
gate_close(int fd, uint64_t patience_ns)
{
    uint64_t give_up_ns = clock_now_ns() + patience_ns;

    while (!byte_lock(fd, F_WRLCK, GATE_BYTE)) {
        if (clock_now_ns() >= give_up_ns)
            return false;
        clock_sleep_ns(GATE_POLL_NS);
    }
    return true;
}

static bool
nobody_attached(int lock_fd)
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
    store_relaxed(&pool->place, seat->place);
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
            place != load_relaxed(&pool->place) &&
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
    int fd = reopen_lock_file(pool);

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
    if (pool->child.lock_fd < 0) {
        store_relaxed(&pool->owner, 0);
        return;
    }
    sit(pool, &pool->child);
    pool->child.lock_fd = -1;
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
    for (struct pool *pool = process_pools; pool; pool = pool->next_in_process)
        (void)pool_owner(pool);
    pthread_mutex_unlock(&process_mutex);
}

static void
watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* Attaching and detaching keep out fork(): a child must find each pool either
 * attached, and then attach itself, or not at all. */
static void
lock_process(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&process_mutex);
}

static void
remember_pool_locked(struct pool *pool)
{
    pool->next_in_process = process_pools;
    process_pools = pool;
}

static void
forget_pool_locked(const struct pool *pool)
{
    for (struct pool **link = &process_pools; *link; link = &(*link)->next_in_process)
        if (*link == pool) {
            *link = pool->next_in_process;
            break;
        }
}

static struct fork_page *
make_fork_page(void)
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

/* ---- memory ---------------------------------------------------------- */

static enum pmc_status
allocate(struct pool *pool, int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
    int result;

    do
        result = fallocate(fd, 0, (off_t)offset_bytes, (off_t)size_bytes);
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return PMC_OK;
    store_relaxed(&pool->header->growth_refused_ms, clock_coarse_ms());
    return PMC_ENOSPACE;
}

enum pmc_status
pool_allocate_heap(struct pool *pool, uint64_t offset_bytes, uint64_t size_bytes)
{
    return allocate(pool, pool->heap_fd, offset_bytes, size_bytes);
}

enum pmc_status
pool_allocate_index(struct pool *pool, const void *from, uint64_t size_bytes)
{
    uint64_t start = (uint64_t)((const uint8_t *)from - (const uint8_t *)pool->header);
    uint64_t first = start / PAGE_BYTES * PAGE_BYTES;

    return allocate(pool, pool->index_fd, first, start + size_bytes - first);
}

bool
pool_growth_refused(const struct pool *pool)
{
    uint64_t refused_ms = load_relaxed(&pool->header->growth_refused_ms);

    return refused_ms != 0 && clock_coarse_ms() - refused_ms < REFUSED_FOR_MS;
}

_Atomic uint64_t *
pool_versions(const struct pool *pool)
{
    return (_Atomic uint64_t *)(void *)((uint8_t *)pool->header + VERSIONS_OFF);
}

struct shard_header *
pool_shard_header(const struct pool *pool, uint32_t number)
{
    uint64_t bytes = pool_shard_index_bytes(&pool->header->identity);

    return (struct shard_header *)(void *)((uint8_t *)pool->header +
                                           pool_shards_off(&pool->header->identity) +
                                           number * bytes);
}

uint8_t *
pool_shard_heap(const struct pool *pool, uint32_t number)
{
    return pool->heap + HEAP_HEADER_BYTES + number * pool->header->identity.shard_bytes;
}

static enum pmc_status
map_files(struct pool *pool, const struct pool_identity *identity,
          struct pmc_error *error_out)
{
    void *index;
    void *heap;

    pool->index_bytes = (size_t)pool_index_bytes(identity);
    pool->heap_bytes = (size_t)pool_heap_bytes(identity);
    index = mmap(NULL, pool->index_bytes, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_NORESERVE, pool->index_fd, 0);
    if (index == MAP_FAILED)
        return fail_system(error_out, "map", pool->index_name);
    pool->header = index;
    pool->attachments =
        (struct attachment *)(void *)((uint8_t *)index + ATTACHMENTS_OFF);
    heap = mmap(NULL, pool->heap_bytes, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_NORESERVE, pool->heap_fd, 0);
    if (heap == MAP_FAILED)
        return fail_system(error_out, "map", pool->heap_name);
    pool->heap = heap;
    return PMC_OK;
}

/* ---- names and directories ------------------------------------------- */

static bool
is_dram(int fd)
{
    struct statfs file_system;

    return fstatfs(fd, &file_system) == 0 &&
           (file_system.f_type == TMPFS_MAGIC ||
            file_system.f_type == HUGETLBFS_MAGIC || file_system.f_type == RAMFS_MAGIC);
}

static enum pmc_status
open_directory(struct pool *pool, const char *path, struct pmc_error *error_out)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char *directory;
    struct stat about;

    if (*name == '\0' || strlen(name) > NAME_MAX_BYTES)
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "%s does not end in a usable file name", path);
    directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!directory)
        return fail_system(error_out, "remember", path);
    pool->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (pool->directory_fd < 0)
        return fail_system(error_out, "open the directory of", path);
    if (fstat(pool->directory_fd, &about) != 0)
        return fail_system(error_out, "examine the directory of", path);
    if ((about.st_mode & S_IWOTH) && !(about.st_mode & S_ISVTX))
        return pool_fail(error_out, PMC_EPERMISSIONS, 0,
                         "every user may write in the directory of %s, and so "
                         "replace the pool; use chmod o-w on it or choose "
                         "another directory",
                         path);
    snprintf(pool->heap_name, sizeof pool->heap_name, "%s", name);
    snprintf(pool->lock_name, sizeof pool->lock_name, "%.240s.lock", name);
    return PMC_OK;
}

/* The index goes beside a heap that is in DRAM anyway, else to shared memory
 * under a name that no other pool has, else beside. */
static void
name_index(struct pool *pool, uint64_t pool_id, bool in_dram)
{
    if (pool->index_directory_fd >= 0)
        close(pool->index_directory_fd);
    pool->index_directory_fd = -1;
    if (in_dram)
        pool->index_directory_fd =
            open(DRAM_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (pool->index_directory_fd >= 0)
        snprintf(pool->index_name, sizeof pool->index_name,
                 "pmemcache.%u.%016llx.index", (unsigned)geteuid(),
                 (unsigned long long)pool_id);
    else
        snprintf(pool->index_name, sizeof pool->index_name, "%.240s.index",
                 pool->heap_name);
}

static int
index_directory(const struct pool *pool)
{
    return pool->index_directory_fd >= 0 ? pool->index_directory_fd
                                         : pool->directory_fd;
}

/* A name with NEW_SUFFIX, in name_out[256]. */
static const char *
new_name(const char *name, char *name_out)
{
    snprintf(name_out, 256, "%.250s%s", name, NEW_SUFFIX);
    return name_out;
}

static void
remove_file(int directory_fd, const char *name)
{
    char scratch[256];

    unlinkat(directory_fd, name, 0);
    unlinkat(directory_fd, new_name(name, scratch), 0);
}

/* ---- the lock file --------------------------------------------------- */

/* Is this description still the file of that name? */
static bool
still_named(int directory_fd, const char *name, int fd)
{
    struct stat named;
    struct stat open_file;

    return fstatat(directory_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(fd, &open_file) == 0 && named.st_ino == open_file.st_ino &&
           named.st_dev == open_file.st_dev;
}

static enum pmc_status
check_owner(int fd, const char *name, struct pmc_error *error_out)
{
    struct stat about;

    if (fstat(fd, &about) != 0)
        return fail_system(error_out, "examine", name);
    if (!S_ISREG(about.st_mode))
        return pool_fail(error_out, PMC_ENOT_POOL, 0,
                         "%s is a directory or a special file, not a pool; "
                         "choose another path",
                         name);
    if (about.st_uid != geteuid())
        return pool_fail(error_out, PMC_EOWNER, 0,
                         "%s belongs to user %u; a pool is shared by processes "
                         "of one user: run as that user or choose another path",
                         name, (unsigned)about.st_uid);
    return PMC_OK;
}

static int
open_existing(int directory_fd, const char *name)
{
    return openat(directory_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* openat() refused: say why in the pool's terms. */
static enum pmc_status
fail_open(struct pmc_error *error_out, int directory_fd, const char *name)
{
    int saved = errno;
    struct stat about;

    if (saved == ELOOP)
        return pool_fail(error_out, PMC_ENOT_POOL, 0,
                         "%s is a symbolic link, which is not followed; give "
                         "the path of the file itself",
                         name);
    if (saved == EISDIR || saved == ENXIO)
        return pool_fail(error_out, PMC_ENOT_POOL, 0,
                         "%s is a directory or a special file, not a pool; "
                         "choose another path",
                         name);
    if (fstatat(directory_fd, name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
        about.st_uid != geteuid())
        return pool_fail(error_out, PMC_EOWNER, 0,
                         "%s belongs to user %u; a pool is shared by processes "
                         "of one user: run as that user or choose another path",
                         name, (unsigned)about.st_uid);
    errno = saved;
    return fail_system(error_out, "open", name);
}

/* Open the lock file, making it, and close the gate behind us. */
static enum pmc_status
enter_gate(struct pool *pool, struct pmc_error *error_out)
{
    for (;;) {
        enum pmc_status status;
        int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
        int fd = openat(pool->directory_fd, pool->lock_name, flags | O_EXCL, 0600);

        pool->made_lock_file = fd >= 0;
        if (fd < 0 && errno == EEXIST)
            fd = openat(pool->directory_fd, pool->lock_name, flags, 0600);
        if (fd < 0)
            return fail_open(error_out, pool->directory_fd, pool->lock_name);
        status = check_owner(fd, pool->lock_name, error_out);
        if (status == PMC_OK && !gate_close(fd, GATE_PATIENCE_NS))
            status = pool_fail(error_out, PMC_ETIMEDOUT, 0,
                               "another process has been opening %s for 10 s; "
                               "see who holds a lock on %s",
                               pool->heap_name, pool->lock_name);
        if (status != PMC_OK) {
            close(fd);
            return status;
        }
        if (still_named(pool->directory_fd, pool->lock_name, fd)) {
            pool->lock_fd = fd;
            return PMC_OK;
        }
        close(fd); /* the last one out removed it meanwhile */
    }
}

/* The lock file remembers the pool's number, so that an index in shared memory
 * is found and removed even when the heap's file is gone. */
static void
note_pool_id(const struct pool *pool, uint64_t pool_id)
{
    ssize_t written = pwrite(pool->lock_fd, &pool_id, sizeof pool_id, 0);

    (void)written; /* at worst a stale index stays behind */
}

static void
remove_noted_index(struct pool *pool)
{
    uint64_t pool_id;

    if (pread(pool->lock_fd, &pool_id, sizeof pool_id, 0) != sizeof pool_id)
        return;
    name_index(pool, pool_id, true);
    if (pool->index_directory_fd >= 0)
        remove_file(pool->index_directory_fd, pool->index_name);
}

static void
remove_pool_files(struct pool *pool)
{
    char beside[256];

    remove_noted_index(pool);
    snprintf(beside, sizeof beside, "%.240s.index", pool->heap_name);
    remove_file(pool->directory_fd, beside);
    remove_file(pool->directory_fd, pool->heap_name);
}

/* ---- identity -------------------------------------------------------- */

static void
read_boot_id(uint8_t boot_id_out[16])
{
    char text[64] = {0};
    size_t used = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    memset(boot_id_out, 0, 16);
    for (ssize_t i = 0; i < size && used < 32; i++) {
        char digit = text[i];
        int value = digit >= '0' && digit <= '9'   ? digit - '0'
                    : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                                   : -1;

        if (value < 0)
            continue;
        boot_id_out[used / 2] = (uint8_t)(boot_id_out[used / 2] << 4 | (unsigned)value);
        used++;
    }
}

static enum pmc_status
read_identity(int fd, const char *name, struct pool_identity *identity_out,
              struct pmc_error *error_out)
{
    struct pool_identity identity;
    const struct pool_identity expected = {.magic = "PMCPOOL"};

    if (pread(fd, &identity, sizeof identity, 0) != sizeof identity ||
        memcmp(identity.magic, expected.magic, sizeof identity.magic) != 0)
        return pool_fail(error_out, PMC_ENOT_POOL, 0,
                         "%s is a file of something else, not a pool; choose "
                         "another path (nothing was changed)",
                         name);
    if (identity.layout_version != LAYOUT_VERSION || identity.abi != pool_abi())
        return pool_fail(error_out, PMC_ELAYOUT, 0,
                         "%s has layout version %u (ABI %08x), this library "
                         "works with %u (%08x): stop the processes that use it "
                         "with another version of pmemcache, or choose another "
                         "path",
                         name, identity.layout_version, identity.abi, LAYOUT_VERSION,
                         pool_abi());
    if (identity.checksum != pool_identity_checksum(&identity))
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "the header of %s is damaged; stop its users and "
                         "remove the file, its contents were only cached",
                         name);
    *identity_out = identity;
    return PMC_OK;
}

/* Open one of the two files of a pool and see that it is long enough. */
static enum pmc_status
open_member(int directory_fd, const char *name, int *fd_out,
            struct pool_identity *identity_out, struct pmc_error *error_out)
{
    enum pmc_status status;

    *fd_out = open_existing(directory_fd, name);
    if (*fd_out < 0 && errno == ENOENT)
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "%s was removed while processes use the pool; restart "
                         "them, or choose another path",
                         name);
    if (*fd_out < 0)
        return fail_open(error_out, directory_fd, name);
    status = check_owner(*fd_out, name, error_out);
    if (status == PMC_OK)
        status = read_identity(*fd_out, name, identity_out, error_out);
    return status;
}

static bool
long_enough(int fd, uint64_t size_bytes)
{
    struct stat about;

    return fstat(fd, &about) == 0 && (uint64_t)about.st_size >= size_bytes;
}

/* Open and map the files that are there. */
static enum pmc_status
open_files(struct pool *pool, struct pool_identity *identity_out,
           struct pmc_error *error_out)
{
    struct pool_identity index_identity;
    enum pmc_status status = open_member(pool->directory_fd, pool->heap_name,
                                         &pool->heap_fd, identity_out, error_out);

    if (status != PMC_OK)
        return status;
    name_index(pool, identity_out->pool_id, identity_out->index_in_dram != 0);
    status = open_member(index_directory(pool), pool->index_name, &pool->index_fd,
                         &index_identity, error_out);
    if (status != PMC_OK)
        return status;
    if (!pool_hold_index(pool->index_fd))
        return fail_system(error_out, "hold", pool->index_name);
    if (memcmp(&index_identity, identity_out, sizeof index_identity) != 0 ||
        !long_enough(pool->heap_fd, pool_heap_bytes(identity_out)) ||
        !long_enough(pool->index_fd, pool_index_bytes(identity_out)))
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "%s and its index do not belong together or are cut "
                         "short; stop its users and remove both",
                         pool->heap_name);
    return map_files(pool, identity_out, error_out);
}

static void
close_files(struct pool *pool)
{
    if (pool->header)
        munmap(pool->header, pool->index_bytes);
    if (pool->heap)
        munmap(pool->heap, pool->heap_bytes);
    pool->header = NULL;
    pool->heap = NULL;
    if (pool->heap_fd >= 0)
        close(pool->heap_fd);
    if (pool->index_fd >= 0)
        close(pool->index_fd);
    pool->heap_fd = -1;
    pool->index_fd = -1;
}

/* The first option in which an existing pool differs, or NULL. */
static const char *
first_difference(const struct pool_identity *identity,
                 const struct pmc_options *options)
{
    if (identity->size_bytes != options->size_bytes)
        return "size";
    if (identity->shards != options->shards)
        return "shards";
    if (identity->lifetime != options->lifetime)
        return "lifetime";
    if (identity->eviction != options->eviction)
        return "eviction";
    return NULL;
}

/* ---- creating -------------------------------------------------------- */

static enum pmc_status
create_file(struct pool *pool, int directory_fd, const char *name, int *fd_out,
            uint64_t size_bytes, struct pmc_error *error_out)
{
    if (pool->named) {
        char scratch[256];

        *fd_out = openat(directory_fd, new_name(name, scratch),
                         O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    } else {
        *fd_out = memfd_create("pmemcache", MFD_CLOEXEC);
    }
    if (*fd_out < 0)
        return fail_system(error_out, "create", name);
    if (ftruncate(*fd_out, (off_t)size_bytes) != 0)
        return fail_system(error_out, "size", name);
    return PMC_OK;
}

/* What the heap may grow to when the user names no size. */
static uint64_t
file_system_bytes(const struct pool *pool)
{
    struct statfs file_system;
    int fd = pool->named ? pool->directory_fd : pool->lock_fd;

    if (fstatfs(fd, &file_system) != 0 || file_system.f_blocks == 0)
        return UINT64_C(1) << 36;
    return (uint64_t)file_system.f_blocks * (uint64_t)file_system.f_bsize;
}

/* Where the heap is, so that an index elsewhere can be judged without it. */
static void
note_heap_path(struct pool *pool)
{
    char self[64];
    char directory[HEAP_PATH_BYTES - sizeof pool->heap_name - 1];
    ssize_t size;

    snprintf(self, sizeof self, "/proc/self/fd/%d", pool->directory_fd);
    size = pool->named ? readlink(self, directory, sizeof directory - 1) : -1;
    if (size <= 0)
        return;
    directory[size] = '\0';
    snprintf(pool->header->heap_path, sizeof pool->header->heap_path, "%s/%s",
             directory, pool->heap_name);
}

static enum pmc_status
write_headers(struct pool *pool, const struct pool_identity *identity,
              const struct pmc_options *options, struct pmc_error *error_out)
{
    uint64_t first_bytes =
        options->preallocate ? pool_heap_bytes(identity) : HEAP_HEADER_BYTES;

    if (fallocate(pool->index_fd, 0, 0, (off_t)pool_shards_off(identity)) != 0)
        return fail_system(error_out, "allocate", pool->index_name);
    if (fallocate(pool->heap_fd, 0, 0, (off_t)first_bytes) != 0)
        return fail_system(error_out, "allocate", pool->heap_name);
    pool->header->identity = *identity;
    note_heap_path(pool);
    memcpy(pool->heap, identity, sizeof *identity);
    return PMC_OK;
}

static enum pmc_status
create_files(struct pool *pool, const struct pmc_options *options,
             struct pmc_error *error_out)
{
    struct pool_identity identity;
    uint64_t limit_bytes = options->size_bytes;
    enum pmc_status status;

    if (limit_bytes == PMC_SIZE_GROW)
        limit_bytes = file_system_bytes(pool);
    if (limit_bytes / options->shards < PMC_POOL_MIN_BYTES)
        return pool_fail(error_out, PMC_ENOSPACE, 0,
                         "the file system of %s is too small for a pool",
                         pool->heap_name);
    pool->origin = POOL_CREATED;
    pool_geometry(options, limit_bytes, &identity);
    if (getrandom(&identity.pool_id, sizeof identity.pool_id, 0) < 0)
        return fail_system(error_out, "number", pool->heap_name);
    read_boot_id(identity.boot_id);
    if (pool->named) {
        identity.index_in_dram = !is_dram(pool->directory_fd);
        note_pool_id(pool, identity.pool_id);
        name_index(pool, identity.pool_id, identity.index_in_dram);
        identity.index_in_dram = pool->index_directory_fd >= 0;
        if (identity.index_in_dram)
            pool_sweep_indexes(pool->index_directory_fd);
    }
    identity.checksum = pool_identity_checksum(&identity);
    status = create_file(pool, index_directory(pool), pool->index_name, &pool->index_fd,
                         pool_index_bytes(&identity), error_out);
    STEP("create.index");
    if (status == PMC_OK)
        status = create_file(pool, pool->directory_fd, pool->heap_name, &pool->heap_fd,
                             pool_heap_bytes(&identity), error_out);
    STEP("create.heap");
    if (status == PMC_OK && !pool_hold_index(pool->index_fd))
        status = fail_system(error_out, "hold", pool->index_name);
    if (status == PMC_OK)
        status = map_files(pool, &identity, error_out);
    if (status == PMC_OK)
        status = write_headers(pool, &identity, options, error_out);
    return status;
}

/* ---- opening --------------------------------------------------------- */

/* Nobody is attached: may what lies there be adopted, or must it go? Refuses
 * to remove what is not a pool. */
static enum pmc_status
adopt_or_clear(struct pool *pool, const struct pmc_options *options, bool *adopted_out,
               struct pmc_error *error_out)
{
    struct pool_identity identity;
    struct stat about;
    uint8_t boot_id[16];
    enum pmc_status status;

    *adopted_out = false;
    if (fstatat(pool->directory_fd, pool->heap_name, &about, AT_SYMLINK_NOFOLLOW) !=
        0) {
        remove_pool_files(pool);
        return PMC_OK;
    }
    status = open_files(pool, &identity, error_out);
    if ((status == PMC_ENOT_POOL && !(S_ISREG(about.st_mode) && about.st_size == 0)) ||
        status == PMC_EOWNER || status == PMC_ESYSTEM)
        return status;
    read_boot_id(boot_id);
    if (status == PMC_OK && options->lifetime == PMC_RESTART &&
        !first_difference(&identity, options) &&
        memcmp(boot_id, identity.boot_id, sizeof boot_id) == 0) {
        pool->origin = POOL_ADOPTED;
        *adopted_out = true;
        return PMC_OK;
    }
    if (status != PMC_OK || identity.lifetime == PMC_RESTART)
        pool_fail(error_out, PMC_OK, 0,
                  "%s was left by another version, boot or set of options and "
                  "is replaced by an empty pool",
                  pool->heap_name);
    close_files(pool);
    remove_pool_files(pool);
    return PMC_OK;
}

static enum pmc_status
join(struct pool *pool, const struct pmc_options *options, struct pmc_error *error_out)
{
    struct pool_identity identity;
    enum pmc_status status = open_files(pool, &identity, error_out);
    const char *difference;

    if (status != PMC_OK)
        return status;
    difference = first_difference(&identity, options);
    if (difference)
        return pool_fail(error_out, PMC_EGEOMETRY, 0,
                         "%s is in use with another %s; give all its users the "
                         "same options",
                         pool->heap_name, difference);
    pool->origin = POOL_JOINED;
    return PMC_OK;
}

static struct pool *
new_pool(void)
{
    struct pool *pool = calloc(1, sizeof *pool);

    if (!pool)
        return NULL;
    pool->heap_fd = -1;
    pool->index_fd = -1;
    pool->lock_fd = -1;
    pool->child.lock_fd = -1;
    pool->origin = POOL_JOINED; /* until files have been made */
    pool->directory_fd = -1;
    pool->index_directory_fd = -1;
    pool->fork_page = make_fork_page();
    if (!pool->fork_page) {
        free(pool);
        return NULL;
    }
    return pool;
}

static enum pmc_status
prepare_named(struct pool *pool, const struct pmc_options *options,
              struct pmc_error *error_out)
{
    bool adopted;
    enum pmc_status status = open_directory(pool, options->path, error_out);

    if (status == PMC_OK)
        status = enter_gate(pool, error_out);
    if (status != PMC_OK)
        return status;
    if (!nobody_attached(pool->lock_fd))
        return join(pool, options, error_out);
    status = adopt_or_clear(pool, options, &adopted, error_out);
    if (status != PMC_OK || adopted)
        return status;
    return create_files(pool, options, error_out);
}

static enum pmc_status
prepare_private(struct pool *pool, const struct pmc_options *options,
                struct pmc_error *error_out)
{
    snprintf(pool->heap_name, sizeof pool->heap_name, "private heap");
    snprintf(pool->index_name, sizeof pool->index_name, "private index");
    pool->lock_fd = memfd_create("pmemcache-lock", MFD_CLOEXEC);
    if (pool->lock_fd < 0)
        return fail_system(error_out, "create", "a private lock file");
    return create_files(pool, options, error_out);
}

enum pmc_status
pool_prepare(const struct pmc_options *options, struct pool **pool_out,
             struct pmc_error *error_out)
{
    struct pool *pool = new_pool();
    enum pmc_status status;

    if (!pool)
        return fail_system(error_out, "prepare",
                           options->path ? options->path : "a private pool");
    pool->named = options->path != NULL;
    status = pool->named ? prepare_named(pool, options, error_out)
                         : prepare_private(pool, options, error_out);
    if (status != PMC_OK) {
        pool_abandon(pool);
        return status;
    }
    *pool_out = pool;
    return PMC_OK;
}

static bool
link_into_place(const struct pool *pool)
{
    char scratch[256];

    if (renameat(index_directory(pool), new_name(pool->index_name, scratch),
                 index_directory(pool), pool->index_name) != 0)
        return false;
    STEP("create.link");
    return renameat(pool->directory_fd, new_name(pool->heap_name, scratch),
                    pool->directory_fd, pool->heap_name) == 0;
}

enum pmc_status
pool_publish(struct pool *pool, struct pmc_error *error_out)
{
    struct seat seat;
    bool seated;

    if (pool->named && pool->origin == POOL_CREATED && !link_into_place(pool))
        return fail_system(error_out, "link", pool->heap_name);
    STEP("attach.place");
    lock_process();
    seated = take_seat(pool, pool->lock_fd, &seat);
    if (seated) {
        sit(pool, &seat);
        remember_pool_locked(pool);
    }
    pthread_mutex_unlock(&process_mutex);
    if (!seated)
        return pool_fail(error_out, PMC_EATTACH_LIMIT, 0,
                         "%u processes are attached to %s already", ATTACHMENTS_MAX,
                         pool->heap_name);
    pool->published = true;
    STEP("attach.gate");
    byte_lock(pool->lock_fd, F_UNLCK, GATE_BYTE);
    return PMC_OK;
}

static void
release(struct pool *pool)
{
    close_files(pool);
    if (pool->lock_fd >= 0) {
        /* A child forked a moment ago may share this description: closing it here
         * would leave the gate closed for as long as that child lives. */
        byte_lock(pool->lock_fd, F_UNLCK, GATE_BYTE);
        close(pool->lock_fd);
    }
    if (pool->directory_fd >= 0)
        close(pool->directory_fd);
    if (pool->index_directory_fd >= 0)
        close(pool->index_directory_fd);
    munmap(pool->fork_page, PAGE_BYTES);
    free(pool);
}

void
pool_abandon(struct pool *pool)
{
    if (pool->named && pool->lock_fd >= 0 && nobody_attached(pool->lock_fd)) {
        if (pool->origin == POOL_CREATED && pool->index_fd >= 0)
            remove_pool_files(pool);
        if (pool->made_lock_file || faccessat(pool->directory_fd, pool->heap_name, F_OK,
                                              AT_SYMLINK_NOFOLLOW) != 0)
            unlinkat(pool->directory_fd, pool->lock_name, 0);
    }
    release(pool);
}

/* With the gate closed: is this the last process, of a pool that should not
 * outlive it? */
static void
remove_if_last(struct pool *pool)
{
    if (!gate_close(pool->lock_fd, GATE_PATIENCE_NS / 10))
        return; /* the next one to open it will clean up */
    if (nobody_attached(pool->lock_fd) &&
        still_named(pool->directory_fd, pool->lock_name, pool->lock_fd)) {
        STEP("detach.remove");
        remove_pool_files(pool);
        STEP("detach.unlock");
        unlinkat(pool->directory_fd, pool->lock_name, 0);
    }
}

void
pool_close(struct pool *pool)
{
    bool attached = pool_owner(pool) != 0;

    lock_process();
    forget_pool_locked(pool);
    if (attached && pool->named && pool->published &&
        pool->header->identity.lifetime == PMC_VOLATILE)
        remove_if_last(pool);
    release(pool); /* closing the lock file gives back place and gate */
    pthread_mutex_unlock(&process_mutex);
}
