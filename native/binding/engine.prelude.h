/*
 * The C side of the cffi door: the engine's functions behind a handle, so that
 * a call after close is an answer (PMC_ECLOSED) and never a use after unmap.
 *
 * cffi copies this text in front of the code it generates. It releases the GIL
 * around every function declared in engine.cdef.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/layout.h"
#include "door_table.h"
#include "pmemcache.h"

static const struct pmc_door_table door_table = {
    .version = PMC_DOOR_TABLE_VERSION,
    .size_bytes = sizeof(struct pmc_door_table),
    .put = pmc_put,
    .get_reserve = pmc_get_reserve,
    .get_versioned = pmc_get_versioned,
    .bump = pmc_bump,
    .exists = pmc_exists,
    .delete_ = pmc_delete,
    .touch = pmc_touch,
    .incr = pmc_incr,
    .get_many = pmc_get_many,
    .put_many = pmc_put_many,
    .delete_many = pmc_delete_many,
    .thread_waits = pmc_thread_waits,
};

static uintptr_t
door_table_address(void)
{
    return (uintptr_t)&door_table;
}

/* The statistics by name, in the order handle_stats() gives their values. */
struct stat_row {
    const char *name;
    const char *unit;
    const char *sentence;
};

static const struct stat_row stat_table[] = {
#define PMC_STAT(name, unit, sentence) {#name, unit, sentence},
#include "pmemcache_stats.def"
#undef PMC_STAT
};

#define STAT_COUNT (sizeof stat_table / sizeof stat_table[0])
_Static_assert(sizeof(struct pmc_stats) == STAT_COUNT * sizeof(uint64_t),
               "struct pmc_stats is one uint64_t for each statistic");

/*
 * What the pool at path was made with, so that a tool can attach to it as it is.
 * Sets *options_out but for path. Errors: ENOT_POOL, ELAYOUT, ESYSTEM (errno).
 */
static enum pmc_status
door_peek(const char *path, struct pmc_options *options_out)
{
    struct pool_identity identity;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return PMC_ESYSTEM;
    ssize_t size_bytes = pread(fd, &identity, sizeof identity, 0);
    close(fd);
    if (size_bytes != (ssize_t)sizeof identity ||
        memcmp(identity.magic, POOL_MAGIC, sizeof identity.magic) != 0)
        return PMC_ENOT_POOL;
    if (identity.layout_version != LAYOUT_VERSION)
        return PMC_ELAYOUT;
    options_out->size_bytes = identity.size_bytes;
    options_out->shards = identity.shards;
    options_out->lifetime = identity.lifetime;
    options_out->eviction = identity.eviction;
    options_out->memory = identity.memory;
    options_out->preallocate = identity.preallocated != 0;
    return PMC_OK;
}

/* Attach, and open a zeroed handle on the cache. Errors: as pmc_open(). */
static enum pmc_status
handle_open(struct pmc_handle *handle, const struct pmc_options *options,
            struct pmc_error *error_out)
{
    enum pmc_status status = pmc_open(options, &handle->cache, error_out);
    if (status == PMC_OK)
        handle->detach = pmc_close;
    return status;
}

/* Let no call begin; the last one inside detaches. Once for each handle. */
static void
handle_close(struct pmc_handle *handle)
{
    uint32_t before =
        atomic_fetch_or_explicit(&handle->calls, HANDLE_CLOSED, memory_order_acq_rel);
    if (before == 0)
        handle->detach(handle->cache);
}

/*
 * In a child after fork, where only the forking thread lives: forget the calls
 * that other threads were in. calls_inside are the forking thread's own, and the
 * versions' if they are given out.
 */
static void
handle_forked(struct pmc_handle *handle, uint32_t calls_inside)
{
    uint32_t closed =
        atomic_load_explicit(&handle->calls, memory_order_relaxed) & HANDLE_CLOSED;
    atomic_store_explicit(&handle->calls, closed | calls_inside, memory_order_relaxed);
}

/* A value in memory of its own, for door_release(). */
static void *
reserve_copy(void *context, size_t value_size)
{
    void **copy = context;
    free(*copy);
    *copy = malloc(value_size > 0 ? value_size : 1);
    return *copy;
}

static void *
reserve_copy_many(void *context, size_t index, size_t value_size)
{
    void **copies = context;
    return reserve_copy(&copies[index], value_size);
}

static void
door_release(void **copies, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(copies[i]);
}

/* handle_<verb>(handle, ...): pmc_<verb>(cache, ...), or PMC_ECLOSED. */
#define HANDLE_FUNCTION(verb, call, ...)                                               \
    static enum pmc_status handle_##verb(struct pmc_handle *handle, __VA_ARGS__)       \
    {                                                                                  \
        if (!handle_enter(handle))                                                     \
            return PMC_ECLOSED;                                                        \
        struct pmc_cache *cache = handle->cache;                                       \
        enum pmc_status status = call;                                                 \
        handle_leave(handle);                                                          \
        return status;                                                                 \
    }

HANDLE_FUNCTION(put, pmc_put(cache, key, key_size, value, value_size, options),
                const void *key, size_t key_size, const void *value, size_t value_size,
                const struct pmc_put_options *options)

