/*
 * Queues of slots, oldest first, doubly linked: the link to the younger end is in
 * the entry's head, the other one in the links of the bucket. Need the shard lock. A
 * slot is in at most one queue, whose number is in its state byte. Derived: recovery
 * rebuilds them.
 *
 * The law: nothing is written to a head before the links on both of its sides agree
 * that it is one, or a slot with a wrong offset would let bytes of another entry be
 * overwritten. What does not agree makes the queues doubtful: from then on nothing
 * is written to heads, and giving back the lock recovers the shard first.
 */
#ifndef PMC_QUEUE_H
#define PMC_QUEUE_H

#include "bit_map.h"
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
    return load_relaxed(slot_state(shard, slot)) & STATE_QUEUE;
}

/* Links are bytes of the pool: one that leads to no slot ends the queue. */
static inline uint32_t
queue_link(const struct shard *shard, uint32_t slot)
{
    return slot_is_possible(shard, slot) ? slot : NO_SLOT;
}

/* The slot that should be the oldest of a queue; not looked at. */
static inline uint32_t
queue_front(const struct shard *shard, uint32_t number)
{
    return queue_link(shard, shard->header->queues[number].head);
}

/* The oldest slot of a queue. A head that says it is in another queue ends it
 * too: whoever finds no entry in a shard that has some, has found damage. */
static inline uint32_t
queue_head(const struct shard *shard, uint32_t number)
{
    uint32_t slot = queue_front(shard, number);

    return slot != NO_SLOT && queue_of(shard, slot) == number ? slot : NO_SLOT;
}

/* The head of the slot's entry; NULL when it points outside of the heap. */
static inline struct entry_head *
queue_entry(const struct shard *shard, uint32_t slot)
{
    uint32_t offset = slot_offset(shard, slot);
    uint32_t limit = shard_limit(shard);

    return LIKELY(offset < limit && limit - offset >= 2) ? entry_at(shard, offset)
                                                         : NULL;
}

static inline uint32_t
queue_next(const struct shard *shard, uint32_t slot)
{
    const struct entry_head *head = queue_entry(shard, slot);

    return head ? queue_link(shard, head->next) : NO_SLOT;
}

static inline uint32_t
queue_previous(const struct shard *shard, uint32_t slot)
{
    return queue_link(
        shard, shard->links[slot / BUCKET_STRIDE].previous[slot % BUCKET_STRIDE]);
}

/*
 * Rebuilding: call begin, then entry for each slot in use, then end; forget is for one
 * that is not in use after all. Links that agree are left as they are: to write them
 * once more would take longer than all the rest.
 */
struct queue_rebuild {
    struct shard *shard;
    uint32_t buckets;  /* primary ones in use, and overflow buckets that are */
    uint32_t overflow; /* allocated: as they were at first, whatever is written later */
    struct bit_map waiting;  /* a bit a slot: in use, and in no piece yet */
    struct bit_map oldest;   /* the older end of a piece */
    struct bit_map youngest; /* the younger end of one that is in no queue yet */
    uint32_t *other;         /* of slots in use; see queue_other() */
};
/* False: no memory. queue_rebuild_free() in both cases. */
bool queue_rebuild_begin(struct queue_rebuild *rebuild, struct shard *shard);
/* Of one of the buckets that are in use. */
void queue_rebuild_entry(struct queue_rebuild *rebuild, uint32_t slot);
void queue_rebuild_forget(struct queue_rebuild *rebuild, uint32_t slot);
/* Entries that no queue knows come last, in this one. */
void queue_rebuild_end(struct queue_rebuild *rebuild, uint32_t fallback);
void queue_rebuild_free(struct queue_rebuild *rebuild);

#endif
