/*
 * A shard in ordinary memory, without a pool: for tests of one of its parts.
 */
#ifndef PMC_TESTS_BARE_SHARD_H
#define PMC_TESTS_BARE_SHARD_H

#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "evict.h"
#include "index.h"
#include "layout.h"
#include "queue.h"

struct bare_geometry {
    uint32_t max_blocks;
    uint32_t max_buckets;
    uint32_t max_overflow;
    uint32_t ghost_sets;
    const struct evict_policy *policy;
};

static inline void *
aligned_zeros(size_t size)
{
    size_t whole = (size_t)round_up(size, PAGE_BYTES);
    void *memory = aligned_alloc(PAGE_BYTES, whole);

    if (!memory)
        abort();
    memset(memory, 0, whole);
    return memory;
}

/* Formatted, with one primary bucket, all index memory, and no heap yet. */
static inline struct shard
bare_shard_make(const struct bare_geometry *geometry)
{
    size_t buckets = (size_t)geometry->max_buckets + geometry->max_overflow;
    struct shard shard = {
        .header = aligned_zeros(sizeof(struct shard_header)),
        .buckets = aligned_zeros(buckets * sizeof(struct bucket)),
        .ghosts = aligned_zeros(geometry->ghost_sets * sizeof(struct ghost_set) + 1),
        .spans = aligned_zeros(geometry->max_blocks / SPAN_BLOCKS + 1),
        .versions = aligned_zeros(SHARD_VERSIONS * sizeof(uint64_t)),
        .heap = aligned_zeros((size_t)geometry->max_blocks * BLOCK_BYTES),
        .policy = geometry->policy,
        .hash_seed = 42,
        .max_blocks = geometry->max_blocks,
        .max_buckets = geometry->max_buckets,
        .max_overflow = geometry->max_overflow,
        .ghost_sets = geometry->ghost_sets,
    };

    shard.header->bucket_limit = geometry->max_buckets;
    shard.header->ghost_sets = geometry->ghost_sets;
    store_relaxed(&shard.header->overflow_limit, geometry->max_overflow);
    store_relaxed(&shard.header->bucket_count, 1);
    index_format_locked(&shard);
    evict_format_locked(&shard);
    alloc_format_locked(&shard);
    return shard;
}

static inline void
bare_shard_free(struct shard *shard)
{
    free(shard->header);
    free(shard->buckets);
    free(shard->ghosts);
    free(shard->spans);
    free(shard->versions);
    free(shard->heap);
}

/* Write an entry whose key is a number, without a value, at offset. */
static inline uint64_t
bare_entry_write(struct shard *shard, uint32_t offset, uint64_t key)
{
    struct entry_head *head = entry_at(shard, offset);

    head->size = EXTENT_ENTRY;
    head->key_size = sizeof key;
    head->tag = 0;
    head->checksum = 0;
    head->generation = 1;
    memcpy(entry_key(head), &key, sizeof key);
    return index_hash_at(shard, offset);
}

#endif
