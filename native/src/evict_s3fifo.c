/*
 * S3-FIFO (Yang et al., SOSP 2023) with an adaptive small queue.
 *
 * New entries enter a small FIFO; those hit there go on to the main FIFO, the
 * rest leave at once. The main FIFO gives a second chance per hit, up to three.
 * Ghosts (ghost.h) remember what left: a miss on a ghost of the small queue means that
 * the small queue was too short and makes it longer, a miss on a ghost of the main
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
 */
#include "evict.h"
#include "ghost.h"
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

static uint64_t
capacity(const struct shard *shard)
{
    return max_u64(shard_memory_blocks(shard), 1);
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
    uint64_t small = max_u64(ghost_blocks(shard, false), 1);
    uint64_t main = max_u64(ghost_blocks(shard, true), 1);
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
is_within_reach(const struct shard *shard, const struct ghost *ghost)
{
    return shard->header->small_share + ghost->depth < SHARE_UNIT / 100 * REACH_PERCENT;
}

/* ---- the policy ------------------------------------------------------ */

static bool
s3fifo_recall(struct shard *shard, uint64_t hash, uint32_t blocks)
{
    struct ghost ghost = ghost_find(shard, hash);

    if (!ghost.place)
        return false;
    if (ghost.was_main || !is_larger_than(shard, blocks, 1) ||
        is_within_reach(shard, &ghost))
        adapt(shard, ghost.was_main, blocks);
    ghost_remove_locked(shard, &ghost);
    return true;
}

static void
s3fifo_admit(struct shard *shard, uint32_t slot, uint32_t blocks, bool remembered)
{
    store_relaxed(slot_heat(shard, slot), 0);
    queue_push_locked(shard, remembered ? QUEUE_MAIN : QUEUE_SMALL, slot, blocks);
}

/* Make the head of a queue a candidate. */
static uint32_t
make_candidate(struct shard *shard, uint32_t slot, uint32_t blocks, bool from_main)
{
    _Atomic uint8_t *state = slot_state(shard, slot);
    uint8_t kept = (uint8_t)(load_relaxed(state) & ~STATE_FROM_MAIN);

    queue_remove_locked(shard, slot, blocks);
    store_relaxed(slot_heat(shard, slot), 0);
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

        if (load_relaxed(slot_heat(shard, slot)) < heat_to_promote(shard, blocks) ||
            *passes == 0)
            return make_candidate(shard, slot, blocks, false);
        --*passes;
        queue_remove_locked(shard, slot, blocks);
        store_relaxed(slot_heat(shard, slot), 0);
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
        uint64_t heat = load_relaxed(slot_heat(shard, slot));

        if (heat == 0 || *passes == 0)
            return make_candidate(shard, slot, blocks, true);
        --*passes;
        queue_remove_locked(shard, slot, blocks);
        store_relaxed(slot_heat(shard, slot), (uint8_t)heat_left(shard, blocks, heat));
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

        if (blocks >= least_blocks && load_relaxed(slot_heat(shard, slot)) == 0)
            return make_candidate(shard, slot, blocks, number == QUEUE_MAIN);
        passed += blocks;
        slot = queue_next(shard, slot);
    }
    return NO_SLOT;
}

static bool
s3fifo_pardon(struct shard *shard, uint32_t slot, uint32_t blocks)
{
    if (load_relaxed(slot_heat(shard, slot)) == 0)
        return false;
    queue_remove_locked(shard, slot, blocks);
    store_relaxed(slot_heat(shard, slot), 0);
    queue_push_locked(shard, QUEUE_MAIN, slot, blocks);
    return true;
}

static void
s3fifo_evicted(struct shard *shard, uint32_t slot, uint64_t hash, uint32_t blocks)
{
    uint8_t state = load_relaxed(slot_state(shard, slot));
    bool from_main =
        (state & STATE_FROM_MAIN) != 0 || (state & STATE_QUEUE) == QUEUE_MAIN;

    ghost_add_locked(shard, hash, from_main, blocks);
}

const struct evict_policy evict_s3fifo = {
    .name = "s3fifo",
    .bump = BUMP_COUNT,
    .recall = s3fifo_recall,
    .foresee = ghost_foresee,
    .admit = s3fifo_admit,
    .propose = s3fifo_propose,
    .propose_early = s3fifo_propose_early,
    .peek = s3fifo_peek,
    .pardon = s3fifo_pardon,
    .evicted = s3fifo_evicted,
};
