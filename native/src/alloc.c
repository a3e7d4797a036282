/*
 * Extents; see alloc.h. Segregated fits with boundary tags: Knuth, The Art of
 * Computer Programming 1, 2.5, with the bins of TLSF (Masmano et al., 2004).
 */
#include "alloc.h"

#include <string.h>

#define EXACT_BINS 32u
#define BINS_A_DOUBLING 8u
#define SEARCH_LIMIT 16 /* holes looked at in the one bin that may be too small */

uint32_t
alloc_bin(uint32_t blocks)
{
    uint32_t log;

    /* A size that has been looked at may be 0 by the time it is read again. */
    if (blocks <= EXACT_BINS)
        return blocks > 0 ? blocks - 1 : 0;
    log = 31u - (uint32_t)__builtin_clz(blocks); /* >= 5 */
    return EXACT_BINS + (log - 5) * BINS_A_DOUBLING +
           ((blocks >> (log - 3)) & (BINS_A_DOUBLING - 1));
}
static_assert(EXACT_BINS + (31 - 5) * BINS_A_DOUBLING <= BIN_COUNT, "bins");

/* ---- bins ------------------------------------------------------------ */

/* Does this look like a hole, whose links may be followed? */
static bool
hole_is_sound(const struct shard *shard, uint32_t offset)
{
    const struct hole_head *hole;

    if (offset >= shard_limit(shard))
        return false;
    hole = hole_at(shard, offset);
    return hole->size > 0 && extent_is_hole(shard, offset) &&
           hole->size <= shard_limit(shard) - offset;
}

static void
bin_insert(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    struct shard_header *header = shard->header;
    struct hole_head *hole = hole_at(shard, offset);
    uint32_t bin = alloc_bin(blocks);
    uint32_t first = header->bin_head[bin];

    hole->size = blocks;
    hole->bin_next = first;
    hole->bin_previous = NO_OFFSET;
    /* A head that is none would have its bytes changed: it is left for whoever
     * removes the new one. */
    if (hole_is_sound(shard, first) &&
        hole_at(shard, first)->bin_previous == NO_OFFSET &&
        alloc_bin(hole_at(shard, first)->size) == bin)
        hole_at(shard, first)->bin_previous = offset;
    header->bin_head[bin] = offset;
    header->bin_map[bin / 64] |= UINT64_C(1) << (bin % 64);
    header->free_blocks += blocks;
}

/* Is this link of the hole at offset the end of its list, or a hole whose link in
 * the other direction leads back? */
static bool
ends_or_leads_back(const struct shard *shard, uint32_t link, uint32_t offset,
                   bool is_next)
{
    const struct hole_head *hole;

    if (link == NO_OFFSET)
        return true;
    if (!hole_is_sound(shard, link))
        return false;
    hole = hole_at(shard, link);
    return (is_next ? hole->bin_previous : hole->bin_next) == offset;
}

static bool
bin_remove(struct shard *shard, uint32_t offset)
{
    struct shard_header *header = shard->header;
    struct hole_head *hole = hole_at(shard, offset);
    uint32_t bin = alloc_bin(hole->size);
    uint32_t next = hole->bin_next;
    uint32_t previous = hole->bin_previous;

    if (!ends_or_leads_back(shard, next, offset, true) ||
        !ends_or_leads_back(shard, previous, offset, false) ||
        (previous == NO_OFFSET && header->bin_head[bin] != offset))
        return false;
    if (next != NO_OFFSET)
        hole_at(shard, next)->bin_previous = previous;
    if (previous != NO_OFFSET)
        hole_at(shard, previous)->bin_next = next;
    else
        header->bin_head[bin] = next;
    if (header->bin_head[bin] == NO_OFFSET)
        header->bin_map[bin / 64] &= ~(UINT64_C(1) << (bin % 64));
    header->free_blocks -= hole->size;
    return true;
}

/* The first bin at or above this one that holds a hole, or BIN_COUNT. */
static uint32_t
bin_at_least(const struct shard *shard, uint32_t bin)
{
    for (uint32_t word = bin / 64; word < BIN_WORDS; word++) {
        uint64_t map = shard->header->bin_map[word];

        if (word == bin / 64)
            map &= ~UINT64_C(0) << (bin % 64);
        if (map)
            return word * 64 + (uint32_t)__builtin_ctzll(map);
    }
    return BIN_COUNT;
}

