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

/* Slots that one call looks at. */
#define SLOTS_A_SWEEP 8u

/* Primary buckets come first, then the overflow buckets ever taken. */
static uint32_t
swept_bucket(const struct shard *shard, uint32_t turn)
{
    uint32_t count = (uint32_t)min_u64(load_relaxed(&shard->header->bucket_count),
                                       shard->max_buckets);
    uint32_t used =
        (uint32_t)min_u64(shard->header->overflow_used, shard->max_overflow);

    if (turn < count)
        return turn;
    return turn - count < used ? shard->max_buckets + (turn - count) : NO_BUCKET;
}

static bool
slot_is_expired(const struct shard *shard, uint32_t slot, uint64_t now_ms)
{
    uint32_t offset = slot_offset(shard, slot);

    return slot_tag(slot_bucket(shard, slot), slot % BUCKET_STRIDE) != 0 &&
           offset + UINT64_C(2) <= shard_limit(shard) &&
           expiry_passed(entry_deadline(entry_at(shard, offset)), now_ms);
}

uint32_t
expiry_sweep_locked(struct shard *shard, uint64_t now_ms)
{
    struct shard_header *header = shard->header;
    uint32_t next;

    if (load_relaxed(&header->mortals) == 0)
        return NO_SLOT;
    for (uint32_t looked = 0; looked < SLOTS_A_SWEEP; looked++) {
        uint32_t number = swept_bucket(shard, header->sweep_slot / BUCKET_STRIDE);
        uint32_t way = header->sweep_slot % BUCKET_STRIDE;

        if (number == NO_BUCKET)
            header->sweep_slot = 0;
        else if (way < BUCKET_SLOTS &&
                 slot_is_expired(shard, number * BUCKET_STRIDE + way, now_ms))
            return number * BUCKET_STRIDE + way; /* and look at it once more */
        else
            header->sweep_slot++;
    }
    next = swept_bucket(shard, header->sweep_slot / BUCKET_STRIDE);
    if (next != NO_BUCKET)
        prefetch_entries(shard, next); /* their heads have the deadlines */
    return NO_SLOT;
}
