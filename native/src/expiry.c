/*
 * Deadlines; see expiry.h.
 */
#include "expiry.h"

uint64_t
expiry_deadline(uint64_t now_ms, int64_t ttl_ms)
{
    if (ttl_ms == PMC_TTL_NONE || (uint64_t)ttl_ms > DEADLINE_MAX - now_ms)
        return 0;
    return now_ms + (uint64_t)ttl_ms;
}

/* Primary buckets come first, then the overflow buckets ever taken. */
static uint32_t
swept_bucket(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t count =
        (uint32_t)min_u64(load_relaxed(&header->bucket_count), shard->max_buckets);
    uint32_t turn = header->sweep_bucket;

    if (turn >= count + min_u64(header->overflow_used, shard->max_overflow))
        turn = header->sweep_bucket = 0;
    return turn < count ? turn : shard->max_buckets + (turn - count);
}

uint32_t
expiry_sweep_locked(struct shard *shard, uint64_t now_ms)
{
    uint32_t number = swept_bucket(shard);
    const struct bucket *bucket = &shard->buckets[number];

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        if (slot_tag(bucket, way) != 0 &&
            expiry_passed(slot_deadline(bucket, way), now_ms))
            return number * BUCKET_SLOTS + way;
    shard->header->sweep_bucket++; /* only when there is none left in this one */
    return NO_SLOT;
}
