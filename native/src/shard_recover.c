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
#include "evict.h"
#include "fault.h"
#include "lease.h"
#include "queue.h"
#include "shard.h"

/* One bit a block: does an entry start here? */
struct start_map {
    uint64_t *words;
    uint32_t blocks;
};

static bool
map_test(const struct start_map *map, uint32_t block)
{
    return (map->words[block / 64] >> (block % 64) & 1) != 0;
}

static void
map_set(struct start_map *map, uint32_t block, bool value)
{
    uint64_t bit = UINT64_C(1) << (block % 64);

    if (value)
        map->words[block / 64] |= bit;
    else
        map->words[block / 64] &= ~bit;
}

static void
map_clear(struct start_map *map)
{
    memset(map->words, 0, ((size_t)map->blocks / 64 + 1) * sizeof(uint64_t));
}

/* The first start at or after block; map->blocks when there is none. */
static uint32_t
map_next(const struct start_map *map, uint32_t block)
{
    while (block < map->blocks) {
        uint64_t word = map->words[block / 64] >> (block % 64);

        if (word)
            return block + (uint32_t)__builtin_ctzll(word);
        block = (block / 64 + 1) * 64;
    }
    return map->blocks;
}

/* ---- prefetching ------------------------------------------------------ */

/* Entries lie anywhere in the heap. Each would be waited for if it were not asked for
 * so early that a dozen are under way. */
#define BUCKETS_AHEAD 3u
#define SLOTS_AHEAD 12u

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

typedef void (*slot_visitor)(struct shard *shard, uint32_t primary, uint32_t slot,
                             void *context);

/* Call visit for each used slot of a chain. */
static void
visit_chain(struct shard *shard, uint32_t primary, slot_visitor visit, void *context)
{
    uint32_t number = primary;

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            if (slot_tag(bucket, way) != 0)
                visit(shard, primary, number * BUCKET_STRIDE + way, context);
        number = index_chain_next(shard, number);
    }
}

