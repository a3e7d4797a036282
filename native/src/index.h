/*
 * The index of a shard: a linear hash table of buckets of one cache line (Litwin,
 * 1980), grown one bucket at a time.
 *
 *   a tag    hash 12 | check 4
 *
 * The check says in few bits what sizes the head of the slot's entry must name:
 * no single wrong bit there goes unnoticed.
 *
 * Readers follow index_bucket_of() and the overflow chain under the primary
 * bucket's sequence number, and look again at bucket_count after a miss: a
 * split publishes the new count before the old bucket's number is even again.
 * Everything named _locked needs the shard lock.
 */
#ifndef PMC_INDEX_H
#define PMC_INDEX_H

#include "layout.h"

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
#include <emmintrin.h>
#endif

/* Chains longer than this are damage. */
#define CHAIN_MAX 64

#define TAG_HASH 0xfff0u
#define TAG_CHECK 0x000fu

/* What the tags of all slots with keys of this hash have in common. */
static inline uint16_t
index_tag(uint64_t hash)
{
    uint16_t tag = (uint16_t)(hash >> 32) & TAG_HASH;

    return tag ? tag : TAG_CHECK + 1;
}

/* The check of an entry with a head of these sizes: the sum of their digits in base
 * 16, but for carries, so another bit anywhere is another check. */
static inline uint16_t
index_check(uint32_t size, uint32_t key_size)
{
    return (uint16_t)(((size & EXTENT_SIZE) ^ key_size << 13) * UINT32_C(0x11111111) >>
                      28);
}

static inline uint32_t
index_bucket_of(uint64_t hash, uint32_t bucket_count)
{
    uint32_t mask = ~UINT32_C(0) >> __builtin_clz(bucket_count | 1);
    uint32_t bucket = (uint32_t)hash & mask;

    return bucket < bucket_count ? bucket : bucket & (mask >> 1);
}

/* The slots whose tags have the hash bits of this one, two bits a way of which the
 * lower is set. */
static inline uint32_t
index_matches(const struct bucket *bucket, uint16_t tag)
{
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
    /* The two bytes behind the tags are read with them, and masked out below. */
    const void *from = (const uint8_t *)bucket + offsetof(struct bucket, tags);
    __m128i tags = _mm_loadu_si128(from);
    __m128i hashes = _mm_and_si128(tags, _mm_set1_epi16((short)TAG_HASH));
    __m128i equal = _mm_cmpeq_epi16(hashes, _mm_set1_epi16((short)tag));

    return (uint32_t)_mm_movemask_epi8(equal) & 0x1555u;
#else
    uint32_t matches = 0;

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        matches |= (uint32_t)((slot_tag(bucket, way) & TAG_HASH) == tag) << 2 * way;
    return matches;
#endif
}
static_assert(offsetof(struct bucket, tags) + 16 <= sizeof(struct bucket),
              "the tags can be loaded as sixteen bytes");

/* The way of the lowest match. */
static inline uint32_t
index_match_way(uint32_t matches)
{
    return (uint32_t)__builtin_ctz(matches) / 2;
}

/* The version of the keys with this hash. */
static inline _Atomic uint64_t *
index_version(const struct shard *shard, uint64_t hash)
{
    return &shard->versions[(hash >> 20) % SHARD_VERSIONS];
}

/* Begin and end changing a bucket (and the chain behind it). */
static inline void
index_write_begin(struct bucket *bucket)
{
    store_relaxed(&bucket->seq, load_relaxed(&bucket->seq) | SEQ_ODD);
    atomic_thread_fence(memory_order_release);
}

static inline void
index_write_end(struct bucket *bucket)
{
    store_release(&bucket->seq,
                  (load_relaxed(&bucket->seq) | SEQ_ODD) + (SEQ_STEP - SEQ_ODD));
    /* What follows may overwrite bytes that the bucket pointed at. */
    atomic_thread_fence(memory_order_release);
}

/* The number of the bucket after the one with this sequence number, or NO_BUCKET at the
 * end of the chain or when it is none that this shard has. */
