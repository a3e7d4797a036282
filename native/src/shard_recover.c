/*
 * Making a shard's derived parts anew from its index; see shard.h.
 *
 * What a writer may have left behind: one slot whose words are torn (named by
 * the intent), a bucket that is half split (entries in two slots), odd sequence
 * numbers, extents that no slot points at, entries moved whose old place was
 * not freed, queues and counters that lag behind. The slots decide; all else is
 * computed from them. Of two entries that overlap neither can be trusted.
 */
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "bit_map.h"
#include "evict.h"
#include "fault.h"
#include "lease.h"
#include "queue.h"
#include "shard.h"

/* ---- prefetching ------------------------------------------------------ */

/* Entries lie anywhere in the heap, and overflow buckets anywhere behind the primary
 * ones. Each would be waited for if it were not asked for so early that a dozen are
 * under way. */
#define BUCKETS_AHEAD 3u
#define CHAINS_AHEAD 24u

static void
prefetch_chained(const struct shard *shard, uint32_t number)
{
    uint32_t next = index_chain_next(shard, number);

    if (next != NO_BUCKET)
        __builtin_prefetch(&shard->buckets[next]);
}

/* What is not in this process's page table cannot be prefetched. */
static void
touch_heap(const struct shard *shard)
{
    uint32_t limit = shard_limit(shard);

    for (uint32_t at = 0; at < limit; at += SPAN_BLOCKS)
        if (shard->spans[at / SPAN_BLOCKS] == SPAN_USED)
            (void)*(const volatile uint8_t *)entry_at(shard, at);
}

/* ---- buckets --------------------------------------------------------- */

struct mending {
    uint32_t *primaries;   /* whose chain each overflow bucket is in, or NO_BUCKET */
    struct bit_map starts; /* a bit a block: an entry starts here */
    struct queue_rebuild queues;
    uint64_t dropped;
};

typedef void (*slot_visitor)(struct shard *shard, struct mending *mending,
                             uint32_t primary, uint32_t slot);

static void
prefetch_visit(const struct shard *shard, const struct mending *mending,
               uint32_t number)
{
    const struct bucket *bucket = &shard->buckets[number];

    prefetch_entries(shard, number);
    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        bit_map_prefetch(&mending->starts, load_relaxed(&bucket->offset[way]));
}

/* Call visit for each used slot of a bucket. */
static void
visit_bucket(struct shard *shard, struct mending *mending, uint32_t primary,
             uint32_t number, slot_visitor visit)
{
    const struct bucket *bucket = &shard->buckets[number];

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        if (slot_tag(bucket, way) != 0)
            visit(shard, mending, primary, number * BUCKET_STRIDE + way);
}

/* Bucket after bucket as they lie in memory, which is chain after chain only for the
 * primary ones. */
static void
visit_all(struct shard *shard, struct mending *mending, slot_visitor visit)
{
    uint32_t count = mending->queues.buckets;
    uint32_t used = mending->queues.overflow;

    for (uint32_t number = 0; number < count; number++) {
        if (number + BUCKETS_AHEAD < count)
            prefetch_visit(shard, mending, number + BUCKETS_AHEAD);
        visit_bucket(shard, mending, number, number, visit);
    }
    for (uint32_t place = 0; place < used; place++) {
        uint32_t number = shard->max_buckets + place;

        if (place + BUCKETS_AHEAD < used &&
            mending->primaries[place + BUCKETS_AHEAD] != NO_BUCKET)
            prefetch_visit(shard, mending, number + BUCKETS_AHEAD);
        if (mending->primaries[place] != NO_BUCKET)
            visit_bucket(shard, mending, mending->primaries[place], number, visit);
    }
}

static void
drop_slot(struct shard *shard, uint32_t primary, uint32_t slot)
{
    struct bucket *bucket = &shard->buckets[primary];

    index_write_begin(bucket);
    index_clear_slot(shard, slot);
    index_write_end(bucket);
}

/* ---- steps ----------------------------------------------------------- */

/* Numbers that could not be true would send everything else astray. */
bool
shard_geometry_is_possible(const struct shard *shard)
{
    const struct shard_header *header = shard->header;
    uint32_t count = load_relaxed(&header->bucket_count);
    uint32_t overflow_limit = load_relaxed(&header->overflow_limit);

    return header->bucket_limit <= shard->max_buckets && count != 0 &&
           count <= header->bucket_limit && overflow_limit <= shard->max_overflow &&
           header->overflow_used <= overflow_limit &&
           load_relaxed(&header->limit_blocks) <= shard->max_blocks &&
           header->ghost_sets <= shard->ghost_sets;
}

