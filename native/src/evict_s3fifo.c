/*
 * S3-FIFO (Yang et al., SOSP 2023) with an adaptive small queue.
 *
 * New entries enter a small FIFO; those hit there go on to the main FIFO, the
 * rest leave at once. The main FIFO gives a second chance per hit, up to three.
 * Ghosts remember what left: a miss on a ghost of the small queue means that the
 * small queue was too short and makes it longer, a miss on a ghost of the main
 * queue makes it shorter; both enter the main queue.
 *
 * All amounts are blocks, so large entries weigh what they take. Where sizes differ,
 * an entry is measured by the mean one of its shard, in three places:
 *   - one that is much smaller goes on from the small queue after one hit, as it
 *     costs little to keep;
 *   - one that is much larger gets one second chance in the main queue, not three;
 *   - the ghost of a larger one makes the small queue longer only if a queue of a
 *     bearable length would still have held the entry: a scan through large entries
 *     comes back to ghosts that lie too deep for any queue to help.
 * Where all sizes are the same, none of these differs from the policy without them.
 *
 * A ghost is one word: fingerprint, queue, size and the tick in which it became
 * one. Per queue, the live ghosts' blocks are added up by ticks, about
 * GHOST_TICKS of them in the length that the queue may have; when the sum
 * exceeds that length, the oldest tick dies. This is a FIFO, to one tick,
 * without links, and its length is known although most of its places are not.
 */
#include "evict.h"
#include "hash.h"
#include "queue.h"

/* Hits in the small queue that an entry needs to go on. */
#define PROMOTE_HEAT 2u
#define PROMOTE_HEAT_LITTLE 1u

/* An entry is much smaller or much larger than the mean by this factor. */
#define MUCH 4u

#define SMALL_MIN_PERCENT 5u
#define SMALL_MAX_PERCENT 60u
#define ADAPT_FACTOR 4u
/* A small queue that takes more than this is no help to entries larger than most. */
#define REACH_PERCENT 30u

/* What goes ahead of its turn is found in so much of its queue, and with a look for each
 * of so many blocks that it has at least: the search takes less time than storing them. */
#define EARLY_PERCENT 75u
#define EARLY_BLOCKS_A_LOOK 16u

#define GHOST_TICKS 48u
#define SMALL_GHOSTS_PERCENT 90u
#define MAIN_GHOSTS_PERCENT 50u

/* Ticks are told apart modulo 256, five lengths of the queue: by then the sets have
 * been swept, if they are not very many more than the ghosts. One is swept for each
 * new ghost, and for large ones, of which there are fewer a length, some more. */
#define SWEEP_BLOCKS 128u
#define MORE_SWEEPS_MOST 3u

/* A place: fingerprint 15 | was in main 1 | tick 8 | size 8. */
#define PLACE_FINGERPRINT 0xfffe0000u
#define PLACE_MAIN 0x00010000u
#define PLACE_TICK_SHIFT 8
static_assert(GHOST_TICKS_KEPT < 256, "a tick has eight bits");

static uint64_t
capacity(const struct shard *shard)
{
    return max_u64(load_relaxed(&shard->header->limit_blocks) -
                       load_relaxed(&shard->header->away_blocks),
                   1);
}

/* Is an entry larger than so many times the mean one? */
static bool
is_larger_than(const struct shard *shard, uint64_t blocks, uint32_t times)
{
    const struct shard_header *header = shard->header;

    return blocks * load_relaxed(&header->entries) >
           load_relaxed(&header->used_blocks) * times;
}

static bool
is_much_smaller(const struct shard *shard, uint64_t blocks)
{
    const struct shard_header *header = shard->header;

    return blocks * load_relaxed(&header->entries) * MUCH <
           load_relaxed(&header->used_blocks);
}

static _Atomic uint8_t *
heat_of(const struct shard *shard, uint32_t slot)
{
    return slot_heat(shard, slot);
}

