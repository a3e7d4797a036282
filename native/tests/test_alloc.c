/*
 * Extents against a plain model: one byte a block that says who has it.
 */
#include "alloc.h"

#include <sys/mman.h>

#include "bare_shard.h"
#include "check.h"
#include "support.h"

#define BLOCKS (16u * SPAN_BLOCKS)
#define EXTENTS_MAX 512u

struct extent {
    uint32_t offset;
    uint32_t blocks;
};

struct model {
    struct shard shard;
    bool taken[BLOCKS];
    struct extent extents[EXTENTS_MAX];
    uint32_t count;
    uint32_t limit;
    uint32_t gives;
    uint32_t fills;
};

static void
model_start(struct model *model, uint32_t limit)
{
    const struct bare_geometry geometry = {
        .max_blocks = BLOCKS, .max_buckets = 1, .policy = &evict_none};

    memset(model, 0, sizeof *model);
    model->shard = bare_shard_make(&geometry);
    model->limit = limit;
    CHECK_EQ(alloc_grow_locked(&model->shard, limit), PMC_OK);
}

/* Entries of exactly these blocks: the key takes what the head leaves. */
static void
write_extent(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    struct entry_head *head = entry_at(shard, offset);

    head->size =
        EXTENT_ENTRY | (blocks * BLOCK_BYTES - (uint32_t)sizeof(struct entry_head));
    head->key_size = 0;
}

static bool
model_take(struct model *model, uint32_t blocks)
{
    uint32_t offset = NO_OFFSET;
    enum pmc_status status = alloc_take_locked(&model->shard, blocks, &offset);

    if (status == PMC_DROPPED)
        return false;
    if (!CHECK_EQ(status, PMC_OK) || !CHECK(offset + blocks <= model->limit))
        return false;
    for (uint32_t block = offset; block < offset + blocks; block++) {
        CHECK(!model->taken[block]);
        model->taken[block] = true;
    }
    write_extent(&model->shard, offset, blocks);
    model->extents[model->count++] = (struct extent){offset, blocks};
    return true;
}

static void
model_free(struct model *model, uint32_t number)
{
    struct extent extent = model->extents[number];

    memset(model->taken + extent.offset, 0, extent.blocks);
    model->extents[number] = model->extents[--model->count];
    CHECK_EQ(alloc_free_locked(&model->shard, extent.offset, extent.blocks), PMC_OK);
}

/* The hole is in the list of its bin, once. */
static bool
is_in_bin(const struct shard *shard, uint32_t offset)
{
    uint32_t bin = alloc_bin(hole_at(shard, offset)->size);
    uint32_t at = shard->header->bin_head[bin];
    unsigned seen = 0;

    if (!(shard->header->bin_map[bin / 64] >> (bin % 64) & 1))
        return false;
    for (uint32_t hops = 0; at != NO_OFFSET && hops < BLOCKS; hops++) {
        seen += at == offset;
        at = hole_at(shard, at)->bin_next;
    }
    return seen == 1;
}

/* All spans of a run that are away, and the block before them; and no more than that. */
static void
check_gone(const struct shard *shard, uint32_t at, uint32_t blocks)
{
    uint32_t from = (at + 1) / SPAN_BLOCKS;
    uint32_t to = (at + blocks) / SPAN_BLOCKS;

    CHECK_EQ((at + 1) % SPAN_BLOCKS, 0);
    CHECK_EQ((at + blocks) % SPAN_BLOCKS, 0);
    for (uint32_t span = from; span < to; span++)
        CHECK_EQ(shard->spans[span], SPAN_AWAY);
    CHECK(shard->spans[from - 1] != SPAN_AWAY);
    CHECK(shard->spans[to] != SPAN_AWAY);
}

