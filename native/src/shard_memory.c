/*
 * The memory of a shard: growing, giving back, taking again; see shard.h.
 *
 * The heap grows from its end, and never shrinks there. What is given back are
 * spans of 64 KiB inside of holes, wherever those are: a span that is away is marked
 * so in the index, and an extent of its own kind covers it (see alloc.h).
 *
 * No system call is made under the lock. So what is given back is taken out of the
 * heap first, under the lock; then its memory is released; and until that is over,
 * shard_header.giving_* keep everybody from allocating it again, for what they
 * allocated a slow process would release. A process that dies in between leaves spans
 * that are away, which is right whether they have memory or not.
 *
 * Taking again is the other way round: allocated without the lock, a hole under it,
 * unless somebody began to give back meanwhile.
 */
#include "alloc.h"
#include "fault.h"
#include "ghost.h"
#include "pool.h"
#include "pool_geometry.h"
#include "shard.h"

/* The parts of a shard's heap that are allocated one after another. */
#define HEAP_PARTS 16u
#define HEAP_PART_MIN_BYTES (64u * 1024u)
#define HEAP_PART_MAX_BYTES (4u * 1024u * 1024u)

/* What a write gives back at most, and what a refill takes at least. */
#define GIVE_SPANS 16u
#define REFILL_SPANS 4u

/* The kernel keeps a file in pages of up to 2 MiB. */
#define PAGE_SPANS_MAX ((2u << 20) / SPAN_BYTES)

/* Giving back begins when an eighth as much is free as is used, and ends at a
 * sixteenth: several times what eviction keeps free. */
#define FREE_SHARE_TO_BEGIN 8u
#define FREE_SHARE_TO_KEEP 16u

/* The default policy's age, and how exactly it is known. */
#define TICK_MS 250u
#define DEFAULT_AGE_TICKS (10000u / TICK_MS + 1)
static_assert(DEFAULT_AGE_TICKS < SPAN_TICKS, "an age that can be told");

/* A shard that made room by evicting so short a time ago keeps what it has. */
#define PRESSED_FOR_MS 1000u

/* ---- growing --------------------------------------------------------- */

static uint64_t
shard_heap_offset(const struct shard *shard)
{
    return (uint64_t)(shard->heap - shard->pool->heap);
}

static bool
is_conservative(const struct shard *shard)
{
    return shard->pool->header->identity.memory == PMC_MEMORY_CONSERVATIVE;
}

/* Where the next part ends that is to be of so many bytes: at most a sixteenth of the
 * shard, and at least what one entry needs. A conservative pool takes no more than it
 * would keep. */
static uint32_t
next_part(const struct shard *shard, uint32_t limit, uint64_t bytes,
          uint64_t wanted_blocks)
{
    uint32_t whole = is_conservative(shard) ? limit : shard->max_blocks;
    uint64_t most =
        min_u64((uint64_t)whole * BLOCK_BYTES / HEAP_PARTS, HEAP_PART_MAX_BYTES);
    uint64_t blocks =
        max_u64(max_u64(min_u64(bytes, most), HEAP_PART_MIN_BYTES) / BLOCK_BYTES,
                wanted_blocks);

    blocks = round_up(limit + blocks, PAGE_BYTES / BLOCK_BYTES);
    return (uint32_t)min_u64(blocks, shard->max_blocks);
}

uint32_t
shard_first_blocks(const struct shard *shard)
{
    return next_part(shard, 0, HEAP_PART_MIN_BYTES, 1);
}

enum pmc_status
shard_allocate_heap(struct shard *shard, uint32_t old, uint32_t new)
{
    enum pmc_status status =
        pool_allocate_index(shard->pool, shard->spans, (uint64_t)new / SPAN_BLOCKS + 1);

    if (status != PMC_OK || shard->pool->header->identity.preallocated)
        return status;
    return pool_allocate_heap(shard->pool,
                              shard_heap_offset(shard) + (uint64_t)old * BLOCK_BYTES,
                              (uint64_t)(new - old) * BLOCK_BYTES);
}

/* As much as the next part is to be, or half of it, and so on: the last bytes of a
 * file system are of use too. Sets *new_out. PMC_MISS: the heap is as large as it
 * may be. */
