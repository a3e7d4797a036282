/*
 * Walking over the keys of a shard; see shard.h.
 *
 * A walk goes by the buckets that there were when it began. The entries of each
 * stay in it or in buckets split off from it, so visiting a bucket with its
 * descendants finds each entry once, whatever is split meanwhile.
 */
#include <string.h>

#include "expiry.h"
#include "hash.h"
#include "shard_look.h"

#define TRIES 100

struct key_walk {
    const void *prefix;
    size_t prefix_size;
    uint64_t now_ms;
    uint8_t *buffer;
    size_t capacity;
    size_t used;
};

enum visit { VISIT_DONE, VISIT_BUSY, VISIT_FULL };

/* Append the key of the entry at offset, if it has the prefix. */
static enum visit
append_key(const struct shard *shard, const struct bucket *bucket, uint32_t way,
           struct key_walk *walk)
{
    uint64_t end_bytes = (uint64_t)shard_limit(shard) * BLOCK_BYTES;
    uint32_t offset = load_relaxed(&bucket->offset[way]);
    uint64_t start = (uint64_t)offset * BLOCK_BYTES;
    uint8_t *record = walk->buffer + walk->used;
    struct entry_head head;
    uint32_t key_size;

    if (start + sizeof head > end_bytes)
        return VISIT_DONE;
    copy_racing(&head, entry_at(shard, offset), sizeof head);
    key_size = head.key_size;
    if (expiry_passed(entry_deadline(&head), walk->now_ms))
        return VISIT_DONE;
    if ((head.size & EXTENT_ENTRY) == 0 || start + entry_bytes(key_size, 0) > end_bytes)
        return VISIT_DONE;
    if (walk->used + sizeof key_size + key_size > walk->capacity)
        return VISIT_FULL;
    copy_racing(record + sizeof key_size, entry_at(shard, offset) + 1, key_size);
    if (index_tag(hash_bytes(record + sizeof key_size, key_size, shard->hash_seed)) !=
        (slot_tag(bucket, way) & TAG_HASH))
        return VISIT_DONE; /* torn, or damaged */
    if (key_size < walk->prefix_size ||
        (walk->prefix_size &&
         memcmp(record + sizeof key_size, walk->prefix, walk->prefix_size) != 0))
        return VISIT_DONE;
    memcpy(record, &key_size, sizeof key_size);
    walk->used += sizeof key_size + key_size;
    return VISIT_DONE;
}

static enum visit
visit_slots(const struct shard *shard, uint32_t number, struct key_walk *walk)
{
    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        const struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            if (slot_tag(bucket, way) == 0)
                continue;
            if (append_key(shard, bucket, way, walk) == VISIT_FULL)
                return VISIT_FULL;
        }
        number = index_chain_next(shard, number);
    }
    return VISIT_DONE;
}

/* All keys of one bucket, or nothing. */
static enum visit
visit_bucket(const struct shard *shard, uint32_t number, struct key_walk *walk)
{
    const struct bucket *primary = &shard->buckets[number];
    uint64_t seq = load_acquire(&primary->seq);
    size_t used_before = walk->used;
    enum visit visit;

    if (seq & SEQ_ODD)
        return VISIT_BUSY;
    visit = visit_slots(shard, number, walk);
    atomic_thread_fence(memory_order_acquire);
    if (load_relaxed(&primary->seq) != seq) {
        walk->used = used_before;
        return VISIT_BUSY;
    }
    return visit;
}

/* The bucket with all that was split off from it since there were `since`. */
static enum visit
visit_family(const struct shard *shard, uint32_t bucket, uint32_t since,
             struct key_walk *walk)
{
    uint32_t count = load_acquire(&shard->header->bucket_count);
    enum visit visit;

    if (count == 0 || count > shard->max_buckets)
        return VISIT_BUSY;
    visit = visit_bucket(shard, bucket, walk);
    for (uint32_t child = since; visit == VISIT_DONE && child < count; child++)
        if (index_bucket_of(child, since) == bucket)
            visit = visit_bucket(shard, child, walk);
    if (load_acquire(&shard->header->bucket_count) != count)
        return VISIT_BUSY;
    return visit;
}

enum pmc_status
shard_keys(struct shard *shard, uint32_t bucket, uint32_t bucket_count,
           const void *prefix, size_t prefix_size, uint64_t now_ms, uint8_t *buffer,
           size_t capacity, size_t *used_out)
{
    for (int try = 0;; try++) {
        struct key_walk walk = {.prefix = prefix,
                                .prefix_size = prefix_size,
                                .now_ms = now_ms,
                                .buffer = buffer,
                                .capacity = capacity};

        /* Where writers never pause, the lock makes them; a dead one is buried. */
        bool locked = try >= TRIES && shard_lock(shard, false) == PMC_OK;
        enum visit visit = visit_family(shard, bucket, bucket_count, &walk);

        /* Nobody is writing, and yet a bucket is busy. */
        if (locked && visit == VISIT_BUSY) {
            shard_recover_locked(shard);
            walk.used = 0;
            visit = visit_family(shard, bucket, bucket_count, &walk);
        }
        if (locked)
            shard_unlock(shard);
        if (visit == VISIT_DONE) {
            *used_out = walk.used;
            return PMC_OK;
        }
        if (visit == VISIT_FULL)
            return PMC_DROPPED;
        if (try >= TRIES)
            return PMC_ETIMEDOUT;
        cpu_relax();
    }
}
