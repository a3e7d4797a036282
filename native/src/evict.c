/*
 * The policies by name, and what they have in common; see evict.h.
 */
#include "evict.h"

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

void
evict_format_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;

    queue_format_locked(shard);
    header->small_share = SHARE_UNIT / 100 * SMALL_START_PERCENT;
    header->small_ghost_clock = 0;
    header->main_ghost_clock = 0;
    header->lru_blocks_since_tick = 0;
    store_relaxed(&header->lru_clock, 0);
    for (uint32_t set = 0; set < header->ghost_sets; set++)
        shard->ghosts[set] = (struct ghost_set){{0}};
}
