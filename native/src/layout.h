/*
 * The bytes of a pool, and this process's view of them.
 *
 *   index file   | pool header | attachments | versions | shard 0 | shard 1 | ...
 *   a shard      | shard header | leases | primary buckets ... | overflow
 *                buckets ... | the links of all buckets ... | ghosts ... | spans ... |
 *   heap file    | heap header | shard 0's extents | shard 1's extents | ...
 *   an extent    entry:  | head 28 B | key | value | 0-15 B of rounding |
 *                hole:   | size, size before, bin links: 16 B | free bytes |
 *                gone:   | size, size before, GONE: 16 B | spans without memory |
 *
 * Laws
 *   - Only offsets are stored, never addresses. A block is 16 bytes; an offset
 *     counts blocks from the start of the shard's heap.
 *   - The index is the only truth. Holes, bins, queues and counters are
 *     derived: recovery makes them anew from the buckets.
 *   - A bucket's fields, and those of its overflow chain, change only under the
 *     shard's lock and while the primary bucket's sequence number is odd. The
 *     one exception is heat, which any reader may store.
 *   - Extents tile the shard's heap from 0 to limit_blocks without a gap.
 *   - Below limit_blocks the heap has memory everywhere but in spans that are
 *     away, and the extents that cover those are of a kind of their own. So no
 *     hole, and no entry, is ever without memory.
 */
#ifndef PMC_LAYOUT_H
#define PMC_LAYOUT_H

#include "base.h"

#define LAYOUT_VERSION 3u

#define BLOCK_BYTES 16u
#define BUCKET_SLOTS 7u
#define BUCKET_STRIDE 8u /* a slot's number is its bucket's times this, plus its way */
#define NO_SLOT UINT32_MAX
#define NO_OFFSET UINT32_MAX
#define NO_BUCKET UINT32_MAX

#define ATTACHMENTS_MAX 1024u

/* ---- index: buckets -------------------------------------------------- */

/*
 * One cache line, the only one of the index that a look-up reads:
 *
 *   seq 8 | tags 7 x 2 | heat 7 | state 7 | offsets 7 x 4
 *
 * A tag is twelve bits of the key's hash and the entry's check; see index.h.
 */
struct bucket {
    _Atomic uint64_t seq;                /* changes | SEQ_NEXT | SEQ_ODD */
    _Atomic uint16_t tags[BUCKET_SLOTS]; /* 0: free slot */
    _Atomic uint8_t heat[BUCKET_SLOTS];  /* mark of use, stored by readers */
    _Atomic uint8_t state[BUCKET_SLOTS]; /* queue number; STATE_UNVERIFIED */
    _Atomic uint32_t offset[BUCKET_SLOTS];
};
static_assert(sizeof(struct bucket) == CACHE_LINE_BYTES, "one cache line");
static_assert(offsetof(struct bucket, offset) == 36, "no padding");

#define SEQ_ODD UINT64_C(1) /* the bucket, or one of its chain, changes */
/* Which overflow bucket is next in the chain, counted from one; 0: none. Here, where a
 * look-up finds it without another line. */
#define SEQ_NEXT_BITS 27
#define SEQ_NEXT (((UINT64_C(1) << SEQ_NEXT_BITS) - 1) << 1)
/* 36 bits are left for changes: none can have been through all of them while a reader
 * looks. */
#define SEQ_STEP (UINT64_C(1) << (SEQ_NEXT_BITS + 1))

/* What only writers need of a bucket, in a row of its own. */
struct bucket_links {
    uint32_t next_free;              /* the next free overflow bucket, of such ones */
    uint32_t previous[BUCKET_SLOTS]; /* slots; towards the older end of the queue */
};
static_assert(sizeof(struct bucket_links) == 32, "two a cache line");

/* The entry was found by attaching: its checksum has to be checked before it
 * is served. */
#define STATE_UNVERIFIED 0x80u
#define STATE_FROM_MAIN 0x40u /* a candidate that left the main queue */
#define STATE_QUEUE 0x3fu

#define DEADLINE_MAX ((UINT64_C(1) << 40) - 1)

/* ---- index: spans ------------------------------------------------------ */

