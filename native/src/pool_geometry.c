/*
 * Where things lie in a pool's files; see pool_geometry.h.
 */
#include "pool_geometry.h"

#include <string.h>

#include "hash.h"

/* The smallest entry that buckets are planned for, in blocks, and how many
 * entries of a bucket are planned for: the rest is room for chance. */
#define PLANNED_ENTRY_BLOCKS 3u
#define PLANNED_BUCKET_ENTRIES 5u

/* A shard is this large if the pool is: it should be 64 times the usual large value,
 * or hits are lost to sharding. */
#define SHARD_BYTES (UINT64_C(128) << 20)

static_assert(SHARD_BYTES_MAX / BLOCK_BYTES / PLANNED_ENTRY_BLOCKS /
                      PLANNED_BUCKET_ENTRIES * 5 / 4 * BUCKET_STRIDE <
                  NO_SLOT / 2,
              "every slot has a number");

static uint32_t
shards_for(uint64_t size_bytes)
{
    uint32_t shards = 1;

    while (shards < SHARDS_MAX && size_bytes / (shards * 2) >= SHARD_BYTES)
        shards *= 2;
    return shards;
}

void
pool_geometry(const struct pmc_options *options, uint64_t heap_limit_bytes,
              struct pool_identity *identity_out)
{
    struct pool_identity identity = {0};
    uint64_t entries;

    memcpy(identity.magic, POOL_MAGIC, sizeof identity.magic);
    identity.layout_version = LAYOUT_VERSION;
    identity.abi = pool_abi();
    identity.size_bytes = options->size_bytes;
    identity.shards = options->shards ? options->shards : shards_for(heap_limit_bytes);
    identity.shard_bytes = min_u64(
        (heap_limit_bytes - HEAP_HEADER_BYTES) / identity.shards, SHARD_BYTES_MAX);
    identity.shard_bytes = identity.shard_bytes / PAGE_BYTES * PAGE_BYTES;
    entries = identity.shard_bytes / BLOCK_BYTES / PLANNED_ENTRY_BLOCKS;
    identity.max_buckets = (uint32_t)(entries / PLANNED_BUCKET_ENTRIES) + 1;
    identity.max_overflow =
        (uint32_t)min_u64(identity.max_buckets / 4 + BUCKET_SLOTS, SEQ_NEXT >> 1);
    identity.ghost_sets = (uint32_t)(entries * 3 / 2 / GHOST_WAYS) + 1;
    identity.lifetime = options->lifetime;
    identity.eviction = options->eviction;
    identity.memory = options->memory;
    identity.preallocated = options->preallocate;
    *identity_out = identity;
}

uint64_t
pool_shards_off(const struct pool_identity *identity)
{
    return VERSIONS_OFF +
           (uint64_t)identity->shards * SHARD_VERSIONS * sizeof(uint64_t);
}

uint64_t
pool_shard_spans_off(const struct pool_identity *identity)
{
    uint64_t buckets = (uint64_t)identity->max_buckets + identity->max_overflow;

    return 2 * PAGE_BYTES +
           round_up(buckets * (sizeof(struct bucket) + sizeof(struct bucket_links)) +
                        identity->ghost_sets * sizeof(struct ghost_set),
                    PAGE_BYTES);
}

uint64_t
pool_shard_index_bytes(const struct pool_identity *identity)
{
    return pool_shard_spans_off(identity) +
           round_up(identity->shard_bytes / SPAN_BYTES + 1, PAGE_BYTES);
}

uint64_t
pool_index_bytes(const struct pool_identity *identity)
{
    return pool_shards_off(identity) +
           identity->shards * pool_shard_index_bytes(identity);
}

uint64_t
pool_heap_bytes(const struct pool_identity *identity)
{
    return HEAP_HEADER_BYTES + identity->shards * identity->shard_bytes;
}

uint32_t
pool_abi(void)
{
    const uint32_t probe = 0x01020304u;
    uint8_t first;

    memcpy(&first, &probe, 1);
    return (uint32_t)first << 24 | (uint32_t)sizeof(void *) << 16 |
           (uint32_t)sizeof(struct bucket) << 4 |
           (uint32_t)(sizeof(struct shard_header) / CACHE_LINE_BYTES % 16);
}

uint64_t
pool_identity_checksum(const struct pool_identity *identity)
{
    return hash_bytes(identity, offsetof(struct pool_identity, checksum), 0);
}
