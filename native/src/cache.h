/*
 * struct pmc_cache: a pool, its shards, and this process's callbacks.
 */
#ifndef PMC_CACHE_H
#define PMC_CACHE_H

#include "pool.h"
#include "shard.h"

struct pmc_cache {
    struct pool *pool;
    struct shard *shards;
    uint32_t shard_count;
    uint32_t shard_shift; /* 64 - log2(shard_count); 64: one shard */
    uint64_t hash_seed;
    uint64_t max_blocks; /* of one entry */
    int64_t clock_offset_ms;
    bool verify;
    pmc_on_evict_fn on_evict;
    void *on_evict_context;
    pmc_on_miss_fn on_miss;
    void *on_miss_context;
};

#endif
