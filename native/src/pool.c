/*
 * A pool: found or made, grown, left; see pool.h.
 */
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "fault.h"
#include "pool_files.h"
#include "pool_geometry.h"
#include "pool_guard.h"
#include "pool_seat.h"

#define REFUSED_FOR_MS 1000u

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

enum pmc_status
pool_fail_system(struct pmc_error *error_out, const char *what, const char *name)
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

/* ---- memory ---------------------------------------------------------- */

static enum pmc_status
allocate(struct pool *pool, int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (!pool_has_its_files(pool))
        (void)guard_give_up(pool);
    if (pool_is_lost(pool) || !files_allocate(fd, offset_bytes, size_bytes))
        return PMC_ENOSPACE;
    return PMC_OK;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; others say EINVAL */
#endif

/* On a disk, the first store to memory that was allocated takes room for the file
 * system's own notes of it. Where there is none it would raise SIGBUS; here it is asked
 * for without changing a byte. */
static bool
can_be_written(const struct pool *pool, uint64_t offset_bytes, uint64_t size_bytes)
{
    uint64_t first = offset_bytes / PAGE_BYTES * PAGE_BYTES;

    if (!pool->header->identity.index_in_dram)
        return true; /* the heap is in memory itself */
    return madvise(pool->heap + first, offset_bytes + size_bytes - first,
                   MADV_POPULATE_WRITE) == 0 ||
           errno == EINVAL;
}

enum pmc_status
pool_allocate_heap(struct pool *pool, uint64_t offset_bytes, uint64_t size_bytes)
{
    enum pmc_status status = allocate(pool, pool->heap_fd, offset_bytes, size_bytes);

    if (status == PMC_OK && !can_be_written(pool, offset_bytes, size_bytes))
        status = PMC_ENOSPACE;
    return status;
}

enum pmc_status
pool_allocate_index(struct pool *pool, const void *from, uint64_t size_bytes)
{
    uint64_t start = (uint64_t)((const uint8_t *)from - (const uint8_t *)pool->header);
    uint64_t first = start / PAGE_BYTES * PAGE_BYTES;

    return allocate(pool, pool->index_fd, first, start + size_bytes - first);
}

bool
pool_release_heap(struct pool *pool, uint64_t offset_bytes, uint64_t size_bytes)
{
    int result;

    if (!pool_has_its_files(pool)) {
        (void)guard_give_up(pool);
        return false;
    }
    do
        result = fallocate(pool->heap_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)offset_bytes, (off_t)size_bytes);
    while (result != 0 && errno == EINTR);
    if (result != 0)
        store_relaxed(&pool->keeps_memory, true);
    return result == 0;
}