/*
 * A span is the unit in which memory is given back to the file system. One byte
 * for each of the shard's says how things stand:
 *
 *   SPAN_USED        an entry or the head of a hole may lie in it
 *   1 .. SPAN_TICKS  it is inside a hole, and has been since that tick
 *   SPAN_AWAY        its memory was given back, or is about to be: it has to be
 *                    allocated before anything is written there
 *
 * SPAN_AWAY is a truth, as slots are, and survives the death of whoever wrote it.
 */
#define SPAN_BLOCKS 4096u
#define SPAN_BYTES (SPAN_BLOCKS * BLOCK_BYTES)
#define SPAN_USED 0u
#define SPAN_TICKS 250u
#define SPAN_AWAY 255u

/* ---- index: shard header --------------------------------------------- */

#define QUEUES 52u /* numbers of queues; 0 is no queue */
#define BIN_COUNT 256u
#define BIN_WORDS (BIN_COUNT / 64u)
#define GHOST_WAYS 8u

struct queue {
    uint32_t head; /* oldest slot */
    uint32_t tail; /* youngest slot */
    uint32_t entries;
    uint32_t reserved;
    uint64_t blocks;
};

#define GHOST_TICKS_KEPT 128u

/* How much became ghosts when, by ticks: the order of a FIFO without its links. */
struct ghost_queue {
    uint64_t blocks; /* of all ghosts that are alive */
    uint32_t now;    /* number of the last tick */
    uint32_t oldest; /* number of the first tick that is alive */
    uint32_t tick_blocks[GHOST_TICKS_KEPT];
};

/* The whole, of which shard_header.small_share is a part. */
#define SHARE_UNIT (UINT64_C(1) << 32)

/* What a dying writer may have left half done. */
enum intent_kind {
    INTENT_NONE = 0,
    INTENT_SLOT = 1,   /* intent_slot's words are torn if intent_bucket is odd */
    INTENT_UPDATE = 2, /* ... and intent_old is what they were */
    INTENT_TOUCH = 3,  /* its entry's deadline is torn; it was intent_deadline */
};

/* The words of a slot, gathered. */
struct slot_content {
    uint32_t offset;
    uint16_t tag;
    uint8_t heat;
    uint8_t state;
};
static_assert(sizeof(struct slot_content) == 8, "no padding");

struct shard_header {
    /* line 0: the lock alone */
    _Atomic uint32_t lock;
    uint8_t lock_line[CACHE_LINE_BYTES - 4];

    /* line 1: what readers need */
    _Atomic uint32_t bucket_count;   /* primary buckets in use */
    _Atomic uint32_t limit_blocks;   /* heap blocks that are allocated */
    _Atomic uint32_t overflow_limit; /* overflow buckets that are allocated */
    _Atomic uint32_t lru_clock;      /* what a bump stores under lru */
    uint8_t reader_line[CACHE_LINE_BYTES - 16];

    /* the rest belongs to the holder of the lock */
    _Atomic uint32_t intent_kind;
    _Atomic uint32_t intent_slot;
    _Atomic uint32_t intent_bucket; /* the primary bucket of intent_slot */
    uint32_t intent_checksum;
    struct slot_content intent_old;
    uint64_t intent_deadline;
    _Atomic uint64_t generation; /* the last one given */
    _Atomic uint64_t epoch;      /* raised by every recovery */

    uint32_t bucket_limit;       /* primary buckets that are allocated */
    uint32_t overflow_used;      /* overflow buckets ever taken */
    uint32_t overflow_free;      /* head of the list of free ones */
    uint32_t sweep_slot;         /* where the expiry sweep goes on */
    uint32_t last_offset;        /* the extent that ends at limit_blocks */
    uint32_t queues_doubtful;    /* links contradict each other, or two were at work
                                    at once: recover */
    _Atomic uint32_t ghost_sets; /* sets in use; 0: none yet */
    uint32_t lease_sets;         /* a bit for each set with a lease that stands */
    uint64_t free_blocks;

    /* statistics */
    _Atomic uint64_t entries;
    _Atomic uint64_t mortals; /* entries with a deadline */
    _Atomic uint64_t used_blocks;
    _Atomic uint64_t payload_bytes;
    _Atomic uint64_t put;
    _Atomic uint64_t delete_;
    _Atomic uint64_t evict;
    _Atomic uint64_t expired;
    _Atomic uint64_t rejected;
    _Atomic uint64_t moved_bytes;
    _Atomic uint64_t written_bytes;
    _Atomic uint64_t recoveries;
    _Atomic uint64_t damaged;

