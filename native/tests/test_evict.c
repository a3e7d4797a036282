/*
 * The policies: in what order entries are proposed, what a hit changes, what
 * ghosts remember.
 */
#include "evict.h"

#include "bare_shard.h"
#include "check.h"
#include "index.h"
#include "support.h"

#define CAPACITY 1000u
#define ENTRIES 448u

/* Entries of one size, so close together that only their heads have room: policies
 * look at nothing else. */
static struct shard
start_with(uint32_t entries, uint32_t capacity, const struct evict_policy *policy,
           uint32_t entry_blocks_wanted)
{
    const struct bare_geometry geometry = {.max_blocks = capacity,
                                           .max_buckets = entries / BUCKET_SLOTS,
                                           .ghost_sets = 256,
                                           .policy = policy};
    struct shard shard = bare_shard_make(&geometry);

    store_relaxed(&shard.header->limit_blocks, capacity);
    for (uint32_t entry = 0; entry < entries; entry++)
        bare_slot_fill(&shard, bare_slot(entry), entry * 2, entry_blocks_wanted);
    return shard;
}

static struct shard
start(const struct evict_policy *policy, uint32_t entry_blocks_wanted)
{
    return start_with(ENTRIES, CAPACITY, policy, entry_blocks_wanted);
}

static uint64_t
hash_of(uint32_t key)
{
    return (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void
admit(struct shard *shard, uint32_t entry)
{
    uint32_t slot = bare_slot(entry);
    uint32_t blocks = slot_blocks(shard, slot);
    bool remembered = shard->policy->recall(shard, hash_of(entry), blocks);

    shard->policy->admit(shard, slot, blocks, remembered);
}

static void
hit(struct shard *shard, uint32_t entry, uint32_t times)
{
    _Atomic uint8_t *heat = slot_heat(shard, bare_slot(entry));

    for (uint32_t i = 0; i < times; i++)
        store_relaxed(heat, shard->policy->bump == BUMP_CLOCK
                                ? (uint8_t)load_relaxed(&shard->header->lru_clock)
                                : (uint8_t)min_u64(load_relaxed(heat) + 1u, HEAT_MAX));
}

/* Propose one and take it; returns the entry. */
static uint32_t
evict(struct shard *shard)
{
    uint32_t slot = shard->policy->propose(shard);

    if (slot == NO_SLOT)
        return slot;
    CHECK_EQ(queue_of(shard, slot), QUEUE_CANDIDATE);
    shard->policy->evicted(shard, slot, hash_of(bare_slot_number(slot)),
                           slot_blocks(shard, slot));
    queue_remove_locked(shard, slot, slot_blocks(shard, slot));
    return bare_slot_number(slot);
}

static const struct evict_policy *const policies[] = {&evict_s3fifo, &evict_lru,
                                                      &evict_none};

static void
test_every_policy_proposes_each_entry_once_and_the_oldest_first(void)
{
    for (size_t i = 0; i < 3; i++) {
        struct shard shard = start(policies[i], 10);

        for (uint32_t slot = 0; slot < 50; slot++)
            admit(&shard, slot);
        for (uint32_t slot = 0; slot < 50; slot++)
            CHECK_EQ(evict(&shard), slot);
        CHECK_EQ(evict(&shard), NO_SLOT);
        bare_shard_free(&shard);
    }
}

static void
test_every_policy_ends_when_all_is_hot(void)
{
    for (size_t i = 0; i < 3; i++) {
        struct shard shard = start(policies[i], 10);
        bool seen[50] = {false};

        for (uint32_t slot = 0; slot < 50; slot++) {
            admit(&shard, slot);
            hit(&shard, slot, HEAT_MAX);
        }
        for (uint32_t turn = 0; turn < 50; turn++) {
            uint32_t slot = evict(&shard);

            if (CHECK(slot < 50)) {
                CHECK(!seen[slot]);
                seen[slot] = true;
            }
        }
        CHECK_EQ(evict(&shard), NO_SLOT);
        bare_shard_free(&shard);
    }
}

/* Planted bug: one put looks at all that are in use, while others wait for the lock. */
static void
test_one_proposal_passes_so_many_and_no_more(void)
{
    enum { MANY = 4 * PASSED_MOST / BUCKET_SLOTS * BUCKET_SLOTS };
    static const struct evict_policy *const moving[] = {&evict_s3fifo, &evict_lru};

    for (size_t i = 0; i < 2; i++) {
        struct shard shard = start_with(MANY, 4 * MANY, moving[i], 2);

        for (uint32_t entry = 0; entry < MANY; entry++)
            admit(&shard, entry);
        for (uint32_t entry = 0; entry < MANY; entry++)
            hit(&shard, entry, HEAT_MAX);
        CHECK_EQ(evict(&shard), PASSED_MOST);
        CHECK_EQ(evict(&shard), 2 * PASSED_MOST + 1);
        bare_shard_free(&shard);
    }
}

static void
test_a_hit_after_the_proposal_pardons(void)
{
    const struct evict_policy *const both[] = {&evict_s3fifo, &evict_lru};

    for (size_t i = 0; i < 2; i++) {
        struct shard shard = start(both[i], 10);

        for (uint32_t slot = 0; slot < 3; slot++)
            admit(&shard, slot);
        CHECK_EQ(shard.policy->propose(&shard), 0);
        CHECK(!shard.policy->pardon(&shard, 0, 10));
        hit(&shard, 0, 1);
        CHECK(shard.policy->pardon(&shard, 0, 10));
        CHECK(queue_of(&shard, 0) != QUEUE_CANDIDATE);
        CHECK_EQ(queue_of(&shard, 0), both[i] == &evict_s3fifo
                                          ? QUEUE_MAIN
                                          : QUEUE_LRU_FIRST); /* as used now */
        bare_shard_free(&shard);
    }
}

/* ---- s3fifo ---------------------------------------------------------- */

static void
test_s3fifo_promotes_what_is_hit_twice_and_drops_the_rest(void)
{
    struct shard shard = start(&evict_s3fifo, 10);

    for (uint32_t slot = 0; slot < 30; slot++)
        admit(&shard, slot);
    hit(&shard, 0, 2);
    hit(&shard, 1, 1);
    CHECK_EQ(evict(&shard), 1); /* one hit is not enough */
    CHECK_EQ(queue_of(&shard, 0), QUEUE_MAIN);
    for (uint32_t slot = 2; slot < 20; slot++)
        CHECK_EQ(evict(&shard), slot);
    bare_shard_free(&shard);
}

static void
test_s3fifo_takes_from_main_while_small_is_within_its_share(void)
{
    struct shard shard = start(&evict_s3fifo, 10);

    for (uint32_t slot = 0; slot < 60; slot++) {
        admit(&shard, slot);
        hit(&shard, slot, slot < 30 ? 2 : 0);
    }
    for (uint32_t slot = 30; slot < 50; slot++)
        CHECK_EQ(evict(&shard), slot); /* small is over its tenth */
    CHECK_EQ(shard.header->queues[QUEUE_SMALL].blocks, CAPACITY / 10);
    CHECK_EQ(evict(&shard), 0); /* the oldest of main, cold by now */
    bare_shard_free(&shard);
}

static void
test_s3fifo_ghosts_enter_main(void)
{
    struct shard shard = start(&evict_s3fifo, 10);

    admit(&shard, 0);
    admit(&shard, 1);
    CHECK_EQ(evict(&shard), 0);
    admit(&shard, 0);
    CHECK_EQ(queue_of(&shard, 0), QUEUE_MAIN);
    CHECK_EQ(queue_of(&shard, 1), QUEUE_SMALL);
    queue_remove_locked(&shard, 0, 10);
    admit(&shard, 0); /* a ghost serves once */
    CHECK_EQ(queue_of(&shard, 0), QUEUE_SMALL);
    bare_shard_free(&shard);
}

/* Ghosts last while nine tenths of the capacity leave after them. */
static void
test_s3fifo_ghosts_fade(void)
{
    static const struct {
        uint32_t leave;
        uint32_t queue;
    } cases[] = {{80, QUEUE_MAIN}, {95, QUEUE_SMALL}};

    for (size_t i = 0; i < 2; i++) {
        struct shard shard = start(&evict_s3fifo, 10);

        admit(&shard, 0);
        CHECK_EQ(evict(&shard), 0);
        for (uint32_t slot = 1; slot <= cases[i].leave; slot++) {
            admit(&shard, slot);
            CHECK_EQ(evict(&shard), slot);
        }
        admit(&shard, 0);
        CHECK_EQ(queue_of(&shard, 0), cases[i].queue);
        bare_shard_free(&shard);
    }
}

/* Planted bug: a place that nobody overwrites comes back to life when the ticks'
 * numbers have come round. */
static void
test_s3fifo_ghosts_stay_dead(void)
{
    for (uint32_t leave = 100; leave < 1200; leave += 50) {
        struct shard shard = start(&evict_s3fifo, 10);

        admit(&shard, 0);
        CHECK_EQ(evict(&shard), 0);
        for (uint32_t turn = 0; turn < leave; turn++)
            shard.policy->evicted(&shard, 1, hash_of(1000 + turn), 10);
        admit(&shard, 0);
        CHECK_EQ(queue_of(&shard, 0), QUEUE_SMALL);
        bare_shard_free(&shard);
    }
}

/* Planted bug: all ghosts are forgotten whenever there are some more entries. */
static void
test_ghosts_that_live_are_kept_until_twice_as_many_are_wanted(void)
{
    struct shard shard = start(&evict_s3fifo, 1);

    shard.header->ghost_sets = 8; /* 64 places: for 42 entries */
    store_relaxed(&shard.header->entries, 60);
    CHECK(index_wants(&shard) & INDEX_WANTS_GHOSTS);
    shard.header->ghost_queues[0].blocks = 1;
    CHECK(!(index_wants(&shard) & INDEX_WANTS_GHOSTS));
    store_relaxed(&shard.header->entries, 100);
    CHECK(index_wants(&shard) & INDEX_WANTS_GHOSTS);
    bare_shard_free(&shard);
}

/* The share moves towards the queue whose ghosts are missed, between 5 and 60 %. */
static void
test_s3fifo_adapts_within_bounds(void)
{
    struct shard shard = start(&evict_s3fifo, 10);
    uint64_t started = shard.header->small_share;

    for (uint32_t turn = 0; turn < 300; turn++) {
        admit(&shard, 0); /* always a ghost of small, but for the first */
        queue_remove_locked(&shard, 0, 10);
        shard.policy->evicted(&shard, 0, hash_of(0), 10);
    }
    CHECK(shard.header->small_share > started);
    CHECK_EQ(shard.header->small_share, SHARE_UNIT / 100 * 60);
    for (uint32_t turn = 0; turn < 300; turn++) {
        admit(&shard, 0); /* always a ghost of main */
        if (turn == 0) {
            queue_remove_locked(&shard, 0, 10);
            queue_push_locked(&shard, QUEUE_MAIN, 0, 10);
        }
        shard.policy->evicted(&shard, 0, hash_of(0), 10);
        queue_remove_locked(&shard, 0, 10);
    }
    CHECK_EQ(shard.header->small_share, SHARE_UNIT / 100 * 5);
    bare_shard_free(&shard);
}

/* A shard of entries of 10 blocks, which are the mean, where this one has others. */
static struct shard
start_with_one_of(uint32_t entry, uint32_t blocks)
{
    struct shard shard = start(&evict_s3fifo, 10);

    store_relaxed(&shard.header->entries, 50);
    store_relaxed(&shard.header->used_blocks, 500);
    bare_slot_fill(&shard, bare_slot(entry), entry * 2, blocks);
    return shard;
}

/* Planted bugs: sizes are compared the other way round; one hit is enough for all. */
static void
test_s3fifo_promotes_the_little_after_one_hit(void)
{
    static const struct {
        uint32_t blocks;
        uint32_t queue;
    } cases[] = {{2, QUEUE_MAIN}, {3, QUEUE_CANDIDATE}, {50, QUEUE_CANDIDATE}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shard shard = start_with_one_of(0, cases[i].blocks);

        for (uint32_t slot = 0; slot < 30; slot++)
            admit(&shard, slot);
        hit(&shard, 0, 1);
        shard.policy->propose(&shard);
        CHECK_EQ(queue_of(&shard, 0), cases[i].queue);
        bare_shard_free(&shard);
    }
}

/* Planted bug: the large keep what is left of their heat. */
static void
test_s3fifo_gives_the_large_one_second_chance(void)
{
    static const struct {
        uint32_t blocks;
        uint32_t heat;
    } cases[] = {{10, HEAT_MAX - 1}, {40, HEAT_MAX - 1}, {41, 0}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shard shard = start_with_one_of(0, cases[i].blocks);

        for (uint32_t slot = 0; slot < 30; slot++) {
            uint32_t blocks = slot_blocks(&shard, bare_slot(slot));

            shard.policy->admit(&shard, bare_slot(slot), blocks, true);
        }
        hit(&shard, 0, HEAT_MAX);
        CHECK_EQ(evict(&shard), 1); /* the first of main has another turn */
        CHECK_EQ(queue_of(&shard, 0), QUEUE_MAIN);
        CHECK_EQ(load_relaxed(slot_heat(&shard, 0)), cases[i].heat);
        bare_shard_free(&shard);
    }
}

/* A ghost of this size that so many blocks became ghosts after comes back: is the
 * small queue longer now? */
static bool
ghost_lengthens_small(uint32_t blocks, uint32_t ghosts_after)
{
    struct shard shard = start_with_one_of(0, blocks);
    uint64_t started = shard.header->small_share;
    bool longer;

    admit(&shard, 0);
    CHECK_EQ(evict(&shard), 0);
    for (uint32_t turn = 0; turn < ghosts_after; turn++)
        shard.policy->evicted(&shard, 1, hash_of(1000 + turn), 1);
    admit(&shard, 0);
    CHECK_EQ(queue_of(&shard, 0), QUEUE_MAIN);
    longer = shard.header->small_share > started;
    bare_shard_free(&shard);
    return longer;
}

/* Planted bugs: the depth of a ghost is not asked for; it is for all sizes. */
static void
test_s3fifo_is_not_moved_by_deep_ghosts_of_the_large(void)
{
    CHECK(ghost_lengthens_small(20, 100));  /* a tenth more would have been enough */
    CHECK(!ghost_lengthens_small(20, 400)); /* two fifths more */
    CHECK(ghost_lengthens_small(10, 400));  /* no larger than the others */
}

/* ---- lru ------------------------------------------------------------- */

/* Entries used in another order than they came leave in the order of use. */
static void
test_lru_evicts_in_the_order_of_use(void)
{
    struct shard shard = start(&evict_lru, 40); /* above a thirtieth: all told apart */

    for (uint32_t slot = 0; slot < 20; slot++)
        admit(&shard, slot);
    hit(&shard, 3, 1);
    admit(&shard, 20);
    hit(&shard, 0, 1);
    admit(&shard, 21);
    for (uint32_t slot = 1; slot < 20; slot++)
        if (slot != 3)
            CHECK_EQ(evict(&shard), slot);
    /* 20 came after 3 was used, 0 was used after that, and 21 came last. */
    CHECK_EQ(evict(&shard), 3);
    CHECK_EQ(evict(&shard), 20);
    CHECK_EQ(evict(&shard), 0);
    CHECK_EQ(evict(&shard), 21);
    bare_shard_free(&shard);
}

/* The clock's numbers come round: the order must survive it. */
static void
test_lru_keeps_the_order_when_its_clock_comes_round(void)
{
    struct shard shard = start(&evict_lru, 40);
    uint32_t oldest = 0;

    for (uint32_t turn = 0; turn < 1000; turn++) {
        admit(&shard, turn % 200);
        if (turn >= 20)
            CHECK_EQ(evict(&shard), oldest++ % 200);
    }
    bare_shard_free(&shard);
}

/* ---- none ------------------------------------------------------------ */

static void
test_none_forgets_hits(void)
{
    struct shard shard = start(&evict_none, 10);

    admit(&shard, 0);
    admit(&shard, 1);
    hit(&shard, 0, 3);
    CHECK_EQ(evict(&shard), 0);
    CHECK_EQ(evict(&shard), 1);
    bare_shard_free(&shard);
}

static void
test_policies_are_found_by_name(void)
{
    CHECK(evict_policy_of(PMC_EVICT_S3FIFO) == &evict_s3fifo);
    CHECK(evict_policy_of(PMC_EVICT_LRU) == &evict_lru);
    CHECK(evict_policy_of(PMC_EVICT_NONE) == &evict_none);
}

int
main(void)
{
    RUN(test_every_policy_proposes_each_entry_once_and_the_oldest_first);
    RUN(test_every_policy_ends_when_all_is_hot);
    RUN(test_one_proposal_passes_so_many_and_no_more);
    RUN(test_a_hit_after_the_proposal_pardons);
    RUN(test_s3fifo_promotes_what_is_hit_twice_and_drops_the_rest);
    RUN(test_s3fifo_takes_from_main_while_small_is_within_its_share);
    RUN(test_s3fifo_ghosts_enter_main);
    RUN(test_s3fifo_ghosts_fade);
    RUN(test_s3fifo_ghosts_stay_dead);
    RUN(test_ghosts_that_live_are_kept_until_twice_as_many_are_wanted);
    RUN(test_s3fifo_adapts_within_bounds);
    RUN(test_s3fifo_promotes_the_little_after_one_hit);
    RUN(test_s3fifo_gives_the_large_one_second_chance);
    RUN(test_s3fifo_is_not_moved_by_deep_ghosts_of_the_large);
    RUN(test_lru_evicts_in_the_order_of_use);
    RUN(test_lru_keeps_the_order_when_its_clock_comes_round);
    RUN(test_none_forgets_hits);
    RUN(test_policies_are_found_by_name);
    return check_report();
}