void
pool_refuse_growth(struct pool *pool)
{
    store_relaxed(&pool->header->growth_refused_ms, clock_coarse_ms());
    add_relaxed(&pool->header->growths_refused, 1);
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

/* ---- opening --------------------------------------------------------- */

/* What was to be kept is not: in one sentence, which the user's log is to have. status
 * is what opening its files came to. Of what was volatile nobody expects to find it. */
static void
say_why_replaced(const struct pool *pool, enum pmc_status status,
                 const struct pool_identity *identity, bool is_of_this_boot,
                 const struct pmc_options *options, struct pmc_error *error_out)
{
    const char *difference = files_first_difference(identity, options);

    if (status != PMC_ELAYOUT && identity->lifetime == PMC_VOLATILE &&
        options->lifetime == PMC_VOLATILE)
        return;
    if (status == PMC_ELAYOUT)
        pool_fail(error_out, PMC_OK, 0,
                  "%s was left with layout version %u (ABI %08x), this library works "
                  "with %u (%08x): an empty pool replaces it",
                  pool->heap_name, identity->layout_version, identity->abi,
                  LAYOUT_VERSION, pool_abi());
    else if (status != PMC_ENOT_POOL && !is_of_this_boot)
        pool_fail(error_out, PMC_OK, 0,
                  "%s was left before the machine was started, and its index did not "
                  "outlive that: an empty pool replaces it",
                  pool->heap_name);
    else if (status != PMC_OK)
        pool_fail(error_out, PMC_OK, 0,
                  "%s was left damaged or without its index: an empty pool replaces it",
                  pool->heap_name);
    else if (identity->lifetime == PMC_RESTART && difference)
        pool_fail(error_out, PMC_OK, 0,
                  "%s was left with another %s than it is opened with: an empty pool "
                  "replaces it",
                  pool->heap_name, difference);
}

/* Nobody is attached: may what lies there be adopted, or must it go? Refuses
 * to remove what is not a pool, and what is in use all the same: then the lock file
 * was removed, and who has it and we would not know of each other. */
static enum pmc_status
adopt_or_clear(struct pool *pool, const struct pmc_options *options, bool *adopted_out,
               struct pmc_error *error_out)
{
    struct pool_identity identity = {0};
    uint8_t boot_id[sizeof identity.boot_id];
    bool is_of_this_boot;
    struct stat about;
    enum pmc_status status;

    *adopted_out = false;
    if (fstatat(pool->directory_fd, pool->heap_name, &about, AT_SYMLINK_NOFOLLOW) !=
        0) {
        if (errno != ENOENT)
            return pool_fail_system(error_out, "examine", pool->heap_name);
        files_remove(pool);
        return PMC_OK;
    }
    status = files_open(pool, &identity, error_out);
    if ((status == PMC_ENOT_POOL && !(S_ISREG(about.st_mode) && about.st_size == 0)) ||
        status == PMC_EOWNER || status == PMC_ESYSTEM || status == PMC_ENOSPACE)
        return status;
    if (files_are_in_use(pool))
        return pool_fail(error_out, PMC_EDAMAGED, 0,
                         "%s is in use by processes that have another lock file "
                         "than %s: it was removed, or this is a second name of the "
                         "pool; restart them, or choose another path",
                         pool->heap_name, pool->lock_name);
    if (!files_read_boot_id(boot_id))
        return pool_fail_system(error_out, "tell the boot of", pool->heap_name);
    is_of_this_boot = memcmp(boot_id, identity.boot_id, sizeof boot_id) == 0;
    if (status == PMC_OK && options->lifetime == PMC_RESTART &&
        !files_first_difference(&identity, options) && is_of_this_boot) {
        pool->origin = POOL_ADOPTED;
        *adopted_out = true;
        return PMC_OK;
    }
    if (error_out)
        *error_out = (struct pmc_error){0}; /* nothing has failed */
    say_why_replaced(pool, status, &identity, is_of_this_boot, options, error_out);
    files_close(pool);
    files_remove(pool);
    return PMC_OK;
}

static enum pmc_status
join(struct pool *pool, const struct pmc_options *options, struct pmc_error *error_out)
{
    struct pool_identity identity;
    enum pmc_status status = files_open(pool, &identity, error_out);
    const char *difference;

    if (status != PMC_OK)
        return status;
    difference = files_first_difference(&identity, options);
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
    pool->fork_page = seat_fork_page();
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
    enum pmc_status status = files_open_directory(pool, options->path, error_out);

    if (status == PMC_OK)
        status = files_enter_gate(pool, error_out);
    if (status != PMC_OK)
        return status;
    if (!seat_nobody_else(pool->lock_fd))
        return join(pool, options, error_out);
    status = adopt_or_clear(pool, options, &adopted, error_out);
    if (status != PMC_OK || adopted)
        return status;
    return files_create(pool, options, error_out);
}

static enum pmc_status
prepare_private(struct pool *pool, const struct pmc_options *options,
                struct pmc_error *error_out)
{
    snprintf(pool->heap_name, sizeof pool->heap_name, "private heap");
    snprintf(pool->index_name, sizeof pool->index_name, "private index");
    pool->lock_fd = memfd_create("pmemcache-lock", MFD_CLOEXEC);
    if (pool->lock_fd < 0)
        return pool_fail_system(error_out, "create", "a private lock file");
    return files_create(pool, options, error_out);
}

enum pmc_status
pool_prepare(const struct pmc_options *options, struct pool **pool_out,
             struct pmc_error *error_out)
{
    struct pool *pool = new_pool();
    enum pmc_status status;

    if (!pool)
        return pool_fail_system(error_out, "prepare",
                                options->path ? options->path : "a private pool");
    seat_change_begin();
    pool->named = options->path != NULL;
    pool->kept = options->lifetime == PMC_RESTART;
    status = pool->named ? prepare_named(pool, options, error_out)
                         : prepare_private(pool, options, error_out);
    if (status != PMC_OK) {
        pool_abandon(pool);
        return status;
    }
    if (!guard_add(pool)) {
        status = pool_fail_system(error_out, "guard", pool->heap_name);
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

    if (renameat(files_index_directory(pool), files_new_name(pool->index_name, scratch),
                 files_index_directory(pool), pool->index_name) != 0)
        return false;
    STEP("create.link");
    return renameat(pool->directory_fd, files_new_name(pool->heap_name, scratch),
                    pool->directory_fd, pool->heap_name) == 0;
}

enum pmc_status
pool_publish(struct pool *pool, struct pmc_error *error_out)
{
    if (pool->named && pool->origin == POOL_CREATED && !link_into_place(pool))
        return pool_fail_system(error_out, "link", pool->heap_name);
    STEP("attach.place");
    if (!seat_attach(pool))
        return pool_fail(error_out, PMC_EATTACH_LIMIT, 0,
                         "%u processes are attached to %s already", ATTACHMENTS_MAX,
                         pool->heap_name);
    pool->published = true;
    STEP("attach.gate");
    seat_gate_open(pool->lock_fd);
    seat_change_end();
    return PMC_OK;
}

static void
release(struct pool *pool)
{
    guard_remove(pool);
    files_close(pool);
    if (pool->lock_fd >= 0) {
        /* A child made a moment ago may share this description: closing it here would
         * leave gate and place taken for as long as that child lives. */
        seat_leave(pool->lock_fd);
        close(pool->lock_fd);
    }
    if (pool->directory_fd >= 0)
        close(pool->directory_fd);
    if (pool->index_directory_fd >= 0)
        close(pool->index_directory_fd);
    seat_fork_page_free(pool->fork_page);
    free(pool);
}

void
pool_abandon(struct pool *pool)
{
    if (pool->named && pool->lock_fd >= 0 && seat_nobody_else(pool->lock_fd)) {
        if (pool->origin == POOL_CREATED && pool->index_fd >= 0)
            files_remove(pool);
        if (pool->made_lock_file || faccessat(pool->directory_fd, pool->heap_name, F_OK,
                                              AT_SYMLINK_NOFOLLOW) != 0)
            unlinkat(pool->directory_fd, pool->lock_name, 0);
    }
    release(pool);
    seat_change_end();
}

/* With the gate closed: is this the last process, of a pool that should not
 * outlive it? */
static void
remove_if_last(struct pool *pool)
{
    if (!seat_gate_close(pool->lock_fd, GATE_PATIENCE_NS / 10))
        return; /* the next one to open it will clean up */
    if (seat_nobody_else(pool->lock_fd) &&
        files_still_named(pool->directory_fd, pool->lock_name, pool->lock_fd)) {
        STEP("detach.remove");
        files_remove(pool);
        STEP("detach.unlock");
        unlinkat(pool->directory_fd, pool->lock_name, 0);
        STEP("detach.removed");
    }
}

/* Numbers that others have made theirs are not ours to close. */
static void
forget_other_files(struct pool *pool)
{
    if (pool->lock_fd >= 0 && !file_is_marked(pool->lock_fd, pool->lock_mark)) {
        pool->lock_fd = -1;
        pool->directory_fd = -1;
        pool->index_directory_fd = -1;
    }
    if (!file_is_marked(pool->index_fd, pool->index_mark))
        pool->index_fd = -1;
    if (!file_is_marked(pool->heap_fd, pool->heap_mark))
        pool->heap_fd = -1;
}

void
pool_close(struct pool *pool)
{
    bool attached = pool_owner(pool) != 0;

    seat_change_begin();
    seat_detach(pool);
    STEP("detach.begin");
    if (!pool_has_its_files(pool))
        forget_other_files(pool);
    else if (attached && pool->named && pool->published && !pool->kept)
        remove_if_last(pool);
    release(pool);
    seat_change_end();
}