/* The heap is tiled as the model says, with every hole as large as it can be. */
static void
model_compare(const struct model *model)
{
    const struct shard *shard = &model->shard;
    uint32_t before = 0;
    uint64_t free_blocks = 0;
    uint64_t away_blocks = 0;
    unsigned holes = 0;
    unsigned listed = 0;

    for (uint32_t at = 0; at < model->limit;) {
        uint32_t blocks = (uint32_t)extent_blocks(shard, at);
        bool entry = extent_is_entry(shard, at);

        if (!CHECK(blocks > 0 && blocks <= model->limit - at))
            return;
        for (uint32_t block = at; block < at + blocks; block++)
            CHECK_EQ(model->taken[block], entry);
        CHECK_EQ(hole_at(shard, at)->before_blocks, before);
        if (extent_is_gone(shard, at)) {
            check_gone(shard, at, blocks);
            away_blocks += blocks;
        } else if (!entry) {
            CHECK(at == 0 || !extent_is_hole(shard, at - before)); /* are merged */
            CHECK(is_in_bin(shard, at));
            free_blocks += blocks;
            holes++;
        }
        before = blocks;
        at += blocks;
    }
    CHECK_EQ(shard->header->free_blocks, free_blocks);
    CHECK_EQ(load_relaxed(&shard->header->away_blocks), away_blocks);
    CHECK_EQ(shard->header->last_offset, model->limit - before);
    for (uint32_t bin = 0; bin < BIN_COUNT; bin++)
        for (uint32_t at = shard->header->bin_head[bin];
             at != NO_OFFSET && listed <= holes; at = hole_at(shard, at)->bin_next)
            listed++;
    CHECK_EQ(listed, holes); /* nothing in the bins but these */
}

static int
by_offset(const void *a, const void *b)
{
    const struct extent *first = a;
    const struct extent *second = b;

    return first->offset < second->offset ? -1 : first->offset > second->offset;
}

static void
model_rebuild(struct model *model)
{
    struct alloc_rebuild rebuild;

    qsort(model->extents, model->count, sizeof model->extents[0], by_offset);
    alloc_rebuild_begin(&rebuild, &model->shard);
    for (uint32_t i = 0; i < model->count; i++)
        CHECK(alloc_rebuild_entry(&rebuild, model->extents[i].offset,
                                  model->extents[i].blocks));
    alloc_rebuild_end(&rebuild);
}

/* Whoever touches what is away dies of it. */
static void
protect_spans(const struct shard *shard, const struct alloc_spans *spans, int how)
{
    CHECK_EQ(mprotect(shard->heap + (size_t)spans->from * SPAN_BYTES,
                      (size_t)(spans->to - spans->from) * SPAN_BYTES, how),
             0);
}

static bool
model_give(struct model *model, uint32_t most)
{
    struct alloc_spans spans;

    if (!alloc_find_free_spans(&model->shard, 0, most, &spans))
        return false;
    CHECK(spans.to - spans.from <= most);
    CHECK_EQ(alloc_give_locked(&model->shard, &spans), PMC_OK);
    protect_spans(&model->shard, &spans, PROT_NONE);
    model->gives++;
    return true;
}

/* The front of a run: of the first, or of one after so many others. */
static bool
model_fill(struct model *model, uint32_t others, uint32_t most)
{
    struct alloc_spans spans;

    if (!alloc_find_away_spans(&model->shard, 0, &spans))
        return false;
    while (others-- > 0)
        if (!alloc_find_away_spans(&model->shard, spans.to, &spans))
            return false;
    spans.to = (uint32_t)min_u64(spans.to, spans.from + most);
    protect_spans(&model->shard, &spans, PROT_READ | PROT_WRITE);
    CHECK_EQ(alloc_fill_locked(&model->shard, &spans), PMC_OK);
    model->fills++;
    return true;
}

static void
model_end(struct model *model)
{
    while (model_fill(model, 0, BLOCKS))
        ;
    bare_shard_free(&model->shard);
}

static uint32_t
some_blocks(struct random *random)
{
    static const uint32_t sizes[] = {20, 20, 20, 400, 400, 5000};

    return 2 + random_below(random, sizes[random_below(random, 6)]);
}