static enum pmc_status
allocate_part(struct shard *shard, uint32_t old, uint64_t wanted_blocks,
              uint32_t *new_out)
{
    uint32_t least = next_part(shard, old, HEAP_PART_MIN_BYTES, wanted_blocks);
    uint64_t bytes = max_u64((uint64_t)old * BLOCK_BYTES, HEAP_PART_MIN_BYTES);
    uint32_t new;
    enum pmc_status status;

    if (old == shard->max_blocks)
        return PMC_MISS;
    do {
        new = next_part(shard, old, bytes, wanted_blocks);
        status = shard_allocate_heap(shard, old, new);
        bytes = (uint64_t)(new - old) * BLOCK_BYTES / 2;
    } while (status == PMC_ENOSPACE && new > least);
    *new_out = new;
    return status;
}

static enum pmc_status
grow_at_the_end(struct shard *shard, uint64_t wanted_blocks)
{
    uint32_t old = (uint32_t)min_u64(load_acquire(&shard->header->limit_blocks),
                                     shard->max_blocks);
    uint32_t new;
    enum pmc_status status = allocate_part(shard, old, wanted_blocks, &new);

    if (status != PMC_OK)
        return status;
    STEP("grow.allocated");
    status = shard_lock(shard, false);
    if (status != PMC_OK)
        return status;
    /* Another process may have been faster: its part is ours too. */
    if (load_relaxed(&shard->header->limit_blocks) == old &&
        alloc_grow_locked(shard, new) != PMC_OK)
        shard_recover_locked(shard);
    STEP("grow.published");
    shard_unlock(shard);
    return PMC_OK;
}

/* ---- taking again ---------------------------------------------------- */

/* A process that died while it gave back gives nothing any more. */
static bool
is_being_given(struct shard *shard, uint32_t from, uint32_t to)
{
    struct shard_header *header = shard->header;
    uint32_t owner = load_acquire(&header->giving_owner);

    if (owner == 0)
        return false;
    if (!pool_owner_lives(shard->pool, owner)) {
        store_relaxed(&header->giving_owner, 0);
        return false;
    }
    return from < header->giving_to && to > header->giving_from;
}

/* The hole that a gone extent would be, with the holes beside it. */
static uint64_t
blocks_if_filled(const struct shard *shard, const struct alloc_spans *away)
{
    uint32_t start;
    uint32_t blocks = away->to * SPAN_BLOCKS - away->extent;

    return alloc_hole_left_by(shard, away->extent, blocks, &start);
}

/* Can room for an entry of this size be made by moving others, with nothing more taken
 * again? */
static bool
is_free_in_pieces(const struct shard *shard, uint64_t wanted_blocks)
{
    return shard->header->free_blocks / 2 >= wanted_blocks &&
           alloc_widest_stretch(shard) >= wanted_blocks;
}

/* What is away and would make room for an entry of this size; without a way to grow
 * at the end, the first of whatever is away: one after the other they make room. */
static bool
choose_refill_locked(struct shard *shard, uint64_t wanted_blocks,
                     struct alloc_spans *spans_out)
{
    bool takes_any = shard_limit(shard) == shard->max_blocks &&
                     !is_free_in_pieces(shard, wanted_blocks);
    struct alloc_spans away;
    bool found = false;

    for (uint32_t from = 0; alloc_find_away_spans(shard, from, &away); from = away.to) {
        bool fits = blocks_if_filled(shard, &away) >= wanted_blocks;

        if ((!fits && (!takes_any || found)) ||
            is_being_given(shard, away.from, away.to))
            continue;
        found = true;
        *spans_out = away;
        if (fits)
            break;
    }
    return found;
}

/* As much of it as is worth a system call. */
static void
shorten_refill(const struct shard *shard, uint64_t wanted_blocks,
               struct alloc_spans *spans)
{
    uint64_t wanted = wanted_blocks / SPAN_BLOCKS + 1;
    uint64_t heap = shard_limit(shard) - load_relaxed(&shard->header->away_blocks);
    uint64_t least = is_conservative(shard) ? 1 : REFILL_SPANS;
    uint64_t part = max_u64(heap / HEAP_PARTS / SPAN_BLOCKS, least);

    spans->to = (uint32_t)min_u64(spans->to, spans->from + max_u64(wanted, part));
}

static bool
are_away(const struct shard *shard, const struct alloc_spans *spans)
{
    for (uint32_t span = spans->from; span < spans->to; span++)
        if (shard->spans[span] != SPAN_AWAY)
            return false;
    return true;
}

