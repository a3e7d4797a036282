/*
 * Foresight: what a put will touch, asked for before it is needed; see shard.h.
 *
 * A put that evicts touches, each where the one before it says: the victim's slot, its
 * entry, the row of its successor in the queue, its bucket, its ghost, and what lies
 * beside it. Queues are first in, first out, so all of that is known a put or two
 * earlier.
 */
#include "shard_ahead.h"
#include "alloc.h"
#include "evict.h"
#include "queue.h"

/* A shard that has all of its memory, and less than this part of it free, evicts. */
#define FULL_PART 16u

/* Of what is longer, the processor's own prefetcher brings the rest. */
#define FORESEEN_BLOCKS_MOST (2048u / BLOCK_BYTES)

/* The entry to be proposed next, if a put is likely to evict. */
static uint32_t
next_to_go(const struct shard *shard)
{
    if (load_relaxed(&shard->header->limit_blocks) < shard->max_blocks ||
        shard->header->free_blocks > shard->max_blocks / FULL_PART)
        return NO_SLOT;
    return shard->policy->peek(shard);
}

/* An extent, and the head behind it. */
static void
foresee_extent(const struct shard *shard, uint32_t offset, uint64_t blocks)
{
    uint64_t end = offset + min_u64(blocks, FORESEEN_BLOCKS_MOST);

    for (uint64_t at = offset; at <= end && at < shard->max_blocks;
         at += CACHE_LINE_BYTES / BLOCK_BYTES)
        __builtin_prefetch(shard->heap + at * BLOCK_BYTES, 1);
}

/* How long an entry is that has not been looked at: as long as most. */
static uint64_t
usual_blocks(const struct shard *shard)
{
    return load_relaxed(&shard->header->used_blocks) /
           max_u64(load_relaxed(&shard->header->entries), 1);
}

/* What taking the entry in this slot out will touch, but for itself. */
static void
foresee_removal(const struct shard *shard, uint32_t slot)
{
    uint32_t chained = index_chain_next(shard, slot / BUCKET_STRIDE);
    uint64_t hash;

    if (!index_slot_is_sound(shard, slot))
        return;
    hash = index_hash_at(shard, slot_offset(shard, slot));
    shard->policy->foresee(shard, hash);
    shard_ahead_of_write(shard, hash);
    if (chained != NO_BUCKET)
        __builtin_prefetch(&shard->buckets[chained]);
}

void
shard_foresee_room_locked(const struct shard *shard, uint32_t blocks)
{
    uint32_t next = next_to_go(shard);
    uint32_t after;

    if (next == NO_SLOT) {
        foresee_extent(shard, alloc_first_hole(shard, blocks), blocks);
        return;
    }
    after = queue_next(shard, next);
    if (after != NO_SLOT)
        foresee_extent(shard, slot_offset(shard, after), usual_blocks(shard));
    foresee_removal(shard, next);
}

void
shard_foresee_slot_locked(const struct shard *shard)
{
    uint32_t next = next_to_go(shard);
    uint32_t after;

    if (next == NO_SLOT)
        return;
    after = queue_next(shard, next);
    if (after == NO_SLOT)
        return;
    __builtin_prefetch(slot_bucket(shard, after), 1);
    __builtin_prefetch(&shard->links[after / BUCKET_STRIDE], 1);
}

void
shard_foresee_freeing_locked(const struct shard *shard, uint32_t slot)
{
    uint32_t offset = slot_offset(shard, slot);
    uint32_t before = entry_at(shard, offset)->before_blocks;

    if (before <= offset)
        __builtin_prefetch(hole_at(shard, offset - before), 1);
    __builtin_prefetch(hole_at(shard, offset + slot_blocks(shard, slot)), 1);
}