static void
model_step(struct model *model, struct random *random)
{
    uint32_t choice = random_below(random, 100);

    if (choice < 50 && model->count < EXTENTS_MAX) {
        model_take(model, some_blocks(random));
    } else if (choice == 50) {
        model_give(model, 1 + random_below(random, 6));
    } else if (choice == 51) {
        model_fill(model, random_below(random, 3), 1 + random_below(random, 4));
    } else if (choice < 97 && model->count > 0) {
        model_free(model, random_below(random, model->count));
    } else if (choice == 98) {
        model_rebuild(model);
    } else if (choice == 99 && model->limit < BLOCKS) {
        model->limit += 1 + random_below(random, BLOCKS - model->limit);
        CHECK_EQ(alloc_grow_locked(&model->shard, model->limit), PMC_OK);
    }
}

static void
test_random_operations_agree_with_a_plain_model(void)
{
    struct random random = random_start("alloc");
    static struct model model;
    uint32_t gives = 0; /* of all rounds: a round that stays crowded may have none */
    uint32_t fills = 0;

    for (int round = 0; round < ROUNDS_OF(20); round++) {
        model_start(&model, 300);
        for (int step = 0; step < 6000; step++) {
            model_step(&model, &random);
            if (step % 50 == 0)
                model_compare(&model);
        }
        gives += model.gives;
        fills += model.fills;
        while (model.count)
            model_free(&model, model.count - 1);
        model_compare(&model);
        while (model_fill(&model, 0, BLOCKS))
            ;
        CHECK_EQ(hole_at(&model.shard, 0)->size, model.limit); /* one hole again */
        model_end(&model);
    }
    CHECK(gives > 3 && fills > 3);
}

/* All but the first span of an empty heap can be away, in parts of any size. */
static void
test_an_empty_heap_can_be_given_back_but_for_a_span(void)
{
    for (uint32_t most = 1; most < 16; most++) {
        static struct model model;

        model_start(&model, BLOCKS);
        while (model_give(&model, most))
            model_compare(&model);
        CHECK_EQ(load_relaxed(&model.shard.header->away_blocks), 15 * SPAN_BLOCKS + 1);
        CHECK_EQ(alloc_widest_stretch(&model.shard), SPAN_BLOCKS - 1);
        model_rebuild(&model);
        model_compare(&model);
        CHECK(model_fill(&model, 0, most));
        model_compare(&model);
        CHECK_EQ(alloc_widest_stretch(&model.shard),
                 (1 + most) * SPAN_BLOCKS - (most < 15));
        model_end(&model);
    }
}

/* A span's age is that of what was freed last in it. */
static void
test_spans_are_as_old_as_their_youngest_part(void)
{
    static struct model model;
    struct alloc_spans spans;

    model_start(&model, BLOCKS);
    CHECK(model_take(&model, 5 * SPAN_BLOCKS));
    CHECK(model_take(&model, 100));
    CHECK(model_take(&model, 5 * SPAN_BLOCKS));
    CHECK(model_take(&model, BLOCKS - 10 * SPAN_BLOCKS - 100));
    alloc_note_tick_locked(&model.shard, SPAN_TICKS - 5);
    model_free(&model, 0);
    model_free(&model, 1); /* the extent of 5 spans after the small one */
    alloc_note_tick_locked(&model.shard, 10); /* 15 ticks later: they wrap around */
    CHECK(!alloc_find_free_spans(&model.shard, 16, 99, &spans));
    CHECK(alloc_find_free_spans(&model.shard, 15, 99, &spans));
    while (model.count > 1)
        model_free(&model, model.count - 1);
    CHECK(alloc_find_free_spans(&model.shard, 15, 99, &spans));
    CHECK(spans.to <= 5 || spans.from > 5); /* the one between is young */
    alloc_note_tick_locked(&model.shard, 11);
    CHECK(model_take(&model, 3 * SPAN_BLOCKS)); /* used: not old at all any more */
    model_free(&model, model.count - 1);
    CHECK(alloc_find_free_spans(&model.shard, 16, 99, &spans));
    CHECK(spans.to - spans.from <= 5);
    model_end(&model);
}

