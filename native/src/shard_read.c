/*
 * Look-ups without a lock, of whatever may be there: any entry of the chain, entries
 * that have to be checked, buckets that stay busy. shard_look.h has what they share
 * with the quick look.
 */
#include "shard_look.h"

/* Looks at a busy bucket before the lock is taken, and such rounds. */
#define TRIES 100
#define ROUNDS 16

uint32_t
shard_checksum(uint64_t hash, uint8_t tag, const void *value, size_t value_size)
{
    uint64_t sum = hash_bytes(value, value_size, hash ^ tag);

    return (uint32_t)(sum ^ sum >> 32);
}

bool
shard_is_intact(uint64_t hash, const struct entry_head *head, const uint8_t *value)
{
    uint32_t sum = shard_checksum(hash, head->tag, value, head->size & EXTENT_SIZE);

    return (sum ^ entry_deadline_mark(entry_deadline(head))) == head->checksum;
}

/* Sizes that were right a moment ago may be written over before the bytes are read. */
bool
shard_entry_is_intact(const struct shard *shard, uint32_t offset, uint64_t hash)
{
    const struct entry_head *shared = entry_at(shard, offset);
    uint64_t start = (uint64_t)offset * BLOCK_BYTES;
    struct entry_head head;

    copy_racing(&head, shared, sizeof head);
    atomic_signal_fence(memory_order_seq_cst);
    return start + entry_bytes(head.key_size, head.size & EXTENT_SIZE) <=
               (uint64_t)shard_limit(shard) * BLOCK_BYTES &&
           shard_is_intact(hash, &head, (const uint8_t *)(shared + 1) + head.key_size);
}

/* Look through the chain from bucket number on. */
static enum look
look_in_chain(const struct shard *shard, const struct bucket *primary, uint64_t seq,
              struct read_request *request, struct read_outcome *outcome_out)
{
    uint32_t number = (uint32_t)(primary - shard->buckets);
    uint16_t tag = index_tag(request->hash);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        struct bucket *bucket = &shard->buckets[number];

        for (uint32_t matches = index_matches(bucket, tag); matches;
             matches &= matches - 1) {
            uint32_t way = index_match_way(matches);
            uint32_t offset = load_relaxed(&bucket->offset[way]);

            if (!entry_matches(shard, offset, slot_tag(bucket, way), request,
                               &outcome_out->head))
                continue;
            outcome_out->unverified = is_unverified(bucket, way);
            return serve(shard, primary, seq, bucket, way, offset,
                         needs_check(shard, bucket, way), request, outcome_out);
        }
        number = index_chain_next(shard, number);
    }
    return unchanged(primary, seq) ? LOOK_MISS : LOOK_BUSY;
}

/* One look at the chain of the key's bucket. */
static enum look
look(const struct shard *shard, struct read_request *request,
     struct read_outcome *outcome_out)
{
    uint32_t count = load_acquire(&shard->header->bucket_count);
    uint32_t number = index_bucket_of(request->hash, count);
    const struct bucket *primary = &shard->buckets[number];
    enum look seen;
    uint64_t seq;

    if (number >= shard->max_buckets)
        return LOOK_BUSY;
    READ_DELAY();
    seq = load_acquire(&primary->seq);
    if (seq & SEQ_ODD)
        return LOOK_BUSY;
    seen = look_in_chain(shard, primary, seq, request, outcome_out);
    if (seen == LOOK_MISS && load_relaxed(&shard->header->bucket_count) != count &&
        !MUTANT("skip-count-recheck"))
        return LOOK_BUSY;
    return seen;
}

/* The first good look at an adopted entry: it need not be checked again. */
static void
mark_verified(struct shard *shard, const struct read_request *request)
{
    uint32_t slot;

    if (shard_lock(shard, true) != PMC_OK)
        return; /* the next reader will */
    slot = index_find_locked(shard, request->hash, request->key, request->key_size);
    if (slot != NO_SLOT) {
        _Atomic uint8_t *state = slot_state(shard, slot);

        store_relaxed(state, (uint8_t)(load_relaxed(state) & ~STATE_UNVERIFIED));
    }
    shard_unlock(shard);
}

/* The entry's bytes are not what was stored: away with it. */
static void
drop_damaged(struct shard *shard, const struct read_request *request)
{
    uint32_t slot;

    if (shard_lock(shard, false) != PMC_OK)
        return;
    slot = index_find_locked(shard, request->hash, request->key, request->key_size);
    if (slot != NO_SLOT &&
        !shard_entry_is_intact(shard, slot_offset(shard, slot), request->hash)) {
        bump_locked(&shard->header->damaged, 1);
        if (shard_drop_locked(shard, slot, request->hash, CAUSE_DELETED, NULL) !=
            PMC_OK)
            shard_recover_locked(shard);
    }
    shard_unlock(shard);
}

/* With the lock held no writer is at work: is the bucket busy all the same? */
static bool
is_stuck(const struct shard *shard, uint64_t hash)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);
    uint32_t number = index_bucket_of(hash, count);

    return number >= shard->max_buckets ||
           (load_relaxed(&shard->buckets[number].seq) & SEQ_ODD) != 0;
}

/* A bucket that stays busy: wait for its writer, or bury it. Without the lock it is
 * a miss. */
static enum pmc_status
wait_for_writer(struct shard *shard, const struct read_request *request)
{
    bool *in_vain = request->in_vain;
    enum pmc_status status = shard_lock(shard, in_vain && *in_vain);

    if (in_vain && status == PMC_ETIMEDOUT)
        *in_vain = true;
    if (status != PMC_OK)
        return status == PMC_EWOULD_WAIT ? status : PMC_MISS;
    if (is_stuck(shard, request->hash))
        shard_recover_locked(shard);
    shard_unlock(shard);
    return PMC_OK;
}

enum pmc_status
shard_read(struct shard *shard, struct read_request *request,
           struct read_outcome *outcome_out)
{
    for (int try = 1;; try++) {
        enum look seen = look(shard, request, outcome_out);
        enum pmc_status status;

        switch (seen) {
        case LOOK_HIT:
            if (outcome_out->unverified)
                mark_verified(shard, request);
            return PMC_OK;
        case LOOK_MISS:
            return PMC_MISS;
        case LOOK_REFUSED:
            return PMC_EINVAL;
        case LOOK_DAMAGED:
            drop_damaged(shard, request);
            return PMC_MISS;
        case LOOK_BUSY:
            if (try == ROUNDS * TRIES)
                return PMC_MISS;
            if (try % TRIES == 0) {
                status = wait_for_writer(shard, request);
                if (status != PMC_OK)
                    return status;
            }
            cpu_relax();
            break;
        }
    }
}
