/*
 * The files of a pool; see pool_files.h.
 */
#include "pool_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
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
#include "pool_geometry.h"
#include "pool_seat.h"
#include "pool_sweep.h"

#define DRAM_DIRECTORY "/dev/shm"
#define NEW_SUFFIX ".new"
/* What suffixes leave of the 255 bytes that a file's name may have. */
#define NAME_MAX_BYTES 240u

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
        return pool_fail_system(error_out, "map", pool->index_name);
    pool->header = index;
    pool->attachments =
        (struct attachment *)(void *)((uint8_t *)index + ATTACHMENTS_OFF);
    heap = mmap(NULL, pool->heap_bytes, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_NORESERVE, pool->heap_fd, 0);
    if (heap == MAP_FAILED)
        return pool_fail_system(error_out, "map", pool->heap_name);
    pool->heap = heap;
    if (!file_mark_of(pool->heap_fd, &pool->heap_mark) ||
        !file_mark_of(pool->index_fd, &pool->index_mark) ||
        !file_mark_of(pool->lock_fd, &pool->lock_mark))
        return pool_fail_system(error_out, "examine", pool->heap_name);
    store_relaxed(&pool->own, pool->attachments); /* the first, until it has one */
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

enum pmc_status
files_open_directory(struct pool *pool, const char *path, struct pmc_error *error_out)
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
        return pool_fail_system(error_out, "remember", path);
    pool->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (pool->directory_fd < 0)
        return pool_fail_system(error_out, "open the directory of", path);
    if (fstat(pool->directory_fd, &about) != 0)
        return pool_fail_system(error_out, "examine the directory of", path);
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
 * under a name that no other pool has, else beside. False: there is shared memory, and it
 * could not be looked into. */
static bool
name_index(struct pool *pool, uint64_t pool_id, bool in_dram)
{
    bool known = true;

    if (pool->index_directory_fd >= 0)
        close(pool->index_directory_fd);
    pool->index_directory_fd = -1;
    if (in_dram) {
        pool->index_directory_fd =
            open(DRAM_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        known = pool->index_directory_fd >= 0 || errno == ENOENT || errno == EACCES;
    }
    if (pool->index_directory_fd >= 0)
        snprintf(pool->index_name, sizeof pool->index_name,
                 "pmemcache.%u.%016llx.index", (unsigned)geteuid(),
                 (unsigned long long)pool_id);
    else
        snprintf(pool->index_name, sizeof pool->index_name, "%.240s.index",
                 pool->heap_name);
    return known;
}

int
files_index_directory(const struct pool *pool)
{
    return pool->index_directory_fd >= 0 ? pool->index_directory_fd
                                         : pool->directory_fd;
}

/* A name with NEW_SUFFIX, in name_out[256]. */
const char *
files_new_name(const char *name, char *name_out)
{
    snprintf(name_out, 256, "%.250s%s", name, NEW_SUFFIX);
    return name_out;
}

/* Does the file begin as a pool's two files do, or as one of which no more was made than
 * its size? */
static bool
begins_as_a_pool(int fd)
{
    static const uint8_t zeros[PAGE_BYTES];
    uint8_t page[PAGE_BYTES];
    ssize_t size = pread(fd, page, sizeof page, 0);

    return size == 0 ||
           (size >= (ssize_t)sizeof POOL_MAGIC &&
            memcmp(page, POOL_MAGIC, sizeof POOL_MAGIC) == 0) ||
           (size == (ssize_t)sizeof page && memcmp(page, zeros, sizeof page) == 0);
}

/* Remove the file of this name if it is a pool's, or the one that is open. What others
 * keep beside a pool under such a name is left alone. */
static void
remove_own(int directory_fd, const char *name, int open_fd)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return;
    if (begins_as_a_pool(fd) || files_still_named(directory_fd, name, open_fd))
        unlinkat(directory_fd, name, 0);
    close(fd);
}

static void
remove_file(int directory_fd, const char *name, int open_fd)
{
    char scratch[256];

    remove_own(directory_fd, name, open_fd);
    remove_own(directory_fd, files_new_name(name, scratch), open_fd);
}

/* What stands where a file of the pool has to be is not the pool's. */
static enum pmc_status
fail_occupied(struct pmc_error *error_out, const char *name)
{
    return pool_fail(error_out, PMC_ENOT_POOL, 0,
                     "%s is a file of something else, and the pool needs its name; "
                     "move it, or choose another path",
                     name);
}

/* ---- the lock file --------------------------------------------------- */

