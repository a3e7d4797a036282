/*
 * What the two doors of the binding share: the handle that guards a cache
 * against being closed under a call, and the table through which the short door
 * reaches the engine it is not linked with.
 *
 * Locking: none. A handle's state is one atomic word; every other field is
 * written before the handle is shared.
 *
 * Law: between handle_enter() and handle_leave() the cache is attached.
 */
#ifndef PMEMCACHE_DOOR_TABLE_H
#define PMEMCACHE_DOOR_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmemcache.h"

/* In struct pmc_handle.calls: no call may begin any more. */
#define HANDLE_CLOSED (UINT32_C(1) << 31)

/*
 * A cache and the number of calls inside it. Whoever is last out of a closed
 * handle detaches, so closing never waits, not even inside a callback.
 */
struct pmc_handle {
    struct pmc_cache *cache;
    void (*detach)(struct pmc_cache *cache);
    _Atomic uint32_t calls; /* calls inside, and HANDLE_CLOSED */
};

/* Begin a call. False: the handle is closed, and the cache must not be used. */
static inline bool
handle_enter(struct pmc_handle *handle)
{
    uint32_t calls = atomic_load_explicit(&handle->calls, memory_order_relaxed);
    do {
        if (calls & HANDLE_CLOSED)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        &handle->calls, &calls, calls + 1, memory_order_acquire, memory_order_relaxed));
    return true;
}

/* End a call that handle_enter() allowed. */
static inline void
handle_leave(struct pmc_handle *handle)
{
    uint32_t before =
        atomic_fetch_sub_explicit(&handle->calls, 1, memory_order_acq_rel);
    if (before == (HANDLE_CLOSED | 1u))
        handle->detach(handle->cache);
}

/* Changes with every change of struct pmc_door_table or struct pmc_handle. */
#define PMC_DOOR_TABLE_VERSION 3u

/* The functions of the engine that the short door calls; see pmemcache.h. */
struct pmc_door_table {
    uint32_t version;    /* PMC_DOOR_TABLE_VERSION */
    uint32_t size_bytes; /* of this struct */
    enum pmc_status (*put)(struct pmc_cache *cache, const void *key, size_t key_size,
                           const void *value, size_t value_size,
                           const struct pmc_put_options *options);
    enum pmc_status (*get_reserve)(struct pmc_cache *cache, const void *key,
                                   size_t key_size, pmc_reserve_fn reserve,
                                   void *context, struct pmc_found *found_out);
    enum pmc_status (*get_versioned)(struct pmc_cache *cache, const void *key,
                                     size_t key_size, uint64_t known,
                                     pmc_reserve_fn reserve, void *context,
                                     struct pmc_versioned *versioned_out);
    enum pmc_status (*bump)(struct pmc_cache *cache, const void *key, size_t key_size);
    enum pmc_status (*exists)(struct pmc_cache *cache, const void *key,
                              size_t key_size);
    enum pmc_status (*delete_)(struct pmc_cache *cache, const void *key,
                               size_t key_size, uint32_t flags);
    enum pmc_status (*touch)(struct pmc_cache *cache, const void *key, size_t key_size,
                             int64_t ttl_ms, uint32_t flags);
    enum pmc_status (*incr)(struct pmc_cache *cache, const void *key, size_t key_size,
                            int64_t delta, const struct pmc_incr_options *options,
                            int64_t *result_out);
    size_t (*get_many)(struct pmc_cache *cache, struct pmc_item *items, size_t count,
                       pmc_reserve_many_fn reserve, void *context);
    size_t (*put_many)(struct pmc_cache *cache, struct pmc_item *items, size_t count,
                       const struct pmc_put_options *options);
    size_t (*delete_many)(struct pmc_cache *cache, struct pmc_item *items, size_t count,
                          uint32_t flags);
    void (*thread_waits)(bool waits);
};

#endif