bool
shard_is_settled(const struct shard *shard)
{
    const struct shard_header *header = shard->header;

    return shard_geometry_is_possible(shard) &&
           load_relaxed(&header->intent_kind) == INTENT_NONE &&
           load_relaxed(&header->used_blocks) + header->free_blocks +
                   load_relaxed(&header->away_blocks) ==
               load_relaxed(&header->limit_blocks);
}

/* Put right what is not possible. False: the number of buckets was not. Since then
 * keys may have been put into buckets where nobody will look for them any more, and
 * what they held before must not come back. */
static bool
mend_geometry(struct shard *shard)
{
    struct shard_header *header = shard->header;
    bool count_is_true;

    if (shard_geometry_is_possible(shard))
        return true;
    if (header->bucket_limit > shard->max_buckets || header->bucket_limit == 0)
        header->bucket_limit = shard->max_buckets;
    count_is_true = load_relaxed(&header->bucket_count) != 0 &&
                    load_relaxed(&header->bucket_count) <= header->bucket_limit;
    if (!count_is_true)
        store_relaxed(&header->bucket_count, 1);
    if (load_relaxed(&header->overflow_limit) > shard->max_overflow)
        store_relaxed(&header->overflow_limit, shard->max_overflow);
    if (header->overflow_used > load_relaxed(&header->overflow_limit))
        header->overflow_used = load_relaxed(&header->overflow_limit);
    if (load_relaxed(&header->limit_blocks) > shard->max_blocks)
        store_relaxed(&header->limit_blocks, shard->max_blocks);
    if (header->ghost_sets > shard->ghost_sets)
        header->ghost_sets = 0;
    return count_is_true;
}

static void
mend_deadline(struct shard *shard, uint32_t slot)
{
    const struct shard_header *header = shard->header;
    struct entry_head *head;

    if (!index_slot_is_sound(shard, slot) ||
        index_find_offset_locked(shard, index_hash_at(shard, slot_offset(shard, slot)),
                                 slot_offset(shard, slot)) != slot)
        return;
    head = entry_at(shard, slot_offset(shard, slot));
    head->deadline_low = (uint32_t)header->intent_deadline;
    head->deadline_high = (uint8_t)(header->intent_deadline >> 32);
    head->checksum = header->intent_checksum;
}

/* The slot that was being written is torn if its bucket is still odd: then an
 * update is taken back, whose old extent is not free yet, and anything else is
 * cleared. If not, the slot is whole, and readers may be busy with it. */
static void
mend_torn_slot(struct shard *shard)
{
    const struct shard_header *header = shard->header;
    uint32_t kind = load_relaxed(&header->intent_kind);
    uint32_t slot = load_relaxed(&header->intent_slot);
    uint32_t primary = load_relaxed(&header->intent_bucket);

    if (kind == INTENT_NONE || !slot_is_possible(shard, slot) ||
        primary >= shard->max_buckets ||
        !(load_relaxed(&shard->buckets[primary].seq) & SEQ_ODD) ||
        MUTANT("keep-torn-slot"))
        return;
    if (kind == INTENT_UPDATE)
        index_write_slot(shard, slot, &header->intent_old);
    else if (kind == INTENT_TOUCH)
        mend_deadline(shard, slot);
    else
        index_clear_slot(shard, slot);
}

/* What the dead writer intended is settled before any bucket becomes odd again: or
 * a recovery that dies while it drops a slot would make the next one take back an
 * update that readers have seen. */
static void
settle_intent(struct shard *shard)
{
    mend_torn_slot(shard);
    STEP("recover.mended");
    store_release(&shard->header->intent_kind, (uint32_t)INTENT_NONE);
    atomic_signal_fence(memory_order_seq_cst);
}

/* A slot that does not point at a sound entry of this bucket goes. A second slot
 * for the same entry is what an interrupted split or pull leaves: it goes too. */
