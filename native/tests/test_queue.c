/*
 * Queues of slots against plain arrays.
 */
#include "queue.h"

#include "bare_shard.h"
#include "check.h"
#include "support.h"

#define SLOTS 56u
#define SPARE 48u  /* a slot that leads nowhere at first */
#define NUMBERS 4u /* queues 1 to 3 are used */

struct model {
    struct shard shard;
    uint32_t order[NUMBERS][SLOTS];
    uint32_t count[NUMBERS];
    uint32_t blocks[SLOTS * 2];
};

static void
model_start(struct model *model)
{
    const struct bare_geometry geometry = {.max_blocks = SLOTS * 2,
                                           .max_buckets = SLOTS / BUCKET_SLOTS,
                                           .policy = &evict_none};

    memset(model, 0, sizeof *model);
    model->shard = bare_shard_make(&geometry);
    store_relaxed(&model->shard.header->limit_blocks, SLOTS * 2);
    for (uint32_t i = 0; i < SLOTS; i++)
        bare_slot_fill(&model->shard, bare_slot(i), i * 2, 2);
}

static void
model_push(struct model *model, uint32_t number, uint32_t slot, uint32_t blocks)
{
    model->blocks[slot] = blocks;
    model->order[number][model->count[number]++] = slot;
    queue_push_locked(&model->shard, number, slot, blocks);
}

static void
model_forget(struct model *model, uint32_t slot)
{
    for (uint32_t number = 1; number < NUMBERS; number++)
        for (uint32_t i = 0; i < model->count[number]; i++)
            if (model->order[number][i] == slot) {
                memmove(&model->order[number][i], &model->order[number][i + 1],
                        (model->count[number] - i - 1) * sizeof(uint32_t));
                model->count[number]--;
                return;
            }
}

static void
model_compare(const struct model *model)
{
    for (uint32_t number = 1; number < NUMBERS; number++) {
        const struct queue *queue = &model->shard.header->queues[number];
        uint32_t slot = queue->head;
        uint32_t previous = NO_SLOT;
        uint64_t blocks = 0;

        for (uint32_t i = 0; i < model->count[number]; i++) {
            if (!CHECK_EQ(slot, model->order[number][i]))
                return;
            CHECK_EQ(queue_of(&model->shard, slot), number);
            CHECK_EQ(queue_previous(&model->shard, slot), previous);
            blocks += model->blocks[slot];
            previous = slot;
            slot = queue_next(&model->shard, slot);
        }
        CHECK_EQ(slot, NO_SLOT);
        CHECK_EQ(queue->tail, previous);
        CHECK_EQ(queue->entries, model->count[number]);
        CHECK_EQ(queue->blocks, blocks);
    }
}

static void
test_random_operations_agree_with_plain_arrays(void)
{
    struct random random = random_start("queue");
    static struct model model;

    model_start(&model);
    for (int step = 0; step < 20000; step++) {
        uint32_t slot = bare_slot(random_below(&random, SLOTS));
        uint32_t blocks = 1 + random_below(&random, 1000);

        if (queue_of(&model.shard, slot) == 0) {
            model_push(&model, 1 + random_below(&random, NUMBERS - 1), slot, blocks);
        } else if (random_below(&random, 3) == 0) {
            queue_resize_locked(&model.shard, slot, model.blocks[slot], blocks);
            model.blocks[slot] = blocks;
        } else {
            queue_remove_locked(&model.shard, slot, model.blocks[slot]);
            model_forget(&model, slot);
            CHECK_EQ(queue_of(&model.shard, slot), 0);
        }
        model_compare(&model);
    }
    bare_shard_free(&model.shard);
}

/* Heads, tails and the middle: each neighbour must learn of the move. */
static void
test_a_relocated_slot_keeps_its_place_in_the_queue(void)
{
    for (uint32_t moved = 0; moved < 3; moved++) {
        static struct model model;

        model_start(&model);
        for (uint32_t slot = 0; slot < 3; slot++)
            model_push(&model, 2, slot, 10);
        model.order[2][moved] = SPARE;
        model.blocks[SPARE] = 10;
        store_relaxed(slot_state(&model.shard, SPARE), 2);
        store_relaxed(&slot_bucket(&model.shard, SPARE)->offset[SPARE % BUCKET_STRIDE],
                      slot_offset(&model.shard, moved)); /* both lead to the entry */
        queue_relocate_locked(&model.shard, moved, SPARE);
        model_compare(&model);
        bare_shard_free(&model.shard);
    }
}

static void
test_removing_what_is_in_no_queue_does_nothing(void)
{
    static struct model model;

    model_start(&model);
    model_push(&model, 1, 6, 10);
    queue_remove_locked(&model.shard, 8, 10);
    queue_resize_locked(&model.shard, 8, 10, 20);
    model_compare(&model);
    bare_shard_free(&model.shard);
}

/* Planted bug: the queue's number written over the mark of adopted entries. */
static void
test_queues_leave_the_other_bits_of_the_state_alone(void)
{
    static struct model model;
    _Atomic uint8_t *state;

    model_start(&model);
    state = &model.shard.buckets[0].state[3];
    store_relaxed(state, STATE_UNVERIFIED | STATE_FROM_MAIN);
    model_push(&model, 1, 3, 10);
    CHECK_EQ(load_relaxed(state), STATE_UNVERIFIED | STATE_FROM_MAIN | 1);
    queue_remove_locked(&model.shard, 3, 10);
    CHECK_EQ(load_relaxed(state), STATE_UNVERIFIED | STATE_FROM_MAIN);
    bare_shard_free(&model.shard);
}

/* The offset of a slot changed, and where it leads now lie bytes that name a slot in no
 * queue, whose link was the number of this one once. Planted bug: the two agree, and the
 * slot is given a link, which is written into the value of another entry. */
static void
test_a_slot_in_no_queue_agrees_with_nobody(void)
{
    static struct model model;
    struct shard *shard = &model.shard;
    uint32_t stranger = bare_slot(9);
    struct entry_head *head;

    model_start(&model);
    model_push(&model, 1, bare_slot(0), 2);
    model_push(&model, 1, bare_slot(1), 2);
    head = queue_entry(shard, bare_slot(0));
    head->next = stranger;
    CHECK_EQ(queue_previous(shard, stranger), bare_slot(0));
    queue_remove_locked(shard, bare_slot(0), 2);
    CHECK_EQ(shard->header->queues_doubtful, 1);
    queue_push_locked(shard, 2, bare_slot(0), 2);
    CHECK_EQ(head->next, stranger);
    bare_shard_free(shard);
}

int
main(void)
{
    RUN(test_random_operations_agree_with_plain_arrays);
    RUN(test_a_relocated_slot_keeps_its_place_in_the_queue);
    RUN(test_removing_what_is_in_no_queue_does_nothing);
    RUN(test_queues_leave_the_other_bits_of_the_state_alone);
    RUN(test_a_slot_in_no_queue_agrees_with_nobody);
    return check_report();
}
