/*
 * Room for a new entry in a shard that is full; see shard.h.
 *
 * Values are contiguous, and the entry that ought to go next is seldom beside
 * free space. Three things bring order and contiguity together:
 *   1. a hole that fits, from the bins;
 *   2. the candidate, among the next few in eviction order, whose going leaves
 *      the tightest hole that is large enough;
 *   3. while a floor of free space is kept, a window: a run of neighbours around
 *      a candidate or a large hole, where candidates are evicted and the others
 *      moved into holes elsewhere;
 *   4. else an eighth of the need is evicted in order, and it begins again.
 * What takes the place of many entries at once finds none of these: for it the
 * need is evicted in order, wherever that is, and then the cheapest window of a
 * long stretch is emptied. So no put evicts much more than its own size.
 * A move copies an entry into a hole no reader can reach, swings the slot's
 * offset under the sequence number, and frees the old place.
 */
#include <string.h>

#include "alloc.h"
#include "evict.h"
#include "expiry.h"
#include "fault.h"
#include "pool.h"
#include "queue.h"
#include "shard.h"

/* Candidates looked at: each costs a cache miss or two, which is less beside the
 * copying of a large entry. */
#define LOOK_AHEAD 48u
#define LOOK_AHEAD_SMALL 32u
#define SMALL_BLOCKS (4096u / BLOCK_BYTES)

/* Windows are looked for while this share of the heap is free, in permille. */
#define FLOOR_PERMILLE 15u
#define WINDOW_MEMBERS 64u
#define WINDOW_TRIES 3

/* How many are evicted in order to make a home for one that has to move. */
#define HOME_TRIES 4

/* Entries larger than this, or than so many others, take the place of many. */
#define LARGE_BLOCKS (128u * 1024u / BLOCK_BYTES)
#define LARGE_ENTRIES 32u

/* How many extents are looked at for their windows: so many, and one more for
 * each of so many blocks of theirs. */
#define SCAN_EXTENTS 256u
#define SCAN_BLOCKS_AN_EXTENT 16u

struct window {
    uint32_t start; /* blocks [start, end) */
    uint32_t end;
    uint32_t moved; /* blocks of entries that would have to be moved */
};

static uint32_t
slot_at(const struct shard *shard, uint32_t offset, uint64_t *hash_out)
{
    *hash_out = index_hash_at(shard, offset);
    return index_find_offset_locked(shard, *hash_out, offset);
}

static enum pmc_status
evict_slot(struct shard *shard, uint32_t slot, const struct write_request *request)
{
    uint32_t offset = slot_offset(shard, slot);
    enum pmc_cause cause = PMC_CAUSE_EVICTED;

    if (!index_slot_is_sound(shard, slot))
        return PMC_EDAMAGED;
    if (expiry_passed(entry_deadline(entry_at(shard, offset)), request->now_ms))
        cause = PMC_CAUSE_EXPIRED;
    STEP("room.evict");
    return shard_drop_locked(shard, slot, index_hash_at(shard, offset), cause,
                             request->victims);
}

/* ---- candidates ------------------------------------------------------ */

uint32_t
shard_victim_locked(struct shard *shard)
{
    for (;;) {
        uint32_t slot = queue_head(shard, QUEUE_CANDIDATE);

        if (slot == NO_SLOT)
            slot = shard->policy->propose(shard);
        if (slot == NO_SLOT || !index_slot_is_sound(shard, slot) ||
            !shard->policy->pardon(shard, slot, slot_blocks(shard, slot)))
            return slot;
    }
}

/* The candidate after this one, proposing another at the end. */
static uint32_t
next_candidate(struct shard *shard, uint32_t slot)
{
    for (;;) {
        uint32_t next = queue_next(shard, slot);

        if (next == NO_SLOT || queue_of(shard, next) != QUEUE_CANDIDATE)
            next = shard->policy->propose(shard);
        if (next == NO_SLOT || !index_slot_is_sound(shard, next) ||
            !shard->policy->pardon(shard, next, slot_blocks(shard, next)))
            return next;
    }
}

static uint32_t
look_ahead(uint32_t blocks)
{
    return blocks < SMALL_BLOCKS ? LOOK_AHEAD_SMALL : LOOK_AHEAD;
}

/* Evict the candidate that leaves the tightest hole of at least blocks.
 * PMC_DROPPED: none does. */
