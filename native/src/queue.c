/*
 * Queues of slots; see queue.h.
 */
#include "queue.h"

static void
doubt(struct shard *shard)
{
    shard->header->queues_doubtful = 1;
}

/* The head of the slot's entry, if it says that next comes after it. */
static struct entry_head *
head_before(const struct shard *shard, uint32_t slot, uint32_t next)
{
    struct entry_head *head = queue_entry(shard, slot);

    return head && head->next == next ? head : NULL;
}

/* The head must say that next was `was`. */
static void
change_next(struct shard *shard, uint32_t slot, uint32_t was, uint32_t next)
{
    struct entry_head *head = head_before(shard, slot, was);

    if (!head)
        doubt(shard);
    else if (!shard->header->queues_doubtful)
        head->next = next;
}

static void
set_previous(struct shard *shard, uint32_t slot, uint32_t previous)
{
    shard->links[slot / BUCKET_STRIDE].previous[slot % BUCKET_STRIDE] = previous;
}

static void
set_queue(struct shard *shard, uint32_t slot, uint32_t number)
{
    _Atomic uint8_t *state = slot_state(shard, slot);

    store_relaxed(state, (uint8_t)((load_relaxed(state) & ~STATE_QUEUE) | number));
}

void
queue_format_locked(struct shard *shard)
{
    for (uint32_t number = 0; number < QUEUES; number++)
        shard->header->queues[number] =
            (struct queue){.head = NO_SLOT, .tail = NO_SLOT};
    shard->header->queues_doubtful = 0;
}

void
queue_push_locked(struct shard *shard, uint32_t number, uint32_t slot, uint32_t blocks)
{
    struct queue *queue = &shard->header->queues[number];
    struct entry_head *head = queue_entry(shard, slot);
    uint32_t tail = queue_link(shard, queue->tail);

    assert(number > 0 && number < QUEUES);
    if (head && !shard->header->queues_doubtful)
        head->next = NO_SLOT;
    set_previous(shard, slot, tail);
    if (tail != NO_SLOT)
        change_next(shard, tail, NO_SLOT, slot);
    else
        queue->head = slot;
    queue->tail = slot;
    queue->entries++;
    queue->blocks += blocks;
    set_queue(shard, slot, number);
}

/* The slot after this one; NO_SLOT at the end, and when the two do not agree. */
static uint32_t
agreed_next(struct shard *shard, const struct queue *queue, uint32_t slot)
{
    const struct entry_head *head = queue_entry(shard, slot);
    uint32_t next = head ? head->next : slot; /* nothing comes after itself */

    if (next == NO_SLOT ? queue->tail == slot
                        : slot_is_possible(shard, next) && next != slot &&
                              queue_previous(shard, next) == slot)
        return next;
    doubt(shard);
    return NO_SLOT;
}

void
queue_remove_locked(struct shard *shard, uint32_t slot, uint32_t blocks)
{
    uint32_t number = queue_of(shard, slot);
    uint32_t previous = queue_previous(shard, slot);
    struct queue *queue;
    uint32_t next;

    if (number == 0 || number >= QUEUES)
        return;
    queue = &shard->header->queues[number];
    next = agreed_next(shard, queue, slot);
    if (previous != NO_SLOT)
        change_next(shard, previous, slot, next);
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
    uint32_t previous = queue_previous(shard, from);
    struct queue *queue;
    uint32_t next;

    set_previous(shard, to, previous);
    if (number == 0 || number >= QUEUES)
        return;
    queue = &shard->header->queues[number];
    next = agreed_next(shard, queue, from); /* both slots lead to the entry */
    if (previous != NO_SLOT)
        change_next(shard, previous, from, to);
    else
        queue->head = to;
    if (next != NO_SLOT)
        set_previous(shard, next, to);
    else
        queue->tail = to;
}
