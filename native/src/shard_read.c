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

bool
shard_is_intact(uint64_t hash, const struct entry_head *head, const uint8_t *value)
{
    uint32_t sum = shard_checksum(hash, head->tag, value, head->size & EXTENT_SIZE);

    return (sum ^ entry_deadline_mark(entry_deadline(head))) == head->checksum;
}

RACES_BY_DESIGN static void
copy_racing(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

/* Short keys are compared without a call. */
RACES_BY_DESIGN static inline bool
equal_racing(const void *a, const void *b, size_t size)
{
    uint64_t a_words[2];
    uint64_t b_words[2];

    if (size > 16)
        return memcmp(a, b, size) == 0;
    hash_tail_words(a, size, &a_words[0], &a_words[1]);
    hash_tail_words(b, size, &b_words[0], &b_words[1]);
    return ((a_words[0] ^ b_words[0]) | (a_words[1] ^ b_words[1])) == 0;
}

static bool
unchanged(const struct bucket *primary, uint64_t seq)
{
    atomic_thread_fence(memory_order_acquire);
    return load_relaxed(&primary->seq) == seq || MUTANT("skip-recheck");
}

static ALWAYS_INLINE void
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

/* Does the entry at offset have this key, and the sizes that its slot says? What
 * writers take for damage, readers must too, or they serve what was replaced.
 * Copies the entry's head. */
static ALWAYS_INLINE bool
entry_matches(const struct shard *shard, uint32_t offset, uint16_t tag,
              const struct read_request *request, struct entry_head *head_out)
{
    uint64_t end_bytes = (uint64_t)shard_limit(shard) * BLOCK_BYTES;
    uint64_t start = (uint64_t)offset * BLOCK_BYTES;
    const struct entry_head *shared;

    if (MUTANT("skip-bounds"))
        end_bytes = UINT64_MAX;
    if (UNLIKELY(start + sizeof *head_out > end_bytes))
        return false;
    shared = entry_at(shard, offset);
    copy_racing(head_out, shared, sizeof *head_out);
    return head_out->key_size == request->key_size &&
           (head_out->size & EXTENT_ENTRY) != 0 &&
           start + entry_bytes(head_out->key_size, head_out->size & EXTENT_SIZE) <=
               end_bytes &&
           index_check(head_out->size, head_out->key_size) == (tag & TAG_CHECK) &&
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

/* The slot's key matched: serve it. outcome->head is the entry's. */
static ALWAYS_INLINE enum look
serve(const struct shard *shard, const struct bucket *primary, uint64_t seq,
      struct bucket *bucket, uint32_t way, uint32_t offset,
      struct read_request *request, struct read_outcome *outcome)
{
    const struct entry_head *head = &outcome->head;
    const uint8_t *value =
        (const uint8_t *)(entry_at(shard, offset) + 1) + head->key_size;
    uint64_t deadline = entry_deadline(head);
    bool check;

    outcome->unverified = (load_relaxed(&bucket->state[way]) & STATE_UNVERIFIED) != 0 &&
                          !MUTANT("trust-adopted");
    check = outcome->unverified || request->verify;
    if (UNLIKELY(deadline != 0) && expiry_passed(deadline, now_of(request)) &&
        !MUTANT("serve-expired"))
        return unchanged(primary, seq) ? LOOK_MISS : LOOK_BUSY;
    if (request->reserve && !unchanged(primary, seq))
        return LOOK_BUSY;
    READ_DELAY();
    if ((LIKELY(request->known == 0) || request->known != head->generation) &&
        !copy_value(request, value, head->size & EXTENT_SIZE))
        return LOOK_REFUSED;
    check = check && !shard_is_intact(request->hash, head, value);
    READ_DELAY();
    if (!unchanged(primary, seq))
        return LOOK_BUSY;
    if (UNLIKELY(check))
        return LOOK_DAMAGED;
    outcome->heat = load_relaxed(&bucket->heat[way]);
    if (request->bump)
        bump(shard, bucket, way);
    return LOOK_HIT;
}

/* Look through the chain from bucket number on. */
static COLD enum look
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

            if (entry_matches(shard, offset, slot_tag(bucket, way), request,
                              &outcome_out->head))
                return serve(shard, primary, seq, bucket, way, offset, request,
                             outcome_out);
        }
        number = index_chain_next(shard, number);
    }
    return unchanged(primary, seq) ? LOOK_MISS : LOOK_BUSY;
}

/* One look at the chain of the key's bucket. The first match of the first bucket is
 * nearly always it. */
static ALWAYS_INLINE enum look
look(const struct shard *shard, struct read_request *request,
     struct read_outcome *outcome_out)
{
    uint32_t count = load_acquire(&shard->header->bucket_count);
    uint32_t number = index_bucket_of(request->hash, count);
    struct bucket *primary = &shard->buckets[number];
    enum look seen;
    uint32_t matches;
    uint64_t seq;