static inline uint32_t
index_next_of(const struct shard *shard, uint64_t seq)
{
    uint32_t place = (uint32_t)((seq & SEQ_NEXT) >> 1);
    uint64_t limit =
        min_u64(load_relaxed(&shard->header->overflow_limit), shard->max_overflow);

    return LIKELY(place == 0) || place > limit ? NO_BUCKET
                                               : shard->max_buckets + place - 1;
}

/* The same, of bucket number. Readers call it too. */
static inline uint32_t
index_chain_next(const struct shard *shard, uint32_t number)
{
    return index_next_of(shard, load_relaxed(&shard->buckets[number].seq));
}
/* Let the chain go on with bucket next; NO_BUCKET ends it. The primary bucket is
 * odd, or the chain can be reached by nobody. */
void index_chain_to(struct shard *shard, uint32_t number, uint32_t next);
/* Make the bucket hold nothing, likewise. */
void index_empty_bucket(struct shard *shard, uint32_t number);
bool index_bucket_is_empty(const struct bucket *bucket);

void index_format_locked(struct shard *shard);

/* The hash of the key of the entry at offset. Bounds have been checked. */
uint64_t index_hash_at(const struct shard *shard, uint32_t offset);
/* Does the slot point at an entry within the heap, of the sizes that its tag's
 * check stands for? */
bool index_slot_is_sound(const struct shard *shard, uint32_t slot);

uint32_t index_find_locked(const struct shard *shard, uint64_t hash, const void *key,
                           size_t key_size);
/* Does a slot with this tag point at no entry with this tag? Then what it held may be
 * under the key, and come to light again: nothing may be said of the key before
 * recovery. */
bool index_is_doubtful_locked(const struct shard *shard, uint64_t hash);
/* The slot that points at offset, for an entry whose key has this hash. */
uint32_t index_find_offset_locked(const struct shard *shard, uint64_t hash,
                                  uint32_t offset);

struct slot_content index_read_slot(const struct shard *shard, uint32_t slot);

/* Store into a free slot of the chain. NO_SLOT: the chain is full and there is
 * no overflow bucket. */
uint32_t index_insert_locked(struct shard *shard, uint64_t hash,
                             const struct slot_content *content);
void index_update_locked(struct shard *shard, uint64_t hash, uint32_t slot,
                         const struct slot_content *content);
/* The entry's bytes now are at another place, complete. Killed half-way, either
 * place is right. */
void index_move_locked(struct shard *shard, uint64_t hash, uint32_t slot,
                       uint32_t offset);
void index_remove_locked(struct shard *shard, uint64_t hash, uint32_t slot);
/* The entry now lives until deadline. */
void index_touch_locked(struct shard *shard, uint64_t hash, uint32_t slot,
                        uint64_t deadline);
/* Nothing is stored under the key, and that has just been made true. */
void index_absent_locked(struct shard *shard, uint64_t hash);
/* Begin and end changing every key. */
void index_change_all_begin(struct shard *shard);
void index_change_all_end(struct shard *shard);

/* Split buckets while the load asks for it and memory allows. */
void index_balance_locked(struct shard *shard);
/* What the index would do better with more of, as far as the geometry allows. */
#define INDEX_WANTS_BUCKETS 1u
#define INDEX_WANTS_OVERFLOW 2u
#define INDEX_WANTS_GHOSTS 4u
unsigned index_wants(const struct shard *shard);
/* How many ghosts so many entries are worth. */
uint64_t index_ghosts_for(const struct shard *shard);

/* Does a key with this hash belong to this bucket? */
bool index_belongs(const struct shard *shard, uint32_t primary, uint64_t hash);
/* Recovery: clear one slot, or write it whole, with its primary bucket odd or the
 * shard private. */
void index_clear_slot(struct shard *shard, uint32_t slot);
void index_write_slot(struct shard *shard, uint32_t slot,
                      const struct slot_content *content);

/* Any slot of the chain that this hash leads to, for when it must give way. */
uint32_t index_any_in_chain(const struct shard *shard, uint64_t hash);

#endif
