/*
 * S3-FIFO (Yang et al., SOSP 2023) with an adaptive small queue.
 *
 * New entries enter a small FIFO; those hit there go on to the main FIFO, the
 * rest leave at once. The main FIFO gives a second chance per hit, up to three.
 * Ghosts remember what left: a miss on a ghost of the small queue means that the
 * small queue was too short and makes it longer, a miss on a ghost of the main
 * queue makes it shorter; both enter the main queue.
 *
 * All amounts are blocks, so large entries weigh what they take. Ghosts are
 * fingerprints in sets of eight; their age is the amount that became ghosts
 * since, counted in units of 1/GHOST_TICKS of the capacity.
 */
#include "evict.h"
#include "hash.h"
#include "queue.h"

/* Hits in the small queue that an entry needs to go on. */
#define PROMOTE_HEAT 2u

#define SMALL_MIN_PERCENT 5u
#define SMALL_MAX_PERCENT 90u
#define ADAPT_FACTOR 4u

#define GHOST_TICKS 1024u
#define SMALL_GHOST_TICKS (GHOST_TICKS * 9 / 10)
#define MAIN_GHOST_TICKS (GHOST_TICKS / 2)

/* A place: fingerprint 15 | queue 1 | time 16. */
#define GHOST_MAIN 0x10000u
#define GHOST_TIME 0xffffu

static uint64_t
capacity(const struct shard *shard)
{
    return max_u64(load_relaxed(&shard->header->limit_blocks), 1);
}

static _Atomic uint8_t *
heat_of(const struct shard *shard, uint32_t slot)
{
    return &slot_bucket(shard, slot)->heat[slot % BUCKET_SLOTS];
}

/* ---- ghosts ---------------------------------------------------------- */

static uint32_t
ghost_now(const struct shard *shard, bool from_main)
{
    uint64_t blocks =
        from_main ? shard->header->main_ghost_clock : shard->header->small_ghost_clock;

    return (uint32_t)(blocks * GHOST_TICKS / capacity(shard)) & GHOST_TIME;
}

static uint32_t
ghost_age(const struct shard *shard, uint32_t place)
{
    return (ghost_now(shard, (place & GHOST_MAIN) != 0) - place) & GHOST_TIME;
}

static bool
ghost_is_live(const struct shard *shard, uint32_t place)
{
    uint32_t window = place & GHOST_MAIN ? MAIN_GHOST_TICKS : SMALL_GHOST_TICKS;

    return place != 0 && ghost_age(shard, place) <= window;
}

static struct ghost_set *
ghost_set_of(const struct shard *shard, uint64_t mixed)
{
    return &shard->ghosts[(uint32_t)mixed & (shard->header->ghost_sets - 1)];
}

static uint32_t
ghost_fingerprint(uint64_t mixed)
{
    uint32_t bits = (uint32_t)(mixed >> 49);

    return (bits ? bits : 1) << 17;
}

/* Find and take out the ghost of this hash; 0 when there is none. */
static uint32_t
ghost_take(struct shard *shard, uint64_t hash)
{
    uint64_t mixed = hash_word(hash);
    uint32_t fingerprint = ghost_fingerprint(mixed);
    struct ghost_set *set;

    if (shard->header->ghost_sets == 0)
        return 0;
    set = ghost_set_of(shard, mixed);
    for (uint32_t way = 0; way < GHOST_WAYS; way++) {
        uint32_t place = set->place[way];

        if (place >> 17 == fingerprint >> 17 && ghost_is_live(shard, place)) {
            set->place[way] = 0;
            return place;
        }
    }
    return 0;
}

static void
ghost_add(struct shard *shard, uint64_t hash, bool from_main)
{
    uint64_t mixed = hash_word(hash);
    uint32_t oldest = 0;
    uint32_t oldest_age = 0;
    struct ghost_set *set;

    if (shard->header->ghost_sets == 0)
        return;
    set = ghost_set_of(shard, mixed);
    for (uint32_t way = 0; way < GHOST_WAYS; way++) {
        uint32_t place = set->place[way];

        if (!ghost_is_live(shard, place)) {
            oldest = way;
            break;
        }
        if (ghost_age(shard, place) >= oldest_age) {
            oldest = way;
            oldest_age = ghost_age(shard, place);
        }
    }
    set->place[oldest] = ghost_fingerprint(mixed) | (from_main ? GHOST_MAIN : 0) |
                         ghost_now(shard, from_main);
}

/* ---- adaptation ------------------------------------------------------ */

/* How much each ghost queue holds, in blocks. */
static void
ghost_blocks(const struct shard *shard, uint64_t *small_out, uint64_t *main_out)
{
    const struct shard_header *header = shard->header;
    uint64_t whole = capacity(shard);

    *small_out = max_u64(1, min_u64(header->small_ghost_clock, whole * 9 / 10));
    *main_out = max_u64(1, min_u64(header->main_ghost_clock, whole / 2));
}

/* The target is kept as a share, in units of 1/SHARE_UNIT, because the capacity
 * grows while the pool fills. */
static uint64_t
small_target(const struct shard *shard)
{
    return shard->header->small_share * (capacity(shard) >> 4) / (SHARE_UNIT >> 4);
}

