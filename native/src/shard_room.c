/*
 * Room for a new entry in a shard that is full; see shard.h. Which entries go is
 * decided here, windows are found and emptied in shard_window.c.
 *
 * Values are contiguous, and the entry that ought to go next is seldom beside
 * free space. Three things bring order and contiguity together:
 *   1. a hole that fits, from the bins;
 *   2. the candidate, among the next few in eviction order, whose going leaves
 *      the tightest hole that is large enough;
 *   3. when more is free than a floor, a window if it costs less: a run of
 *      neighbours around a hole or a candidate, where candidates are evicted
 *      and the others moved into holes elsewhere. The more is free, the more an
 *      eviction costs, so that what is free comes back to the floor;
 *   4. else an eighth of the need is evicted in order, and it begins again.
 * What takes the place of many entries at once and finds no candidate of its
 * size: the need is evicted in order, wherever that is, and then the cheapest
 * window of a long stretch is emptied. So no put evicts much more than its own
 * size; and a candidate that is much larger than what is to be stored waits for
 * a put of its own kind, or until its turn is long past. When such a put finds none
 * that waits, one of its kind goes ahead of its turn, so that they have no more of the
 * shard than is theirs. What may go is decided by what is free at that moment: several
 * victims leave no deeper dip than one.
 */
#include "shard_room.h"

#include "alloc.h"
#include "evict.h"
#include "expiry.h"
#include "fault.h"
#include "pool.h"
#include "queue.h"

/* Candidates looked at: each costs a cache miss or two, which is less beside the
 * copying of a large entry. */
#define LOOK_AHEAD 48u
#define LOOK_AHEAD_SMALL 32u
#define SMALL_BLOCKS (4096u / BLOCK_BYTES)

/* What is kept free, in permille of the heap. Small entries lose less to holes
 * than looking for windows takes. */
#define FLOOR_PERMILLE 5u
#define FLOOR_PERMILLE_SMALL 25u

/* What evicting and moving a block cost beside each other. Evicting is free at the
 * floor, and dearer by EVICT_PRICE for each floor that is free above it. */
#define EVICT_PRICE 4u
#define EVICT_PRICE_MAX 16u
#define MOVE_PRICE 8u

/* When more than one byte was moved for so many written, nothing is moved that the
 * eviction of a candidate would spare. */
#define WRITTEN_A_MOVED 9u

/* A victim that is larger than the need leaves a dip in what the pool holds, until
 * other values have filled it. No more than this share of the pool, in permille, is
 * free on account of one, but when so many times its size went before it, or when those
 * that wait take more than a part of the shard. */
#define DIP_PERMILLE 42u
#define DIP_PART 8u /* a victim smaller than this part of a dip makes none */
#define PATIENCE 16u
/* For an entry that finds no home others are evicted until so much of the shard, in
 * permille, is free: with more, more is lost than it is worth. */
#define HOME_PERMILLE 160u
#define WAITING_PART 2u

#define WINDOW_NEEDS 4u /* how many times its need a window may evict */
#define WINDOW_TRIES 3

/* Entries larger than this, or than so many others, take the place of many. */
#define LARGE_BLOCKS (128u * 1024u / BLOCK_BYTES)
#define LARGE_ENTRIES 32u

