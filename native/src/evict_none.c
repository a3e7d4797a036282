/*
 * No eviction: a full shard refuses. The queue is kept all the same, so that
 * pmc_evict() takes the oldest entry.
 */
#include "evict.h"
#include "queue.h"

static void
none_admit(struct shard *shard, uint32_t slot, uint32_t blocks, bool remembered)
{
    (void)remembered;
    queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
}

static uint32_t
none_propose(struct shard *shard)
{
    uint32_t slot = queue_head(shard, QUEUE_MAIN);
    uint32_t blocks;

    if (slot == NO_SLOT)
        return NO_SLOT;
    blocks = slot_blocks(shard, slot);
    queue_remove_locked(shard, slot, blocks);
    queue_push_locked(shard, QUEUE_CANDIDATE, slot, blocks);
    return slot;
}

static uint32_t
none_peek(const struct shard *shard)
{
    (void)shard;
    return NO_SLOT;
}

static bool
none_pardon(struct shard *shard, uint32_t slot, uint32_t blocks)
{
    (void)shard;
    (void)slot;
    (void)blocks;
    return false;
}

const struct evict_policy evict_none = {
    .name = "none",
    .bump = BUMP_COUNT,
    .recall = evict_recall_nothing,
    .foresee = evict_foresee_nothing,
    .admit = none_admit,
    .propose = none_propose,
    .propose_early = evict_propose_none_early,
    .peek = none_peek,
    .pardon = none_pardon,
    .evicted = evict_remember_nothing,
};