static void
visit_all(struct shard *shard, slot_visitor visit, void *context)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);

    for (uint32_t number = 0; number < count; number++) {
        if (number + BUCKETS_AHEAD < count)
            prefetch_entries(shard, number + BUCKETS_AHEAD);
        visit_chain(shard, number, visit, context);
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

struct mending {
    struct start_map *starts;  /* one bit a block: an entry starts here */
    struct start_map *waiting; /* one bit a slot: it holds one of those */
    uint64_t dropped;
};

/* A slot that does not point at a sound entry of this bucket goes. A second slot
 * for the same entry is what an interrupted split or pull leaves: it goes too. */
static void
mend_slot(struct shard *shard, uint32_t primary, uint32_t slot, void *context)
{
    struct mending *mending = context;
    struct slot_content content = index_read_slot(shard, slot);
    uint64_t hash;

    if (!index_slot_is_sound(shard, slot) ||
        alloc_is_away(shard, content.offset, extent_blocks(shard, content.offset))) {
        mending->dropped++;
        drop_slot(shard, primary, slot);
        return;
    }
    hash = index_hash_at(shard, content.offset);
    if (!index_belongs(shard, primary, hash) ||
        index_tag(hash) != (content.tag & TAG_HASH) ||
        map_test(mending->starts, content.offset)) {
        drop_slot(shard, primary, slot);
        return;
    }
    map_set(mending->starts, content.offset, true);
    map_set(mending->waiting, slot, true);
}

/* Two entries overlap: take both out of the map. */
static uint64_t
unmark_overlaps(const struct shard *shard, struct start_map *map)
{
    uint64_t dropped = 0;
    uint32_t at = map_next(map, 0);

    while (at < map->blocks) {
        uint64_t end = at + extent_blocks(shard, at);
        uint32_t next = map_next(map, at + 1);
        bool overlapped = false;

        while (next < map->blocks && next < end) {
            end = max_u64(end, next + extent_blocks(shard, next));
            map_set(map, next, false);
            overlapped = true;
            dropped++;
            next = map_next(map, next + 1);
        }
        if (overlapped) {
            map_set(map, at, false);
            dropped++;
        }
        at = next;
    }
    return dropped;
}

static void
drop_unmarked(struct shard *shard, uint32_t primary, uint32_t slot, void *context)
{
    const struct mending *mending = context;

    if (map_test(mending->starts, slot_offset(shard, slot)))
        return;
    drop_slot(shard, primary, slot);
    map_set(mending->waiting, slot, false);
}

static void
count_nothing(struct shard *shard)
{
    store_relaxed(&shard->header->entries, 0);
    store_relaxed(&shard->header->mortals, 0);
    store_relaxed(&shard->header->used_blocks, 0);
    store_relaxed(&shard->header->payload_bytes, 0);
}

static void
count_entry(struct shard *shard, const struct entry_head *head, uint32_t blocks)
{
    struct shard_header *header = shard->header;

    bump_locked(&header->entries, 1);
    bump_locked(&header->mortals, entry_deadline(head) != 0);
    bump_locked(&header->used_blocks, blocks);
    bump_locked(&header->payload_bytes,
                (uint64_t)head->key_size + (head->size & EXTENT_SIZE));
    /* Not the low halves alone: the counter may have gone round since. */
    if (load_relaxed(&header->generation) < head->generation)
        store_relaxed(&header->generation, head->generation);
}

/* In the order of addresses. False: two entries overlap. What they say of their sizes
 * is as it was. */
static bool
rebuild_extents(struct shard *shard, const struct start_map *starts)
{
    struct alloc_rebuild rebuild;

    alloc_rebuild_begin(&rebuild, shard);
    count_nothing(shard);
    for (uint32_t at = map_next(starts, 0); at < starts->blocks;
         at = map_next(starts, at + 1)) {
        uint32_t blocks = (uint32_t)extent_blocks(shard, at);

        if (!alloc_rebuild_entry(&rebuild, at, blocks))
            return false;
        count_entry(shard, entry_at(shard, at), blocks);
        STEP("recover.extent");
    }
    alloc_rebuild_end(&rebuild);
    return true;
}

/* ---- queues ---------------------------------------------------------- */

/* The order of each queue as far as its links are whole, oldest first. */
struct order {
    /* What the heads lead to, queue after queue; then room; then what leads to the
     * tails, the last queue first. */
    uint32_t *slots;
    size_t front[QUEUES];      /* where the queue's part at the front ends */
    size_t back[QUEUES];       /* where its part at the back begins */
    struct start_map *waiting; /* one bit a slot: in use and not yet in order */
};

/* Is it this slot's turn? One that was being put into a queue, or taken out of it, is
 * in none. */
static bool
take_turn(const struct shard *shard, struct order *order, uint32_t number,
          uint32_t slot)
{
    if (slot >= order->waiting->blocks || !map_test(order->waiting, slot) ||
        (queue_of(shard, slot) != number && queue_of(shard, slot) != 0))
        return false;
    map_set(order->waiting, slot, false);
    return true;
}

/* From the tail first: the links towards the older end lie close together, those
 * towards the younger end all over the heap. Where one is broken, as a dead writer
 * leaves it, the other way leads to the rest. */
static void
read_order(struct shard *shard, struct order *order, uint32_t number)
{
    const struct queue *queue = &shard->header->queues[number];
    size_t front = order->front[number - 1];
    size_t back = order->back[number - 1];
    uint32_t slot;

    for (slot = queue->tail; take_turn(shard, order, number, slot);
         slot = queue_previous(shard, slot))
        order->slots[--back] = slot;
    for (slot = queue->head; take_turn(shard, order, number, slot);
         slot = queue_next(shard, slot))
        order->slots[front++] = slot;
    assert(front <= back); /* there is room for every slot once */
    order->front[number] = front;
    order->back[number] = back;
}

static void
push(struct shard *shard, uint32_t number, uint32_t slot)
{
    queue_push_locked(shard, number, slot, slot_blocks(shard, slot));
}

static void
push_all(struct shard *shard, uint32_t number, const uint32_t *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i + 2 * SLOTS_AHEAD < count) {
            uint32_t slot = slots[i + 2 * SLOTS_AHEAD];

            __builtin_prefetch(slot_bucket(shard, slot), 1);
            __builtin_prefetch(&shard->links[slot / BUCKET_STRIDE], 1);
            prefetch_entry(shard, slot_offset(shard, slots[i + SLOTS_AHEAD]));
        }
        push(shard, number, slots[i]);
    }
}