    /* policy state; see evict_*.c */
    uint64_t small_share; /* of the capacity, in 1/SHARE_UNIT */
    uint64_t lru_blocks_since_tick;
    uint64_t lru_full_blocks;           /* limit_blocks when a victim was last wanted */
    struct ghost_queue ghost_queues[2]; /* of the small queue; of the main queue */
    uint32_t ghost_sweep;               /* the next set to be swept */
    uint32_t passed_blocks; /* evicted before a candidate that is too large */

    /* memory that was given back; see shard_memory.c */
    _Atomic uint32_t giving_owner; /* who gives spans back right now; 0: nobody */
    uint32_t giving_from;          /* ... which: spans [from, to) */
    uint32_t giving_to;
    uint32_t givings; /* how many there were: whether one began meanwhile */
    _Atomic uint64_t away_blocks;
    uint64_t look_again_ms; /* for spans that have been free for long enough */
    uint64_t pressed_ms;    /* when room was last made by evicting */
    uint32_t tick;          /* of the write under way: see SPAN_TICKS */
    uint32_t memory_reserved;
    _Atomic uint64_t given_back_bytes;

    uint64_t bin_map[BIN_WORDS]; /* which bins hold a hole */
    uint32_t bin_head[BIN_COUNT];
    struct queue queues[QUEUES];
};
static_assert(offsetof(struct shard_header, bucket_count) == 64, "line 1");
static_assert(offsetof(struct shard_header, intent_kind) == 128, "line 2");
static_assert(sizeof(struct shard_header) <= PAGE_BYTES, "one page");

/* ---- index: versions and leases ---------------------------------------- */

/* Words that say when a key last changed, for copies that processes keep: odd
 * while it changes. Keys share them. */
#define SHARD_VERSIONS 4096u

/* One process's right to load a key. */
struct lease_place {
    _Atomic uint64_t hash;     /* of the key; 0: free */
    _Atomic uint64_t token;    /* names this lease */
    _Atomic uint64_t deadline; /* milliseconds, and LEASE_VOID */
    _Atomic uint32_t owner;    /* as in locks */
    _Atomic uint32_t ended;    /* counts the leases that ended here; a futex */
};
static_assert(sizeof(struct lease_place) == 32, "two a line");

/* In the deadline: the key was changed since the lease was taken. */
#define LEASE_VOID (UINT64_C(1) << 63)

#define LEASE_SETS 16u
#define LEASE_WAYS 8u
static_assert(LEASE_SETS * LEASE_WAYS * sizeof(struct lease_place) == PAGE_BYTES,
              "a page of leases");

/* ---- index: ghosts ----------------------------------------------------- */

/* Evicted keys: fingerprint 15 bits | was in the main queue 1 | tick 8 |
 * size 8. 0 is a free place. */
struct ghost_set {
    uint32_t place[GHOST_WAYS];
};

/* ---- index: pool header ---------------------------------------------- */

/* What the threads of one process count. */
struct read_counters {
    _Atomic uint64_t hit;
    _Atomic uint64_t miss;
};

struct attachment {
    _Atomic uint32_t incarnation; /* counts the processes that had this place */
    _Atomic uint32_t process_id;  /* for people; liveness is the file lock */
    _Atomic uint64_t lock_timeouts;
    _Atomic uint64_t rejected;
    struct read_counters quick;  /* of one thread, which adds without a locked */
    struct read_counters shared; /* instruction; of all others */
    uint8_t reserved[8];
};
static_assert(sizeof(struct attachment) == CACHE_LINE_BYTES, "one line each");

#define POOL_MAGIC "PMCPOOL"