    if (UNLIKELY(number >= shard->max_buckets))
        return LOOK_BUSY;
    READ_DELAY();
    seq = load_acquire(&primary->seq);
    if (UNLIKELY(seq & SEQ_ODD))
        return LOOK_BUSY;
    matches = index_matches(primary, index_tag(request->hash));
    if (LIKELY(matches)) {
        uint32_t way = index_match_way(matches);
        uint32_t offset = load_relaxed(&primary->offset[way]);

        if (LIKELY(entry_matches(shard, offset, slot_tag(primary, way), request,
                                 &outcome_out->head)))
            return serve(shard, primary, seq, primary, way, offset, request,
                         outcome_out);
    }
    if (matches || (seq & SEQ_CHAINED)) {
        seen = look_in_chain(shard, primary, seq, request, outcome_out);
        if (seen != LOOK_MISS)
            return seen;
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
        _Atomic uint8_t *state = slot_state(shard, slot);

        store_relaxed(state, (uint8_t)(load_relaxed(state) & ~STATE_UNVERIFIED));
    }
    shard_unlock(shard);
}

/* Under the lock: are the bytes of this entry what its checksum says? */
static bool
is_damaged(const struct shard *shard, uint32_t slot, uint64_t hash)
{
    struct entry_head *head = entry_at(shard, slot_offset(shard, slot));

    return !shard_is_intact(hash, head, entry_key(head) + head->key_size);
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
           (load_relaxed(&shard->buckets[number].seq) & SEQ_ODD) != 0;
}

/* A bucket that stays busy: wait for its writer, or bury it. Without the lock it is
 * a miss. */
static enum pmc_status
wait_for_writer(struct shard *shard, uint64_t hash)
{
    enum pmc_status status = shard_lock(shard, false);

    if (status != PMC_OK)
        return status == PMC_EWOULD_WAIT ? status : PMC_MISS;
    if (is_stuck(shard, hash))
        shard_recover_locked(shard);
    shard_unlock(shard);
    return PMC_OK;
}

/* What comes after a look that was not simply a hit. */
static COLD enum pmc_status
look_again(struct shard *shard, struct read_request *request,
           struct read_outcome *outcome_out, enum look seen)
{
    for (int try = 1;; try++) {
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
                status = wait_for_writer(shard, request->hash);
                if (status != PMC_OK)
                    return status;
            }
            cpu_relax();
            break;
        }
        seen = look(shard, request, outcome_out);
    }
}

enum pmc_status
shard_read(struct shard *shard, struct read_request *request,
           struct read_outcome *outcome_out)
{
    enum look seen = look(shard, request, outcome_out);

    if (LIKELY(seen == LOOK_HIT) && LIKELY(!outcome_out->unverified))
        return PMC_OK;
    return look_again(shard, request, outcome_out, seen);
}

/* ---- fetching early -------------------------------------------------- */

/* NO_BUCKET when the numbers make no sense. */
static uint32_t
bucket_number(const struct shard *shard, uint64_t hash)
{
    uint32_t number = index_bucket_of(hash, load_relaxed(&shard->header->bucket_count));

    return number < shard->max_buckets ? number : NO_BUCKET;
}

void
shard_prefetch_bucket(const struct shard *shard, uint64_t hash)
{
    uint32_t number = bucket_number(shard, hash);

    if (number != NO_BUCKET)
        __builtin_prefetch(&shard->buckets[number]);
}

void
shard_prefetch_links(const struct shard *shard, uint64_t hash)
{
    uint32_t number = bucket_number(shard, hash);

    if (number != NO_BUCKET)
        __builtin_prefetch(&shard->links[number]);
}

uint32_t
shard_prefetch_head(const struct shard *shard, uint64_t hash)
{
    uint32_t number = bucket_number(shard, hash);
    uint32_t matches;
    uint32_t offset;

    if (number == NO_BUCKET)
        return NO_OFFSET;
    matches = index_matches(&shard->buckets[number], index_tag(hash));
    if (!matches)
        return NO_OFFSET;
    offset = load_relaxed(&shard->buckets[number].offset[index_match_way(matches)]);
    if (offset + UINT64_C(2) > shard_limit(shard))
        return NO_OFFSET;
    __builtin_prefetch(entry_at(shard, offset));
    return offset;
}

/* What a long value needs beyond this, the processor's own prefetcher brings. */
#define PREFETCH_BLOCKS (2048u / BLOCK_BYTES)

RACES_BY_DESIGN void
shard_prefetch_value(const struct shard *shard, uint32_t offset)
{
    const uint8_t *entry = (const uint8_t *)entry_at(shard, offset);
    uint64_t blocks = min_u64(extent_blocks(shard, offset), PREFETCH_BLOCKS);

    for (uint64_t block = CACHE_LINE_BYTES / BLOCK_BYTES; block < blocks;
         block += CACHE_LINE_BYTES / BLOCK_BYTES)
        __builtin_prefetch(entry + block * BLOCK_BYTES);
}
