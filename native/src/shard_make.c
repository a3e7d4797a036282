/*
 * Making a shard, and getting an adopted one ready; see shard.h.
 */
#include "alloc.h"
#include "evict.h"
#include "fault.h"
#include "lock.h"
#include "pool.h"
#include "shard.h"

#define BUCKETS_AT_START 4u
#define OVERFLOW_AT_START 4u

enum pmc_status
shard_format(struct shard *shard, bool preallocated)
{
    struct shard_header *header = shard->header;
    uint32_t first = preallocated ? shard->max_blocks : shard_first_blocks(shard);
    uint32_t overflow = (uint32_t)min_u64(OVERFLOW_AT_START, shard->max_overflow);
    uint32_t buckets = (uint32_t)min_u64(BUCKETS_AT_START, shard->max_buckets);
    enum pmc_status status = pool_allocate_index(shard->pool, header, 2 * PAGE_BYTES);

    if (status == PMC_OK)
        status = shard_allocate_buckets(shard, 0, buckets);
    if (status == PMC_OK)
        status = shard_allocate_buckets(shard, shard->max_buckets,
                                        shard->max_buckets + overflow);
    if (status == PMC_OK && shard->ghost_sets)
        status =
            pool_allocate_index(shard->pool, shard->ghosts, sizeof(struct ghost_set));
    if (status == PMC_OK)
        status = shard_allocate_heap(shard, 0, first);
    if (status != PMC_OK)
        return status;
    header->bucket_limit = buckets;
    header->ghost_sets = shard->ghost_sets ? 1 : 0;
    store_relaxed(&header->overflow_limit, overflow);
    store_relaxed(&header->bucket_count, 1);
    index_format_locked(shard);
    evict_format_locked(shard);
    alloc_format_locked(shard);
    return alloc_grow_locked(shard, first);
}

static void
mark_unverified(struct shard *shard, uint32_t from, uint32_t count)
{
    for (uint32_t number = from; number < from + count; number++) {
        struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            store_relaxed(
                &bucket->state[way],
                (uint8_t)(load_relaxed(&bucket->state[way]) | STATE_UNVERIFIED));
    }
}

/* Everything is as the last holder of a free lock left it, which is in order; so there
 * is nothing to rebuild. A shard whose owner died, or which contradicts itself, is as
 * sound for readers as it was for those of the dead: its first writer recovers it.
 * Numbers that readers go by must be right before. All other bytes that lay in a file
 * are looked at where they are used, as they always are, and values are checked before
 * they are served. */
void
shard_adopt(struct shard *shard)
{
    struct shard_header *header = shard->header;
    bool possible = shard_geometry_is_possible(shard);

    store_relaxed(&header->giving_owner, 0);
    /* Who dies in here leaves it so: no free lock until all is recovered. */
    if (load_relaxed(&header->lock) != 0 || !shard_is_settled(shard))
        store_relaxed(&header->lock, LOCK_LEFT);
    STEP("adopt.left");
    if (!possible) {
        shard_recover_locked(shard);
        store_relaxed(&header->lock, 0);
    }
    STEP("adopt.settled");
    mark_unverified(shard, 0, load_relaxed(&header->bucket_count));
    mark_unverified(shard, shard->max_buckets, load_relaxed(&header->overflow_limit));
    /* An update that is taken back puts this into its slot. */
    header->intent_old.state |= STATE_UNVERIFIED;
    STEP("adopt.marked");
}
