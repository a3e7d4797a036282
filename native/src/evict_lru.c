/*
 * Least recently used, to about a thirtieth of the capacity, without a write
 * per hit.
 *
 * Time is a class number that advances whenever a fixed share of the capacity
 * has been stored. A hit stores the class in the entry's heat byte (nothing when
 * it is there already). There is one queue a class; an entry found at the head
 * of the oldest queue whose heat names a younger class moves there instead of
 * being evicted. So hits between two ticks are not told apart, and everything
 * else is LRU.
 */
#include "evict.h"
#include "queue.h"

/* Ticks while one capacity is stored. Fewer than there are classes, so that the
 * oldest class is empty before its number comes again. */
#define TICKS_PER_CAPACITY 30u
/* While a pool fills, ticks are longer by this, or it would outrun its classes. */
#define FILLING_FACTOR 4u
/* The heat of a candidate: no class, so that any hit shows. */
#define NOT_USED_SINCE ((uint8_t)LRU_CLASSES)

static uint32_t
class_queue(uint32_t lru_class)
{
    return QUEUE_LRU_FIRST + lru_class % LRU_CLASSES;
}

/* What the entries may take soon: a pool that is not full yet grows, and the
 * classes must last until it is. */
static uint64_t
capacity_soon(const struct shard *shard)
{
    uint64_t limit = load_relaxed(&shard->header->limit_blocks);

    if (limit == shard->header->lru_full_blocks)
        return limit;
    return min_u64(shard->max_blocks, limit * FILLING_FACTOR);
}

/* Advance the clock when enough was stored and the next number is free. */
static void
tick(struct shard *shard, uint32_t blocks)
{
    struct shard_header *header = shard->header;
    uint32_t next = (load_relaxed(&header->lru_clock) + 1) % LRU_CLASSES;

    header->lru_blocks_since_tick += blocks;
    if (header->lru_blocks_since_tick * TICKS_PER_CAPACITY < capacity_soon(shard) ||
        header->queues[class_queue(next)].entries > 0)
        return;
    header->lru_blocks_since_tick = 0;
    store_relaxed(&header->lru_clock, next);
}

static void
push_as_used(struct shard *shard, uint32_t slot, uint32_t lru_class, uint32_t blocks)
{
    queue_push_locked(shard, class_queue(lru_class), slot, blocks);
}

static void
lru_admit(struct shard *shard, uint32_t slot, uint32_t blocks, bool remembered)
{
    uint32_t now;

    (void)remembered;
    tick(shard, blocks);
    now = load_relaxed(&shard->header->lru_clock);
    store_relaxed(slot_heat(shard, slot), (uint8_t)now);
    push_as_used(shard, slot, now, blocks);
}

static uint32_t
heat_of(const struct shard *shard, uint32_t slot)
{
    return load_relaxed(slot_heat(shard, slot));
}

/* The oldest class with entries, looking from the youngest's successor on. */
static uint32_t
oldest_slot(const struct shard *shard, uint32_t *class_out)
{
    uint32_t now = load_relaxed(&shard->header->lru_clock);

    for (uint32_t age = 1; age <= LRU_CLASSES; age++) {
        uint32_t lru_class = (now + age) % LRU_CLASSES;
        uint32_t head = queue_head(shard, class_queue(lru_class));

        if (head != NO_SLOT) {
            *class_out = lru_class;
            return head;
        }
    }
    return NO_SLOT;
}

static uint32_t
lru_propose(struct shard *shard)
{
    uint32_t passes = PASSED_MOST;
    uint32_t lru_class;
    uint32_t slot;

    shard->header->lru_full_blocks = load_relaxed(&shard->header->limit_blocks);
    while ((slot = oldest_slot(shard, &lru_class)) != NO_SLOT) {
        uint32_t blocks = slot_blocks(shard, slot);
        uint32_t used = heat_of(shard, slot) % LRU_CLASSES;

        queue_remove_locked(shard, slot, blocks);
        if (used != lru_class && passes > 0) {
            passes--;
            push_as_used(shard, slot, used, blocks);
            continue;
        }
        queue_push_locked(shard, QUEUE_CANDIDATE, slot, blocks);
        store_relaxed(slot_heat(shard, slot), NOT_USED_SINCE);
        return slot;
    }
    return NO_SLOT;
}

static uint32_t
lru_peek(const struct shard *shard)
{
    uint32_t lru_class;

    return oldest_slot(shard, &lru_class);
}

static bool
lru_pardon(struct shard *shard, uint32_t slot, uint32_t blocks)
{
    uint32_t used = heat_of(shard, slot);

    if (used >= LRU_CLASSES)
        return false;
    queue_remove_locked(shard, slot, blocks);
    push_as_used(shard, slot, used, blocks);
    return true;
}

const struct evict_policy evict_lru = {
    .name = "lru",
    .bump = BUMP_CLOCK,
    .recall = evict_recall_nothing,
    .foresee = evict_foresee_nothing,
    .admit = lru_admit,
    .propose = lru_propose,
    .propose_early = evict_propose_none_early,
    .peek = lru_peek,
    .pardon = lru_pardon,
    .evicted = evict_remember_nothing,
};