/* ---- the lengths of the ghost queues ---------------------------------- */

/* A size in eight bits, to a sixteenth: four significant bits. */
static uint32_t
size_code(uint32_t blocks)
{
    uint32_t log;

    if (blocks < 16)
        return blocks;
    log = 31u - (uint32_t)__builtin_clz(blocks);
    return (log - 2) * 8 + (blocks >> (log - 3) & 7);
}

static uint32_t
size_decoded(uint32_t code)
{
    if (code < 16)
        return code;
    return (8 | code % 8) << (code / 8 - 1);
}

static struct ghost_queue *
ghost_queue_of(const struct shard *shard, bool from_main)
{
    return &shard->header->ghost_queues[from_main];
}

/* How many ticks but the last are alive. */
static uint32_t
ticks_alive(const struct ghost_queue *ghosts)
{
    uint32_t ticks = ghosts->now - ghosts->oldest;

    return ticks < GHOST_TICKS_KEPT ? ticks : 0;
}

static uint32_t *
tick_blocks(struct ghost_queue *ghosts, uint32_t tick)
{
    return &ghosts->tick_blocks[tick % GHOST_TICKS_KEPT];
}

static void
forget_oldest_tick(struct ghost_queue *ghosts)
{
    ghosts->blocks -= min_u64(*tick_blocks(ghosts, ghosts->oldest), ghosts->blocks);
    ghosts->oldest++;
}

/* Count a new ghost; returns its tick. */
static uint32_t
ghost_queue_push(const struct shard *shard, bool from_main, uint32_t blocks)
{
    struct ghost_queue *ghosts = ghost_queue_of(shard, from_main);
    uint64_t limit = capacity(shard) *
                     (from_main ? MAIN_GHOSTS_PERCENT : SMALL_GHOSTS_PERCENT) / 100;

    if (*tick_blocks(ghosts, ghosts->now) >= limit / GHOST_TICKS) {
        if (ticks_alive(ghosts) == GHOST_TICKS_KEPT - 1)
            forget_oldest_tick(ghosts);
        ghosts->now++;
        *tick_blocks(ghosts, ghosts->now) = 0;
    }
    *tick_blocks(ghosts, ghosts->now) += blocks;
    ghosts->blocks += blocks;
    /* Half a tick too long is as good as half a tick too short. */
    while (ticks_alive(ghosts) > 0 &&
           ghosts->blocks - *tick_blocks(ghosts, ghosts->oldest) / 2 > limit)
        forget_oldest_tick(ghosts);
    return ghosts->now;
}

static void
ghost_queue_remove(struct shard *shard, uint32_t place)
{
    struct ghost_queue *ghosts = ghost_queue_of(shard, (place & PLACE_MAIN) != 0);
    uint32_t age = (ghosts->now - (place >> PLACE_TICK_SHIFT)) & 0xff;
    uint32_t *tick = tick_blocks(ghosts, ghosts->now - age);
    uint32_t blocks = (uint32_t)min_u64(size_decoded(place & 0xff), *tick);

    *tick -= blocks;
    ghosts->blocks -= min_u64(blocks, ghosts->blocks);
}

/* ---- ghosts ---------------------------------------------------------- */

/* By what the living are told from the dead, of the small and of the main queue. */
struct ghost_clock {
    uint32_t now[2];
    uint32_t alive[2]; /* ticks */
};

static inline struct ghost_clock
ghost_clock_of(const struct shard *shard)
{
    const struct ghost_queue *small = ghost_queue_of(shard, false);
    const struct ghost_queue *main = ghost_queue_of(shard, true);

    return (struct ghost_clock){{small->now, main->now},
                                {ticks_alive(small), ticks_alive(main)}};
}

static inline uint32_t
place_age(const struct ghost_clock *clock, uint32_t place)
{
    return (clock->now[(place & PLACE_MAIN) != 0] - (place >> PLACE_TICK_SHIFT)) & 0xff;
}

