/*
 * The index of a shard: a linear hash table of 128-byte buckets (Litwin, 1980)
 * with a third line for the queues, grown one bucket at a time.
 *
 * Readers follow index_bucket_of() and the overflow chain under the primary
 * bucket's sequence number, and look again at bucket_count after a miss: a
 * split publishes the new count before the old bucket's number is even again.
 * Everything named _locked needs the shard lock.
 */
#ifndef PMC_INDEX_H
#define PMC_INDEX_H

#include "layout.h"

/* Chains longer than this are damage. */
#define CHAIN_MAX 64

static inline uint16_t
index_tag(uint64_t hash)
{
    uint16_t tag = (uint16_t)(hash >> 32);

    return tag ? tag : 1;
}

static inline uint32_t
index_bucket_of(uint64_t hash, uint32_t bucket_count)
{
    uint32_t mask = ~UINT32_C(0) >> __builtin_clz(bucket_count | 1);
    uint32_t bucket = (uint32_t)hash & mask;

    return bucket < bucket_count ? bucket : bucket & (mask >> 1);
}

/* A set bit for each slot whose tag may be this one, lowest slot of each half
 * first; without a branch, because the bytes are seldom in the processor's cache.
 * A few bits are false alarms: the key decides. */
static inline uint64_t
index_matches(const struct bucket *bucket, uint16_t tag)
{
    const uint64_t ones = UINT64_C(0x0001000100010001);
    uint64_t low = load_relaxed(&bucket->tags[0]) ^ (ones * tag);
    uint64_t high = load_relaxed(&bucket->tags[1]) ^ (ones * tag);

    low = (low - ones) & ~low & (ones << 15);
    high = (high - ones) & ~high & (ones << 15);
    return low >> 15 | high >> 14;
}

/* The slot of the lowest set bit. */
static inline uint32_t
index_match_way(uint64_t matches)
{
    uint32_t bit = (uint32_t)__builtin_ctzll(matches);

    return bit / 16 + bit % 16 * (BUCKET_SLOTS / 2);
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
    store_relaxed(&bucket->seq, load_relaxed(&bucket->seq) | 1);
    atomic_thread_fence(memory_order_release);
}

static inline void
index_write_end(struct bucket *bucket)
{
    store_release(&bucket->seq, (load_relaxed(&bucket->seq) | 1) + 1);
    /* What follows may overwrite bytes that the bucket pointed at. */
    atomic_thread_fence(memory_order_release);
}

/* The number of the chain's next bucket, or NO_BUCKET at its end or when it is
 * none that this shard has. */
uint32_t index_chain_next(const struct shard *shard, const struct bucket *bucket);

void index_format_locked(struct shard *shard);

/* The hash of the key of the entry at offset. Bounds have been checked. */
uint64_t index_hash_at(const struct shard *shard, uint32_t offset);
/* Are the head and the bytes of the entry at offset within the heap, and its
 * size as the slot's check byte says? */
bool index_entry_is_sound(const struct shard *shard, uint32_t offset, uint8_t check);

uint32_t index_find_locked(const struct shard *shard, uint64_t hash, const void *key,
                           size_t key_size);
/* Does a slot with this tag point at no entry? Then what it held may be under the
 * key, and come to light again: nothing may be said of the key before recovery. */
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

/* Recovery: is there an entry in this slot that belongs to this bucket? */
bool index_belongs(const struct shard *shard, uint32_t primary, uint32_t offset);
/* Recovery: clear one slot, or write it whole, with its primary bucket odd or the
 * shard private. */
void index_clear_slot(struct shard *shard, uint32_t slot);
void index_write_slot(struct shard *shard, uint32_t slot,
                      const struct slot_content *content);

/* Any slot of the chain that this hash leads to, for when it must give way. */
uint32_t index_any_in_chain(const struct shard *shard, uint64_t hash);

#endif
