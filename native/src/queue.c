/*
 * Queues of slots; see queue.h.
 */
#include "queue.h"

#include <stdlib.h>

#include "fault.h"

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

/* The slot after this one in the queue; NO_SLOT at the end, and when the two do not agree.
 * The links of slots in no queue are what they were once. */
static uint32_t
agreed_next(struct shard *shard, uint32_t number, uint32_t slot)
{
    const struct entry_head *head = queue_entry(shard, slot);
    uint32_t next = head ? head->next : slot; /* nothing comes after itself */

    if (next == NO_SLOT ? shard->header->queues[number].tail == slot
                        : slot_is_possible(shard, next) && next != slot &&
                              queue_previous(shard, next) == slot &&
                              queue_of(shard, next) == number)
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
    next = agreed_next(shard, number, slot);
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
    next = agreed_next(shard, number, from); /* both slots lead to the entry */
    if (previous != NO_SLOT)
        change_next(shard, previous, from, to);
    else
        queue->head = to;
    if (next != NO_SLOT)
        set_previous(shard, next, to);
    else
        queue->tail = to;
}

/* ---- rebuilding ------------------------------------------------------ */

/*
 * Neighbours agree when each names the other and both are in the same queue; nobody
 * else can agree with either on that side. What agrees is a piece: one a queue where
 * all is whole, one more for each place that a dead writer left broken, and one more for
 * each walk that began inside of another. Pieces are put together by what one side
 * alone says.
 */

bool
queue_rebuild_begin(struct queue_rebuild *rebuild, struct shard *shard)
{
    uint32_t slots = (shard->max_buckets + shard->max_overflow) * BUCKET_STRIDE;
    uint32_t buckets = (uint32_t)min_u64(load_relaxed(&shard->header->bucket_count),
                                         shard->max_buckets);
    uint32_t overflow = (uint32_t)min_u64(load_relaxed(&shard->header->overflow_limit),
                                          shard->max_overflow);
    bool made;

    *rebuild = (struct queue_rebuild){
        .shard = shard, .buckets = buckets, .overflow = overflow};
    rebuild->other =
        malloc(((size_t)buckets + overflow) * BUCKET_STRIDE * sizeof(uint32_t));
    made = bit_map_make(&rebuild->waiting, slots);
    made = bit_map_make(&rebuild->oldest, slots) && made;
    made = bit_map_make(&rebuild->youngest, slots) && made;
    for (uint32_t number = 0; number < QUEUES; number++) {
        shard->header->queues[number].entries = 0;
        shard->header->queues[number].blocks = 0;
    }
    return made && rebuild->other;
}

/* For a slot in use: the one that its entry says comes next; once it is an end of a
 * piece: the other end. There is room for the buckets that are in use, not for all. */
static uint32_t *
queue_other(const struct queue_rebuild *rebuild, uint32_t slot)
{
    const struct shard *shard = rebuild->shard;

    if (slot / BUCKET_STRIDE >= shard->max_buckets)
        slot -= (shard->max_buckets - rebuild->buckets) * BUCKET_STRIDE;
    return &rebuild->other[slot];
}

void
queue_rebuild_free(struct queue_rebuild *rebuild)
{
    free(rebuild->waiting.words);
    free(rebuild->oldest.words);
    free(rebuild->youngest.words);
    free(rebuild->other);
}

/* The queue that the slot says it is in; 0 when there is none of that number. */
static uint32_t
known_queue(const struct shard *shard, uint32_t slot)
{
    uint32_t number = queue_of(shard, slot);

    return number < QUEUES ? number : 0;
}

void
queue_rebuild_entry(struct queue_rebuild *rebuild, uint32_t slot)
{
    struct shard *shard = rebuild->shard;
    struct queue *queue = &shard->header->queues[known_queue(shard, slot)];

    bit_map_add(&rebuild->waiting, slot);
    *queue_other(rebuild, slot) = queue_next(shard, slot);
    queue->entries++;
    queue->blocks += slot_blocks(shard, slot);
}

