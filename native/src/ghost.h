/*
 * Ghosts: what a policy remembers of entries that were evicted, without their keys.
 *
 * A ghost is one word: fingerprint, queue, size and the tick in which it became
 * one. Per queue, the live ghosts' blocks are added up by ticks, so many of them in
 * the length that the queue may have; when the sum exceeds that length, the oldest
 * tick dies. This is a FIFO, to one tick, without links, and its length is known
 * although most of its places are not.
 *
 * Ghosts are a memory, no truth: words that make no sense are dead, or make a wrong
 * guess. Everything named _locked needs the shard lock.
 */
#ifndef PMC_GHOST_H
#define PMC_GHOST_H

#include "layout.h"

/* The sets of ghosts in use, as far as there are so many; 0: none yet. */
static inline uint32_t
ghost_sets(const struct shard *shard)
{
    uint32_t sets = load_relaxed(&shard->header->ghost_sets);

    return sets <= shard->ghost_sets ? sets : 0;
}

/* One that was found. */
struct ghost {
    uint32_t *place; /* NULL: there is none */
    bool was_main;   /* it left from the main queue, not from the small one */
    uint64_t
        depth; /* how much left that queue since, of the capacity in 1/SHARE_UNIT */
};

/* The ghost of the key with this hash. */
struct ghost ghost_find(const struct shard *shard, uint64_t hash);
/* Ask the processor for what that, and adding it, will look at. Needs no lock. */
void ghost_foresee(const struct shard *shard, uint64_t hash);

/* Remember an entry of so many blocks that is about to be evicted. */
void ghost_add_locked(struct shard *shard, uint64_t hash, bool from_main,
                      uint32_t blocks);
void ghost_remove_locked(struct shard *shard, const struct ghost *ghost);
/* Forget all. */
void ghost_format_locked(struct shard *shard);

/* The blocks of all that live, of those from the main queue or from the small one. */
uint64_t ghost_blocks(const struct shard *shard, bool from_main);

#endif
