/*
 * A shard: index, extents, queues and deadlines under one lock.
 *
 *   shard_make.c      making a shard, getting an adopted one ready
 *   shard_lock.c      taking the lock, and what follows an owner's death
 *   shard_memory.c    growing, giving memory back, taking it again
 *   shard_look.h      one quick look at a key without a lock: the hot path
 *   shard_read.c      look-ups without a lock that take longer
 *   shard_ahead.[ch]  asking for memory before it is needed
 *   shard_write.c     put, delete, touch, incr, clear, evict
 *   shard_room.c      which entries give way
 *   shard_window.c    runs of neighbours that are emptied; moving entries
 *   shard_recover.c   making the derived parts anew from the index
 *   shard_keys.c      walking over the keys
 *
 * The law of writing: new bytes go where no reader can come; the bucket's
 * number is odd while its slot changes; bytes that a slot pointed at are reused
 * only after the number is even again. See docs/locking.md.
 */
#ifndef PMC_SHARD_H
#define PMC_SHARD_H

#include "clock.h"
#include "index.h"
#include "layout.h"

/* Internal outcomes of the _locked functions, besides those of pmc_status:
 * unlock, let the index or the heap grow, try again. */
#define SHARD_GROW_INDEX ((enum pmc_status)64)
#define SHARD_GROW_HEAP ((enum pmc_status)65)

static inline uint64_t
shard_now_ms(const struct shard *shard)
{
    return clock_coarse_ms() + (uint64_t)shard->clock_offset_ms;
}

/* ---- shard_make.c ---- */

/* Make a new shard, or get an adopted one ready. Nobody else can reach it. */
enum pmc_status shard_format(struct shard *shard, bool preallocated);
void shard_adopt(struct shard *shard);

/* ---- shard_lock.c ---- */

/* PMC_OK: the lock is held, and the shard is in order. PMC_BUSY, PMC_EWOULD_WAIT,
 * PMC_ETIMEDOUT, PMC_ECLOSED, or PMC_EDAMAGED when the pool is lost. */
enum pmc_status shard_lock(struct shard *shard, bool nowait);
void shard_unlock(struct shard *shard);

/* What this thread said with pmc_thread_waits(). */
bool shard_may_wait(void);

/* ---- shard_memory.c ---- */

/* Allocate memory without the lock, then take it in under the lock: another
 * part of the heap, enough for an entry of this many blocks, or what the index
 * wants. PMC_ENOSPACE: the file system has none. PMC_MISS: there is none to be had. */
enum pmc_status shard_grow_heap(struct shard *shard, uint64_t wanted_blocks);
enum pmc_status shard_grow_index(struct shard *shard);

/* How many blocks a shard's heap begins with. */
uint32_t shard_first_blocks(const struct shard *shard);
/* Allocate the memory of buckets [from, to), with their links. */
enum pmc_status shard_allocate_buckets(struct shard *shard, uint32_t from, uint32_t to);
/* Allocate the heap from old to new blocks, and what the index says of it. */
enum pmc_status shard_allocate_heap(struct shard *shard, uint32_t old, uint32_t new);

/* What happens next under the lock happens now. */
void shard_note_time_locked(struct shard *shard, uint64_t now_ms);

/* Memory that has been free for long enough, by the pool's policy: taken out of the
 * heap under the lock, given back to the file system without it. False: none. */
struct giving {
    uint32_t from; /* spans that are released */
    uint32_t to;
    uint32_t given; /* how many of them were not away before */
};
bool shard_give_begin_locked(struct shard *shard, uint64_t now_ms,
                             struct giving *giving_out);
void shard_give(struct shard *shard, const struct giving *giving);

/* ---- shard_read.c ---- */

struct read_request {
    const void *key;
    size_t key_size;
    uint64_t hash;
    uint64_t now_ms;        /* 0: not read yet */
    pmc_reserve_fn reserve; /* NULL: copy into buffer */
    void *context;
    uint8_t *buffer;
    size_t capacity;
    size_t offset;
    uint64_t known; /* copy nothing of an entry of this generation; 0: of none */
    bool *in_vain;  /* of a batch: a lock was waited for in vain, and no other is */
    bool bump;
};

struct read_outcome {
    struct entry_head head; /* but for its checksum and links */
    uint8_t heat;
    bool unverified; /* it was; its checksum has been found right now */
};

/* PMC_OK, PMC_MISS, PMC_EINVAL when reserve() gave up, or PMC_EWOULD_WAIT. */
enum pmc_status shard_read(struct shard *shard, struct read_request *request,
                           struct read_outcome *outcome_out);
/* What the head of an entry records of key, tag and value; its deadline is added
 * by entry_deadline_mark(). */
uint32_t shard_checksum(uint64_t hash, uint8_t tag, const void *value,
                        size_t value_size);