uint32_t
alloc_first_hole(const struct shard *shard, uint32_t want_blocks)
{
    uint32_t bin = bin_at_least(shard, alloc_bin(want_blocks));

    return bin < BIN_COUNT ? shard->header->bin_head[bin] : NO_OFFSET;
}

uint32_t
alloc_large_hole(const struct shard *shard)
{
    for (uint32_t word = BIN_WORDS; word-- > 0;) {
        uint64_t map = shard->header->bin_map[word];

        if (map) {
            uint32_t bin = word * 64 + 63u - (uint32_t)__builtin_clzll(map);
            uint32_t offset = shard->header->bin_head[bin];

            return hole_is_sound(shard, offset) ? offset : NO_OFFSET;
        }
    }
    return NO_OFFSET;
}

uint32_t
alloc_next_hole(const struct shard *shard, uint32_t offset)
{
    uint32_t bin = alloc_bin(hole_at(shard, offset)->size);
    uint32_t next = hole_at(shard, offset)->bin_next;

    while (next == NO_OFFSET && bin-- > 0)
        next = shard->header->bin_head[bin];
    return hole_is_sound(shard, next) ? next : NO_OFFSET;
}

/* ---- neighbours ------------------------------------------------------ */

bool
alloc_before(const struct shard *shard, uint32_t offset, uint32_t *before_out,
             bool *damaged_out)
{
    uint32_t blocks = hole_at(shard, offset)->before_blocks;

    if (offset == 0 && blocks == 0)
        return false;
    if (blocks == 0 || blocks > offset ||
        extent_blocks(shard, offset - blocks) != blocks) {
        *damaged_out = true;
        return false;
    }
    *before_out = offset - blocks;
    return true;
}

bool
alloc_after(const struct shard *shard, uint32_t offset, uint32_t blocks,
            uint32_t *after_out, bool *damaged_out)
{
    uint32_t after = offset + blocks;
    uint64_t size;

    if (after == shard_limit(shard))
        return false;
    if (after > shard_limit(shard)) {
        *damaged_out = true;
        return false;
    }
    size = extent_blocks(shard, after);
    if (size == 0 || size > shard_limit(shard) - after ||
        hole_at(shard, after)->before_blocks != blocks) {
        *damaged_out = true;
        return false;
    }
    *after_out = after;
    return true;
}

uint32_t
alloc_hole_left_by(const struct shard *shard, uint32_t offset, uint32_t blocks,
                   uint32_t *start_out)
{
    uint32_t total = blocks;
    uint32_t before;
    uint32_t after;
    bool damaged = false;

    *start_out = offset;
    if (alloc_before(shard, offset, &before, &damaged) &&
        extent_is_hole(shard, before)) {
        *start_out = before;
        total += offset - before;
    }
    if (alloc_after(shard, offset, blocks, &after, &damaged) &&
        extent_is_hole(shard, after))
        total += hole_at(shard, after)->size;
    return damaged ? 0 : total;
}

/* The extent [offset, offset + blocks) has a new size: tell the one behind it. */
static void
set_size_before_next(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    if (offset + blocks >= shard_limit(shard))
        shard->header->last_offset = offset;
    else
        hole_at(shard, offset + blocks)->before_blocks = blocks;
}

/* ---- spans ----------------------------------------------------------- */

/* The spans that lie wholly in [start, end) of a hole, and reach into [from, to). */
static struct alloc_spans
spans_inside(uint32_t start, uint32_t end, uint32_t from, uint32_t to)
{
    uint32_t first = (start + SPAN_BLOCKS - 1) / SPAN_BLOCKS;
    uint32_t last = end / SPAN_BLOCKS;

    return (struct alloc_spans){
        .extent = start,
        .from = (uint32_t)max_u64(first, from / SPAN_BLOCKS),
        .to = (uint32_t)min_u64(last, to / SPAN_BLOCKS + 1),
    };
}

/* [from, to) have become a part of the hole [start, end). */
static void
note_free(struct shard *shard, uint32_t start, uint32_t end, uint32_t from, uint32_t to)
{
    struct alloc_spans spans;

    if (LIKELY(end - start < SPAN_BLOCKS))
        return;
    spans = spans_inside(start, end, from, to);
    for (uint32_t span = spans.from; span < spans.to; span++)
        if (shard->spans[span] == SPAN_USED)
            shard->spans[span] = (uint8_t)shard->header->tick;
}