static void
test_a_hole_that_exists_is_found_whatever_its_bin_mates(void)
{
    static struct model model;

    model_start(&model, BLOCKS);
    /* Forty holes of the bin for 40-43 blocks, the largest freed first and so
     * last in its list; only the first few of a bin are looked at. */
    for (int i = 0; i < 40; i++) {
        model_take(&model, i == 0 ? 43 : 40);
        model_take(&model, 2);
    }
    while (model_take(&model, 2))
        if (model.count == EXTENTS_MAX)
            break;
    for (int i = 0; i < 40; i++) {
        struct extent wanted = {.blocks = 0};

        for (uint32_t at = 0; at < model.count; at++)
            if (model.extents[at].blocks >= 40 &&
                model.extents[at].blocks > wanted.blocks)
                wanted = model.extents[at];
        for (uint32_t at = 0; at < model.count; at++)
            if (model.extents[at].offset == wanted.offset) {
                model_free(&model, at);
                break;
            }
    }
    CHECK(model_take(&model, 40)); /* what most of them hold */
    model_compare(&model);
    bare_shard_free(&model.shard);
}

static void
test_bins_are_in_order_of_size(void)
{
    uint32_t last = 0;

    CHECK_EQ(alloc_bin(1), 0);
    for (uint64_t blocks = 1; blocks < UINT64_C(0x7fffffff);
         blocks += blocks / 40 + 1) {
        uint32_t bin = alloc_bin((uint32_t)blocks);

        CHECK(bin >= last && bin < BIN_COUNT);
        last = bin;
    }
}

static void
test_taking_outside_a_window_avoids_it(void)
{
    static struct model model;
    uint32_t offset = 0;

    model_start(&model, 100);
    CHECK_EQ(alloc_take_outside_locked(&model.shard, 51, 50, 60, &offset), PMC_DROPPED);
    CHECK_EQ(alloc_take_outside_locked(&model.shard, 50, 50, 60, &offset), PMC_OK);
    CHECK_EQ(offset, 0); /* of a hole that reaches into it, what is before it */
    CHECK_EQ(alloc_free_locked(&model.shard, 0, 50), PMC_OK);
    for (int i = 0; i < 10; i++)
        model_take(&model, 10);
    model_free(&model, 2);
    model_free(&model, 5);
    CHECK_EQ(alloc_take_outside_locked(&model.shard, 10, 20, 30, &offset), PMC_OK);
    CHECK(offset != 20);
    CHECK_EQ(alloc_take_outside_locked(&model.shard, 10, 20, 30, &offset), PMC_DROPPED);
    bare_shard_free(&model.shard);
}

static void
test_what_has_room_outside_a_window_is_known(void)
{
    static struct model model;

    model_start(&model, 64);
    CHECK(model_take(&model, 20));
    CHECK(model_take(&model, 20));
    CHECK(alloc_has_outside(&model.shard, 24, 0, 20)); /* [40, 64) is free */
    CHECK(!alloc_has_outside(&model.shard, 25, 0, 20));
    CHECK(!alloc_has_outside(&model.shard, 24, 20, 41));
    CHECK(!alloc_has_outside(&model.shard, 1, 0, 64));
    bare_shard_free(&model.shard);
}

/* Emptying a window walks over what it has freed: each part must go on saying
 * that it is free and where a later one began. */
static void
test_freed_extents_can_be_walked_after_they_merged(void)
{
    static struct model model;

    model_start(&model, 64);
    for (int i = 0; i < 3; i++)
        CHECK(model_take(&model, 20));
    for (int i = 0; i < 3; i++)
        model_free(&model, 0);
    CHECK_EQ(model.count, 0);
    CHECK_EQ(hole_at(&model.shard, 0)->size, 64);
    for (uint32_t start = 20; start <= 40; start += 20) {
        uint32_t at = start;

        while (at < 64 && CHECK(!extent_is_entry(&model.shard, at)))
            at += (uint32_t)extent_blocks(&model.shard, at);
        CHECK_EQ(at, 64);
    }
    bare_shard_free(&model.shard);
}

static void
test_rebuilding_refuses_what_overlaps_or_leaves_the_heap(void)
{
    static struct model model;
    struct alloc_rebuild rebuild;

    model_start(&model, 100);
    alloc_rebuild_begin(&rebuild, &model.shard);
    CHECK(alloc_rebuild_entry(&rebuild, 10, 10));
    CHECK(!alloc_rebuild_entry(&rebuild, 19, 5));
    CHECK(!alloc_rebuild_entry(&rebuild, 95, 6));
    CHECK(alloc_rebuild_entry(&rebuild, 20, 80));
    alloc_rebuild_end(&rebuild);
    CHECK_EQ(model.shard.header->free_blocks, 10);
    bare_shard_free(&model.shard);
}