static enum pmc_status
evict_tightest(struct shard *shard, uint32_t blocks,
               const struct write_request *request)
{
    uint32_t best = NO_SLOT;
    uint32_t best_hole = UINT32_MAX;
    uint32_t slot = shard_victim_locked(shard);

    for (uint32_t seen = 0; slot != NO_SLOT && seen < look_ahead(blocks); seen++) {
        uint32_t start;
        uint32_t hole;

        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        hole = alloc_hole_left_by(shard, slot_offset(shard, slot),
                                  slot_blocks(shard, slot), &start);
        if (hole == 0)
            return PMC_EDAMAGED;
        if (hole >= blocks && hole < best_hole) {
            best = slot;
            best_hole = hole;
        }
        if (best_hole - blocks <= blocks / 64)
            break; /* as tight as it gets, and earliest in order */
        slot = next_candidate(shard, slot);
    }
    return best == NO_SLOT ? PMC_DROPPED : evict_slot(shard, best, request);
}

static enum pmc_status
evict_in_order(struct shard *shard, const struct write_request *request)
{
    uint32_t slot = shard_victim_locked(shard);

    if (slot != NO_SLOT)
        return evict_slot(shard, slot, request);
    /* Entries that no queue leads to? */
    return load_relaxed(&shard->header->entries) ? PMC_EDAMAGED : PMC_DROPPED;
}

/* ---- windows --------------------------------------------------------- */

/* What it costs to empty the extent at offset, in blocks to be moved; a hole
 * and a candidate cost nothing. NO_HOME: it cannot be emptied, since it is gone, or
 * (see cost_to_add()) has no hole to go to. */
#define NO_HOME UINT32_MAX
static uint32_t
cost_to_empty(const struct shard *shard, uint32_t offset, bool *damaged_out)
{
    uint64_t hash;
    uint32_t slot;

    if (!extent_is_entry(shard, offset))
        return extent_is_gone(shard, offset) ? NO_HOME : 0;
    slot = slot_at(shard, offset, &hash);
    if (slot == NO_SLOT) {
        *damaged_out = true;
        return 0;
    }
    return queue_of(shard, slot) == QUEUE_CANDIDATE
               ? 0
               : (uint32_t)extent_blocks(shard, offset);
}

/* The same for an extent that is to be added to a window. */
static uint32_t
cost_to_add(const struct shard *shard, uint32_t offset, const struct window *window,
            bool *damaged_out)
{
    uint32_t cost = cost_to_empty(shard, offset, damaged_out);

    if (cost > 0 && cost != NO_HOME &&
        !alloc_has_outside(shard, cost, window->start, window->end))
        return NO_HOME;
    return cost;
}

/* Grow a window around [offset, offset + blocks) towards the cheaper side until
 * it is large enough. False: it cannot be, or costs cost_limit or more. */
static bool
grow_window(const struct shard *shard, uint32_t offset, uint32_t blocks, uint32_t need,
            uint32_t cost_limit, struct window *window_out, bool *damaged_out)
{
    struct window window = {.start = offset, .end = offset + blocks};
    uint32_t last_blocks = blocks; /* of the extent that ends the window */

    for (uint32_t members = 1; window.end - window.start < need; members++) {
        uint32_t before = 0;
        uint32_t after = 0;
        bool has_before = alloc_before(shard, window.start, &before, damaged_out);
        bool has_after = alloc_after(shard, window.end - last_blocks, last_blocks,
                                     &after, damaged_out);
        uint32_t cost_before =
            has_before ? cost_to_add(shard, before, &window, damaged_out) : NO_HOME;
        uint32_t cost_after =
            has_after ? cost_to_add(shard, after, &window, damaged_out) : NO_HOME;

        if (*damaged_out || members > WINDOW_MEMBERS ||
            (cost_before == NO_HOME && cost_after == NO_HOME))
            return false;
        if (cost_before <= cost_after) {
            window.moved += cost_before;
            window.start = before;
        } else {
            window.moved += cost_after;
            last_blocks = (uint32_t)extent_blocks(shard, after);
            window.end = after + last_blocks;
        }
        if (window.moved >= cost_limit)
            return false;
    }
    *window_out = window;
    return true;
}

