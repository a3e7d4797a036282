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
        .links = aligned_zeros(buckets * sizeof(struct bucket_links)),
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
    free(shard->links);
    free(shard->ghosts);
    free(shard->spans);
    free(shard->versions);
    free(shard->heap);
}

/* The slots from the first on, without the numbers that are none. */
static inline uint32_t
bare_slot(uint32_t number)
{
    return number / BUCKET_SLOTS * BUCKET_STRIDE + number % BUCKET_SLOTS;
}

static inline uint32_t
bare_slot_number(uint32_t slot)
{
    return slot / BUCKET_STRIDE * BUCKET_SLOTS + slot % BUCKET_STRIDE;
}

/* Let the slot lead to a head of an entry at offset, of so many blocks, for those who
 * look at no more of it. */
static inline void
bare_slot_fill(struct shard *shard, uint32_t slot, uint32_t offset, uint32_t blocks)
{
    struct entry_head *head = entry_at(shard, offset);

    store_relaxed(&slot_bucket(shard, slot)->offset[slot % BUCKET_STRIDE], offset);
    head->size = EXTENT_ENTRY | (uint32_t)(blocks * BLOCK_BYTES - sizeof *head);
    head->key_size = 0;
    head->next = NO_SLOT;
}

/* Write an entry whose key is a number, without a value, at offset. */
static inline uint64_t
bare_entry_write(struct shard *shard, uint32_t offset, uint64_t key)
{
    struct entry_head *head = entry_at(shard, offset);

    head->size = EXTENT_ENTRY;
    head->key_size = sizeof key;
    head->next = NO_SLOT;
    head->tag = 0;
    head->deadline_low = 0;
    head->deadline_high = 0;
    head->checksum = 0;
    head->generation = 1;
    memcpy(entry_key(head), &key, sizeof key);
    return index_hash_at(shard, offset);
}

#endif