/* Is this description still the file of that name? */
bool
files_still_named(int directory_fd, const char *name, int fd)
{
    struct stat named;

    return fstatat(directory_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           file_is_marked(fd, (struct file_mark){named.st_dev, named.st_ino});
}

static enum pmc_status
fail_not_a_file(struct pmc_error *error_out, const char *name)
{
    return pool_fail(error_out, PMC_ENOT_POOL, 0,
                     "%s is a directory or a special file, not a pool; choose "
                     "another path",
                     name);
}

static enum pmc_status
fail_other_owner(struct pmc_error *error_out, const char *name, uid_t owner)
{
    return pool_fail(error_out, PMC_EOWNER, 0,
                     "%s belongs to user %u; a pool is shared by processes of one "
                     "user: run as that user or choose another path",
                     name, (unsigned)owner);
}

static enum pmc_status
check_owner(int fd, const char *name, struct pmc_error *error_out)
{
    struct stat about;

    if (fstat(fd, &about) != 0)
        return pool_fail_system(error_out, "examine", name);
    if (!S_ISREG(about.st_mode))
        return fail_not_a_file(error_out, name);
    if (about.st_uid != geteuid())
        return fail_other_owner(error_out, name, about.st_uid);
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
        return fail_not_a_file(error_out, name);
    if (fstatat(directory_fd, name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
        about.st_uid != geteuid())
        return fail_other_owner(error_out, name, about.st_uid);
    errno = saved;
    return pool_fail_system(error_out, "open", name);
}

/* A lock file holds the pool's number (see note_pool_id()), or nothing yet. */
static enum pmc_status
check_lock_file(int fd, const char *name, struct pmc_error *error_out)
{
    enum pmc_status status = check_owner(fd, name, error_out);
    struct stat about;

    if (status == PMC_OK && fstat(fd, &about) == 0 && about.st_size != 0 &&
        about.st_size != (off_t)sizeof(uint64_t))
        return fail_occupied(error_out, name);
    return status;
}

static enum pmc_status
open_lock_file(struct pool *pool, int *fd_out, struct pmc_error *error_out)
{
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(pool->directory_fd, pool->lock_name, flags | O_EXCL, 0600);
    enum pmc_status status;

    pool->made_lock_file = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = openat(pool->directory_fd, pool->lock_name, flags, 0600);
    if (fd < 0)
        return fail_open(error_out, pool->directory_fd, pool->lock_name);
    status = check_lock_file(fd, pool->lock_name, error_out);
    if (status == PMC_OK)
        *fd_out = fd;
    else if (pool->made_lock_file)
        unlinkat(pool->directory_fd, pool->lock_name, 0);
    if (status != PMC_OK)
        close(fd);
    return status;
}

/* Open the lock file, making it, and close the gate behind us. It is not kept open while
 * others have the gate, as a child of a fork() meanwhile would keep it too. */
enum pmc_status
files_enter_gate(struct pool *pool, struct pmc_error *error_out)
{
    uint64_t began_ns = clock_now_ns();

    for (;;) {
        int fd = -1;
        enum pmc_status status = open_lock_file(pool, &fd, error_out);
        bool closed;

        if (status != PMC_OK)
            return status;
        closed = seat_gate_close(fd, 0);
        if (closed && files_still_named(pool->directory_fd, pool->lock_name, fd)) {
            pool->lock_fd = fd;
            return PMC_OK;
        }
        close(fd); /* also when the last one out removed it meanwhile */
        if (closed)
            continue;
        if (clock_now_ns() - began_ns >= GATE_PATIENCE_NS)
            return pool_fail(error_out, PMC_ETIMEDOUT, 0,
                             "another process has been opening %s for 10 s; "
                             "see who holds a lock on %s",
                             pool->heap_name, pool->lock_name);
        seat_change_pause();
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

/* Does the index belong to another heap than the one of our path? A copy of a heap
 * has its number, and so finds the index of its original. */
static bool
index_is_anothers(const struct pool *pool, int index_fd)
{
    struct pool_header header;
    struct stat theirs;
    struct stat ours;

    if (pread(index_fd, &header, sizeof header, 0) != sizeof header ||
        pool_index_heap(&header, &theirs) != INDEX_HEAP_THERE)
        return false;
    return fstatat(pool->directory_fd, pool->heap_name, &ours, AT_SYMLINK_NOFOLLOW) !=
               0 ||
           ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev;
}

static void
remove_noted_index(struct pool *pool)
{
    uint64_t pool_id;
    int index_fd;

    if (pread(pool->lock_fd, &pool_id, sizeof pool_id, 0) != sizeof pool_id)
        return;
    (void)name_index(pool, pool_id, true);
    if (pool->index_directory_fd < 0)
        return;
    index_fd = open_existing(pool->index_directory_fd, pool->index_name);
    if (index_fd < 0 || !index_is_anothers(pool, index_fd))
        remove_file(pool->index_directory_fd, pool->index_name, index_fd);
    if (index_fd >= 0)
        close(index_fd);
}

void
files_remove(struct pool *pool)
{
    char beside[256];

    remove_noted_index(pool);
    STEP("remove.index");
    snprintf(beside, sizeof beside, "%.240s.index", pool->heap_name);
    remove_file(pool->directory_fd, beside, pool->index_fd);
    STEP("remove.beside");
    remove_file(pool->directory_fd, pool->heap_name, pool->heap_fd);
}

/* ---- identity -------------------------------------------------------- */

bool
files_read_boot_id(uint8_t boot_id_out[16])
{
    char text[64] = {0};
    size_t used = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

    memset(boot_id_out, 0, 16);
    if (fd < 0) /* where it never can be read, all boots look the same */
        return errno == ENOENT || errno == EACCES || errno == EPERM;
    close(fd);
    for (ssize_t i = 0; i < size && used < 32; i++) {
        char digit = text[i];
        int value = digit >= '0' && digit <= '9'   ? digit - '0'
                    : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                                   : -1;

        if (value < 0)
            continue;
        boot_id_out[used / 2] =
            (uint8_t)((unsigned)boot_id_out[used / 2] << 4 | (unsigned)value);
        used++;
    }
    return size >= 0;
}

/* Sets *identity_out to what a pool says of itself, also when it cannot be used. */
static enum pmc_status
read_identity(int fd, const char *name, struct pool_identity *identity_out,
              struct pmc_error *error_out)
{
    struct pool_identity identity;

    if (pread(fd, &identity, sizeof identity, 0) != sizeof identity ||
        memcmp(identity.magic, POOL_MAGIC, sizeof identity.magic) != 0)
        return pool_fail(error_out, PMC_ENOT_POOL, 0,
                         "%s is a file of something else, not a pool; choose "
                         "another path (nothing was changed)",
                         name);
    *identity_out = identity;
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

bool
files_are_in_use(const struct pool *pool)
{
    return pool->index_fd >= 0 && !index_is_anothers(pool, pool->index_fd) &&
           pool_index_is_held(pool->index_fd);
}

/* Open and map the files that are there. */
enum pmc_status
files_open(struct pool *pool, struct pool_identity *identity_out,
           struct pmc_error *error_out)
{
    struct pool_identity index_identity;
    enum pmc_status status = open_member(pool->directory_fd, pool->heap_name,
                                         &pool->heap_fd, identity_out, error_out);

    if (status != PMC_OK)
        return status;
    if (!name_index(pool, identity_out->pool_id, identity_out->index_in_dram != 0))
        return pool_fail_system(error_out, "open", DRAM_DIRECTORY);
    status = open_member(files_index_directory(pool), pool->index_name, &pool->index_fd,
                         &index_identity, error_out);
    /* The heap is a pool's: an index that is empty, or has a name of its pool's number,
     * is no file of others. */
    if (status == PMC_ENOT_POOL && pool->index_fd >= 0 &&
        (pool->index_directory_fd >= 0 || begins_as_a_pool(pool->index_fd)))
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "%s is damaged; stop its users and remove %s, its contents "
                         "were only cached",
                         pool->index_name, pool->heap_name);
    if (status != PMC_OK)
        return status;
    if (index_is_anothers(pool, pool->index_fd))
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "%s is a copy of another pool, whose index it cannot share; "
                         "remove it",
                         pool->heap_name);
    if (!pool_hold_index(pool->index_fd))
        return pool_fail_system(error_out, "hold", pool->index_name);
    if (memcmp(&index_identity, identity_out, sizeof index_identity) != 0 ||
        !long_enough(pool->heap_fd, pool_heap_bytes(identity_out)) ||
        !long_enough(pool->index_fd, pool_index_bytes(identity_out)))
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "%s and its index do not belong together or are cut "
                         "short; stop its users and remove both",
                         pool->heap_name);
    return map_files(pool, identity_out, error_out);
}

void
files_close(struct pool *pool)
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
const char *
files_first_difference(const struct pool_identity *identity,
                       const struct pmc_options *options)
{
    if (identity->size_bytes != options->size_bytes)
        return "size";
    if (options->shards != 0 && identity->shards != options->shards)
        return "shards";
    if (identity->lifetime != options->lifetime)
        return "lifetime";
    if (identity->eviction != options->eviction)
        return "eviction";
    if (identity->memory != options->memory)
        return "memory";
    if ((identity->preallocated != 0) != options->preallocate)
        return "preallocate";
    return NULL;
}

/* ---- creating -------------------------------------------------------- */

static enum pmc_status
create_file(struct pool *pool, int directory_fd, const char *name, int *fd_out,
            uint64_t size_bytes, struct pmc_error *error_out)
{
    char scratch[256];

    if (pool->named) {
        *fd_out = openat(directory_fd, files_new_name(name, scratch),
                         O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    } else {
        *fd_out = memfd_create("pmemcache", MFD_CLOEXEC);
    }
    if (*fd_out < 0 && errno == EEXIST)
        return fail_occupied(error_out, files_new_name(name, scratch));
    if (*fd_out < 0)
        return pool_fail_system(error_out, "create", name);
    if (ftruncate(*fd_out, (off_t)size_bytes) != 0)
        return pool_fail_system(error_out, "size", name);
    return PMC_OK;
}

/* What a tmpfs has that nobody gave a size. */
static uint64_t
half_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);

    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes / 2
                                       : UINT64_C(1) << 30;
}

/* What the heap may grow to when the user names no size. A file system of memory that has
 * no bound would not say no before the machine is out of memory. */
static uint64_t
file_system_bytes(const struct pool *pool)
{
    struct statfs file_system;
    int fd = pool->named ? pool->directory_fd : pool->lock_fd;

    if (fstatfs(fd, &file_system) != 0 || file_system.f_blocks == 0)
        return half_of_memory();
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

#define STEP_MIN_BYTES (UINT64_C(64) * 1024)

/* Some kernels undo what a tmpfs was asked for when a signal comes. Where signals come at
 * intervals shorter than the whole takes, it would never be done: so by parts, then. */
bool
files_allocate(int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
    uint64_t step = size_bytes;

    while (size_bytes > 0) {
        step = min_u64(step, size_bytes);
        if (fallocate(fd, 0, (off_t)offset_bytes, (off_t)step) == 0) {
            offset_bytes += step;
            size_bytes -= step;
        } else if (errno == EINTR) {
            step = max_u64(step / 2, STEP_MIN_BYTES);
        } else {
            return false;
        }
    }
    return true;
}

static enum pmc_status
write_headers(struct pool *pool, const struct pool_identity *identity,
              const struct pmc_options *options, struct pmc_error *error_out)
{
    uint64_t first_bytes =
        options->preallocate ? pool_heap_bytes(identity) : HEAP_HEADER_BYTES;

    if (!files_allocate(pool->index_fd, 0, pool_shards_off(identity)))
        return pool_fail_system(error_out, "allocate", pool->index_name);
    if (!files_allocate(pool->heap_fd, 0, first_bytes))
        return pool_fail_system(error_out, "allocate", pool->heap_name);
    pool->header->identity = *identity;
    note_heap_path(pool);
    memcpy(pool->heap, identity, sizeof *identity);
    return PMC_OK;
}

enum pmc_status
files_create(struct pool *pool, const struct pmc_options *options,
             struct pmc_error *error_out)
{
    struct pool_identity identity;
    uint64_t limit_bytes = options->size_bytes;
    enum pmc_status status;

    if (limit_bytes == PMC_SIZE_GROW)
        limit_bytes = file_system_bytes(pool);
    if (limit_bytes / max_u64(options->shards, 1) < PMC_POOL_MIN_BYTES)
        return pool_fail(error_out, PMC_ENOSPACE, 0,
                         "the file system of %s is too small for a pool",
                         pool->heap_name);
    pool->origin = POOL_CREATED;
    pool_geometry(options, limit_bytes, &identity);
    if (getrandom(&identity.pool_id, sizeof identity.pool_id, 0) < 0)
        return pool_fail_system(error_out, "number", pool->heap_name);
    if (!files_read_boot_id(identity.boot_id))
        return pool_fail_system(error_out, "tell the boot of", pool->heap_name);
    if (pool->named) {
        identity.index_in_dram = !is_dram(pool->directory_fd);
        note_pool_id(pool, identity.pool_id);
        (void)name_index(pool, identity.pool_id, identity.index_in_dram);
        identity.index_in_dram = pool->index_directory_fd >= 0;
        if (identity.index_in_dram)
            pool_sweep_indexes(pool->index_directory_fd);
    }
    identity.checksum = pool_identity_checksum(&identity);
    /* What was a pool's has been removed. */
    if (pool->named && faccessat(files_index_directory(pool), pool->index_name, F_OK,
                                 AT_SYMLINK_NOFOLLOW) == 0)
        return fail_occupied(error_out, pool->index_name);
    status = create_file(pool, files_index_directory(pool), pool->index_name,
                         &pool->index_fd, pool_index_bytes(&identity), error_out);
    STEP("create.index");
    if (status == PMC_OK)
        status = create_file(pool, pool->directory_fd, pool->heap_name, &pool->heap_fd,
                             pool_heap_bytes(&identity), error_out);
    STEP("create.heap");
    if (status == PMC_OK && !pool_hold_index(pool->index_fd))
        status = pool_fail_system(error_out, "hold", pool->index_name);
    if (status == PMC_OK)
        status = map_files(pool, &identity, error_out);
    if (status == PMC_OK)
        status = write_headers(pool, &identity, options, error_out);
    return status;
}