/* The cheapest window around the largest hole or one of the candidates. */
static enum pmc_status
find_window(struct shard *shard, uint32_t need, struct window *window_out)
{
    uint32_t hole = alloc_large_hole(shard);
    uint32_t slot = shard_victim_locked(shard);
    uint32_t least = need + 1; /* moving more than is stored is never worth it */
    bool found = false;
    bool damaged = false;

    if (hole != NO_OFFSET && grow_window(shard, hole, hole_at(shard, hole)->size, need,
                                         least, window_out, &damaged)) {
        least = window_out->moved;
        found = true;
    }
    for (uint32_t seen = 0; slot != NO_SLOT && least > 0 && seen < look_ahead(need);
         seen++) {
        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        if (grow_window(shard, slot_offset(shard, slot), slot_blocks(shard, slot), need,
                        least, window_out, &damaged)) {
            least = window_out->moved;
            found = true;
        }
        slot = next_candidate(shard, slot);
    }
    if (damaged)
        return PMC_EDAMAGED;
    return found ? PMC_OK : PMC_DROPPED;
}

/* Of all windows in a stretch of the heap that begins at the first candidate,
 * the cheapest: for entries that take the place of many others. */
static enum pmc_status
scan_windows(struct shard *shard, uint32_t need, struct window *window_out)
{
    uint32_t limit = shard_limit(shard);
    uint32_t patience = SCAN_EXTENTS + need / SCAN_BLOCKS_AN_EXTENT;
    uint32_t slot = shard_victim_locked(shard);
    uint32_t least = UINT32_MAX;
    uint32_t wraps = 0;
    struct window window = {0};
    bool damaged = false;

    if (slot != NO_SLOT) {
        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        window.start = window.end = slot_offset(shard, slot);
    }
    for (uint32_t seen = 0; seen < patience || least == UINT32_MAX; seen++) {
        uint64_t blocks;
        uint32_t cost;

        if (window.end == limit) {
            window = (struct window){0};
            if (++wraps > 1)
                return least == UINT32_MAX ? PMC_DROPPED : PMC_OK;
        }
        blocks = extent_blocks(shard, window.end);
        if (blocks == 0 || blocks > limit - window.end)
            return PMC_EDAMAGED;
        cost = cost_to_empty(shard, window.end, &damaged);
        window.end += (uint32_t)blocks;
        if (cost == NO_HOME)
            window = (struct window){.start = window.end, .end = window.end};
        else
            window.moved += cost;
        while (!damaged && window.end - window.start >= need) {
            if (window.moved < least) {
                *window_out = window;
                least = window.moved;
            }
            window.moved -= cost_to_empty(shard, window.start, &damaged);
            window.start += (uint32_t)extent_blocks(shard, window.start);
        }
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
    memcpy(entry_at(shard, new), entry_at(shard, old), (size_t)blocks * BLOCK_BYTES);
    entry_at(shard, new)->before_blocks = before;
    STEP("move.copied");
    index_move_locked(shard, hash, slot, new);
    bump_locked(&shard->header->moved_bytes, (uint64_t)blocks * BLOCK_BYTES);
    STEP("move.published");
    return alloc_free_locked(shard, old, blocks);
}

/* Make the extent at offset a hole: a candidate is evicted, another entry moved.
 * For one that finds no home some are evicted in order, and if that does not
 * help, it goes itself. */
static enum pmc_status
vacate(struct shard *shard, uint32_t offset, const struct window *window,
       const struct write_request *request)
{
    enum pmc_status status = PMC_OK;

    for (int turn = 0; status == PMC_OK && extent_is_entry(shard, offset); turn++) {
        uint64_t hash;
        uint32_t slot = slot_at(shard, offset, &hash);

        if (slot == NO_SLOT)
            return PMC_EDAMAGED;
        if (queue_of(shard, slot) == QUEUE_CANDIDATE || turn == HOME_TRIES)
            return evict_slot(shard, slot, request);
        status = move_entry(shard, slot, hash, window);
        if (status != PMC_DROPPED)
            return status;
        status = evict_in_order(shard, request);
    }
    return status;
}

static enum pmc_status
empty_window(struct shard *shard, const struct window *window,
             const struct write_request *request)
{
    uint32_t at = window->start;

    while (at < window->end) {
        /* Inside the window nothing is taken, so what is freed goes on saying
         * where the next one began. */
        uint32_t blocks = (uint32_t)extent_blocks(shard, at);
        enum pmc_status status = vacate(shard, at, window, request);

        if (status != PMC_OK)
            return status;
        at += blocks;
    }
    return PMC_OK;
}

/* ---- the whole ------------------------------------------------------- */

/* The blocks that have memory. */
static uint64_t
heap_blocks(const struct shard *shard)
{
    return load_relaxed(&shard->header->limit_blocks) -
           load_relaxed(&shard->header->away_blocks);
}

static uint64_t
floor_blocks(const struct shard *shard)
{
    return heap_blocks(shard) * FLOOR_PERMILLE / 1000;
}

/* Does an entry of this size take the place of many? */
static bool
is_large(const struct shard *shard, uint32_t blocks)
{
    const struct shard_header *header = shard->header;

    return blocks > LARGE_BLOCKS ||
           load_relaxed(&header->entries) * blocks >
               load_relaxed(&header->used_blocks) * LARGE_ENTRIES;
}

static enum pmc_status
evict_until_free(struct shard *shard, uint64_t wanted_blocks,
                 const struct write_request *request)
{
    enum pmc_status status = PMC_OK;

    while (status == PMC_OK && shard->header->free_blocks < wanted_blocks)
        status = evict_in_order(shard, request);
    return status;
}

/* Room in place of many entries: they go by their order, wherever they are, and
 * those of the cheapest window move into the holes. */
static enum pmc_status
make_large_room(struct shard *shard, uint32_t blocks,
                const struct write_request *request)
{
    uint64_t spare = min_u64(floor_blocks(shard), blocks / 2);
    struct window window;
    enum pmc_status status =
        evict_until_free(shard, min_u64(blocks + spare, heap_blocks(shard)), request);

    if (status == PMC_OK)
        status = scan_windows(shard, blocks, &window);
    return status == PMC_OK ? empty_window(shard, &window, request) : status;
}

/* One step towards a hole of this size. PMC_DROPPED: nothing is left to evict. */
static enum pmc_status
make_room(struct shard *shard, uint32_t blocks, int tries,
          const struct write_request *request)
{
    struct window window;
    enum pmc_status status;

    if (shard->header->free_blocks > shard_limit(shard))
        return PMC_EDAMAGED;
    if (tries == WINDOW_TRIES || is_large(shard, blocks))
        return make_large_room(shard, blocks, request);
    status = evict_tightest(shard, blocks, request);
    if (status != PMC_DROPPED)
        return status;
    if (shard->header->free_blocks >= floor_blocks(shard)) {
        status = find_window(shard, blocks, &window);
        if (status == PMC_OK)
            return empty_window(shard, &window, request);
        if (status != PMC_DROPPED)
            return status;
    }
    return evict_until_free(shard, shard->header->free_blocks + blocks / 8 + 1,
                            request);
}

/* Without a policy that evicts, only the dead make room. */
static enum pmc_status
drop_all_expired(struct shard *shard, const struct write_request *request)
{
    uint64_t buckets =
        min_u64(load_relaxed(&shard->header->bucket_count), shard->max_buckets) +
        min_u64(shard->header->overflow_used, shard->max_overflow);
    bool found = false;

    for (uint64_t turn = 0; turn < buckets; turn++) {
        uint32_t slot;

        while ((slot = expiry_sweep_locked(shard, request->now_ms)) != NO_SLOT) {
            enum pmc_status status = evict_slot(shard, slot, request);

            if (status != PMC_OK)
                return status;
            found = true;
        }
    }
    return found ? PMC_OK : PMC_DROPPED;
}

/* The largest entry for which room can be made. */
static uint32_t
widest_stretch(const struct shard *shard)
{
    return load_relaxed(&shard->header->away_blocks) ? alloc_widest_stretch(shard)
                                                     : shard_limit(shard);
}

enum pmc_status
shard_take_room_locked(struct shard *shard, uint32_t blocks,
                       const struct write_request *request, uint32_t *offset_out)
{
    bool evicts = shard->policy != &evict_none;
    int tries = 0;

    for (;;) {
        enum pmc_status status = alloc_take_locked(shard, blocks, offset_out);

        if (status != PMC_DROPPED)
            return status;
        if ((load_relaxed(&shard->header->limit_blocks) < shard->max_blocks ||
             load_relaxed(&shard->header->away_blocks) != 0) &&
            !request->no_growth && !pool_growth_refused(shard->pool))
            return SHARD_GROW_HEAP;
        /* The file system gave too little: evicting all would not help. */
        if (blocks > widest_stretch(shard))
            return evicts ? PMC_DROPPED : PMC_EFULL;
        shard->header->pressed_ms = request->now_ms;
        if (evicts)
            status = make_room(shard, blocks, tries++, request);
        else
            status = drop_all_expired(shard, request);
        /* An entry that is smaller than the heap has room at the latest when nothing
         * else is left: if not, the holes are not what they should be. */
        if (status == PMC_DROPPED)
            return evicts ? PMC_EDAMAGED : PMC_EFULL;
        if (status != PMC_OK)
            return status;
    }
}