void
queue_rebuild_forget(struct queue_rebuild *rebuild, uint32_t slot)
{
    struct shard *shard = rebuild->shard;
    struct queue *queue = &shard->header->queues[known_queue(shard, slot)];

    bit_map_remove(&rebuild->waiting, slot);
    queue->entries--;
    queue->blocks -= slot_blocks(shard, slot);
}

/* Each step of a walk waits for memory: so many are under way at a time. */
#define WALKS 24u

struct walk {
    uint32_t from; /* the younger end of the piece */
    uint32_t at;
    uint32_t older;  /* the neighbour that it leads to */
    uint32_t number; /* of the queue */
};

static void
look_on(const struct queue_rebuild *rebuild, struct walk *walk, uint32_t at)
{
    const struct shard *shard = rebuild->shard;

    walk->at = at;
    walk->older = queue_previous(shard, at);
    if (bit_map_has(&rebuild->waiting, walk->older)) {
        __builtin_prefetch(&shard->links[walk->older / BUCKET_STRIDE]);
        __builtin_prefetch(slot_bucket(shard, walk->older));
        __builtin_prefetch(queue_other(rebuild, walk->older));
    }
}

static void
end_piece(struct queue_rebuild *rebuild, uint32_t youngest, uint32_t oldest)
{
    bit_map_add(&rebuild->youngest, youngest);
    bit_map_add(&rebuild->oldest, oldest);
    *queue_other(rebuild, youngest) = oldest;
    *queue_other(rebuild, oldest) = youngest;
}

/* Go on to the older neighbour, if the two agree and it is in no piece yet. False: the
 * piece ends here. */
static bool
walk_on(struct queue_rebuild *rebuild, struct walk *walk)
{
    uint32_t older = walk->older;

    if (walk->number == 0 || !bit_map_has(&rebuild->waiting, older) ||
        *queue_other(rebuild, older) != walk->at ||
        queue_of(rebuild->shard, older) != walk->number)
        return false;
    bit_map_remove(&rebuild->waiting, older);
    look_on(rebuild, walk, older);
    return true;
}

/* From the next slot in use on, if there is one. */
static bool
walk_begin(struct queue_rebuild *rebuild, uint32_t *from, struct walk *walk_out)
{
    *from = bit_map_next(&rebuild->waiting, *from);
    if (*from == rebuild->waiting.bits)
        return false;
    bit_map_remove(&rebuild->waiting, *from);
    *walk_out = (struct walk){.from = *from, .number = queue_of(rebuild->shard, *from)};
    look_on(rebuild, walk_out, *from);
    return true;
}

/* Walks begin anywhere in a queue, as slots are numbered by hashes. */
static void
find_pieces(struct queue_rebuild *rebuild)
{
    struct walk walks[WALKS];
    uint32_t count = 0;
    uint32_t from = 0;

    for (;;) {
        while (count < WALKS && walk_begin(rebuild, &from, &walks[count]))
            count++;
        if (count == 0)
            return;
        for (uint32_t i = 0; i < count;) {
            if (walk_on(rebuild, &walks[i])) {
                i++;
            } else {
                end_piece(rebuild, walks[i].from, walks[i].at);
                walks[i] = walks[--count];
            }
        }
    }
}

/* NO_SLOT on one side: the end of the queue. Where a walk began inside of another, the
 * two agree. */
static void
join(struct shard *shard, uint32_t number, uint32_t older, uint32_t younger)
{
    struct queue *queue = &shard->header->queues[number];
    struct entry_head *head = older == NO_SLOT ? NULL : queue_entry(shard, older);

    if (younger == NO_SLOT) {
        queue->tail = older;
    } else if (queue_previous(shard, younger) != older) {
        set_previous(shard, younger, older);
        STEP("recover.previous");
    }
    if (older == NO_SLOT) {
        queue->head = younger;
    } else if (head && head->next != younger) {
        head->next = younger;
        STEP("recover.next");
    }
}

