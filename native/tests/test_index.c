/*
 * The index against a plain model: which keys are in, and at which offset.
 */
#include "index.h"

#include "bare_shard.h"
#include "check.h"
#include "support.h"

#define KEYS 3000u
#define ENTRY_BLOCKS 3u
#define MAX_BUCKETS 512u

struct model {
    struct shard shard;
    bool present[KEYS];
    uint64_t hash[KEYS];
    uint32_t entries;
};

/* Key number k lies at block 2k for ever; only the index changes. */
static void
model_start(struct model *model, uint32_t max_buckets, uint32_t max_overflow)
{
    const struct bare_geometry geometry = {.max_blocks = KEYS * ENTRY_BLOCKS,
                                           .max_buckets = max_buckets,
                                           .max_overflow = max_overflow,
                                           .policy = &evict_none};

    memset(model, 0, sizeof *model);
    model->shard = bare_shard_make(&geometry);
    store_relaxed(&model->shard.header->limit_blocks, geometry.max_blocks);
    for (uint32_t key = 0; key < KEYS; key++)
        model->hash[key] = bare_entry_write(&model->shard, key * ENTRY_BLOCKS, key);
}

static uint32_t
find_key(const struct model *model, uint64_t key)
{
    return index_find_locked(&model->shard, model->hash[key], &key, sizeof key);
}

static bool
model_insert(struct model *model, uint32_t key)
{
    struct slot_content content = {.offset = key * ENTRY_BLOCKS,
                                   .tag = index_tag(model->hash[key]) |
                                          index_check(0, sizeof(uint64_t)),
                                   .heat = (uint8_t)(key % 4)};
    uint32_t slot = index_insert_locked(&model->shard, model->hash[key], &content);

    if (slot == NO_SLOT)
        return false;
    model->present[key] = true;
    store_relaxed(&model->shard.header->entries, ++model->entries);
    queue_push_locked(&model->shard, QUEUE_MAIN, slot, ENTRY_BLOCKS);
    index_balance_locked(&model->shard);
    return true;
}

static void
model_remove(struct model *model, uint32_t key)
{
    uint32_t slot = find_key(model, key);

    if (!CHECK(slot != NO_SLOT))
        return;
    queue_remove_locked(&model->shard, slot, ENTRY_BLOCKS);
    index_remove_locked(&model->shard, model->hash[key], slot);
    model->present[key] = false;
    store_relaxed(&model->shard.header->entries, --model->entries);
}

/* Every key is found or not, its slot is whole, buckets are even, and the queue
 * names each entry once however its slot moved. */
static void
model_compare(const struct model *model)
{
    const struct shard *shard = &model->shard;
    uint32_t count = load_relaxed(&shard->header->bucket_count);
    uint32_t slot = shard->header->queues[QUEUE_MAIN].head;
    uint32_t queued = 0;

    for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t found = find_key(model, key);

        if (!CHECK_EQ(found != NO_SLOT, model->present[key]) || found == NO_SLOT)
            continue;
        CHECK_EQ(index_read_slot(shard, found).heat, key % 4);
        CHECK_EQ(index_find_offset_locked(shard, model->hash[key], key * ENTRY_BLOCKS),
                 found);
    }
    for (uint32_t number = 0; number < count; number++)
        CHECK_EQ(load_relaxed(&shard->buckets[number].seq) & SEQ_ODD, 0);
    for (; slot != NO_SLOT && queued <= model->entries; queued++) {
        CHECK(slot_tag(slot_bucket(shard, slot), slot % BUCKET_STRIDE) != 0);
        slot = queue_next(shard, slot);
    }
    CHECK_EQ(queued, model->entries);
    CHECK_EQ(load_relaxed(&shard->header->intent_kind), INTENT_NONE);
}

static uint32_t
overflow_in_chains(const struct shard *shard)
{
    uint32_t buckets = 0;

    for (uint32_t primary = 0; primary < load_relaxed(&shard->header->bucket_count);
         primary++)
        for (uint32_t at = index_chain_next(shard, primary); at != NO_BUCKET;
             at = index_chain_next(shard, at))
            buckets++;
    return buckets;
}

static uint32_t
overflow_on_free_list(const struct shard *shard)
{
    uint32_t buckets = 0;

    for (uint32_t at = shard->header->overflow_free;
         at != NO_BUCKET && buckets <= shard->max_overflow;
         at = shard->links[at].next_free)
        buckets++;
    return buckets;
}