static void
note_used(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    for (uint32_t span = offset / SPAN_BLOCKS;
         span <= (offset + blocks - 1) / SPAN_BLOCKS; span++)
        shard->spans[span] = SPAN_USED;
}

void
alloc_note_tick_locked(struct shard *shard, uint32_t tick)
{
    assert(tick >= 1 && tick <= SPAN_TICKS);
    shard->header->tick = tick;
}

bool
alloc_is_away(const struct shard *shard, uint32_t offset, uint64_t blocks)
{
    for (uint64_t span = offset / SPAN_BLOCKS; span <= (offset + blocks) / SPAN_BLOCKS;
         span++)
        if (shard->spans[span] == SPAN_AWAY)
            return true;
    return false;
}

/* How many ticks ago was that? A time that was never is long ago. */
static uint32_t
ticks_since(const struct shard *shard, uint8_t tick)
{
    if (tick == SPAN_USED || tick > SPAN_TICKS || shard->header->tick > SPAN_TICKS)
        return SPAN_TICKS;
    return (shard->header->tick + SPAN_TICKS - tick) % SPAN_TICKS;
}

/* The first run of spans of a hole that may be given back. Where the span begins
 * the hole, or the hole ends a block before it ends, what lies there has to be gone
 * already: it is made longer then, else a head has to stay. */
static bool
find_free_spans_of(const struct shard *shard, uint32_t hole, uint32_t age_ticks,
                   uint32_t most, struct alloc_spans *spans_out)
{
    uint32_t end = hole + hole_at(shard, hole)->size;
    struct alloc_spans spans = spans_inside(hole, end, hole, end);
    uint32_t neighbour;
    bool damaged = false;

    if (spans.from * SPAN_BLOCKS == hole &&
        !(alloc_before(shard, hole, &neighbour, &damaged) &&
          extent_is_gone(shard, neighbour)))
        spans.from++;
    if ((end + 1) % SPAN_BLOCKS == 0 &&
        alloc_after(shard, hole, end - hole, &neighbour, &damaged) &&
        extent_is_gone(shard, neighbour))
        spans.to++;
    while (spans.from < spans.to &&
           ticks_since(shard, shard->spans[spans.from]) < age_ticks)
        spans.from++;
    spans_out->extent = hole;
    spans_out->from = spans_out->to = spans.from;
    while (spans_out->to < spans.to && spans_out->to - spans.from < most &&
           ticks_since(shard, shard->spans[spans_out->to]) >= age_ticks)
        spans_out->to++;
    return !damaged && spans_out->to > spans_out->from;
}

/* Look at so many holes of a bin. */
static bool
find_free_spans_in(const struct shard *shard, uint32_t bin, uint32_t age_ticks,
                   uint32_t most, int *looks, struct alloc_spans *spans_out)
{
    uint32_t at = shard->header->bin_head[bin];

    for (; *looks > 0 && hole_is_sound(shard, at); at = hole_at(shard, at)->bin_next) {
        --*looks;
        if (find_free_spans_of(shard, at, age_ticks, most, spans_out))
            return true;
    }
    return false;
}

bool
alloc_find_free_spans(const struct shard *shard, uint32_t age_ticks, uint32_t most,
                      struct alloc_spans *spans_out)
{
    int looks = SEARCH_LIMIT;

    for (uint32_t bin = alloc_bin(SPAN_BLOCKS); bin < BIN_COUNT;
         bin = bin_at_least(shard, bin + 1))
        if (find_free_spans_in(shard, bin, age_ticks, most, &looks, spans_out))
            return true;
    /* A span whose last block is the head of what is gone behind it. */
    looks = SEARCH_LIMIT;
    return find_free_spans_in(shard, alloc_bin(SPAN_BLOCKS - 1), age_ticks, most,
                              &looks, spans_out);
}

static void
drop_away(struct shard *shard, uint32_t blocks)
{
    store_relaxed(&shard->header->away_blocks,
                  load_relaxed(&shard->header->away_blocks) - blocks);
}