static inline bool
place_is_alive(const struct ghost_clock *clock, uint32_t place)
{
    return place != 0 &&
           place_age(clock, place) <= clock->alive[(place & PLACE_MAIN) != 0];
}

static struct ghost_set *
ghost_set_of(const struct shard *shard, uint64_t mixed)
{
    return &shard->ghosts[(mixed & UINT32_MAX) * evict_ghost_sets(shard) >> 32];
}

static uint32_t
place_fingerprint(uint64_t mixed)
{
    uint32_t bits = (uint32_t)(mixed >> 32) & PLACE_FINGERPRINT;

    return bits ? bits : PLACE_FINGERPRINT;
}

/* Where the ghost of this hash is; NULL when there is none. */
static uint32_t *
ghost_find(const struct shard *shard, uint64_t hash)
{
    uint64_t mixed = hash_word(hash);
    struct ghost_set *set;

    if (evict_ghost_sets(shard) == 0)
        return NULL;
    set = ghost_set_of(shard, mixed);
    for (uint32_t way = 0; way < GHOST_WAYS; way++) {
        struct ghost_clock clock;

        if ((set->place[way] & PLACE_FINGERPRINT) != place_fingerprint(mixed))
            continue;
        clock = ghost_clock_of(shard);
        if (place_is_alive(&clock, set->place[way]))
            return &set->place[way];
    }
    return NULL;
}

/* Where a new ghost may go: a place that is free or dead, else the oldest. */
static uint32_t *
ghost_place(const struct shard *shard, const struct ghost_clock *clock, uint64_t mixed)
{
    struct ghost_set *set = ghost_set_of(shard, mixed);
    uint32_t *oldest = &set->place[0];

    for (uint32_t way = 0; way < GHOST_WAYS; way++) {
        uint32_t *place = &set->place[way];

        if (!place_is_alive(clock, *place))
            return place;
        if (place_age(clock, *place) > place_age(clock, *oldest))
            oldest = place;
    }
    return oldest;
}

/* Free the places of the dead before their ticks' numbers come round. */
static void
ghost_sweep(struct shard *shard, const struct ghost_clock *clock, uint32_t blocks)
{
    uint32_t *next = &shard->header->ghost_sweep;
    uint32_t sweeps = 1 + (uint32_t)min_u64(blocks / SWEEP_BLOCKS, MORE_SWEEPS_MOST);

    for (uint32_t turn = 0; turn < sweeps; turn++) {
        uint32_t *places;

        if (*next >= evict_ghost_sets(shard))
            *next = 0;
        places = shard->ghosts[(*next)++].place;
        for (uint32_t way = 0; way < GHOST_WAYS; way++)
            if (!place_is_alive(clock, places[way]))
                places[way] = 0;
    }
    __builtin_prefetch(&shard->ghosts[*next], 1); /* for the next ghost */
}

static void
ghost_add(struct shard *shard, uint64_t hash, bool from_main, uint32_t blocks)
{
    struct ghost_clock clock = ghost_clock_of(shard);
    uint64_t mixed = hash_word(hash);
    uint32_t code = size_code(blocks);
    uint32_t tick;
    uint32_t *place;

    if (evict_ghost_sets(shard) == 0)
        return;
    ghost_sweep(shard, &clock, blocks);
    place = ghost_place(shard, &clock, mixed);
    if (place_is_alive(&clock, *place))
        ghost_queue_remove(shard, *place);
    tick = ghost_queue_push(shard, from_main, size_decoded(code));
    *place = place_fingerprint(mixed) | (from_main ? PLACE_MAIN : 0) |
             (tick & 0xff) << PLACE_TICK_SHIFT | code;
}

/* ---- adaptation ------------------------------------------------------ */

/* The target is kept as a share, in units of 1/SHARE_UNIT, because the capacity
 * grows while the pool fills. */
