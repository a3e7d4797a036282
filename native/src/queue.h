/*
 * Queues of slots, oldest first: doubly linked through the third line of the
 * buckets. Need the shard lock. A slot is in at most one queue, whose number is
 * in its state byte. Derived: recovery rebuilds them.
 */
#ifndef PMC_QUEUE_H
#define PMC_QUEUE_H

#include "layout.h"

void queue_format_locked(struct shard *shard);
void queue_push_locked(struct shard *shard, uint32_t number, uint32_t slot,
                       uint32_t blocks);
/* Take the slot out of the queue it is in; nothing when it is in none. */
void queue_remove_locked(struct shard *shard, uint32_t slot, uint32_t blocks);
/* The entry in the slot has another size now. */
void queue_resize_locked(struct shard *shard, uint32_t slot, uint32_t old_blocks,
                         uint32_t new_blocks);
/* The entry at slot from now lives at slot to: its neighbours must know. The
 * state byte has been copied already. */
void queue_relocate_locked(struct shard *shard, uint32_t from, uint32_t to);

static inline uint32_t
queue_of(const struct shard *shard, uint32_t slot)
{
    return load_relaxed(&slot_bucket(shard, slot)->state[slot % BUCKET_SLOTS]) &
           STATE_QUEUE;
}

/* Links are bytes of the pool: one that leads to no slot ends the queue. */
static inline uint32_t
queue_link(const struct shard *shard, uint32_t slot)
{
    return slot / BUCKET_SLOTS < shard->max_buckets + shard->max_overflow ? slot
                                                                          : NO_SLOT;
}

/* The oldest slot of a queue. A head that says it is in another queue ends it
 * too: whoever finds no entry in a shard that has some, has found damage. */
static inline uint32_t
queue_head(const struct shard *shard, uint32_t number)
{
    uint32_t slot = queue_link(shard, shard->header->queues[number].head);

    return slot != NO_SLOT && queue_of(shard, slot) == number ? slot : NO_SLOT;
}

static inline uint32_t
queue_next(const struct shard *shard, uint32_t slot)
{
    return queue_link(shard, slot_bucket(shard, slot)->next[slot % BUCKET_SLOTS]);
}

static inline uint32_t
queue_previous(const struct shard *shard, uint32_t slot)
{
    return queue_link(shard, slot_bucket(shard, slot)->previous[slot % BUCKET_SLOTS]);
}

#endif