/* Make [offset, end) a gone extent; what is behind it learns its size. */
static void
place_gone(struct shard *shard, uint32_t offset, uint32_t end, uint32_t before_blocks)
{
    *hole_at(shard, offset) = (struct hole_head){.size = end - offset,
                                                 .before_blocks = before_blocks,
                                                 .bin_next = NO_OFFSET,
                                                 .bin_previous = GONE_LINK};
    bump_locked(&shard->header->away_blocks, end - offset);
    set_size_before_next(shard, offset, end - offset);
}

/* Make [offset, end) a hole, if it is anything. */
static void
place_hole(struct shard *shard, uint32_t offset, uint32_t end, uint32_t before_blocks)
{
    if (offset == end)
        return;
    hole_at(shard, offset)->before_blocks = before_blocks;
    bin_insert(shard, offset, end - offset);
    set_size_before_next(shard, offset, end - offset);
}

enum pmc_status
alloc_give_locked(struct shard *shard, const struct alloc_spans *spans)
{
    uint32_t hole = spans->extent;
    uint32_t hole_end = hole + hole_at(shard, hole)->size;
    uint32_t start = spans->from * SPAN_BLOCKS - 1; /* of what will be gone */
    uint32_t end = spans->to * SPAN_BLOCKS;
    uint32_t before_blocks = hole_at(shard, hole)->before_blocks;

    if (!bin_remove(shard, hole))
        return PMC_EDAMAGED;
    memset(shard->spans + spans->from, SPAN_AWAY, spans->to - spans->from);
    if (start + 1 == hole) { /* behind what is gone already */
        start = hole - before_blocks;
        before_blocks = hole_at(shard, start)->before_blocks;
        drop_away(shard, hole - start);
    } else if (start > hole) {
        place_hole(shard, hole, start, before_blocks);
        before_blocks = start - hole;
    }
    if (end == hole_end + 1) { /* before what is gone already */
        end = hole_end + hole_at(shard, hole_end)->size;
        drop_away(shard, end - hole_end);
        hole_end = end;
    }
    place_gone(shard, start, end, before_blocks);
    place_hole(shard, end, hole_end, end - start);
    return PMC_OK;
}

bool
alloc_find_away_spans(const struct shard *shard, uint32_t from,
                      struct alloc_spans *spans_out)
{
    uint32_t count = shard_limit(shard) / SPAN_BLOCKS;
    const uint8_t *first;

    if (from == 0)
        from = 1; /* there is no block before the first span for a head */
    first = from < count ? memchr(shard->spans + from, SPAN_AWAY, count - from) : NULL;
    if (!first)
        return false;
    spans_out->from = spans_out->to = (uint32_t)(first - shard->spans);
    while (spans_out->to < count && shard->spans[spans_out->to] == SPAN_AWAY)
        spans_out->to++;
    spans_out->extent = spans_out->from * SPAN_BLOCKS - 1;
    return true;
}

uint32_t
alloc_widest_stretch(const struct shard *shard)
{
    struct alloc_spans away;
    uint32_t widest = 0;
    uint32_t start = 0;

    for (uint32_t from = 0; alloc_find_away_spans(shard, from, &away); from = away.to) {
        widest = (uint32_t)max_u64(widest, away.extent - start);
        start = away.to * SPAN_BLOCKS;
    }
    return (uint32_t)max_u64(widest, shard_limit(shard) - start);
}

/* ---- taking and freeing ---------------------------------------------- */

/* Use the front of a hole; what is left over becomes a hole again. */
static enum pmc_status
cut_hole(struct shard *shard, uint32_t offset, uint32_t want_blocks)
{
    uint32_t have = hole_at(shard, offset)->size;
    uint32_t after;
    bool damaged = false;

    /* What was a hole once, and is part of another, is contradicted behind it. */
    (void)alloc_after(shard, offset, have, &after, &damaged);
    if (damaged || !bin_remove(shard, offset))
        return PMC_EDAMAGED;
    if (have > want_blocks) {
        uint32_t rest = offset + want_blocks;

        hole_at(shard, rest)->before_blocks = want_blocks;
        bin_insert(shard, rest, have - want_blocks);
        set_size_before_next(shard, rest, have - want_blocks);
    }
    set_size_before_next(shard, offset, want_blocks);
    note_used(shard, offset, want_blocks);
    return PMC_OK;
}