static void
test_random_operations_agree_with_a_plain_model(void)
{
    struct random random = random_start("index");
    static struct model model;

    model_start(&model, MAX_BUCKETS, MAX_BUCKETS / 4 + 8);
    for (uint32_t step = 0; step < 40000; step++) {
        uint32_t key = random_below(&random, KEYS);

        if (model.present[key])
            model_remove(&model, key);
        else
            CHECK(model_insert(&model, key));
        if (step % 4000 == 0)
            model_compare(&model);
    }
    model_compare(&model);
    bare_shard_free(&model.shard);
}

static void
test_growth_keeps_the_load_down(void)
{
    static struct model model;

    model_start(&model, MAX_BUCKETS, MAX_BUCKETS / 4 + 8);
    for (uint32_t key = 0; key < KEYS; key++)
        CHECK(model_insert(&model, key));
    model_compare(&model);
    CHECK(load_relaxed(&model.shard.header->bucket_count) * BUCKET_SLOTS * 17 / 20 >=
          KEYS - BUCKET_SLOTS);
    bare_shard_free(&model.shard);
}

/* Planted bug: buckets of a chain that a split emptied are forgotten. */
static void
test_splits_shorten_chains_and_lose_no_overflow_bucket(void)
{
    static struct model model;
    const struct shard_header *header;

    model_start(&model, MAX_BUCKETS, 400);
    header = model.shard.header;
    model.shard.header->bucket_limit = 1; /* no splits yet: chains grow */
    for (uint32_t key = 0; key < 400; key++)
        CHECK(model_insert(&model, key));
    CHECK_EQ(overflow_in_chains(&model.shard), 400 / BUCKET_SLOTS);
    model.shard.header->bucket_limit = MAX_BUCKETS;
    while (load_relaxed(&header->bucket_count) * 6 < 400)
        index_balance_locked(&model.shard);
    model_compare(&model);
    CHECK(overflow_in_chains(&model.shard) < 30);
    CHECK_EQ(overflow_in_chains(&model.shard) + overflow_on_free_list(&model.shard),
             header->overflow_used);
    bare_shard_free(&model.shard);
}

/* Planted bugs: a removal never shortens its chain, or leaves a bucket that could be
 * spared, or one whose entries were not pulled. */
static void
test_removals_give_back_buckets_that_can_be_spared(void)
{
    static struct model model;

    model_start(&model, 1, 400); /* one chain for all */
    for (uint32_t key = 0; key < 400; key++)
        CHECK(model_insert(&model, key));
    for (uint32_t turn = 0; turn < 400; turn++) {
        model_remove(&model, turn * 137 % 400); /* from here and there */
        CHECK_EQ(overflow_in_chains(&model.shard),
                 model.entries ? (model.entries - 1) / BUCKET_SLOTS : 0);
    }
    model_compare(&model);
    CHECK_EQ(overflow_on_free_list(&model.shard), model.shard.header->overflow_used);
    bare_shard_free(&model.shard);
}

static bool
is_in_a_chain(const struct shard *shard, uint32_t number)
{
    for (uint32_t primary = 0; primary < load_relaxed(&shard->header->bucket_count);
         primary++)
        for (uint32_t at = primary; at != NO_BUCKET; at = index_chain_next(shard, at))
            if (at == number)
                return true;
    return false;
}

/* A split that finds no overflow bucket must leave all as it was. */
static void
test_a_split_without_room_changes_nothing(void)
{
    static struct model model;

    model_start(&model, 64, 40);
    model.shard.header->bucket_limit = 1;
    for (uint32_t key = 0; key < 210; key++)
        CHECK(model_insert(&model, key));
    /* Two are free, which a split asks for, but this chain needs more. */
    store_relaxed(&model.shard.header->overflow_limit,
                  model.shard.header->overflow_used + 2);
    model.shard.header->bucket_limit = 64;
    for (int i = 0; i < 10; i++)
        index_balance_locked(&model.shard);
    model_compare(&model);
    CHECK_EQ(overflow_in_chains(&model.shard) + overflow_on_free_list(&model.shard),
             model.shard.header->overflow_used);
    for (uint32_t number = 0; number < model.shard.header->overflow_used; number++)
        CHECK(is_in_a_chain(&model.shard, 64 + number) ||
              index_bucket_is_empty(
                  &model.shard.buckets[64 + number])); /* sweeps look there */
    bare_shard_free(&model.shard);
}