/* PMC_MISS: there is nothing to take again. */
static enum pmc_status
refill(struct shard *shard, uint64_t wanted_blocks)
{
    struct shard_header *header = shard->header;
    struct alloc_spans spans;
    enum pmc_status status = shard_lock(shard, false);
    uint32_t givings;
    bool found;

    if (status != PMC_OK)
        return status;
    found = choose_refill_locked(shard, wanted_blocks, &spans);
    givings = header->givings;
    shard_unlock(shard);
    if (!found)
        return PMC_MISS;
    shorten_refill(shard, wanted_blocks, &spans);
    status = pool_allocate_heap(
        shard->pool, shard_heap_offset(shard) + (uint64_t)spans.from * SPAN_BYTES,
        (uint64_t)(spans.to - spans.from) * SPAN_BYTES);
    if (status != PMC_OK)
        return status;
    STEP("refill.allocated");
    status = shard_lock(shard, false);
    if (status != PMC_OK)
        return status;
    /* Another may have been faster, and then may have given it back again. */
    if ((header->givings == givings || MUTANT("skip-givings-recheck")) &&
        are_away(shard, &spans) && alloc_fill_locked(shard, &spans) != PMC_OK)
        shard_recover_locked(shard);
    STEP("refill.published");
    shard_unlock(shard);
    return PMC_OK;
}

enum pmc_status
shard_grow_heap(struct shard *shard, uint64_t wanted_blocks)
{
    enum pmc_status status = refill(shard, wanted_blocks);

    if (status == PMC_MISS)
        status = grow_at_the_end(shard, wanted_blocks);
    if (status == PMC_ENOSPACE)
        pool_refuse_growth(shard->pool);
    return status;
}

/* ---- giving back ----------------------------------------------------- */

void
shard_note_time_locked(struct shard *shard, uint64_t now_ms)
{
    alloc_note_tick_locked(shard, (uint32_t)(now_ms / TICK_MS % SPAN_TICKS) + 1);
}

/* How many spans are free beyond what the shard should keep for what comes. */
static uint32_t
spare_spans(const struct shard *shard, uint64_t now_ms)
{
    const struct shard_header *header = shard->header;
    uint64_t used = load_relaxed(&header->used_blocks);
    uint64_t free_blocks = header->free_blocks;

    if (free_blocks < used / FREE_SHARE_TO_BEGIN + SPAN_BLOCKS ||
        now_ms - header->pressed_ms < PRESSED_FOR_MS)
        return 0;
    return (uint32_t)min_u64((free_blocks - used / FREE_SHARE_TO_KEEP) / SPAN_BLOCKS,
                             GIVE_SPANS);
}

/* By the policy: spans of a hole to be given back now. */
static bool
choose_giving(struct shard *shard, uint64_t now_ms, struct alloc_spans *spans_out)
{
    struct shard_header *header = shard->header;
    const struct pool_identity *identity = &shard->pool->header->identity;
    uint32_t spare = spare_spans(shard, now_ms);
    uint32_t age = is_conservative(shard) ? 0 : DEFAULT_AGE_TICKS;

    if (LIKELY(spare == 0) || identity->preallocated ||
        load_relaxed(&shard->pool->keeps_memory))
        return false;
    /* Without an answer the question is not asked again before time has passed. */
    if (age != 0 && header->look_again_ms - now_ms - 1 < TICK_MS)
        return false;
    if (is_being_given(shard, 0, UINT32_MAX))
        return false;
    if (alloc_find_free_spans(shard, age, spare, spans_out))
        return true;
    header->look_again_ms = now_ms + TICK_MS;
    return false;
}

/* What is away beside the spans is released once more, as far as a page of the kernel's
 * may reach: one that lies only partly in what is released may keep all its memory. */
static struct giving
widened(const struct shard *shard, const struct alloc_spans *spans)
{
    struct giving giving = {spans->from, spans->to, spans->to - spans->from};
    uint32_t end = shard_limit(shard) / SPAN_BLOCKS;

    for (uint32_t i = 0; i < PAGE_SPANS_MAX && giving.from > 0 &&
                         shard->spans[giving.from - 1] == SPAN_AWAY;
         i++)
        giving.from--;
    for (uint32_t i = 0;
         i < PAGE_SPANS_MAX && giving.to < end && shard->spans[giving.to] == SPAN_AWAY;
         i++)
        giving.to++;
    return giving;
}

bool
shard_give_begin_locked(struct shard *shard, uint64_t now_ms, struct giving *giving_out)
{
    struct shard_header *header = shard->header;
    struct alloc_spans spans;
    struct giving giving;

    if (!choose_giving(shard, now_ms, &spans))
        return false;
    giving = widened(shard, &spans);
    header->giving_from = giving.from;
    header->giving_to = giving.to;
    header->givings++;
    store_release(&header->giving_owner, load_relaxed(&shard->pool->owner));
    STEP("give.noted");
    if (alloc_give_locked(shard, &spans) != PMC_OK) {
        store_release(&header->giving_owner, 0);
        shard_recover_locked(shard);
        return false;
    }
    STEP("give.taken");
    *giving_out = giving;
    return true;
}