static void
mend_slot(struct shard *shard, struct mending *mending, uint32_t primary, uint32_t slot)
{
    struct slot_content content = index_read_slot(shard, slot);
    uint64_t hash;

    if (!index_slot_is_sound(shard, slot) || content.offset >= mending->starts.bits ||
        alloc_is_away(shard, content.offset, extent_blocks(shard, content.offset))) {
        mending->dropped++;
        drop_slot(shard, primary, slot);
        return;
    }
    hash = index_hash_at(shard, content.offset);
    if (!index_belongs(shard, primary, hash) ||
        index_tag(hash) != (content.tag & TAG_HASH) ||
        bit_map_has(&mending->starts, content.offset)) {
        drop_slot(shard, primary, slot);
        return;
    }
    bit_map_add(&mending->starts, content.offset);
    queue_rebuild_entry(&mending->queues, slot);
}

/* Two entries overlap: take both out of the map. */
static uint64_t
unmark_overlaps(const struct shard *shard, struct bit_map *map)
{
    uint64_t dropped = 0;
    uint32_t at = bit_map_next(map, 0);

    while (at < map->bits) {
        uint64_t end = at + extent_blocks(shard, at);
        uint32_t next = bit_map_next(map, at + 1);
        bool overlapped = false;

        while (next < map->bits && next < end) {
            end = max_u64(end, next + extent_blocks(shard, next));
            bit_map_remove(map, next);
            overlapped = true;
            dropped++;
            next = bit_map_next(map, next + 1);
        }
        if (overlapped) {
            bit_map_remove(map, at);
            dropped++;
        }
        at = next;
    }
    return dropped;
}

static void
drop_unmarked(struct shard *shard, struct mending *mending, uint32_t primary,
              uint32_t slot)
{
    if (bit_map_has(&mending->starts, slot_offset(shard, slot)))
        return;
    queue_rebuild_forget(&mending->queues, slot);
    drop_slot(shard, primary, slot);
}

/* What the shard's statistics are made from. */
struct totals {
    uint64_t entries;
    uint64_t mortals;
    uint64_t used_blocks;
    uint64_t payload_bytes;
    uint64_t generation; /* the highest */
};

static void
count_entry(struct totals *totals, const struct entry_head *head, uint32_t blocks)
{
    totals->entries++;
    totals->mortals += entry_deadline(head) != 0;
    totals->used_blocks += blocks;
    totals->payload_bytes += (uint64_t)head->key_size + (head->size & EXTENT_SIZE);
    totals->generation = max_u64(totals->generation, head->generation);
}

static void
store_totals(struct shard *shard, const struct totals *totals)
{
    struct shard_header *header = shard->header;

    store_relaxed(&header->entries, totals->entries);
    store_relaxed(&header->mortals, totals->mortals);
    store_relaxed(&header->used_blocks, totals->used_blocks);
    store_relaxed(&header->payload_bytes, totals->payload_bytes);
    /* Not the low halves alone: the counter may have gone round since. */
    if (load_relaxed(&header->generation) < totals->generation)
        store_relaxed(&header->generation, totals->generation);
}

/* In the order of addresses. False: two entries overlap. What they say of their sizes
 * is as it was. */
static bool
rebuild_extents(struct shard *shard, const struct bit_map *starts)
{
    struct totals totals = {0};
    struct alloc_rebuild rebuild;

    alloc_rebuild_begin(&rebuild, shard);
    for (uint32_t at = bit_map_next(starts, 0); at < starts->bits;
         at = bit_map_next(starts, at + 1)) {
        uint32_t blocks = (uint32_t)extent_blocks(shard, at);

        if (!alloc_rebuild_entry(&rebuild, at, blocks))
            return false;
        count_entry(&totals, entry_at(shard, at), blocks);
        STEP("recover.extent");
    }
    alloc_rebuild_end(&rebuild);
    store_totals(shard, &totals);
    return true;
}

/* ---- overflow -------------------------------------------------------- */

/* Take empty buckets out of a chain: readers standing on one must look again, so
 * the primary bucket is odd until recovery ends. */
static void
skip_empty(struct shard *shard, uint32_t primary, uint32_t at)
{
    for (int hops = 0; hops < CHAIN_MAX; hops++) {
        uint32_t next = index_chain_next(shard, at);

        if (next == NO_BUCKET || !index_bucket_is_empty(&shard->buckets[next]))
            return;
        index_write_begin(&shard->buckets[primary]);
        index_chain_to(shard, at, index_chain_next(shard, next));
    }
}

