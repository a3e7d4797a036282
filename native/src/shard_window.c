/*
 * Windows: runs of neighbours that are made one hole. Candidates in them are
 * evicted, the others moved: a move copies an entry into a hole no reader can
 * reach, swings the slot's offset under the sequence number, and frees the old
 * place. See shard_room.c for when.
 */
#include "alloc.h"
#include "copy.h"
#include "evict.h"
#include "fault.h"
#include "queue.h"
#include "shard_room.h"

#define WINDOW_HOLES 16u
#define WINDOW_MEMBERS 64u

/* How many are evicted in order to make a home for one that has to move. */
#define HOME_TRIES 4

/* How many extents are looked at for their windows: so many, and one more for
 * each of so many blocks of theirs. */
#define SCAN_EXTENTS 256u
#define SCAN_BLOCKS_AN_EXTENT 16u

/* What is larger than this seldom finds a home, and then leaves a dip: a block of it
 * costs as much as so many. */
#define HOMELESS_BLOCKS (128u * 1024u / BLOCK_BYTES)
#define HOMELESS_PRICE 16u

/* The slot of the entry at offset; NO_SLOT when the index knows none. */
static uint32_t
slot_at(const struct shard *shard, uint32_t offset, uint64_t *hash_out)
{
    *hash_out = index_hash_at(shard, offset);
    return index_find_offset_locked(shard, *hash_out, offset);
}

/* What it costs to empty the extent at offset: a hole nothing, a candidate its
 * eviction, another entry its move. What is gone cannot be emptied. */
static uint64_t
cost_to_empty(const struct shard *shard, const struct room *room, uint32_t offset,
              bool *damaged_out)
{
    uint32_t blocks = (uint32_t)extent_blocks(shard, offset);
    uint64_t hash;
    uint32_t slot;

    if (!extent_is_entry(shard, offset))
        return extent_is_gone(shard, offset) ? WINDOW_FORBIDDEN : 0;
    slot = slot_at(shard, offset, &hash);
    if (slot == NO_SLOT) {
        *damaged_out = true;
        return 0;
    }
    if (queue_of(shard, slot) != QUEUE_CANDIDATE)
        return (uint64_t)room->move_price * blocks;
    return room_may_go(shard, room, blocks) ? (uint64_t)room->evict_price * blocks
                                            : WINDOW_FORBIDDEN;
}

/* The same for an extent that is to be added to a window; WINDOW_FORBIDDEN when there
 * is no hole to move its entry to. */
static uint64_t
cost_to_add(const struct shard *shard, const struct room *room, uint32_t offset,
            const struct window *window, bool *damaged_out)
{
    uint32_t blocks = (uint32_t)extent_blocks(shard, offset);
    uint64_t cost = cost_to_empty(shard, room, offset, damaged_out);

    if (cost > (uint64_t)room->evict_price * blocks && cost < WINDOW_FORBIDDEN &&
        !alloc_has_outside(shard, blocks, window->start, window->end))
        return WINDOW_FORBIDDEN;
    return cost;
}

/* Grow a window around the extent at offset towards the cheaper side until it is
 * large enough. False: it cannot be, or does not cost less than *window_out. */
static bool
grow_window(const struct shard *shard, const struct room *room, uint32_t offset,
            struct window *window_out, bool *damaged_out)
{
    uint32_t last_blocks = (uint32_t)extent_blocks(shard, offset); /* of its end */
    struct window window = {
        .start = offset,
        .end = offset + last_blocks,
        .cost = cost_to_empty(shard, room, offset, damaged_out),
    };

    for (uint32_t members = 1; window.end - window.start < room->blocks; members++) {
        uint32_t before = 0;
        uint32_t after = 0;
        uint64_t cost_before = WINDOW_FORBIDDEN;
        uint64_t cost_after = WINDOW_FORBIDDEN;

        if (*damaged_out || members > WINDOW_MEMBERS || window.cost >= window_out->cost)
            return false;
        if (alloc_before(shard, window.start, &before, damaged_out))
            cost_before = cost_to_add(shard, room, before, &window, damaged_out);
        if (alloc_after(shard, window.end - last_blocks, last_blocks, &after,
                        damaged_out))
            cost_after = cost_to_add(shard, room, after, &window, damaged_out);
        if (cost_before <= cost_after) {
            window.start = before;
        } else {
            last_blocks = (uint32_t)extent_blocks(shard, after);
            window.end = after + last_blocks;
        }
        window.cost += min_u64(cost_before, cost_after);
    }
    if (*damaged_out || window.cost >= window_out->cost)
        return false;
    *window_out = window;
    return true;
}