/* Bytes of the heap are input: a head that lies is reported, not followed. */
static void
test_damaged_heads_are_reported(void)
{
    static struct model model;
    uint32_t offset;

    model_start(&model, 100);
    for (int i = 0; i < 10; i++)
        model_take(&model, 10);
    hole_at(&model.shard, 40)->before_blocks = 99;
    CHECK_EQ(alloc_free_locked(&model.shard, 40, 10), PMC_EDAMAGED);
    hole_at(&model.shard, 20)->size = EXTENT_ENTRY | EXTENT_SIZE;
    CHECK_EQ(alloc_free_locked(&model.shard, 10, 10), PMC_EDAMAGED);
    bare_shard_free(&model.shard);

    model_start(&model, 100);
    hole_at(&model.shard, 0)->size = 101;
    CHECK_EQ(alloc_take_locked(&model.shard, 5, &offset), PMC_EDAMAGED);
    bare_shard_free(&model.shard);
}

/* Three holes of one bin, between entries: one has a link to another hole that does not
 * lead back. False: that is the link that it has. */
static bool
free_beside_wrong_link(uint32_t from, bool is_next, uint32_t to)
{
    static struct model model;
    struct hole_head *hole;
    uint32_t *link;
    bool is_wrong;

    model_start(&model, 100);
    for (int i = 0; i < 10; i++)
        model_take(&model, 10);
    for (uint32_t at = 10; at <= 50; at += 20)
        CHECK_EQ(alloc_free_locked(&model.shard, at, 10), PMC_OK);
    hole = hole_at(&model.shard, from);
    link = is_next ? &hole->bin_next : &hole->bin_previous;
    is_wrong = *link != to;
    *link = to;
    CHECK_EQ(alloc_free_locked(&model.shard, from + 10, 10),
             is_wrong ? PMC_EDAMAGED : PMC_OK);
    bare_shard_free(&model.shard);
    return is_wrong;
}

/* Planted bug: a link to a hole is believed, whatever that hole says. */
static void
test_links_that_do_not_lead_back_are_reported(void)
{
    unsigned wrong = 0;

    for (uint32_t from = 10; from <= 50; from += 20)
        for (uint32_t to = 10; to <= 50; to += 20) {
            wrong += free_beside_wrong_link(from, true, to);
            wrong += free_beside_wrong_link(from, false, to);
        }
    CHECK_EQ(wrong, 18 - 4);
}

/* Sizes are bytes of the pool: what was none a moment ago may be one by now, as when the
 * file is cut short while a writer is at work. Planted bug: there is no bin for 0. */
static void
test_every_size_has_a_bin(void)
{
    CHECK(alloc_bin(0) < BIN_COUNT);
    for (uint32_t bit = 0; bit < 32; bit++) {
        CHECK(alloc_bin(UINT32_C(1) << bit) < BIN_COUNT);
        CHECK(alloc_bin(UINT32_MAX >> bit) < BIN_COUNT);
    }
}

int
main(void)
{
    RUN(test_random_operations_agree_with_a_plain_model);
    RUN(test_an_empty_heap_can_be_given_back_but_for_a_span);
    RUN(test_spans_are_as_old_as_their_youngest_part);
    RUN(test_a_hole_that_exists_is_found_whatever_its_bin_mates);
    RUN(test_bins_are_in_order_of_size);
    RUN(test_taking_outside_a_window_avoids_it);
    RUN(test_what_has_room_outside_a_window_is_known);
    RUN(test_freed_extents_can_be_walked_after_they_merged);
    RUN(test_rebuilding_refuses_what_overlaps_or_leaves_the_heap);
    RUN(test_damaged_heads_are_reported);
    RUN(test_links_that_do_not_lead_back_are_reported);
    RUN(test_every_size_has_a_bin);
    return check_report();
}