static void
adapt(struct shard *shard, bool was_main, uint32_t blocks)
{
    struct shard_header *header = shard->header;
    uint64_t step = ADAPT_FACTOR * (uint64_t)blocks * SHARE_UNIT / capacity(shard);
    uint64_t share = header->small_share;
    uint64_t small;
    uint64_t main;

    ghost_blocks(shard, &small, &main);
    if (was_main) {
        step = step * max_u64(small, main) / main;
        share = share > step ? share - step : 0;
    } else {
        share += step * max_u64(small, main) / small;
    }
    header->small_share = max_u64(SHARE_UNIT / 100 * SMALL_MIN_PERCENT,
                                  min_u64(share, SHARE_UNIT / 100 * SMALL_MAX_PERCENT));
}

/* ---- the policy ------------------------------------------------------ */

static void
s3fifo_admit(struct shard *shard, uint32_t slot, uint64_t hash, uint32_t blocks)
{
    uint32_t ghost = ghost_take(shard, hash);

    store_relaxed(heat_of(shard, slot), 0);
    if (ghost == 0) {
        queue_push_locked(shard, QUEUE_SMALL, slot, blocks);
        return;
    }
    adapt(shard, (ghost & GHOST_MAIN) != 0, blocks);
    queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
}

/* Make the head of a queue a candidate. */
static uint32_t
make_candidate(struct shard *shard, uint32_t slot, uint32_t blocks, bool from_main)
{
    _Atomic uint8_t *state = &slot_bucket(shard, slot)->state[slot % BUCKET_SLOTS];
    uint8_t kept = (uint8_t)(load_relaxed(state) & ~STATE_FROM_MAIN);

    queue_remove_locked(shard, slot, blocks);
    store_relaxed(heat_of(shard, slot), 0);
    store_relaxed(state, from_main ? (uint8_t)(kept | STATE_FROM_MAIN) : kept);
    queue_push_locked(shard, QUEUE_CANDIDATE, slot, blocks);
    return slot;
}

/* The next step of one queue: a candidate, or NO_SLOT when its head moved on. */
static uint32_t
step_small(struct shard *shard)
{
    uint32_t slot = shard->header->queues[QUEUE_SMALL].head;
    uint32_t blocks = slot_blocks(shard, slot);

    if (load_relaxed(heat_of(shard, slot)) < PROMOTE_HEAT)
        return make_candidate(shard, slot, blocks, false);
    queue_remove_locked(shard, slot, blocks);
    store_relaxed(heat_of(shard, slot), 0);
    queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
    return NO_SLOT;
}

static uint32_t
step_main(struct shard *shard)
{
    uint32_t slot = shard->header->queues[QUEUE_MAIN].head;
    uint32_t blocks = slot_blocks(shard, slot);
    uint8_t heat = load_relaxed(heat_of(shard, slot));

    if (heat == 0)
        return make_candidate(shard, slot, blocks, true);
    queue_remove_locked(shard, slot, blocks);
    store_relaxed(heat_of(shard, slot), (uint8_t)(min_u64(heat, HEAT_MAX) - 1));
    queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
    return NO_SLOT;
}

/* Every step evicts, promotes, or takes one unit of heat: it ends. */
static uint32_t
s3fifo_propose(struct shard *shard)
{
    const struct queue *small = &shard->header->queues[QUEUE_SMALL];
    const struct queue *main = &shard->header->queues[QUEUE_MAIN];
    uint64_t patience = 4 * ((uint64_t)small->entries + main->entries) + 1;
    uint32_t slot = NO_SLOT;

    while (slot == NO_SLOT && patience-- > 0 &&
           (small->head != NO_SLOT || main->head != NO_SLOT)) {
        bool from_small =
            main->head == NO_SLOT ||
            (small->head != NO_SLOT && small->blocks > small_target(shard));

        slot = from_small ? step_small(shard) : step_main(shard);
    }
    return slot;
}

static bool
s3fifo_pardon(struct shard *shard, uint32_t slot, uint32_t blocks)
{
    if (load_relaxed(heat_of(shard, slot)) == 0)
        return false;
    queue_remove_locked(shard, slot, blocks);
    store_relaxed(heat_of(shard, slot), 0);
    queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
    return true;
}

static void
s3fifo_evicted(struct shard *shard, uint32_t slot, uint64_t hash, uint32_t blocks)
{
    uint8_t state = load_relaxed(&slot_bucket(shard, slot)->state[slot % BUCKET_SLOTS]);
    bool from_main =
        (state & STATE_FROM_MAIN) != 0 || (state & STATE_QUEUE) == QUEUE_MAIN;

    if (from_main)
        shard->header->main_ghost_clock += blocks;
    else
        shard->header->small_ghost_clock += blocks;
    ghost_add(shard, hash, from_main);
}

const struct evict_policy evict_s3fifo = {
    .name = "s3fifo",
    .bump = BUMP_COUNT,
    .admit = s3fifo_admit,
    .propose = s3fifo_propose,
    .pardon = s3fifo_pardon,
    .evicted = s3fifo_evicted,
};