enum pmc_status
window_find(struct shard *shard, const struct room *room, uint64_t cost_limit,
            struct window *window_out)
{
    uint32_t hole = alloc_large_hole(shard);
    uint32_t slot = shard_victim_locked(shard);
    bool found = false;
    bool damaged = false;

    window_out->cost = cost_limit;
    for (uint32_t seen = 0; hole != NO_OFFSET && seen < WINDOW_HOLES; seen++) {
        found |= grow_window(shard, room, hole, window_out, &damaged);
        hole = alloc_next_hole(shard, hole);
    }
    for (uint32_t seen = 0; slot != NO_SLOT && seen < room_look_ahead(room->blocks);
         seen++) {
        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        found |=
            grow_window(shard, room, slot_offset(shard, slot), window_out, &damaged);
        slot = room_next_candidate(shard, slot);
    }
    if (damaged)
        return PMC_EDAMAGED;
    return found ? PMC_OK : PMC_DROPPED;
}

/* Add the extent at offset to a window that is not grown but scanned, where homes are not
 * looked for: what may not simply go has to move. Or take it out again. */
static void
scan_extent(const struct shard *shard, const struct room *room, uint32_t offset,
            bool enters, struct window *window, bool *damaged_out)
{
    uint32_t blocks = (uint32_t)extent_blocks(shard, offset);
    uint64_t cost = 0;
    uint32_t going = 0;

    if (cost_to_empty(shard, room, offset, damaged_out) != 0)
        cost = (uint64_t)blocks * room->move_price *
               (blocks > HOMELESS_BLOCKS ? HOMELESS_PRICE : 1);
    else if (extent_is_entry(shard, offset))
        going = blocks;
    window->cost = enters ? window->cost + cost : window->cost - cost;
    window->going = enters ? window->going + going : window->going - going;
}

/* What emptying a scanned window costs. Candidates that may go each, but leave too deep a
 * dip together, count as homeless. */
static uint64_t
cost_of_scanned(const struct shard *shard, const struct room *room,
                const struct window *window)
{
    if (room_may_go(shard, room, window->going))
        return window->cost;
    return window->cost + (uint64_t)window->going * room->move_price * HOMELESS_PRICE;
}

/* As long as the window is large enough: keep it if none was cheaper, and let its first
 * extent go. Of two that cost the same, the one without a hole at its start is kept,
 * which is a home for what is in it. */
static void
shorten_scanned(const struct shard *shard, const struct room *room,
                struct window *window, struct window *cheapest, bool *damaged_out)
{
    while (!*damaged_out && window->end - window->start >= room->blocks) {
        uint64_t cost = cost_of_scanned(shard, room, window);

        if (cost <= cheapest->cost) {
            *cheapest = *window;
            cheapest->cost = cost;
        }
        scan_extent(shard, room, window->start, false, window, damaged_out);
        window->start += (uint32_t)extent_blocks(shard, window->start);
    }
}

enum pmc_status
window_scan(struct shard *shard, const struct room *room, struct window *window_out)
{
    uint32_t limit = shard_limit(shard);
    uint32_t patience = SCAN_EXTENTS + room->blocks / SCAN_BLOCKS_AN_EXTENT;
    uint32_t slot = shard_victim_locked(shard);
    uint32_t wraps = 0;
    struct window window = {0};
    bool damaged = false;

    window_out->cost = UINT64_MAX;
    if (slot != NO_SLOT) {
        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        window.start = window.end = slot_offset(shard, slot);
    }
    for (uint32_t seen = 0; seen < patience || window_out->cost == UINT64_MAX; seen++) {
        uint64_t blocks;

        if (window.end == limit) {
            window = (struct window){0};
            if (++wraps > 1)
                return window_out->cost == UINT64_MAX ? PMC_DROPPED : PMC_OK;
        }
        blocks = extent_blocks(shard, window.end);
        if (blocks == 0 || blocks > limit - window.end)
            return PMC_EDAMAGED;
        if (extent_is_gone(shard, window.end)) {
            window.end += (uint32_t)blocks;
            window = (struct window){.start = window.end, .end = window.end};
            continue;
        }
        scan_extent(shard, room, window.end, true, &window, &damaged);
        window.end += (uint32_t)blocks;
        shorten_scanned(shard, room, &window, window_out, &damaged);
        if (damaged)
            return PMC_EDAMAGED;
    }
    return PMC_OK;
}

