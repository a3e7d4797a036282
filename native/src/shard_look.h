/*
 * One quick look at a key, without a lock: the hot path.
 *
 * A look takes the bucket's sequence number, finds the slot, copies the value and
 * reads the number again. If it is the same and even, no writer touched the bucket,
 * and none had begun to reuse the bytes, since a slot is always changed before that.
 * Whatever the bytes were until then, they are never trusted: offsets and sizes are
 * checked against the shard first, and what was checked is what is used.
 *
 * In a header, so that each public look-up has a copy in which request and outcome
 * are registers. For that nothing may take their addresses; what happens seldom gets
 * a copy of the request. The fewer instructions a look has, the more look-ups the
 * processor begins while it waits for the memory of this one.
 */
#ifndef PMC_SHARD_LOOK_H
#define PMC_SHARD_LOOK_H

#include <string.h>

#include "clock.h"
#include "evict.h"
#include "expiry.h"
#include "fault.h"
#include "hash.h"
#include "shard.h"

/* What a look came to. */
enum look {
    LOOK_HIT,
    LOOK_MISS,
    LOOK_BUSY,    /* a writer was there: look again */
    LOOK_REFUSED, /* reserve() gave up */
    LOOK_DAMAGED, /* the checksum is wrong */
};

RACES_BY_DESIGN static inline void
copy_racing(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

/* The last words of a head, from the deadline on. */
static_assert(sizeof(struct entry_head) - offsetof(struct entry_head, deadline_low) ==
                  sizeof(uint64_t),
              "read in one piece");

/* Every word is read once. The checksum is left out: few looks need it. */
RACES_BY_DESIGN static inline void
copy_head_racing(struct entry_head *to, const struct entry_head *from)
{
    uint64_t end;

    memcpy(&end, &from->deadline_low, sizeof end);
    __asm__("" : "+r"(end));
    to->size = __atomic_load_n(&from->size, __ATOMIC_RELAXED);
    to->generation = __atomic_load_n(&from->generation, __ATOMIC_RELAXED);
    memcpy(&to->deadline_low, &end, sizeof end);
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

static ALWAYS_INLINE bool
unchanged(const struct bucket *primary, uint64_t seq)
{
    atomic_thread_fence(memory_order_acquire);
    return load_relaxed(&primary->seq) == seq || MUTANT("skip-recheck");
}

static ALWAYS_INLINE void
bump(const struct shard *shard, struct bucket *bucket, uint32_t way, uint8_t heat)
{
    uint8_t want = shard->policy->bump == BUMP_CLOCK
                       ? (uint8_t)load_relaxed(&shard->header->lru_clock)
                       : (uint8_t)(heat < HEAT_MAX ? heat + 1 : heat);

    if (want != heat)
        store_relaxed(&bucket->heat[way], want);
}

static ALWAYS_INLINE uint64_t
now_of(const struct shard *shard, struct read_request *request)
{
    if (request->now_ms == 0)
        request->now_ms = shard_now_ms(shard);
    return request->now_ms;
}

/* Does the entry at offset have this key, and the sizes that its slot says? What
 * writers take for damage, readers must too, or they serve what was replaced.
 * Copies the entry's head, without its checksum. */
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
    copy_head_racing(head_out, shared);
    return head_out->key_size == request->key_size &&
           (head_out->size & EXTENT_ENTRY) != 0 &&
           start + entry_bytes(request->key_size, head_out->size & EXTENT_SIZE) <=
               end_bytes &&
           index_check(head_out->size, (uint32_t)request->key_size) ==
               (tag & TAG_CHECK) &&
           equal_racing(shared + 1, request->key, request->key_size);
}

/* Copy what the request asks for. False: reserve() gave up. */
static ALWAYS_INLINE bool
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

/* Was the entry in this slot found by attaching, and not checked since? */
static inline bool
is_unverified(const struct bucket *bucket, uint32_t way)
{
    return (load_relaxed(&bucket->state[way]) & STATE_UNVERIFIED) != 0 &&
           !MUTANT("trust-adopted");
}

/* Must it be checked before it is served, for that or because all are? */
static inline bool
needs_check(const struct shard *shard, const struct bucket *bucket, uint32_t way)
{
    return ((load_relaxed(&bucket->state[way]) | shard->verify) & STATE_UNVERIFIED) !=
               0 &&
           !MUTANT("trust-adopted");
}

/* Are these the bytes that the entry's checksum is about? */
static COLD bool
look_is_intact(const struct entry_head *shared, struct entry_head head, uint64_t hash,
               const uint8_t *value)
{
    copy_racing(&head.checksum, &shared->checksum, sizeof head.checksum);
    return shard_is_intact(hash, &head, value);
}

/* The slot's key matched: serve it, and check its bytes if asked to. outcome->head is
 * the entry's. */
static ALWAYS_INLINE enum look
serve(const struct shard *shard, const struct bucket *primary, uint64_t seq,
      struct bucket *bucket, uint32_t way, uint32_t offset, bool check,
      struct read_request *request, struct read_outcome *outcome)
{
    const struct entry_head *head = &outcome->head;
    const uint8_t *value =
        (const uint8_t *)(entry_at(shard, offset) + 1) + request->key_size;
    uint64_t deadline = entry_deadline(head);

    if (UNLIKELY(deadline != 0) && expiry_passed(deadline, now_of(shard, request)) &&
        !MUTANT("serve-expired"))
        return unchanged(primary, seq) ? LOOK_MISS : LOOK_BUSY;
    if (request->reserve && !unchanged(primary, seq))
        return LOOK_BUSY;
    READ_DELAY();
    if ((LIKELY(request->known == 0) || request->known != head->generation) &&
        !copy_value(request, value, head->size & EXTENT_SIZE))
        return LOOK_REFUSED;
    if (UNLIKELY(check))
        check = !look_is_intact(entry_at(shard, offset), *head, request->hash, value);
    READ_DELAY();
    if (!unchanged(primary, seq))
        return LOOK_BUSY;
    if (UNLIKELY(check))
        return LOOK_DAMAGED;
    outcome->heat = load_relaxed(&bucket->heat[way]);
    if (request->bump)
        bump(shard, bucket, way, outcome->heat);
    return LOOK_HIT;
}

/* The bucket of the keys with this hash; when the numbers make no sense the first, where
 * nobody will find them. */
static ALWAYS_INLINE struct bucket *
shard_primary(const struct shard *shard, uint64_t hash)
{
    uint32_t count = load_acquire(&shard->header->bucket_count);
    uint32_t number = index_bucket_of(hash, count);

    return &shard->buckets[LIKELY(number < shard->max_buckets) ? number : 0];
}

/* What nearly every hit is: the first match of the chain's first two buckets, with
 * nothing to check. primary is what shard_primary() said, maybe some time ago. LOOK_HIT or
 * LOOK_REFUSED; after anything else shard_read() has the answer. */
static ALWAYS_INLINE enum look
shard_look(const struct shard *shard, struct bucket *primary,
           struct read_request *request, struct read_outcome *outcome_out)
{
    struct bucket *bucket = primary;
    uint32_t matches;
    uint32_t offset;
    uint32_t way;
    uint64_t seq;

    READ_DELAY();
    seq = load_acquire(&primary->seq);
    matches = index_matches(primary, index_tag(request->hash));
    if (UNLIKELY(!matches)) {
        uint32_t next = index_next_of(shard, seq);

        if (next == NO_BUCKET)
            return LOOK_BUSY;
        bucket = &shard->buckets[next];
        matches = index_matches(bucket, index_tag(request->hash));
    }
    if (UNLIKELY(seq & SEQ_ODD) || UNLIKELY(!matches))
        return LOOK_BUSY;
    way = index_match_way(matches);
    offset = load_relaxed(&bucket->offset[way]);
    if (UNLIKELY(needs_check(shard, bucket, way)) ||
        UNLIKELY(!entry_matches(shard, offset, slot_tag(bucket, way), request,
                                &outcome_out->head)))
        return LOOK_BUSY;
    return serve(shard, primary, seq, bucket, way, offset, false, request, outcome_out);
}

#endif
