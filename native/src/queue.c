/*
 * Queues of slots; see queue.h.
 */
#include "queue.h"

static void
set_next(struct shard *shard, uint32_t slot, uint32_t next)
{
    slot_bucket(shard, slot)->next[slot % BUCKET_SLOTS] = next;
}

static void
set_previous(struct shard *shard, uint32_t slot, uint32_t previous)
{
    slot_bucket(shard, slot)->previous[slot % BUCKET_SLOTS] = previous;
}

static void
set_queue(struct shard *shard, uint32_t slot, uint32_t number)
{
    _Atomic uint8_t *state = &slot_bucket(shard, slot)->state[slot % BUCKET_SLOTS];

    store_relaxed(state, (uint8_t)((load_relaxed(state) & ~STATE_QUEUE) | number));
}

void
queue_format_locked(struct shard *shard)
{
    for (uint32_t number = 0; number < QUEUES; number++)
        shard->header->queues[number] =
            (struct queue){.head = NO_SLOT, .tail = NO_SLOT};
}

void
queue_push_locked(struct shard *shard, uint32_t number, uint32_t slot, uint32_t blocks)
{
    struct queue *queue = &shard->header->queues[number];
    uint32_t tail = queue_link(shard, queue->tail);

    assert(number > 0 && number < QUEUES);
    set_next(shard, slot, NO_SLOT);
    set_previous(shard, slot, tail);
    if (tail != NO_SLOT)
        set_next(shard, tail, slot);
    else
        queue->head = slot;
    queue->tail = slot;
    queue->entries++;
    queue->blocks += blocks;
    set_queue(shard, slot, number);
}

void
queue_remove_locked(struct shard *shard, uint32_t slot, uint32_t blocks)
{
    uint32_t number = queue_of(shard, slot);
    uint32_t next = queue_next(shard, slot);
    uint32_t previous = queue_previous(shard, slot);
    struct queue *queue;

    if (number == 0 || number >= QUEUES)
        return;
    queue = &shard->header->queues[number];
    if (previous != NO_SLOT)
        set_next(shard, previous, next);
    else
        queue->head = next;
    if (next != NO_SLOT)
        set_previous(shard, next, previous);
    else
        queue->tail = previous;
    queue->entries--;
    queue->blocks -= blocks;
    set_queue(shard, slot, 0);
}

void
queue_resize_locked(struct shard *shard, uint32_t slot, uint32_t old_blocks,
                    uint32_t new_blocks)
{
    uint32_t number = queue_of(shard, slot);

    if (number > 0 && number < QUEUES)
        shard->header->queues[number].blocks += (uint64_t)new_blocks - old_blocks;
}

void
queue_relocate_locked(struct shard *shard, uint32_t from, uint32_t to)
{
    uint32_t number = queue_of(shard, to);
    uint32_t next = queue_next(shard, from);
    uint32_t previous = queue_previous(shard, from);
    struct queue *queue;

    set_next(shard, to, next);
    set_previous(shard, to, previous);
    if (number == 0 || number >= QUEUES)
        return;
    queue = &shard->header->queues[number];
    if (previous != NO_SLOT)
        set_next(shard, previous, to);
    else
        queue->head = to;
    if (next != NO_SLOT)
        set_previous(shard, next, to);
    else
        queue->tail = to;
}