static void
test_a_full_chain_refuses_and_offers_a_neighbour(void)
{
    static struct model model;
    uint32_t key = 0;

    model_start(&model, 1, 2);
    while (key < KEYS && model_insert(&model, key))
        key++;
    CHECK_EQ(key, 3 * BUCKET_SLOTS);
    CHECK(index_any_in_chain(&model.shard, model.hash[key]) != NO_SLOT);
    model_compare(&model);
    model_remove(&model, 5);
    CHECK(model_insert(&model, key));
    model_compare(&model);
    bare_shard_free(&model.shard);
}

/* Once many overflow buckets were needed and are no more, splits must go on:
 * what is on the free list is free. */
static void
test_splits_go_on_after_a_crowd_has_left(void)
{
    static struct model model;
    uint32_t before;

    model_start(&model, MAX_BUCKETS, 64);
    model.shard.header->bucket_limit = 8;
    for (uint32_t key = 0; key < KEYS && model_insert(&model, key); key++)
        ;
    CHECK_EQ(model.shard.header->overflow_used, 64);
    for (uint32_t key = 0; key < KEYS; key++)
        if (model.present[key] && key % 8)
            model_remove(&model, key);
    before = load_relaxed(&model.shard.header->bucket_count);
    model.shard.header->bucket_limit = MAX_BUCKETS;
    for (uint32_t key = 1; key < KEYS; key += 8)
        if (!model.present[key])
            model_insert(&model, key);
    CHECK(load_relaxed(&model.shard.header->bucket_count) > before);
    model_compare(&model);
    bare_shard_free(&model.shard);
}

static void
test_linear_hashing_reaches_every_bucket(void)
{
    struct random random = {.state = 3};

    for (uint32_t count = 1; count < 300; count++)
        for (int i = 0; i < 200; i++) {
            uint64_t hash = random_next(&random);
            uint32_t now = index_bucket_of(hash, count);
            uint32_t after = index_bucket_of(hash, count + 1);

            CHECK(now < count);
            /* One more bucket moves keys to that bucket only. */
            CHECK(after == now || after == count);
        }
}

/* Planted bug: a fold in which two bits of the sizes can cancel each other. */
static void
test_each_bit_of_the_sizes_changes_the_check(void)
{
    struct random random = {.state = 5};

    for (int i = 0; i < 10000; i++) {
        uint32_t size = (uint32_t)random_next(&random) & EXTENT_SIZE;
        uint32_t key_size = (uint32_t)random_next(&random) & 0xffff;

        for (uint32_t bit = 0; bit < 31; bit++)
            CHECK(index_check(size ^ 1u << bit, key_size) !=
                  index_check(size, key_size));
        for (uint32_t bit = 0; bit < 16; bit++)
            CHECK(index_check(size, key_size ^ 1u << bit) !=
                  index_check(size, key_size));
    }
}

static void
test_tags_match_where_they_are(void)
{
    struct random random = {.state = 4};

    for (int i = 0; i < 10000; i++) {
        struct bucket bucket = {0};
        uint32_t way = random_below(&random, BUCKET_SLOTS);
        uint32_t matches;
        bool found = false;
        uint16_t tag;

        for (uint32_t other = 0; other < BUCKET_SLOTS; other++)
            store_relaxed(&bucket.tags[other],
                          (uint16_t)(random_next(&random) & (i % 2 ? 0xffff : 0x3f)));
        store_relaxed(&bucket.heat[0], (uint8_t)random_next(&random));
        tag = slot_tag(&bucket, way) & TAG_HASH;
        matches = index_matches(&bucket, tag);
        for (uint32_t other = 0; other < BUCKET_SLOTS; other++)
            CHECK_EQ(matches >> 2 * other & 3,
                     (slot_tag(&bucket, other) & TAG_HASH) == tag);
        CHECK_EQ(slot_tag(&bucket, index_match_way(matches)) & TAG_HASH, tag);
        for (; matches; matches &= matches - 1)
            found = found || index_match_way(matches) == way;
        CHECK(found);
    }
    CHECK(index_tag(0) != 0);
}

int
main(void)
{
    RUN(test_random_operations_agree_with_a_plain_model);
    RUN(test_growth_keeps_the_load_down);
    RUN(test_splits_shorten_chains_and_lose_no_overflow_bucket);
    RUN(test_removals_give_back_buckets_that_can_be_spared);
    RUN(test_a_split_without_room_changes_nothing);
    RUN(test_a_full_chain_refuses_and_offers_a_neighbour);
    RUN(test_splits_go_on_after_a_crowd_has_left);
    RUN(test_linear_hashing_reaches_every_bucket);
    RUN(test_tags_match_where_they_are);
    RUN(test_each_bit_of_the_sizes_changes_the_check);
    return check_report();
}
