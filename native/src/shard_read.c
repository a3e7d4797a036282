/*
 * Look-ups without a lock: the hot path.
 *
 * A read takes the bucket's sequence number, finds the slot, copies the value
 * and looks at the number again. If it is the same and even, no writer touched
 * the bucket, and none had begun to reuse the bytes, since a slot is always
 * changed before that. Whatever the bytes were until then, they are never
 * trusted: offsets and sizes are checked against the shard first.
 */
#include <string.h>

#include "clock.h"
#include "evict.h"
#include "expiry.h"
#include "fault.h"
#include "hash.h"
#include "shard.h"

/* Looks at a busy bucket before the lock is taken, and such rounds. */
#define TRIES 100
#define ROUNDS 16

enum look {
    LOOK_HIT,
    LOOK_MISS,
    LOOK_BUSY,    /* a writer was there: look again */
    LOOK_REFUSED, /* reserve() gave up */
    LOOK_DAMAGED, /* the checksum is wrong */
};

uint32_t
shard_checksum(uint64_t hash, uint8_t tag, const void *value, size_t value_size)
{
    uint64_t sum = hash_bytes(value, value_size, hash ^ tag);

    return (uint32_t)(sum ^ sum >> 32);
}

RACES_BY_DESIGN static void
copy_racing(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

RACES_BY_DESIGN static bool
equal_racing(const void *a, const void *b, size_t size)
{
    return size == 0 || memcmp(a, b, size) == 0; /* NULL may be the empty key */
}

static bool
unchanged(const struct bucket *primary, uint64_t seq)
{
    atomic_thread_fence(memory_order_acquire);
    return load_relaxed(&primary->seq) == seq || MUTANT("skip-recheck");
}

static void
bump(const struct shard *shard, struct bucket *bucket, uint32_t way)
{
    uint8_t heat = load_relaxed(&bucket->heat[way]);
    uint8_t want = shard->policy->bump == BUMP_CLOCK
                       ? (uint8_t)load_relaxed(&shard->header->lru_clock)
                       : (uint8_t)(heat < HEAT_MAX ? heat + 1 : heat);

    if (want != heat)
        store_relaxed(&bucket->heat[way], want);
}

static uint64_t
now_of(struct read_request *request)
{
    if (request->now_ms == 0)
        request->now_ms = clock_coarse_ms() + (uint64_t)request->clock_offset_ms;
    return request->now_ms;
}

/* Does the entry at offset have this key, and the size that its slot says? What
 * writers take for damage, readers must too, or they serve what was replaced.
 * Copies the entry's head. */
static bool
entry_matches(const struct shard *shard, uint32_t offset, uint8_t check,
              const struct read_request *request, struct entry_head *head_out)
{
    uint64_t end_bytes = (uint64_t)shard_limit(shard) * BLOCK_BYTES;
    uint64_t start = (uint64_t)offset * BLOCK_BYTES;
    const struct entry_head *shared;

    if (MUTANT("skip-bounds"))
        end_bytes = UINT64_MAX;
    if (start + entry_bytes(request->key_size, 0) > end_bytes)
        return false;
    shared = entry_at(shard, offset);
    copy_racing(head_out, shared, sizeof *head_out);
    return head_out->key_size == request->key_size &&
           (head_out->size & EXTENT_ENTRY) != 0 &&
           start + entry_bytes(head_out->key_size, head_out->size & EXTENT_SIZE) <=
               end_bytes &&
           (uint8_t)entry_blocks(head_out->key_size, head_out->size & EXTENT_SIZE) ==
               check &&
           equal_racing(shared + 1, request->key, request->key_size);
}

/* Copy what the request asks for. False: reserve() gave up. */
static bool
copy_value(struct read_request *request, const uint8_t *value, size_t value_size)
{
    size_t wanted;

    if (request->reserve) {
        request->buffer = request->reserve(request->context, value_size);
        request->capacity = value_size;
        if (!request->buffer)
            return false;
    }
    if (request->offset >= value_size || request->capacity == 0)
        return true;
    wanted = value_size - request->offset;
    copy_racing(request->buffer, value + request->offset,
                wanted < request->capacity ? wanted : request->capacity);
    return true;
}

/* The slot's key matched: serve it. */
static enum look
serve(const struct shard *shard, struct bucket *primary, uint64_t seq,
      struct bucket *bucket, uint32_t way, const struct entry_head *head,
      uint32_t offset, struct read_request *request, struct read_outcome *outcome_out)
{
    const uint8_t *value =
        (const uint8_t *)(entry_at(shard, offset) + 1) + head->key_size;
    size_t value_size = head->size & EXTENT_SIZE;
    uint64_t deadline = slot_deadline(bucket, way);
    bool unverified = (load_relaxed(&bucket->state[way]) & STATE_UNVERIFIED) != 0 &&
                      !MUTANT("trust-adopted");
    bool check = unverified || request->verify;

    if (deadline != 0 && expiry_passed(deadline, now_of(request)) &&
        !MUTANT("serve-expired"))
        return unchanged(primary, seq) ? LOOK_MISS : LOOK_BUSY;
    if (request->reserve && !unchanged(primary, seq))
        return LOOK_BUSY;
    READ_DELAY();
    if (!copy_value(request, value, value_size))
        return LOOK_REFUSED;
    check = check && shard_checksum(request->hash, head->tag, value, value_size) !=
                         head->checksum;
    READ_DELAY();
    if (!unchanged(primary, seq))
        return LOOK_BUSY;
    if (check)
        return LOOK_DAMAGED;
    *outcome_out = (struct read_outcome){
        .found = {.generation = head->generation,
                  .value_size = value_size,
                  .tag = head->tag},
        .deadline = deadline,
        .blocks = (uint32_t)entry_blocks(head->key_size, value_size),
        .heat = load_relaxed(&bucket->heat[way]),
        .unverified = unverified,
    };
    if (request->bump)
        bump(shard, bucket, way);
    return LOOK_HIT;
}

/* One look at the chain of the key's bucket. */
static enum look
look(const struct shard *shard, struct read_request *request,
     struct read_outcome *outcome_out)
{
    uint32_t count = load_acquire(&shard->header->bucket_count);
    uint32_t number = index_bucket_of(request->hash, count);
    uint16_t tag = index_tag(request->hash);
    struct bucket *primary;
    uint64_t seq;

    if (UNLIKELY(number >= shard->max_buckets))
        return LOOK_BUSY;
    primary = &shard->buckets[number];
    __builtin_prefetch(&primary->deadline_low); /* the second line, in parallel */
    READ_DELAY();
    seq = load_acquire(&primary->seq);
    if (seq & 1)
        return LOOK_BUSY;
    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        struct bucket *bucket = &shard->buckets[number];

        for (uint64_t matches = index_matches(bucket, tag); matches;
             matches &= matches - 1) {
            uint32_t way = index_match_way(matches);
            uint32_t offset = load_relaxed(&bucket->offset[way]);
            struct entry_head head;

            if (slot_tag(bucket, way) == tag &&
                entry_matches(shard, offset, load_relaxed(&bucket->check[way]), request,
                              &head))
                return serve(shard, primary, seq, bucket, way, &head, offset, request,
                             outcome_out);
        }
        number = index_chain_next(shard, bucket);
    }
    if (!unchanged(primary, seq) ||
        (load_relaxed(&shard->header->bucket_count) != count &&
         !MUTANT("skip-count-recheck")))
        return LOOK_BUSY;
    return LOOK_MISS;
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
        _Atomic uint8_t *state = &slot_bucket(shard, slot)->state[slot % BUCKET_SLOTS];

        store_relaxed(state, (uint8_t)(load_relaxed(state) & ~STATE_UNVERIFIED));
    }
    shard_unlock(shard);
}