/* The chain of one bucket, as far as nobody else's joins it. */
static void
rebuild_chain(struct shard *shard, struct mending *mending, uint32_t primary)
{
    struct shard_header *header = shard->header;
    uint32_t *primaries = mending->primaries;
    uint32_t at = primary;

    for (int hops = 1;; hops++) {
        uint32_t next;
        uint32_t place;

        skip_empty(shard, primary, at);
        next = index_chain_next(shard, at);
        place = next - shard->max_buckets;
        /* A link that leads nowhere now must not come to lead somewhere. */
        if (next == NO_BUCKET || place >= mending->queues.overflow ||
            primaries[place] != NO_BUCKET || hops >= CHAIN_MAX) {
            index_chain_to(shard, at, NO_BUCKET);
            return;
        }
        primaries[place] = primary;
        if (place >= header->overflow_used)
            header->overflow_used = place + 1;
        at = next;
    }
}

/* Overflow buckets that no chain reaches are free. */
static void
rebuild_overflow(struct shard *shard, struct mending *mending)
{
    struct shard_header *header = shard->header;
    uint32_t count = mending->queues.buckets;
    uint32_t used;

    for (uint32_t number = 0; number < count; number++) {
        if (number + CHAINS_AHEAD < count)
            prefetch_chained(shard, number + CHAINS_AHEAD);
        rebuild_chain(shard, mending, number);
    }
    header->overflow_free = NO_BUCKET;
    used = (uint32_t)min_u64(header->overflow_used, mending->queues.overflow);
    for (uint32_t number = 0; number < used; number++) {
        uint32_t free = shard->max_buckets + number;

        if (mending->primaries[number] != NO_BUCKET)
            continue;
        index_empty_bucket(shard, free);
        shard->links[free].next_free = header->overflow_free;
        header->overflow_free = free;
    }
}

static void
make_buckets_even(struct shard *shard)
{
    uint32_t count = (uint32_t)min_u64(load_relaxed(&shard->header->bucket_count),
                                       shard->max_buckets);

    for (uint32_t number = 0; number < count; number++) {
        struct bucket *bucket = &shard->buckets[number];

        if (load_relaxed(&bucket->seq) & SEQ_ODD && !MUTANT("keep-odd"))
            index_write_end(bucket);
    }
}

/* ---- the whole ------------------------------------------------------- */

static bool
mending_begin(struct shard *shard, struct mending *mending)
{
    size_t bytes;

    *mending = (struct mending){0};
    if (!queue_rebuild_begin(&mending->queues, shard))
        return false;
    bytes = (mending->queues.overflow + 1) * sizeof(uint32_t);
    mending->primaries = malloc(bytes);
    if (mending->primaries)
        memset(mending->primaries, 0xff, bytes); /* NO_BUCKET */
    return mending->primaries && bit_map_make(&mending->starts, shard_limit(shard));
}

static void
mending_end(struct mending *mending)
{
    queue_rebuild_free(&mending->queues);
    free(mending->primaries);
    free(mending->starts.words);
}

static bool
rebuild_all(struct shard *shard, struct mending *mending)
{
    rebuild_overflow(shard, mending);
    touch_heap(shard);
    visit_all(shard, mending, mend_slot);
    STEP("recover.slots");
    if (!rebuild_extents(shard, &mending->starts)) {
        mending->dropped += unmark_overlaps(shard, &mending->starts);
        visit_all(shard, mending, drop_unmarked);
        if (!rebuild_extents(shard, &mending->starts))
            return false; /* somebody writes into the heap right now */
    }
    STEP("recover.extents");
    queue_rebuild_end(&mending->queues,
                      shard->policy->bump == BUMP_CLOCK ? QUEUE_LRU_FIRST : QUEUE_MAIN);
    STEP("recover.queues");
    bump_locked(&shard->header->damaged, mending->dropped);
    return true;
}

void
shard_recover_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;
    struct mending mending;
    bool count_is_true;

    if (MUTANT("skip-recovery"))
        return;
    STEP("recover.begin");
    count_is_true = mend_geometry(shard);
    settle_intent(shard);
    index_change_all_begin(shard);
    lease_void_all_locked(shard);
    if (!mending_begin(shard, &mending) || !count_is_true ||
        !rebuild_all(shard, &mending))
        shard_clear_locked(shard); /* a cache may forget; it may not lie */
    mending_end(&mending);
    make_buckets_even(shard);
    for (uint32_t i = 0; i < SHARD_VERSIONS && MUTANT("recovery-keeps-version"); i++)
        store_relaxed(&shard->versions[i], load_relaxed(&shard->versions[i]) - 2);
    index_change_all_end(shard);
    bump_locked(&header->epoch, 1);
    bump_locked(&header->recoveries, 1);
    STEP("recover.end");
}