/* Are these the bytes that the head is about? */
bool shard_is_intact(uint64_t hash, const struct entry_head *head,
                     const uint8_t *value);
/* Under the lock, of a sound entry: are its bytes what its checksum says? */
bool shard_entry_is_intact(const struct shard *shard, uint32_t offset, uint64_t hash);

/* ---- shard_write.c ---- */

/* The keys of entries that made room, for the on-evict callback: packed
 * records of this process's memory. */
struct victims {
    uint8_t *bytes;
    size_t used;
    size_t capacity;
};
struct victim {
    uint32_t cause;
    uint32_t key_size;
    /* the key follows, padded to 4 bytes */
};

struct write_request {
    const void *key;
    size_t key_size;
    uint64_t hash;
    const void *value;
    size_t value_size;
    uint64_t deadline;
    uint64_t generation;
    uint64_t lease; /* of pmc_put_options */
    uint64_t now_ms;
    uint32_t checksum;
    uint8_t condition;
    uint8_t tag;
    bool no_growth;  /* make do with what memory there is */
    bool recalled;   /* evict_policy.recall() has been called: it said */
    bool remembered; /* this */
    struct pmc_written *written_out; /* NULL, or for the value stored */
    struct victims *victims;         /* NULL: nobody wants to know */
};

enum pmc_status shard_put_locked(struct shard *shard, struct write_request *request);
enum pmc_status shard_delete_locked(struct shard *shard, struct write_request *request);
enum pmc_status shard_touch_locked(struct shard *shard, struct write_request *request);

struct incr_request {
    struct write_request write;
    uint64_t created_deadline; /* of a created entry; another keeps its own */
    uint8_t created_tag;
    int64_t delta;
    int64_t initial;
    int64_t result; /* set on PMC_OK */
    bool create;
    char digits[24];
};
/* request is the first member of a struct incr_request. */
enum pmc_status shard_incr_locked(struct shard *shard, struct write_request *request);

/* Evict the named entry, or the policy's choice (key NULL). */
enum pmc_status shard_evict_locked(struct shard *shard, struct write_request *request);
void shard_clear_locked(struct shard *shard);

/* One more cause, of entries that a user removed: no callback, no eviction. */
#define CAUSE_DELETED ((enum pmc_cause)(PMC_CAUSE_REQUESTED + 1))

/* Take an entry out: index, queue, extent, counters. The slot is sound. */
enum pmc_status shard_drop_locked(struct shard *shard, uint32_t slot, uint64_t hash,
                                  enum pmc_cause cause, struct victims *victims);

/* A number that this shard has not given before. Needs the lock. */
uint64_t shard_next_generation(struct shard *shard);

/* ---- shard_room.c ---- */

/* Take an extent, evicting and moving as needed. PMC_OK, SHARD_GROW_HEAP, PMC_EFULL,
 * PMC_DROPPED or PMC_EDAMAGED. Any slot may have changed afterwards. */
enum pmc_status shard_take_room_locked(struct shard *shard, uint32_t blocks,
                                       const struct write_request *request,
                                       uint32_t *offset_out);

/* The first candidate in the policy's order, after those used since they were
 * proposed have been put back. NO_SLOT: the shard is empty. */
uint32_t shard_victim_locked(struct shard *shard);

/* ---- shard_ahead.c ---- */

/*
 * Foresight: ask the processor for what will be touched, a step at a time, as each
 * leads to the next. A put begins with where its entry, of so many blocks, will lie: the
 * first hole; or, in a shard that evicts, what removing the next entry to be proposed
 * touches, and the entry after that. It ends with the slot that comes after both.
 */
void shard_foresee_room_locked(const struct shard *shard, uint32_t blocks);
void shard_foresee_slot_locked(const struct shard *shard);
/* What freeing the entry in this slot, which is sound, touches beside it. */
void shard_foresee_freeing_locked(const struct shard *shard, uint32_t slot);

/* ---- shard_recover.c ---- */

/* Make everything but the index anew; drop what makes no sense. Idempotent:
 * dying in it is no worse than dying before. */
void shard_recover_locked(struct shard *shard);

/* Do the numbers in the header that readers go by fit the shard? */
bool shard_geometry_is_possible(const struct shard *shard);

/* ... and the others each other, and was nothing begun and not ended? */
bool shard_is_settled(const struct shard *shard);

/* ---- shard_keys.c ---- */

/* The keys with this prefix of bucket number *bucket of the geometry that had
 * bucket_count buckets. PMC_OK, PMC_DROPPED when buffer is too small, or
 * PMC_ETIMEDOUT when writers leave no moment to look. */
enum pmc_status shard_keys(struct shard *shard, uint32_t bucket, uint32_t bucket_count,
                           const void *prefix, size_t prefix_size, uint64_t now_ms,
                           uint8_t *buffer, size_t capacity, size_t *used_out);

#endif