/* What two processes must agree on to share a pool. Never changes. */
struct pool_identity {
    char magic[8];
    uint32_t layout_version;
    uint32_t abi; /* byte order, word size: see pool_abi() */
    uint64_t pool_id;
    uint8_t boot_id[16];
    uint64_t size_bytes; /* as asked for; PMC_SIZE_GROW for growing pools */
    uint64_t shard_bytes;
    uint32_t shards;
    uint32_t max_buckets;  /* primary buckets a shard may have */
    uint32_t max_overflow; /* overflow buckets a shard may have */
    uint32_t ghost_sets;
    uint8_t lifetime;
    uint8_t eviction;
    uint8_t memory;
    uint8_t index_in_dram; /* the index file is in shared memory, not beside */
    uint8_t preallocated;
    uint8_t reserved[3];
    uint64_t checksum; /* of everything above */
};
static_assert(sizeof POOL_MAGIC == sizeof((struct pool_identity *)0)->magic, "all");
static_assert(sizeof(struct pool_identity) == 88, "no padding");

#define HEAP_PATH_BYTES 2048u

struct pool_header {
    struct pool_identity identity;
    _Atomic uint64_t growth_refused_ms; /* when the file system last said no */
    char heap_path[HEAP_PATH_BYTES];    /* absolute; "" when unknown */
    _Atomic uint64_t growths_refused;   /* how often it said so */
};
/* Whoever sweeps indexes (pool_sweep.c) may be of another version of pmemcache. */
static_assert(offsetof(struct pool_header, heap_path) == 96,
              "where it has always been");
static_assert(sizeof(struct pool_header) <= PAGE_BYTES, "one page");

/* ---- heap ------------------------------------------------------------ */

#define EXTENT_ENTRY 0x80000000u
#define EXTENT_SIZE 0x7fffffffu

/*
 * The head of an entry. Key bytes follow, then value bytes.
 */
struct entry_head {
    uint32_t size;          /* EXTENT_ENTRY | value size in bytes */
    uint32_t before_blocks; /* blocks of the extent before; 0: the first */
    uint32_t next;          /* slot; towards the younger end of the queue */
    uint32_t checksum;      /* of key hash, tag, value and deadline */
    uint32_t generation;    /* the low half of the shard's */
    uint32_t deadline_low;  /* 40 bits of milliseconds; 0: none */
    uint8_t deadline_high;
    uint8_t tag;
    uint16_t key_size;
};
static_assert(sizeof(struct entry_head) == 28, "at most 32, no padding");

/* The head of a hole. */
struct hole_head {
    uint32_t size; /* blocks */
    uint32_t before_blocks;
    uint32_t bin_next; /* offsets; NO_OFFSET ends the list */
    uint32_t bin_previous;
};
static_assert(sizeof(struct hole_head) == BLOCK_BYTES, "the smallest hole");

/* In bin_previous: not a hole, but the block before spans that are away, and they.
 * Its head lies in the last block that has memory. */
#define GONE_LINK (UINT32_MAX - 1)

/* ---- this process's view --------------------------------------------- */

struct evict_policy;
struct pool;

struct shard {
    struct shard_header *header;
    struct bucket *buckets; /* max_buckets primary, then max_overflow */
    struct bucket_links *links;
    struct ghost_set *ghosts;
    uint8_t *spans; /* max_blocks / SPAN_BLOCKS + 1 bytes */
    struct lease_place *leases;
    _Atomic uint64_t *versions;
    uint8_t *heap;
    const struct evict_policy *policy;
    struct pool *pool;
    uint64_t hash_seed;
    uint64_t lock_timeout_ns;
    int64_t clock_offset_ms; /* pmc_advance_clock() */
    uint32_t number;
    uint32_t max_blocks;
    uint32_t max_buckets;
    uint32_t max_overflow;
    uint32_t ghost_sets; /* 0: the policy has none */
    uint8_t verify;      /* STATE_UNVERIFIED: check every entry that is served */
};

static inline uint64_t
entry_bytes(size_t key_size, size_t value_size)
{
    return sizeof(struct entry_head) + (uint64_t)key_size + value_size;
}