static uint64_t
small_target(const struct shard *shard)
{
    return (shard->header->small_share * capacity(shard) + SHARE_UNIT / 2) / SHARE_UNIT;
}

static void
adapt(struct shard *shard, bool was_main, uint32_t blocks)
{
    struct shard_header *header = shard->header;
    uint64_t small = max_u64(ghost_queue_of(shard, false)->blocks, 1);
    uint64_t main = max_u64(ghost_queue_of(shard, true)->blocks, 1);
    uint64_t step = ADAPT_FACTOR * (uint64_t)blocks * SHARE_UNIT / capacity(shard);
    uint64_t most = SHARE_UNIT / 100 * SMALL_MAX_PERCENT;
    uint64_t least = SHARE_UNIT / 100 * SMALL_MIN_PERCENT;
    uint64_t share = header->small_share;

    step = min_u64(step, SHARE_UNIT) * max_u64(small, main) / (was_main ? main : small);
    if (was_main)
        share = share > step + least ? share - step : least;
    else
        share = min_u64(share + step, most);
    header->small_share = share;
}

/* Would a small queue of a bearable length still have held what this ghost of it
 * stands for? */
static bool
is_within_reach(const struct shard *shard, uint32_t place)
{
    struct ghost_clock clock = ghost_clock_of(shard);
    uint64_t tick = SHARE_UNIT / 100 * SMALL_GHOSTS_PERCENT / GHOST_TICKS;

    return shard->header->small_share + tick * place_age(&clock, place) <
           SHARE_UNIT / 100 * REACH_PERCENT;
}

/* ---- the policy ------------------------------------------------------ */

static bool
s3fifo_recall(struct shard *shard, uint64_t hash, uint32_t blocks)
{
    uint32_t *place = ghost_find(shard, hash);
    bool was_main;

    if (!place)
        return false;
    was_main = (*place & PLACE_MAIN) != 0;
    if (was_main || !is_larger_than(shard, blocks, 1) || is_within_reach(shard, *place))
        adapt(shard, was_main, blocks);
    ghost_queue_remove(shard, *place);
    *place = 0;
    return true;
}

static void
s3fifo_foresee(const struct shard *shard, uint64_t hash)
{
    if (evict_ghost_sets(shard) != 0)
        __builtin_prefetch(ghost_set_of(shard, hash_word(hash)), 1);
}

static void
s3fifo_admit(struct shard *shard, uint32_t slot, uint32_t blocks, bool remembered)
{
    store_relaxed(heat_of(shard, slot), 0);
    queue_push_locked(shard, remembered ? QUEUE_MAIN : QUEUE_SMALL, slot, blocks);
}

/* Make the head of a queue a candidate. */
static uint32_t
make_candidate(struct shard *shard, uint32_t slot, uint32_t blocks, bool from_main)
{
    _Atomic uint8_t *state = slot_state(shard, slot);
    uint8_t kept = (uint8_t)(load_relaxed(state) & ~STATE_FROM_MAIN);

    queue_remove_locked(shard, slot, blocks);
    store_relaxed(heat_of(shard, slot), 0);
    store_relaxed(state, from_main ? (uint8_t)(kept | STATE_FROM_MAIN) : kept);
    queue_push_locked(shard, QUEUE_CANDIDATE, slot, blocks);
    return slot;
}

static uint32_t
heat_to_promote(const struct shard *shard, uint32_t blocks)
{
    return is_much_smaller(shard, blocks) ? PROMOTE_HEAT_LITTLE : PROMOTE_HEAT;
}

/* What is left of its heat when it has had a second chance. */
static uint64_t
heat_left(const struct shard *shard, uint32_t blocks, uint64_t heat)
{
    return is_larger_than(shard, blocks, MUCH) ? 0 : min_u64(heat, HEAT_MAX) - 1;
}

/* The first of the small queue that was not hit often enough; those before it, as many
 * as may be passed, move on. */
