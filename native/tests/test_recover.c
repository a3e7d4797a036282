/*
 * Recovery: what it keeps of a shard that was left in order, or nearly so, and what
 * it must not keep.
 */
#include "alloc.h"
#include "cache.h"
#include "check.h"
#include "evict.h"
#include "hash.h"
#include "queue.h"
#include "support.h"

#define POOL_BYTES (1024u * 1024u)
#define KEYS 40u
#define VALUE_BYTES 100u
#define LONG_VALUE_BYTES 1000u

/* ---- a shard whose entries are known ---------------------------------- */

static void
put_number(struct pmc_cache *cache, uint64_t key, size_t value_bytes)
{
    uint8_t value[LONG_VALUE_BYTES];

    fill_pattern(value, value_bytes, key);
    CHECK_EQ(pmc_put(cache, &key, sizeof key, value, value_bytes, NULL), PMC_OK);
}

/* All of them are in the small queue then, in the order of their numbers. */
static struct pmc_cache *
open_with_keys(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_S3FIFO);

    for (uint64_t key = 0; key < KEYS; key++)
        put_number(cache, key, key == 0 ? LONG_VALUE_BYTES : VALUE_BYTES);
    return cache;
}

static uint32_t
slot_of(const struct shard *shard, uint64_t key)
{
    uint64_t hash = hash_bytes(&key, sizeof key, shard->hash_seed);

    return index_find_locked(shard, hash, &key, sizeof key);
}

static void
recover(struct pmc_cache *cache)
{
    CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
    shard_recover_locked(&cache->shards[0]);
    shard_unlock(&cache->shards[0]);
    CHECK_EQ(pmc_check(cache, NULL, 0), 0);
}

/* ---- the order of the queues ------------------------------------------- */

enum breakage {
    BREAK_NOTHING = 0,
    BREAK_NEXT = 1,     /* the older of two no longer knows the younger */
    BREAK_PREVIOUS = 2, /* the other way round */
    BREAK_BOTH = 3,
};

static void
break_links(struct shard *shard, uint64_t older, unsigned breakage)
{
    uint32_t from = slot_of(shard, older);
    uint32_t to = slot_of(shard, older + 1);

    if (breakage & BREAK_NEXT)
        queue_entry(shard, from)->next = NO_SLOT;
    if (breakage & BREAK_PREVIOUS)
        shard->links[to / BUCKET_STRIDE].previous[to % BUCKET_STRIDE] = NO_SLOT;
}

/* Planted bugs: queues read from their heads only, or from their tails only; the two
 * parts put together the wrong way round. */
static void
test_the_order_of_a_queue_outlives_one_broken_place(void)
{
    for (unsigned breakage = BREAK_NOTHING; breakage <= BREAK_BOTH; breakage++)
        for (uint64_t older = 0; older + 1 < KEYS; older++) {
            struct pmc_cache *cache = open_with_keys();
            struct shard *shard = &cache->shards[0];
            uint32_t slot;

            break_links(shard, older, breakage);
            recover(cache);
            slot = queue_head(shard, QUEUE_SMALL);
            for (uint64_t key = 0; key < KEYS; key++) {
                if (!CHECK_EQ(slot, slot_of(shard, key)))
                    break;
                slot = queue_next(shard, slot);
            }
            CHECK_EQ(slot, NO_SLOT);
            pmc_close(cache);
        }
}

/* Planted bug: leftovers pushed before the others. */
static void
test_what_no_queue_knows_comes_last(void)
{
    struct pmc_cache *cache = open_with_keys();
    struct shard *shard = &cache->shards[0];
    uint32_t lost = slot_of(shard, 7);

    queue_remove_locked(shard, lost, slot_blocks(shard, lost));
    recover(cache);
    CHECK_EQ(queue_head(shard, QUEUE_MAIN), lost);
    CHECK_EQ(shard->header->queues[QUEUE_SMALL].entries, KEYS - 1);
    CHECK_EQ(queue_head(shard, QUEUE_SMALL), slot_of(shard, 0));
    pmc_close(cache);
}

/* ---- entries that overlap ---------------------------------------------- */

/* Let a slot lead to a copy of its entry's head and key that begins so many blocks
 * before the end of the entry of key 0. */
