/*
 * struct pmc_cache: a pool, its shards, and this process's callbacks. The public
 * functions check arguments, hash keys, choose shards, take locks, and call
 * callbacks after locks were given back.
 *
 *   cache.c           opening, closing, what a pool is and holds
 *   cache_read.c      look-ups
 *   cache_write.c     changes
 *   cache_lease.c     the right to load a key
 *   status.c          statuses in words
 */
#ifndef PMC_CACHE_H
#define PMC_CACHE_H

#include "clock.h"
#include "count.h"
#include "hash.h"
#include "pool.h"
#include "shard.h"

struct pmc_cache {
    struct pool *pool;
    struct shard *shards;
    uint32_t shard_count;
    uint32_t shard_shift; /* 63 - log2(shard_count) */
    uint64_t hash_seed;
    uint64_t max_blocks; /* of one entry */
    pmc_on_evict_fn on_evict;
    void *on_evict_context;
    pmc_on_miss_fn on_miss;
    void *on_miss_context;
};

static inline uint64_t
cache_hash(const struct pmc_cache *cache, const void *key, size_t key_size)
{
    return hash_short_bytes(key, key_size, cache->hash_seed);
}

static inline struct shard *
cache_shard(const struct pmc_cache *cache, uint64_t hash)
{
    /* In two steps: with one shard all 64 bits go, more than one shift can take. */
    return &cache->shards[hash >> 1 >> cache->shard_shift];
}

/* Which of pool_versions() is that of the keys with this hash. */
static inline size_t
cache_version_index(const struct shard *shard, uint64_t hash)
{
    return (size_t)(index_version(shard, hash) - pool_versions(shard->pool));
}

static inline uint64_t
cache_now_ms(const struct pmc_cache *cache)
{
    return shard_now_ms(&cache->shards[0]);
}

static inline struct attachment *
cache_counters(const struct pmc_cache *cache)
{
    return pool_own_attachment(cache->pool);
}

static inline void
cache_count_hit(struct pmc_cache *cache)
{
    struct attachment *counters = cache_counters(cache);

    count_one(&counters->quick.hit, &counters->shared.hit);
}

static inline void
cache_count_miss(struct pmc_cache *cache)
{
    struct attachment *counters = cache_counters(cache);

    count_one(&counters->quick.miss, &counters->shared.miss);
}

/* False, and *status_out why, when no entry can have this key. */
static inline bool
cache_key_is_valid(const void *key, size_t key_size, enum pmc_status *status_out)
{
    if (key_size > PMC_KEY_MAX_BYTES)
        *status_out = PMC_EKEY_SIZE;
    else if (!key && key_size)
        *status_out = PMC_EINVAL;
    else
        return true;
    return false;
}

#endif