static uint32_t
propose_small(struct shard *shard, uint32_t *passes)
{
    uint32_t slot;

    while ((slot = queue_head(shard, QUEUE_SMALL)) != NO_SLOT) {
        uint32_t blocks = slot_blocks(shard, slot);

        if (load_relaxed(heat_of(shard, slot)) < heat_to_promote(shard, blocks) ||
            *passes == 0)
            return make_candidate(shard, slot, blocks, false);
        --*passes;
        queue_remove_locked(shard, slot, blocks);
        store_relaxed(heat_of(shard, slot), 0);
        queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
    }
    return NO_SLOT;
}

/* The first of the main queue without heat; those before it, as many as may be passed,
 * lose one unit, or all of it if they are large, and go to the end. */
static uint32_t
propose_main(struct shard *shard, uint32_t *passes)
{
    uint32_t slot;

    while ((slot = queue_head(shard, QUEUE_MAIN)) != NO_SLOT) {
        uint32_t blocks = slot_blocks(shard, slot);
        uint64_t heat = load_relaxed(heat_of(shard, slot));

        if (heat == 0 || *passes == 0)
            return make_candidate(shard, slot, blocks, true);
        --*passes;
        queue_remove_locked(shard, slot, blocks);
        store_relaxed(heat_of(shard, slot), (uint8_t)heat_left(shard, blocks, heat));
        queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
    }
    return NO_SLOT;
}

/* Is it the small queue's turn to give? */
static bool
gives_from_small(const struct shard *shard)
{
    const struct queue *small = &shard->header->queues[QUEUE_SMALL];
    const struct queue *main = &shard->header->queues[QUEUE_MAIN];

    return main->head == NO_SLOT || small->blocks > small_target(shard);
}

static uint32_t
s3fifo_peek(const struct shard *shard)
{
    return queue_front(shard, gives_from_small(shard) ? QUEUE_SMALL : QUEUE_MAIN);
}

static uint32_t
s3fifo_propose(struct shard *shard)
{
    uint32_t passes = PASSED_MOST;
    uint32_t slot = NO_SLOT;

    if (gives_from_small(shard))
        slot = propose_small(shard, &passes);
    if (slot == NO_SLOT)
        slot = propose_main(shard, &passes);
    return slot == NO_SLOT ? propose_small(shard, &passes) : slot;
}

static uint32_t
s3fifo_propose_early(struct shard *shard, uint32_t least_blocks)
{
    uint32_t number = gives_from_small(shard) ? QUEUE_SMALL : QUEUE_MAIN;
    uint64_t reach = shard->header->queues[number].blocks * EARLY_PERCENT / 100;
    uint32_t looks = least_blocks / EARLY_BLOCKS_A_LOOK;
    uint32_t slot = queue_head(shard, number);

    for (uint64_t passed = 0; slot != NO_SLOT && passed < reach && looks-- > 0;) {
        uint32_t blocks = slot_blocks(shard, slot);

        if (blocks >= least_blocks && load_relaxed(heat_of(shard, slot)) == 0)
            return make_candidate(shard, slot, blocks, number == QUEUE_MAIN);
        passed += blocks;
        slot = queue_next(shard, slot);
    }
    return NO_SLOT;
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
    uint8_t state = load_relaxed(slot_state(shard, slot));
    bool from_main =
        (state & STATE_FROM_MAIN) != 0 || (state & STATE_QUEUE) == QUEUE_MAIN;

    ghost_add(shard, hash, from_main, blocks);
}

const struct evict_policy evict_s3fifo = {
    .name = "s3fifo",
    .bump = BUMP_COUNT,
    .recall = s3fifo_recall,
    .foresee = s3fifo_foresee,
    .admit = s3fifo_admit,
    .propose = s3fifo_propose,
    .propose_early = s3fifo_propose_early,
    .peek = s3fifo_peek,
    .pardon = s3fifo_pardon,
    .evicted = s3fifo_evicted,
};
