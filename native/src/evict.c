/*
 * The policies by name, and what they have in common; see evict.h.
 */
#include "evict.h"

#include "ghost.h"
#include "queue.h"

/* The small queue's share at the start, in percent (S3-FIFO). */
#define SMALL_START_PERCENT 10u

const struct evict_policy *
evict_policy_of(enum pmc_eviction eviction)
{
    switch (eviction) {
    case PMC_EVICT_LRU:
        return &evict_lru;
    case PMC_EVICT_NONE:
        return &evict_none;
    case PMC_EVICT_S3FIFO:
    default:
        return &evict_s3fifo;
    }
}

bool
evict_recall_nothing(struct shard *shard, uint64_t hash, uint32_t blocks)
{
    (void)shard;
    (void)hash;
    (void)blocks;
    return false;
}

void
evict_foresee_nothing(const struct shard *shard, uint64_t hash)
{
    (void)shard;
    (void)hash;
}

uint32_t
evict_propose_none_early(struct shard *shard, uint32_t least_blocks)
{
    (void)shard;
    (void)least_blocks;
    return NO_SLOT;
}

void
evict_remember_nothing(struct shard *shard, uint32_t slot, uint64_t hash,
                       uint32_t blocks)
{
    (void)shard;
    (void)slot;
    (void)hash;
    (void)blocks;
}

void
evict_format_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;

    queue_format_locked(shard);
    header->small_share = SHARE_UNIT / 100 * SMALL_START_PERCENT;
    header->passed_blocks = 0;
    header->lru_blocks_since_tick = 0;
    header->lru_full_blocks = 0;
    store_relaxed(&header->lru_clock, 0);
    ghost_format_locked(shard);
}