enum pmc_status
room_evict_slot(struct shard *shard, uint32_t slot, const struct write_request *request)
{
    uint32_t offset = slot_offset(shard, slot);
    enum pmc_cause cause = PMC_CAUSE_EVICTED;
    uint64_t hash;

    if (!index_slot_is_sound(shard, slot))
        return PMC_EDAMAGED;
    if (expiry_passed(entry_deadline(entry_at(shard, offset)), request->now_ms))
        cause = PMC_CAUSE_EXPIRED;
    hash = index_hash_at(shard, offset);
    STEP("room.evict");
    return shard_drop_locked(shard, slot, hash, cause, request->victims);
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

uint32_t
room_next_candidate(struct shard *shard, uint32_t slot)
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

uint32_t
room_look_ahead(uint32_t blocks)
{
    return blocks < SMALL_BLOCKS ? LOOK_AHEAD_SMALL : LOOK_AHEAD;
}

static bool
leaves_no_dip(const struct shard *shard, const struct room *room, uint32_t blocks)
{
    return blocks <= room->small_most ||
           shard->header->free_blocks + blocks <= room->free_most;
}

bool
room_may_go(const struct shard *shard, const struct room *room, uint32_t blocks)
{
    return leaves_no_dip(shard, room, blocks) ||
           shard->header->passed_blocks / PATIENCE >= blocks;
}

enum pmc_status
room_evict_candidate(struct shard *shard, uint32_t slot, bool passes,
                     const struct room *room)
{
    uint32_t passed = passes ? shard->header->passed_blocks : 0;
    uint32_t blocks = passes ? slot_blocks(shard, slot) : 0;

    shard->header->passed_blocks =
        (uint32_t)min_u64((uint64_t)passed + blocks, UINT32_MAX);
    return room_evict_slot(shard, slot, room->request);
}

/* How much longer than the need a hole may be that is not improved upon. Among small
 * values they have to fit exactly: what they leave is of no use to their like. */
static uint32_t
slack_for(const struct shard *shard, uint32_t blocks)
{
    const struct shard_header *header = shard->header;
    bool among_small = load_relaxed(&header->used_blocks) <
                       load_relaxed(&header->entries) * SMALL_BLOCKS;

    return among_small ? 0 : blocks / 64;
}

/* The candidate that leaves the tightest hole for the room, and whether the first
 * one in order is too large to go. NO_SLOT: none leaves one. */
static enum pmc_status
find_tightest(struct shard *shard, const struct room *room, uint32_t *slot_out,
              bool *passes_out)
{
    uint32_t best_hole = UINT32_MAX;
    uint32_t slot = shard_victim_locked(shard);
    uint32_t first_waiting = NO_SLOT;
    uint64_t waiting_blocks = 0;

    *slot_out = NO_SLOT;
    *passes_out = false;
    for (uint32_t seen = 0; slot != NO_SLOT && seen < room_look_ahead(room->blocks);
         seen++) {
        uint32_t blocks = slot_blocks(shard, slot);
        uint32_t start;
        uint32_t hole;

        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        hole = alloc_hole_left_by(shard, slot_offset(shard, slot), blocks, &start);
        if (hole == 0)
            return PMC_EDAMAGED;
        if (!room_may_go(shard, room, blocks)) {
            *passes_out = *passes_out || seen == 0;
            waiting_blocks += blocks;
            if (first_waiting == NO_SLOT && hole >= room->blocks)
                first_waiting = slot;
        } else if (hole >= room->blocks && hole < best_hole) {
            *slot_out = slot;
            best_hole = hole;
        }
        if (best_hole - room->blocks <= slack_for(shard, room->blocks))
            break; /* as tight as it gets, and earliest in order */
        if (seen == 0 && *slot_out == slot && !leaves_no_dip(shard, room, blocks))
            break; /* it has waited long enough */
        slot = room_next_candidate(shard, slot);
    }
    if (waiting_blocks > shard_memory_blocks(shard) / WAITING_PART &&
        first_waiting != NO_SLOT) {
        *slot_out = first_waiting;
        *passes_out = false;
    }
    return PMC_OK;
}

enum pmc_status
room_evict_in_order(struct shard *shard, const struct room *room)
{
    uint32_t first = shard_victim_locked(shard);
    uint32_t least = first;

    for (uint32_t slot = first, seen = 0; slot != NO_SLOT && seen < LOOK_AHEAD;
         seen++) {
        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        if (room_may_go(shard, room, slot_blocks(shard, slot)))
            return room_evict_candidate(shard, slot, slot != first, room);
        if (slot_blocks(shard, slot) < slot_blocks(shard, least))
            least = slot;
        slot = room_next_candidate(shard, slot);
    }
    if (least != NO_SLOT)
        return room_evict_candidate(shard, least, least != first, room);
    /* Entries that no queue leads to? */
    return load_relaxed(&shard->header->entries) ? PMC_EDAMAGED : PMC_DROPPED;
}

/* ---- the whole ------------------------------------------------------- */

static uint64_t
floor_blocks(const struct shard *shard, uint32_t blocks)
{
    return shard_memory_blocks(shard) *
           (blocks < SMALL_BLOCKS ? FLOOR_PERMILLE_SMALL : FLOOR_PERMILLE) / 1000;
}

static uint64_t
dip_blocks(const struct shard *shard)
{
    return shard_memory_blocks(shard) * shard->pool->header->identity.shards *
           DIP_PERMILLE / 1000;
}

static struct room
room_for(const struct shard *shard, uint32_t blocks,
         const struct write_request *request)
{
    const struct shard_header *header = shard->header;
    uint64_t floor = floor_blocks(shard, blocks) + 1;
    uint64_t excess =
        header->free_blocks - min_u64(header->free_blocks, floor + blocks);
    uint64_t dip = dip_blocks(shard);
    bool moved_enough = load_relaxed(&header->moved_bytes) * WRITTEN_A_MOVED >
                        load_relaxed(&header->written_bytes);

    return (struct room){
        .blocks = blocks,
        .evict_price = (uint32_t)min_u64(EVICT_PRICE * excess / floor, EVICT_PRICE_MAX),
        .move_price = moved_enough ? (uint32_t)(WINDOW_FORBIDDEN >> 31) : MOVE_PRICE,
        .small_most = dip / DIP_PART,
        .free_most = blocks + dip,
        .home_most = blocks + shard_memory_blocks(shard) * HOME_PERMILLE / 1000,
        .request = request,
    };
}

static enum pmc_status
evict_until_free(struct shard *shard, uint64_t wanted_blocks, const struct room *room)
{
    enum pmc_status status = PMC_OK;

    while (status == PMC_OK && shard->header->free_blocks < wanted_blocks)
        status = room_evict_in_order(shard, room);
    return status;
}

/* Room in place of many entries: they go by their order, wherever they are, and
 * those of the cheapest window move into the holes. */
static enum pmc_status
make_large_room(struct shard *shard, struct room room)
{
    uint64_t spare = min_u64(floor_blocks(shard, room.blocks), room.blocks / 2);
    uint64_t wanted = min_u64(room.blocks + spare, shard_memory_blocks(shard));
    struct window window;
    enum pmc_status status = evict_until_free(shard, wanted, &room);

    if (status != PMC_OK)
        return status;
    room.evict_price = 0;
    room.homes_in_order = true;
    status = window_scan(shard, &room, &window);
    return status == PMC_OK ? window_empty(shard, &window, &room) : status;
}

static bool
one_waits(const struct shard *shard, const struct room *room)
{
    uint32_t slot = queue_head(shard, QUEUE_CANDIDATE);

    for (uint32_t seen = 0; slot != NO_SLOT && seen < LOOK_AHEAD; seen++) {
        if (slot_blocks(shard, slot) > room->small_most)
            return true;
        slot = queue_next(shard, slot);
    }
    return false;
}

/* Room in place of many when no candidate is of its size. If none waits for such a put,
 * one of its kind goes early: as others stay longer than their turn, such entries would
 * else have more of the shard than is theirs, and small ones less. */
static enum pmc_status
take_place_of_many(struct shard *shard, const struct room *room)
{
    uint32_t slot = NO_SLOT;
    uint32_t hole = 0;
    uint32_t start;

    if (room->blocks > room->small_most && !one_waits(shard, room))
        slot = shard->policy->propose_early(shard, (uint32_t)room->small_most + 1);
    if (slot != NO_SLOT && room_may_go(shard, room, slot_blocks(shard, slot))) {
        enum pmc_status status;

        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        hole = alloc_hole_left_by(shard, slot_offset(shard, slot),
                                  slot_blocks(shard, slot), &start);
        status = room_evict_candidate(shard, slot, false, room);
        if (status != PMC_OK)
            return status;
    }
    return hole >= room->blocks ? PMC_OK : make_large_room(shard, *room);
}

/* A window that costs less than evicting the candidate in slot does, or, with
 * NO_SLOT, than moving as much as is to be stored and evicting it several times. */
static enum pmc_status
use_window(struct shard *shard, const struct room *room, uint32_t slot)
{
    uint64_t limit =
        (uint64_t)room->blocks * (WINDOW_NEEDS * room->evict_price + room->move_price);
    struct window window;
    enum pmc_status status;

    if (slot != NO_SLOT)
        limit = (uint64_t)slot_blocks(shard, slot) * room->evict_price;
    if (limit == 0 || shard->header->free_blocks < floor_blocks(shard, room->blocks))
        return PMC_DROPPED;
    status = window_find(shard, room, limit, &window);
    return status == PMC_OK ? window_empty(shard, &window, room) : status;
}

/* One step towards a hole of this size. PMC_DROPPED: nothing is left to evict. */
static enum pmc_status
make_room(struct shard *shard, uint32_t blocks, int tries,
          const struct write_request *request)
{
    struct room room = room_for(shard, blocks, request);
    enum pmc_status status;
    uint32_t slot;
    bool passes;

    if (shard->header->free_blocks > shard_limit(shard))
        return PMC_EDAMAGED;
    if (tries == WINDOW_TRIES)
        return make_large_room(shard, room);
    status = find_tightest(shard, &room, &slot, &passes);
    if (status == PMC_OK && !is_large(shard, blocks))
        status = use_window(shard, &room, slot);
    else if (status == PMC_OK)
        status = slot == NO_SLOT ? take_place_of_many(shard, &room) : PMC_DROPPED;
    if (status != PMC_DROPPED)
        return status;
    if (slot != NO_SLOT)
        return room_evict_candidate(shard, slot, passes, &room);
    return evict_until_free(shard, shard->header->free_blocks + blocks / 8 + 1, &room);
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
            enum pmc_status status = room_evict_slot(shard, slot, request);

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

/* ---- taking room ------------------------------------------------------ */

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