HANDLE_FUNCTION(get_into,
                pmc_get(cache, key, key_size, buffer, capacity, offset, found_out),
                const void *key, size_t key_size, void *buffer, size_t capacity,
                size_t offset, struct pmc_found *found_out)

/* *copy_out is NULL or the caller's to door_release(), whatever comes back. */
HANDLE_FUNCTION(
    get_copy, pmc_get_reserve(cache, key, key_size, reserve_copy, copy_out, found_out),
    const void *key, size_t key_size, void **copy_out, struct pmc_found *found_out)

/* *copy_out as for handle_get_copy(). */
HANDLE_FUNCTION(get_versioned,
                pmc_get_versioned(cache, key, key_size, known, reserve_copy, copy_out,
                                  versioned_out),
                const void *key, size_t key_size, uint64_t known, void **copy_out,
                struct pmc_versioned *versioned_out)

/*
 * Give all versions, and stay inside until handle_versions_done(): they are mapped for
 * as long as somebody may look at them. Once for each handle.
 */
static enum pmc_status
handle_versions(struct pmc_handle *handle, const uint64_t **versions_out,
                size_t *count_out)
{
    if (!handle_enter(handle))
        return PMC_ECLOSED;
    *versions_out = (const uint64_t *)(uintptr_t)pmc_versions(handle->cache, count_out);
    return PMC_OK;
}

static void
handle_versions_done(struct pmc_handle *handle)
{
    handle_leave(handle);
}

HANDLE_FUNCTION(bump, pmc_bump(cache, key, key_size), const void *key, size_t key_size)

HANDLE_FUNCTION(lease_take,
                pmc_lease_take(cache, key, key_size, duration_ms, lease_out),
                const void *key, size_t key_size, uint32_t duration_ms,
                struct pmc_lease *lease_out)

HANDLE_FUNCTION(lease_release, pmc_lease_release(cache, key, key_size, token),
                const void *key, size_t key_size, uint64_t token)

HANDLE_FUNCTION(lease_wait, pmc_lease_wait(cache, key, key_size, token, timeout_ms),
                const void *key, size_t key_size, uint64_t token, uint32_t timeout_ms)

HANDLE_FUNCTION(exists, pmc_exists(cache, key, key_size), const void *key,
                size_t key_size)

HANDLE_FUNCTION(delete, pmc_delete(cache, key, key_size, 0), const void *key,
                size_t key_size)

HANDLE_FUNCTION(touch, pmc_touch(cache, key, key_size, ttl_ms, 0), const void *key,
                size_t key_size, int64_t ttl_ms)

HANDLE_FUNCTION(incr, pmc_incr(cache, key, key_size, delta, options, result_out),
                const void *key, size_t key_size, int64_t delta,
                const struct pmc_incr_options *options, int64_t *result_out)

HANDLE_FUNCTION(get_many,
                (pmc_get_many(cache, items, count, reserve_copy_many, copies_out),
                 PMC_OK),
                struct pmc_item *items, size_t count, void **copies_out)

HANDLE_FUNCTION(put_many, (pmc_put_many(cache, items, count, options), PMC_OK),
                struct pmc_item *items, size_t count,
                const struct pmc_put_options *options)

HANDLE_FUNCTION(delete_many, (pmc_delete_many(cache, items, count, 0), PMC_OK),
                struct pmc_item *items, size_t count)

HANDLE_FUNCTION(evict, pmc_evict(cache, key, key_size, key_out, key_size_out),
                const void *key, size_t key_size, void *key_out, size_t *key_size_out)

HANDLE_FUNCTION(keys,
                pmc_keys(cache, cursor, prefix, prefix_size, buffer, capacity,
                         used_out),
                struct pmc_cursor *cursor, const void *prefix, size_t prefix_size,
                void *buffer, size_t capacity, size_t *used_out)

HANDLE_FUNCTION(info, pmc_info(cache, key, key_size, info_out), const void *key,
                size_t key_size, struct pmc_info *info_out)

HANDLE_FUNCTION(on_evict, (pmc_on_evict(cache, callback, context), PMC_OK),
                pmc_on_evict_fn callback, void *context)

HANDLE_FUNCTION(on_miss, (pmc_on_miss(cache, callback, context), PMC_OK),
                pmc_on_miss_fn callback, void *context)

/* values_out has room for STAT_COUNT. */
HANDLE_FUNCTION(stats, pmc_stats(cache, (struct pmc_stats *)values_out),
                uint64_t *values_out)

HANDLE_FUNCTION(geometry, pmc_geometry(cache, geometry_out),
                struct pmc_geometry *geometry_out)

HANDLE_FUNCTION(advance_clock, (pmc_advance_clock(cache, delta_ms), PMC_OK),
                int64_t delta_ms)

static enum pmc_status
handle_clear(struct pmc_handle *handle)
{
    if (!handle_enter(handle))
        return PMC_ECLOSED;
    enum pmc_status status = pmc_clear(handle->cache);
    handle_leave(handle);
    return status;
}

/* As pmc_check(), or PMC_ECLOSED. */
static int
handle_check(struct pmc_handle *handle, char *report, size_t capacity)
{
    if (!handle_enter(handle))
        return PMC_ECLOSED;
    int broken = pmc_check(handle->cache, report, capacity);
    handle_leave(handle);
    return broken;
}