/* Count the slot in another queue. */
static void
enlist(struct shard *shard, uint32_t number, uint32_t slot)
{
    struct queue *queues = shard->header->queues;
    uint32_t before = known_queue(shard, slot);
    uint32_t blocks = slot_blocks(shard, slot);

    queues[before].entries--;
    queues[before].blocks -= blocks;
    queues[number].entries++;
    queues[number].blocks += blocks;
    set_queue(shard, slot, number);
}

/* Take the piece whose younger end is this slot for a queue, if there is such a piece
 * and it is nobody else's. One entry that was being put into a queue, or taken out of
 * it, says that it is in none. */
static bool
take_piece(struct queue_rebuild *rebuild, uint32_t number, uint32_t youngest)
{
    struct shard *shard = rebuild->shard;

    if (!bit_map_has(&rebuild->youngest, youngest))
        return false;
    if (queue_of(shard, youngest) == 0)
        enlist(shard, number, youngest);
    if (queue_of(shard, youngest) != number)
        return false;
    bit_map_remove(&rebuild->youngest, youngest);
    return true;
}

/* The younger end of the piece whose older end is this slot, or NO_SLOT. */
static uint32_t
younger_end(const struct queue_rebuild *rebuild, uint32_t oldest)
{
    return bit_map_has(&rebuild->oldest, oldest) ? *queue_other(rebuild, oldest)
                                                 : NO_SLOT;
}

/* What the tail leads to comes last, what the head leads to first. So one broken place
 * costs no order. */
static void
join_queue(struct queue_rebuild *rebuild, uint32_t number)
{
    struct shard *shard = rebuild->shard;
    uint32_t end = shard->header->queues[number].tail;
    uint32_t start = shard->header->queues[number].head;
    uint32_t older = NO_SLOT;
    uint32_t younger = NO_SLOT;

    while (take_piece(rebuild, number, end)) {
        join(shard, number, end, younger);
        younger = *queue_other(rebuild, end);
        end = queue_previous(shard, younger);
    }
    while (take_piece(rebuild, number, end = younger_end(rebuild, start))) {
        join(shard, number, older, start);
        older = end;
        start = queue_next(shard, older);
    }
    join(shard, number, older, younger);
}

/* Let the entries of a piece say that they are in this queue. They are told apart from
 * those to come by waiting again, so that links which change meanwhile lead to an end. */
static void
enlist_piece(struct queue_rebuild *rebuild, uint32_t number, uint32_t end,
             uint32_t start)
{
    uint32_t slot = end;

    while (slot != start && slot != NO_SLOT && !bit_map_has(&rebuild->waiting, slot)) {
        bit_map_add(&rebuild->waiting, slot);
        enlist(rebuild->shard, number, slot);
        slot = queue_previous(rebuild->shard, slot);
    }
    enlist(rebuild->shard, number, start);
}

/* Entries that no queue knows. */
static void
join_rest(struct queue_rebuild *rebuild, uint32_t number)
{
    struct shard *shard = rebuild->shard;
    const struct bit_map *rest = &rebuild->youngest;

    for (uint32_t end = bit_map_next(rest, 0); end < rest->bits;
         end = bit_map_next(rest, end + 1)) {
        uint32_t start = *queue_other(rebuild, end);

        enlist_piece(rebuild, number, end, start);
        join(shard, number, shard->header->queues[number].tail, start);
        join(shard, number, end, NO_SLOT);
    }
}

void
queue_rebuild_end(struct queue_rebuild *rebuild, uint32_t fallback)
{
    find_pieces(rebuild);
    for (uint32_t number = 1; number < QUEUES; number++)
        join_queue(rebuild, number);
    join_rest(rebuild, fallback);
    rebuild->shard->header->queues_doubtful = 0;
}