/* Entries that no queue knows come last. */
static void
rebuild_queues(struct shard *shard, struct order *order)
{
    uint32_t fallback =
        shard->policy->bump == BUMP_CLOCK ? QUEUE_LRU_FIRST : QUEUE_MAIN;
    const struct start_map *waiting = order->waiting;

    for (uint32_t number = 1; number < QUEUES; number++)
        read_order(shard, order, number);
    queue_format_locked(shard);
    for (uint32_t number = 1; number < QUEUES; number++) {
        size_t front = order->front[number - 1];
        size_t back = order->back[number];

        push_all(shard, number, order->slots + front, order->front[number] - front);
        push_all(shard, number, order->slots + back, order->back[number - 1] - back);
    }
    for (uint32_t slot = map_next(waiting, 0); slot < waiting->blocks;
         slot = map_next(waiting, slot + 1))
        push(shard, fallback, slot);
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

/* Overflow buckets that no chain reaches are free. */
static void
rebuild_overflow(struct shard *shard, struct start_map *seen)
{
    struct shard_header *header = shard->header;
    uint32_t count = load_relaxed(&header->bucket_count);

    for (uint32_t number = 0; number < count; number++) {
        uint32_t at = number;
        int hops = 0;

        for (;;) {
            uint32_t next;

            skip_empty(shard, number, at);
            next = index_chain_next(shard, at);
            /* A link that leads nowhere now must not come to lead somewhere. */
            if (next == NO_BUCKET || map_test(seen, next) || ++hops >= CHAIN_MAX) {
                index_chain_to(shard, at, NO_BUCKET);
                break;
            }
            map_set(seen, next, true);
            if (next - shard->max_buckets >= header->overflow_used)
                header->overflow_used = next - shard->max_buckets + 1;
            at = next;
        }
    }
    header->overflow_free = NO_BUCKET;
    for (uint32_t number = 0; number < header->overflow_used; number++) {
        uint32_t free = shard->max_buckets + number;

        if (map_test(seen, free))
            continue;
        index_empty_bucket(shard, free);
        shard->links[free].next_free = header->overflow_free;
        header->overflow_free = free;
    }
}

static void
make_buckets_even(struct shard *shard)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);

    for (uint32_t number = 0; number < count; number++) {
        struct bucket *bucket = &shard->buckets[number];

        if (load_relaxed(&bucket->seq) & SEQ_ODD && !MUTANT("keep-odd"))
            index_write_end(bucket);
    }
}

/* ---- the whole ------------------------------------------------------- */

struct scratch {
    struct start_map starts; /* one bit a block */
    struct start_map seen;   /* one bit a slot or bucket */
    struct order order;
};

static bool
scratch_make(const struct shard *shard, struct scratch *scratch)
{
    uint32_t blocks = load_relaxed(&shard->header->limit_blocks);
    uint32_t slots = (shard->max_buckets + shard->max_overflow) * BUCKET_STRIDE;
    size_t capacity = ((size_t)load_relaxed(&shard->header->bucket_count) +
                       load_relaxed(&shard->header->overflow_limit)) *
                      BUCKET_STRIDE;

    scratch->starts = (struct start_map){
        .words = calloc((size_t)blocks / 64 + 1, sizeof(uint64_t)), .blocks = blocks};
    scratch->seen = (struct start_map){
        .words = calloc((size_t)slots / 64 + 1, sizeof(uint64_t)), .blocks = slots};
    scratch->order = (struct order){.slots = calloc(capacity, sizeof(uint32_t)),
                                    .back = {capacity},
                                    .waiting = &scratch->seen};
    return scratch->starts.words && scratch->seen.words && scratch->order.slots;
}

static void
scratch_free(struct scratch *scratch)
{
    free(scratch->starts.words);
    free(scratch->seen.words);
    free(scratch->order.slots);
}

static bool
rebuild(struct shard *shard, struct scratch *scratch)
{
    struct mending mending = {.starts = &scratch->starts, .waiting = &scratch->seen};

    rebuild_overflow(shard, &scratch->seen);
    map_clear(&scratch->seen);
    touch_heap(shard);
    visit_all(shard, mend_slot, &mending);
    STEP("recover.slots");
    if (!rebuild_extents(shard, mending.starts)) {
        mending.dropped += unmark_overlaps(shard, mending.starts);
        visit_all(shard, drop_unmarked, &mending);
        if (!rebuild_extents(shard, mending.starts))
            return false; /* somebody writes into the heap right now */
    }
    STEP("recover.extents");
    rebuild_queues(shard, &scratch->order);
    STEP("recover.queues");
    bump_locked(&shard->header->damaged, mending.dropped);
    return true;
}

void
shard_recover_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;
    struct scratch scratch;
    bool count_is_true;

    if (MUTANT("skip-recovery"))
        return;
    STEP("recover.begin");
    count_is_true = mend_geometry(shard);
    settle_intent(shard);
    index_change_all_begin(shard);
    lease_void_all_locked(shard);
    if (!scratch_make(shard, &scratch) || !count_is_true || !rebuild(shard, &scratch))
        shard_clear_locked(shard); /* a cache may forget; it may not lie */
    scratch_free(&scratch);
    make_buckets_even(shard);
    for (uint32_t i = 0; i < SHARD_VERSIONS && MUTANT("recovery-keeps-version"); i++)
        store_relaxed(&shard->versions[i], load_relaxed(&shard->versions[i]) - 2);
    index_change_all_end(shard);
    bump_locked(&header->epoch, 1);
    bump_locked(&header->recoveries, 1);
    STEP("recover.end");
}