void
shard_give(struct shard *shard, const struct giving *giving)
{
    uint64_t bytes = (uint64_t)(giving->to - giving->from) * SPAN_BYTES;

    STEP("give.unlocked");
    if (pool_release_heap(
            shard->pool, shard_heap_offset(shard) + (uint64_t)giving->from * SPAN_BYTES,
            bytes))
        add_relaxed(&shard->header->given_back_bytes,
                    (uint64_t)giving->given * SPAN_BYTES);
    STEP("give.released");
    store_release(&shard->header->giving_owner, 0);
}

/* ---- the index ------------------------------------------------------- */

/* A sixteenth more, at least eight; never more than max. */
static uint32_t
some_more(uint32_t now, uint32_t max)
{
    uint64_t more = max_u64(now / 16, 8u);

    return (uint32_t)min_u64(now + more, max);
}

enum pmc_status
shard_allocate_buckets(struct shard *shard, uint32_t from, uint32_t to)
{
    uint64_t count = to - from;
    enum pmc_status status = pool_allocate_index(shard->pool, &shard->buckets[from],
                                                 count * sizeof(struct bucket));

    if (status == PMC_OK)
        status = pool_allocate_index(shard->pool, &shard->links[from],
                                     count * sizeof(struct bucket_links));
    return status;
}

/* The lock is held on PMC_OK. */
static enum pmc_status
allocate_buckets_and_lock(struct shard *shard, uint32_t from, uint32_t to)
{
    enum pmc_status status = shard_allocate_buckets(shard, from, to);

    if (status == PMC_OK)
        status = shard_lock(shard, false);
    STEP("grow.index");
    return status;
}

static enum pmc_status
grow_buckets(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t limit = some_more(load_relaxed(&header->bucket_count), shard->max_buckets);
    enum pmc_status status = allocate_buckets_and_lock(shard, 0, limit);

    if (status != PMC_OK)
        return status;
    if (limit > header->bucket_limit)
        header->bucket_limit = limit;
    shard_unlock(shard);
    return PMC_OK;
}

static enum pmc_status
grow_overflow(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t limit =
        some_more(load_relaxed(&header->overflow_limit), shard->max_overflow);
    enum pmc_status status = allocate_buckets_and_lock(shard, shard->max_buckets,
                                                       shard->max_buckets + limit);

    if (status != PMC_OK)
        return status;
    if (limit > load_relaxed(&header->overflow_limit))
        store_release(&header->overflow_limit, limit);
    shard_unlock(shard);
    return PMC_OK;
}

/* Ghosts start anew when their number changes: the place of each depends on it. That
 * happens while the pool fills, before there are any, and when entries have become
 * much smaller. */
static enum pmc_status
grow_ghosts(struct shard *shard, uint32_t sets)
{
    enum pmc_status status = pool_allocate_index(
        shard->pool, shard->ghosts, (uint64_t)sets * sizeof(struct ghost_set));

    if (status == PMC_OK)
        status = shard_lock(shard, false);
    STEP("grow.ghosts");
    if (status != PMC_OK)
        return status;
    if (sets > shard->header->ghost_sets) {
        shard->header->ghost_sets = sets;
        ghost_format_locked(shard);
    }
    shard_unlock(shard);
    return PMC_OK;
}

/* What is wanted is a moment old when it is allocated: each part looks again, under the
 * lock, whether others were faster. */
enum pmc_status
shard_grow_index(struct shard *shard)
{
    enum pmc_status status = shard_lock(shard, false);
    unsigned wants;
    uint32_t sets;

    if (status != PMC_OK)
        return status;
    wants = index_wants(shard);
    sets = (uint32_t)min_u64(max_u64(ghost_sets(shard) * UINT64_C(9) / 8 + 1,
                                     index_ghosts_for(shard) / GHOST_WAYS),
                             shard->ghost_sets);
    shard_unlock(shard);
    if (wants & INDEX_WANTS_BUCKETS)
        status = grow_buckets(shard);
    if (status == PMC_OK && wants & INDEX_WANTS_OVERFLOW)
        status = grow_overflow(shard);
    if (status == PMC_OK && wants & INDEX_WANTS_GHOSTS)
        status = grow_ghosts(shard, sets);
    if (status == PMC_ENOSPACE)
        pool_refuse_growth(shard->pool);
    return status;
}