/* Move the entry in slot out of the window. PMC_DROPPED: no hole elsewhere. */
static enum pmc_status
move_entry(struct shard *shard, uint32_t slot, uint64_t hash,
           const struct window *window)
{
    uint32_t old = slot_offset(shard, slot);
    uint32_t blocks = slot_blocks(shard, slot);
    uint32_t before;
    uint32_t new;
    enum pmc_status status =
        alloc_take_outside_locked(shard, blocks, window->start, window->end, &new);

    if (status != PMC_OK)
        return status;
    if (MUTANT("move-before-copy"))
        index_move_locked(shard, hash, slot, new);
    before = entry_at(shard, new)->before_blocks;
    copy_to_heap(entry_at(shard, new), entry_at(shard, old),
                 (size_t)blocks * BLOCK_BYTES);
    entry_at(shard, new)->before_blocks = before;
    STEP("move.copied");
    index_move_locked(shard, hash, slot, new);
    bump_locked(&shard->header->moved_bytes, (uint64_t)blocks * BLOCK_BYTES);
    STEP("move.published");
    return alloc_free_locked(shard, old, blocks);
}

/* Evict what leaves a hole of this size outside of the window; else the next in
 * order. */
static enum pmc_status
evict_for_home(struct shard *shard, uint32_t blocks, const struct window *window,
               const struct room *room)
{
    uint32_t slot = shard_victim_locked(shard);

    for (uint32_t seen = 0; slot != NO_SLOT && seen < room_look_ahead(blocks); seen++) {
        uint32_t start;
        uint32_t hole;

        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        hole = alloc_hole_left_by(shard, slot_offset(shard, slot),
                                  slot_blocks(shard, slot), &start);
        if (hole >= blocks && hole <= 2 * blocks &&
            (start >= window->end || start + hole <= window->start))
            return room_evict_candidate(shard, slot, false, room);
        slot = room_next_candidate(shard, slot);
    }
    return room_evict_in_order(shard, room);
}

/* Make the extent at offset a hole: a candidate is evicted, another entry moved.
 * For one that finds no home some are evicted in order, while not too much is free,
 * and if that does not help, it goes itself. */
static enum pmc_status
vacate(struct shard *shard, uint32_t offset, const struct window *window,
       const struct room *room)
{
    enum pmc_status status = PMC_OK;

    for (int turn = 0; status == PMC_OK && extent_is_entry(shard, offset); turn++) {
        uint64_t hash;
        uint32_t slot = slot_at(shard, offset, &hash);

        if (slot == NO_SLOT)
            return PMC_EDAMAGED;
        if (turn == HOME_TRIES ||
            (turn > 0 && shard->header->free_blocks >= room->home_most) ||
            (queue_of(shard, slot) == QUEUE_CANDIDATE &&
             room_may_go(shard, room, slot_blocks(shard, slot))))
            return room_evict_slot(shard, slot, room->request);
        status = move_entry(shard, slot, hash, window);
        if (status != PMC_DROPPED)
            return status;
        status = room->homes_in_order
                     ? room_evict_in_order(shard, room)
                     : evict_for_home(shard, slot_blocks(shard, slot), window, room);
    }
    return status;
}

enum pmc_status
window_empty(struct shard *shard, const struct window *window, const struct room *room)
{
    struct window needed = *window;
    uint32_t at = window->start;

    /* What is not needed of a hole at its start is a home for what is in it. */
    if (extent_is_hole(shard, at)) {
        at += (uint32_t)extent_blocks(shard, at);
        needed.start = (uint32_t)min_u64(at, window->end - room->blocks);
    }
    while (at < window->end) {
        /* Inside the window nothing is taken, so what is freed goes on saying
         * where the next one began. */
        uint32_t blocks = (uint32_t)extent_blocks(shard, at);
        enum pmc_status status = vacate(shard, at, &needed, room);

        if (status != PMC_OK)
            return status;
        at += blocks;
    }
    return PMC_OK;
}