static inline bool
overlaps(uint32_t offset, uint32_t blocks, uint32_t from, uint32_t to)
{
    return offset < to && offset + blocks > from;
}

/* Look through one bin for a hole that is large enough. The smallest of the
 * first few wins; there is no better one than one that fits. */
static enum pmc_status
search_bin(const struct shard *shard, uint32_t bin, uint32_t want_blocks,
           uint32_t avoid_from, uint32_t avoid_to, uint32_t *offset_out)
{
    uint32_t best = UINT32_MAX;
    uint32_t at = shard->header->bin_head[bin];

    for (int seen = 0; at != NO_OFFSET && best != want_blocks && seen < SEARCH_LIMIT;
         seen++) {
        const struct hole_head *hole = hole_at(shard, at);

        if (!hole_is_sound(shard, at))
            return PMC_EDAMAGED;
        if (hole->size >= want_blocks && hole->size < best &&
            !overlaps(at, want_blocks, avoid_from, avoid_to)) {
            best = hole->size;
            *offset_out = at;
        }
        at = hole->bin_next;
    }
    return best == UINT32_MAX ? PMC_DROPPED : PMC_OK;
}

bool
alloc_has_outside(const struct shard *shard, uint32_t want_blocks, uint32_t avoid_from,
                  uint32_t avoid_to)
{
    uint32_t bin = bin_at_least(shard, alloc_bin(want_blocks));

    while (bin < BIN_COUNT) {
        uint32_t offset;

        if (search_bin(shard, bin, want_blocks, avoid_from, avoid_to, &offset) ==
            PMC_OK)
            return true;
        bin = bin_at_least(shard, bin + 1);
    }
    return false;
}

enum pmc_status
alloc_take_outside_locked(struct shard *shard, uint32_t want_blocks,
                          uint32_t avoid_from, uint32_t avoid_to, uint32_t *offset_out)
{
    uint32_t bin = bin_at_least(shard, alloc_bin(want_blocks));

    while (bin < BIN_COUNT) {
        uint32_t offset;
        enum pmc_status status =
            search_bin(shard, bin, want_blocks, avoid_from, avoid_to, &offset);

        if (status == PMC_OK)
            status = cut_hole(shard, offset, want_blocks);
        if (status == PMC_OK)
            *offset_out = offset;
        if (status != PMC_DROPPED)
            return status;
        bin = bin_at_least(shard, bin + 1);
    }
    return PMC_DROPPED;
}

enum pmc_status
alloc_take_locked(struct shard *shard, uint32_t want_blocks, uint32_t *offset_out)
{
    return alloc_take_outside_locked(shard, want_blocks, 0, 0, offset_out);
}

enum pmc_status
alloc_free_locked(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    uint32_t start = offset;
    uint32_t total = blocks;
    uint32_t neighbour;
    bool damaged = false;

    hole_at(shard, offset)->size = blocks;
    hole_at(shard, offset)->bin_previous = NO_OFFSET;
    if (alloc_before(shard, offset, &neighbour, &damaged) &&
        extent_is_hole(shard, neighbour)) {
        start = neighbour;
        total += offset - neighbour;
        if (!bin_remove(shard, neighbour))
            return PMC_EDAMAGED;
    }
    if (alloc_after(shard, offset, blocks, &neighbour, &damaged) &&
        extent_is_hole(shard, neighbour)) {
        total += hole_at(shard, neighbour)->size;
        if (!bin_remove(shard, neighbour))
            return PMC_EDAMAGED;
    }
    if (damaged)
        return PMC_EDAMAGED;
    bin_insert(shard, start, total);
    set_size_before_next(shard, start, total);
    note_free(shard, start, start + total, offset, offset + blocks);
    return PMC_OK;
}

enum pmc_status
alloc_fill_locked(struct shard *shard, const struct alloc_spans *spans)
{
    uint32_t start = spans->extent;
    const struct hole_head *gone = hole_at(shard, start);
    uint32_t end = start + gone->size;
    uint32_t filled_end = spans->to * SPAN_BLOCKS;

    if (!extent_is_gone(shard, start) || gone->size > shard_limit(shard) - start ||
        filled_end > end)
        return PMC_EDAMAGED;
    memset(shard->spans + spans->from, SPAN_USED, spans->to - spans->from);
    drop_away(shard, end - start);
    if (filled_end < end) {
        filled_end--; /* for the head of what goes on being gone */
        place_gone(shard, filled_end, end, filled_end - start);
    }
    return alloc_free_locked(shard, start, filled_end - start);
}

