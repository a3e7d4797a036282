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

    assert(blocks > 0);
    if (blocks <= EXACT_BINS)
        return blocks - 1;
    log = 31u - (uint32_t)__builtin_clz(blocks); /* >= 5 */
    return EXACT_BINS + (log - 5) * BINS_A_DOUBLING +
           ((blocks >> (log - 3)) & (BINS_A_DOUBLING - 1));
}
static_assert(EXACT_BINS + (31 - 5) * BINS_A_DOUBLING <= BIN_COUNT, "bins");

static inline uint32_t
limit(const struct shard *shard)
{
    return (uint32_t)min_u64(load_relaxed(&shard->header->limit_blocks),
                             shard->max_blocks);
}

/* ---- bins ------------------------------------------------------------ */

/* Does this look like a hole, whose links may be followed? */
static bool
hole_is_sound(const struct shard *shard, uint32_t offset)
{
    const struct hole_head *hole;

    if (offset >= limit(shard))
        return false;
    hole = hole_at(shard, offset);
    return hole->size > 0 && !(hole->size & EXTENT_ENTRY) &&
           hole->size <= limit(shard) - offset;
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

    if (after == limit(shard))
        return false;
    if (after > limit(shard)) {
        *damaged_out = true;
        return false;
    }
    size = extent_blocks(shard, after);
    if (size == 0 || size > limit(shard) - after ||
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
        !extent_is_entry(shard, before)) {
        *start_out = before;
        total += offset - before;
    }
    if (alloc_after(shard, offset, blocks, &after, &damaged) &&
        !extent_is_entry(shard, after))
        total += hole_at(shard, after)->size;
    return damaged ? 0 : total;
}

/* The extent [offset, offset + blocks) has a new size: tell the one behind it. */
static void
set_size_before_next(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    if (offset + blocks >= limit(shard))
        shard->header->last_offset = offset;
    else
        hole_at(shard, offset + blocks)->before_blocks = blocks;
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
    return PMC_OK;
}

static inline bool
overlaps(uint32_t offset, uint32_t blocks, uint32_t from, uint32_t to)
{
    return offset < to && offset + blocks > from;
}

/* Look through one bin for a hole that is large enough. The smallest of the
 * first few wins. */
static enum pmc_status
search_bin(const struct shard *shard, uint32_t bin, uint32_t want_blocks,
           uint32_t avoid_from, uint32_t avoid_to, uint32_t *offset_out)
{
    uint32_t best = UINT32_MAX;
    uint32_t at = shard->header->bin_head[bin];

    for (int seen = 0; at != NO_OFFSET && seen < SEARCH_LIMIT; seen++) {
        const struct hole_head *hole = hole_at(shard, at);

        if (!hole_is_sound(shard, at))
            return PMC_EDAMAGED;
        if (hole->size >= want_blocks && hole->size < best &&
            !overlaps(at, hole->size, avoid_from, avoid_to)) {
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
    if (alloc_before(shard, offset, &neighbour, &damaged) &&
        !extent_is_entry(shard, neighbour)) {
        start = neighbour;
        total += offset - neighbour;
        if (!bin_remove(shard, neighbour))
            return PMC_EDAMAGED;
    }
    if (alloc_after(shard, offset, blocks, &neighbour, &damaged) &&
        !extent_is_entry(shard, neighbour)) {
        total += hole_at(shard, neighbour)->size;
        if (!bin_remove(shard, neighbour))
            return PMC_EDAMAGED;
    }
    if (damaged)
        return PMC_EDAMAGED;
    bin_insert(shard, start, total);
    set_size_before_next(shard, start, total);
    return PMC_OK;
}

enum pmc_status
alloc_grow_locked(struct shard *shard, uint32_t new_limit)
{
    uint32_t old = limit(shard);

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
    store_relaxed(&shard->header->limit_blocks, limit(shard));
    *rebuild = (struct alloc_rebuild){.shard = shard};
}

/* Make [rebuild->end, to) a hole. */
static void
rebuild_hole(struct alloc_rebuild *rebuild, uint32_t to)
{
    uint32_t from = rebuild->end;

    if (to == from)
        return;
    hole_at(rebuild->shard, from)->before_blocks = rebuild->last_blocks;
    bin_insert(rebuild->shard, from, to - from);
    rebuild->shard->header->last_offset = from;
    rebuild->last_blocks = to - from;
    rebuild->end = to;
}

bool
alloc_rebuild_entry(struct alloc_rebuild *rebuild, uint32_t offset, uint32_t blocks)
{
    if (offset < rebuild->end || blocks > limit(rebuild->shard) - offset)
        return false;
    rebuild_hole(rebuild, offset);
    entry_at(rebuild->shard, offset)->before_blocks = rebuild->last_blocks;
    rebuild->shard->header->last_offset = offset;
    rebuild->last_blocks = blocks;
    rebuild->end = offset + blocks;
    return true;
}

void
alloc_rebuild_end(struct alloc_rebuild *rebuild)
{
    rebuild_hole(rebuild, limit(rebuild->shard));
}