/* Blocks of an entry; may exceed 32 bits for absurd sizes. */
static inline uint64_t
entry_blocks(size_t key_size, size_t value_size)
{
    return (entry_bytes(key_size, value_size) + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

static inline struct entry_head *
entry_at(const struct shard *shard, uint32_t offset)
{
    return (struct entry_head *)(void *)(shard->heap + (size_t)offset * BLOCK_BYTES);
}

static inline struct hole_head *
hole_at(const struct shard *shard, uint32_t offset)
{
    return (struct hole_head *)(void *)(shard->heap + (size_t)offset * BLOCK_BYTES);
}

static inline bool
extent_is_entry(const struct shard *shard, uint32_t offset)
{
    return (hole_at(shard, offset)->size & EXTENT_ENTRY) != 0;
}

static inline bool
extent_is_gone(const struct shard *shard, uint32_t offset)
{
    return !extent_is_entry(shard, offset) &&
           hole_at(shard, offset)->bin_previous == GONE_LINK;
}

static inline bool
extent_is_hole(const struct shard *shard, uint32_t offset)
{
    return !extent_is_entry(shard, offset) &&
           hole_at(shard, offset)->bin_previous != GONE_LINK;
}

/* Blocks of the extent at offset, as its head says. Not checked. */
static inline uint64_t
extent_blocks(const struct shard *shard, uint32_t offset)
{
    const struct entry_head *head = entry_at(shard, offset);

    if (head->size & EXTENT_ENTRY)
        return entry_blocks(head->key_size, head->size & EXTENT_SIZE);
    return head->size;
}

static inline uint8_t *
entry_key(struct entry_head *head)
{
    return (uint8_t *)(head + 1);
}

static inline struct bucket *
slot_bucket(const struct shard *shard, uint32_t slot)
{
    return &shard->buckets[slot / BUCKET_STRIDE];
}

static inline uint16_t
slot_tag(const struct bucket *bucket, uint32_t way)
{
    return load_relaxed(&bucket->tags[way]);
}

static inline _Atomic uint8_t *
slot_heat(const struct shard *shard, uint32_t slot)
{
    return &slot_bucket(shard, slot)->heat[slot % BUCKET_STRIDE];
}

static inline _Atomic uint8_t *
slot_state(const struct shard *shard, uint32_t slot)
{
    return &slot_bucket(shard, slot)->state[slot % BUCKET_STRIDE];
}

static inline uint32_t
slot_offset(const struct shard *shard, uint32_t slot)
{
    return load_relaxed(&slot_bucket(shard, slot)->offset[slot % BUCKET_STRIDE]);
}

/* Is there a slot of this number? */
static inline bool
slot_is_possible(const struct shard *shard, uint32_t slot)
{
    return slot / BUCKET_STRIDE < shard->max_buckets + shard->max_overflow &&
           slot % BUCKET_STRIDE < BUCKET_SLOTS;
}

static inline uint64_t
entry_deadline(const struct entry_head *head)
{
    return (uint64_t)head->deadline_high << 32 | head->deadline_low;
}

/* What a deadline adds to the checksum of its entry. */
static inline uint32_t
entry_deadline_mark(uint64_t deadline)
{
    return (uint32_t)(deadline * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* The blocks that are allocated, never more than the shard can have. */
static inline uint32_t
shard_limit(const struct shard *shard)
{
    uint32_t limit = load_relaxed(&shard->header->limit_blocks);

    return limit < shard->max_blocks ? limit : shard->max_blocks;
}

/* The blocks that have memory, now. */
static inline uint64_t
shard_memory_blocks(const struct shard *shard)
{
    return load_relaxed(&shard->header->limit_blocks) -
           load_relaxed(&shard->header->away_blocks);
}

/* Ask the processor for the head and the key, if it is short, of the entry at offset.
 * They may lie across two cache lines. */
static inline void
prefetch_entry(const struct shard *shard, uint32_t offset)
{
    const uint8_t *head = (const uint8_t *)entry_at(shard, offset);

    if (offset < shard->max_blocks) {
        __builtin_prefetch(head);
        __builtin_prefetch(head + 3 * BLOCK_BYTES - 1);
    }
}

/* The same, of all entries of a bucket. */
static inline void
prefetch_entries(const struct shard *shard, uint32_t number)
{
    const struct bucket *bucket = &shard->buckets[number];

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        if (slot_tag(bucket, way) != 0)
            prefetch_entry(shard, load_relaxed(&bucket->offset[way]));
}

/* The blocks of the live entry in a slot, from its head; 0 when the slot points
 * outside of the heap. */
static inline uint32_t
slot_blocks(const struct shard *shard, uint32_t slot)
{
    uint32_t offset = slot_offset(shard, slot);

    if (UNLIKELY(offset >= shard_limit(shard)))
        return 0;
    return (uint32_t)extent_blocks(shard, offset);
}

#endif
