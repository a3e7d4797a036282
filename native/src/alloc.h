/*
 * Extents: the shard's heap as a row of entries, holes, and spans that are gone.
 *
 * Owns the heads of holes, before_blocks of every extent, the bins, free_blocks,
 * the spans and away_blocks. All functions need the shard lock. Holes are kept in bins by
 * size (exact up to 32 blocks, then eight bins a doubling) and are merged with
 * their neighbours at once.
 *
 * Memory that was given back is no hole: nothing is ever taken from it, merged
 * with it or moved into it, until alloc_fill_locked() has made it a hole again.
 *
 * The heap's bytes are input: an extent whose head contradicts its neighbours
 * is reported as PMC_EDAMAGED, and the caller rebuilds from the index.
 */
#ifndef PMC_ALLOC_H
#define PMC_ALLOC_H

#include "layout.h"

/* No extents, no memory. */
void alloc_format_locked(struct shard *shard);

/*
 * Take an extent of want_blocks, by good fit, and set *offset_out. Its head is
 * not written but for before_blocks: the caller writes an entry there, or gives
 * it back with alloc_free_locked(). PMC_OK, PMC_DROPPED (no hole is large
 * enough) or PMC_EDAMAGED.
 */
enum pmc_status alloc_take_locked(struct shard *shard, uint32_t want_blocks,
                                  uint32_t *offset_out);

/* As alloc_take_locked(), never from [avoid_from, avoid_to): of a hole that reaches into
 * that from before it, the front. */
enum pmc_status alloc_take_outside_locked(struct shard *shard, uint32_t want_blocks,
                                          uint32_t avoid_from, uint32_t avoid_to,
                                          uint32_t *offset_out);

/* Is there a hole for that? */
bool alloc_has_outside(const struct shard *shard, uint32_t want_blocks,
                       uint32_t avoid_from, uint32_t avoid_to);

/* Make the extent at offset a hole and merge it with its neighbours. Its head
 * says "hole" and its size even when it became a part of a larger one. */
enum pmc_status alloc_free_locked(struct shard *shard, uint32_t offset,
                                  uint32_t blocks);

/* Add [limit_blocks, new_limit) to the heap as free space. */
enum pmc_status alloc_grow_locked(struct shard *shard, uint32_t new_limit);

/* The neighbours of an extent. False at the ends of the heap; a neighbour that
 * makes no sense is an end too, with *damaged_out set. */
bool alloc_before(const struct shard *shard, uint32_t offset, uint32_t *before_out,
                  bool *damaged_out);
bool alloc_after(const struct shard *shard, uint32_t offset, uint32_t blocks,
                 uint32_t *after_out, bool *damaged_out);

/* The hole that an extent would leave, merged with holes on both sides. */
uint32_t alloc_hole_left_by(const struct shard *shard, uint32_t offset, uint32_t blocks,
                            uint32_t *start_out);

/* Where alloc_take_locked() would look first, or NO_OFFSET. Not looked at: it may be
 * anything. */
uint32_t alloc_first_hole(const struct shard *shard, uint32_t want_blocks);
/* The first hole of the highest bin in use, or NO_OFFSET. */
uint32_t alloc_large_hole(const struct shard *shard);
/* The next one: of its bin, then of the bins below. NO_OFFSET ends. */
uint32_t alloc_next_hole(const struct shard *shard, uint32_t offset);

/* Spans [from, to) of one extent. */
struct alloc_spans {
    uint32_t extent;
    uint32_t from;
    uint32_t to;
};

/* Tell in which tick of SPAN_TICKS what happens from now on happens. */
void alloc_note_tick_locked(struct shard *shard, uint32_t tick);

/* Of the large holes, the first with spans that have been free for age_ticks or
 * longer: at most `most` of them. */
bool alloc_find_free_spans(const struct shard *shard, uint32_t age_ticks, uint32_t most,
                           struct alloc_spans *spans_out);

/* Take those spans out of their hole: they are away, and nobody's, from now on. */
enum pmc_status alloc_give_locked(struct shard *shard, const struct alloc_spans *spans);

/* The first run of spans that are away, from 0 or from the end of another run on: the
 * whole of one gone extent. False: none is. */
bool alloc_find_away_spans(const struct shard *shard, uint32_t from,
                           struct alloc_spans *spans_out);

/* Spans at the front of a gone extent have been allocated: they are a hole. */
enum pmc_status alloc_fill_locked(struct shard *shard, const struct alloc_spans *spans);

/* Does anything of these blocks, or the block behind them, lie in a span that is
 * away? No entry can be there. */
bool alloc_is_away(const struct shard *shard, uint32_t offset, uint64_t blocks);

/* Blocks of the longest stretch of the heap in which all that is may be emptied. */
uint32_t alloc_widest_stretch(const struct shard *shard);

/*
 * Rebuilding: call begin, then entry for each entry in address order, then end.
 * entry returns false for one that overlaps its predecessor or the limit. What is
 * away stays away.
 */
struct alloc_rebuild {
    struct shard *shard;
    uint32_t end;         /* where the last extent ends */
    uint32_t last_blocks; /* blocks of the last extent */
};
void alloc_rebuild_begin(struct alloc_rebuild *rebuild, struct shard *shard);
bool alloc_rebuild_entry(struct alloc_rebuild *rebuild, uint32_t offset,
                         uint32_t blocks);
void alloc_rebuild_end(struct alloc_rebuild *rebuild);

/* The bin of holes of this size. Exposed for check.c. */
uint32_t alloc_bin(uint32_t blocks);

#endif