static void
let_overlap(struct shard *shard, uint64_t key, uint32_t blocks)
{
    uint32_t slot = slot_of(shard, key);
    uint32_t around = slot_of(shard, 0);
    uint32_t end = slot_offset(shard, around) + slot_blocks(shard, around);

    CHECK_EQ(slot_offset(shard, slot_of(shard, 1)), end);
    memcpy(entry_at(shard, end - blocks), entry_at(shard, slot_offset(shard, slot)),
           entry_bytes(sizeof key, 0));
    store_relaxed(&slot_bucket(shard, slot)->offset[slot % BUCKET_STRIDE],
                  end - blocks);
}

/* The copy reaches into the entry of key 1. Planted bugs: the first kept; their slots
 * kept; the third, which overlaps the second alone, kept. */
static void
test_of_entries_that_overlap_none_is_kept_and_all_others_are(void)
{
    struct pmc_cache *cache = open_with_keys();
    struct pmc_stats before;
    struct pmc_stats after;

    pmc_stats(cache, &before);
    let_overlap(&cache->shards[0], 3, 3);
    recover(cache);
    pmc_stats(cache, &after);
    CHECK_EQ(after.entries, KEYS - 3);
    CHECK_EQ(after.damaged - before.damaged, 3);
    for (uint64_t key = 0; key < KEYS; key++) {
        bool overlapped = key == 0 || key == 1 || key == 3;
        uint8_t value[LONG_VALUE_BYTES];
        enum pmc_status status =
            pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL);

        CHECK_EQ(status, overlapped ? PMC_MISS : PMC_OK);
        CHECK(overlapped || has_pattern(value, VALUE_BYTES, key));
    }
    pmc_close(cache);
}

/* ---- entries that two slots lead to ------------------------------------- */

/* Let the slot of a key lead to the entry of another. */
static void
let_lead_to(struct shard *shard, uint64_t key, uint64_t other)
{
    uint32_t slot = slot_of(shard, key);
    struct slot_content content = index_read_slot(shard, slot);
    struct slot_content theirs = index_read_slot(shard, slot_of(shard, other));

    content.offset = theirs.offset;
    content.tag = theirs.tag;
    index_write_slot(shard, slot, &content);
}

/* False: they are in one chain, where the wrong slot comes first. That it is emptied
 * shows when somebody meets the other, whose entry is none then. */
static bool
is_refused(struct shard *shard, uint64_t other)
{
    uint32_t slot = slot_of(shard, 0);
    uint64_t hash = hash_bytes(&other, sizeof other, shard->hash_seed);
    enum pmc_status status = PMC_OK;

    let_lead_to(shard, 0, other);
    if (index_find_offset_locked(shard, hash, slot_offset(shard, slot)) == slot)
        return false;
    if (CHECK_EQ(shard_lock(shard, false), PMC_OK)) {
        status = shard_drop_locked(shard, slot, hash, PMC_CAUSE_EVICTED, NULL);
        shard_unlock(shard);
    }
    return CHECK_EQ(status, PMC_EDAMAGED);
}

/* Planted bug: whoever empties a slot believes that its entry is its own. */
static void
test_an_entry_is_freed_by_its_own_slot_only(void)
{
    unsigned refused = 0;

    for (uint64_t other = 1; other < KEYS; other++) {
        struct pmc_cache *cache = open_with_keys();

        if (is_refused(&cache->shards[0], other)) {
            refused++;
            recover(cache);
            for (uint64_t key = 1; key < KEYS; key++) {
                uint8_t value[LONG_VALUE_BYTES];

                CHECK_EQ(pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL),
                         PMC_OK);
                CHECK(has_pattern(value, VALUE_BYTES, key));
            }
        }
        pmc_close(cache);
    }
    CHECK(refused > KEYS / 2);
}

int
main(void)
{
    RUN(test_the_order_of_a_queue_outlives_one_broken_place);
    RUN(test_what_no_queue_knows_comes_last);
    RUN(test_of_entries_that_overlap_none_is_kept_and_all_others_are);
    RUN(test_an_entry_is_freed_by_its_own_slot_only);
    return check_report();
}