enum pmc_status
alloc_grow_locked(struct shard *shard, uint32_t new_limit)
{
    uint32_t old = shard_limit(shard);

    assert(new_limit > old && new_limit <= shard->max_blocks);
    hole_at(shard, old)->size = new_limit - old;
    hole_at(shard, old)->before_blocks = old ? old - shard->header->last_offset : 0;
    store_release(&shard->header->limit_blocks, new_limit);
    shard->header->last_offset = old;
    return alloc_free_locked(shard, old, new_limit - old);
}

void
alloc_format_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;

    header->free_blocks = 0;
    store_relaxed(&header->away_blocks, 0);
    if (header->tick == 0 || header->tick > SPAN_TICKS)
        header->tick = 1;
    header->last_offset = 0;
    memset(header->bin_map, 0, sizeof header->bin_map);
    for (uint32_t bin = 0; bin < BIN_COUNT; bin++)
        header->bin_head[bin] = NO_OFFSET;
}

/* ---- rebuilding ------------------------------------------------------ */

void
alloc_rebuild_begin(struct alloc_rebuild *rebuild, struct shard *shard)
{
    alloc_format_locked(shard);
    store_relaxed(&shard->header->limit_blocks, shard_limit(shard));
    *rebuild = (struct alloc_rebuild){.shard = shard};
}

/* The extent that ends where the rebuilding has come to. */
static void
rebuild_add(struct alloc_rebuild *rebuild, uint32_t blocks)
{
    rebuild->shard->header->last_offset = rebuild->end;
    rebuild->last_blocks = blocks;
    rebuild->end += blocks;
}

static void
rebuild_hole(struct alloc_rebuild *rebuild, uint32_t to)
{
    uint32_t from = rebuild->end;

    if (from == to)
        return;
    place_hole(rebuild->shard, from, to, rebuild->last_blocks);
    note_free(rebuild->shard, from, to, from, to);
    rebuild_add(rebuild, to - from);
}

/* Make [rebuild->end, to) a hole, but for spans in it that are away. */
static void
rebuild_gap(struct alloc_rebuild *rebuild, uint32_t to)
{
    struct shard *shard = rebuild->shard;
    uint32_t from = (rebuild->end + SPAN_BLOCKS) / SPAN_BLOCKS;
    struct alloc_spans away;

    /* Where an entry is, or its neighbour's head would be, nothing can be away. */
    for (uint32_t span = rebuild->end / SPAN_BLOCKS; span < from; span++)
        if (shard->spans[span] == SPAN_AWAY)
            shard->spans[span] = SPAN_USED;
    while ((from + 1) * SPAN_BLOCKS <= to &&
           alloc_find_away_spans(shard, from, &away) &&
           (away.from + 1) * SPAN_BLOCKS <= to) {
        away.to = (uint32_t)min_u64(away.to, to / SPAN_BLOCKS);
        rebuild_hole(rebuild, away.extent);
        place_gone(shard, away.extent, away.to * SPAN_BLOCKS, rebuild->last_blocks);
        rebuild_add(rebuild, away.to * SPAN_BLOCKS - away.extent);
        from = away.to + 1;
    }
    rebuild_hole(rebuild, to);
}

bool
alloc_rebuild_entry(struct alloc_rebuild *rebuild, uint32_t offset, uint32_t blocks)
{
    if (offset < rebuild->end || blocks > shard_limit(rebuild->shard) - offset)
        return false;
    rebuild_gap(rebuild, offset);
    /* What says so already is left alone: each write would have to go to memory. */
    if (entry_at(rebuild->shard, offset)->before_blocks != rebuild->last_blocks)
        entry_at(rebuild->shard, offset)->before_blocks = rebuild->last_blocks;
    note_used(rebuild->shard, offset, blocks);
    rebuild_add(rebuild, blocks);
    return true;
}

void
alloc_rebuild_end(struct alloc_rebuild *rebuild)
{
    rebuild_gap(rebuild, shard_limit(rebuild->shard));
}