/* Under the lock: are the bytes of this entry what its checksum says? */
static bool
is_damaged(const struct shard *shard, uint32_t slot, uint64_t hash)
{
    struct entry_head *head = entry_at(shard, index_read_slot(shard, slot).offset);

    return shard_checksum(hash, head->tag, entry_key(head) + head->key_size,
                          head->size & EXTENT_SIZE) != head->checksum;
}

/* The entry's bytes are not what was stored: away with it. */
static void
drop_damaged(struct shard *shard, const struct read_request *request)
{
    uint32_t slot;

    if (shard_lock(shard, false) != PMC_OK)
        return;
    slot = index_find_locked(shard, request->hash, request->key, request->key_size);
    if (slot != NO_SLOT && is_damaged(shard, slot, request->hash)) {
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
           load_relaxed(&shard->buckets[number].seq) & 1;
}

/* A bucket that stays busy: wait for its writer, or bury it. */
static bool
wait_for_writer(struct shard *shard, uint64_t hash)
{
    if (shard_lock(shard, false) != PMC_OK)
        return false;
    if (is_stuck(shard, hash))
        shard_recover_locked(shard);
    shard_unlock(shard);
    return true;
}

enum pmc_status
shard_read(struct shard *shard, struct read_request *request,
           struct read_outcome *outcome_out)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (int try = 0; try < TRIES; try++) {
            switch (look(shard, request, outcome_out)) {
            case LOOK_HIT:
                if (UNLIKELY(outcome_out->unverified))
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
                cpu_relax();
                break;
            }
        }
        if (!wait_for_writer(shard, request->hash))
            return PMC_MISS;
    }
    return PMC_MISS;
}

void
shard_prefetch_bucket(const struct shard *shard, uint64_t hash)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);
    const struct bucket *bucket = &shard->buckets[index_bucket_of(hash, count)];

    __builtin_prefetch(bucket);
    __builtin_prefetch((const uint8_t *)bucket + CACHE_LINE_BYTES);
}

/* The check byte says how long an entry of less than 4 KiB is. */
void
shard_prefetch_entry(const struct shard *shard, uint64_t hash)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);
    uint32_t number = index_bucket_of(hash, count);
    const struct bucket *bucket = &shard->buckets[number];
    uint64_t matches;
    uint32_t way;
    uint32_t offset;
    const uint8_t *entry;

    if (number >= shard->max_buckets)
        return;
    matches = index_matches(bucket, index_tag(hash));
    if (!matches)
        return;
    way = index_match_way(matches);
    offset = load_relaxed(&bucket->offset[way]);
    if (offset >= shard->max_blocks)
        return;
    entry = (const uint8_t *)entry_at(shard, offset);
    for (uint32_t block = 0; block <= load_relaxed(&bucket->check[way]);
         block += CACHE_LINE_BYTES / BLOCK_BYTES)
        __builtin_prefetch(entry + block * BLOCK_BYTES);
}
