/*
 * Recovery: what it keeps of a shard that was left in order, or nearly so, and what
 * it must not keep.
 */
#include <pthread.h>

#include "alloc.h"
#include "cache.h"
#include "check.h"
#include "evict.h"
#include "hash.h"
#include "queue.h"
#include "support.h"

#define POOL_BYTES (1024u * 1024u)
#define KEYS 40u
#define MANY_KEYS 400u /* pieces of queues are of some length then */
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
open_with_numbers(uint64_t keys)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_S3FIFO);

    for (uint64_t key = 0; key < keys; key++)
        put_number(cache, key, key == 0 ? LONG_VALUE_BYTES : VALUE_BYTES);
    return cache;
}

static struct pmc_cache *
open_with_keys(void)
{
    return open_with_numbers(KEYS);
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

static void
check_order_outlives(uint64_t keys, uint64_t older, unsigned breakage)
{
    struct pmc_cache *cache = open_with_numbers(keys);
    struct shard *shard = &cache->shards[0];
    uint32_t slot;

    break_links(shard, older, breakage);
    recover(cache);
    slot = queue_head(shard, QUEUE_SMALL);
    for (uint64_t key = 0; key < keys; key++) {
        if (!CHECK_EQ(slot, slot_of(shard, key)))
            break;
        slot = queue_next(shard, slot);
    }
    CHECK_EQ(slot, NO_SLOT);
    pmc_close(cache);
}

/* Planted bugs: queues read from their heads only, or from their tails only; the two
 * parts put together the wrong way round. */
static void
test_the_order_of_a_queue_outlives_one_broken_place(void)
{
    for (unsigned breakage = BREAK_NOTHING; breakage <= BREAK_BOTH; breakage++) {
        for (uint64_t older = 0; older + 1 < KEYS; older++)
            check_order_outlives(KEYS, older, breakage);
        for (uint64_t older = 0; older + 1 < MANY_KEYS; older += MANY_KEYS / 8)
            check_order_outlives(MANY_KEYS, older, breakage);
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

/* What recover() finds right: each entry is in one queue, and led to. */
static void
check_all_are_kept(struct pmc_cache *cache)
{
    for (uint64_t key = 0; key < KEYS; key++) {
        uint8_t value[LONG_VALUE_BYTES];

        CHECK_EQ(pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL),
                 PMC_OK);
    }
    pmc_close(cache);
}

static void
set_links(struct shard *shard, uint32_t older, uint32_t younger)
{
    queue_entry(shard, older)->next = younger;
    shard->links[younger / BUCKET_STRIDE].previous[younger % BUCKET_STRIDE] = older;
}

/* Of a ring every link agrees with the other end, and yet no queue leads there. Planted
 * bugs: rings taken for whole because their links agree; only the ends of what belongs
 * to nobody told their new queue; doubt that outlives recovery. */
static void
test_entries_in_a_ring_are_led_to_again(void)
{
    for (uint64_t last = 2; last + 1 < MANY_KEYS; last += last / 2) {
        struct pmc_cache *cache = open_with_numbers(MANY_KEYS);
        struct shard *shard = &cache->shards[0];

        set_links(shard, slot_of(shard, 0), slot_of(shard, last + 1));
        set_links(shard, slot_of(shard, last), slot_of(shard, 1));
        shard->header->queues_doubtful = 1;
        recover(cache);
        CHECK_EQ(load_relaxed(&shard->header->recoveries), 1);
        CHECK_EQ(shard->header->queues[QUEUE_SMALL].entries, MANY_KEYS - last);
        CHECK_EQ(shard->header->queues[QUEUE_MAIN].entries, last);
        check_all_are_kept(cache);
    }
}

/* The head and the tail of a queue lead to one entry each. Planted bug: a piece that
 * begins where it ends not told from none. */
static void
test_links_that_are_all_broken_cost_no_entry(void)
{
    struct pmc_cache *cache = open_with_keys();
    struct shard *shard = &cache->shards[0];
    uint32_t last = slot_of(shard, KEYS - 1);

    for (uint64_t older = 0; older + 1 < KEYS; older++)
        break_links(shard, older, BREAK_BOTH);
    recover(cache);
    CHECK_EQ(queue_head(shard, QUEUE_SMALL), slot_of(shard, 0));
    CHECK_EQ(queue_next(shard, slot_of(shard, 0)), last);
    CHECK_EQ(shard->header->queues[QUEUE_MAIN].entries, KEYS - 2);
    check_all_are_kept(cache);
}

/* Between two queues, in one that there is not, or in none although both sides agree.
 * Planted bug: neighbours believed whatever their queues. */
static void
test_an_entry_that_names_another_queue_than_its_neighbours_is_put_right(void)
{
    static const uint8_t numbers[] = {0, QUEUE_MAIN, QUEUES, STATE_QUEUE};

    for (size_t i = 0; i < sizeof numbers; i++)
        for (uint64_t key = 0; key < KEYS; key++) {
            struct pmc_cache *cache = open_with_keys();
            struct shard *shard = &cache->shards[0];
            uint32_t slot = slot_of(shard, key);

            store_relaxed(slot_state(shard, slot), numbers[i]);
            recover(cache);
            CHECK_EQ(shard->header->queues[QUEUE_SMALL].entries,
                     numbers[i] == 0 ? KEYS : KEYS - 1);
            check_all_are_kept(cache);
        }
}

/* Whatever a head and a tail name: nothing, each other, or an entry in between. Planted
 * bug: a queue begun in the middle of a piece. */
static void
test_heads_and_tails_that_lead_astray_cost_no_entry(void)
{
    for (uint64_t key = 0; key < KEYS; key++)
        for (unsigned which = 0; which < 3; which++) {
            struct pmc_cache *cache = open_with_keys();
            struct shard *shard = &cache->shards[0];
            struct queue *queue = &shard->header->queues[QUEUE_SMALL];

            if (which != 1)
                queue->head = key == 0 ? NO_SLOT : slot_of(shard, key);
            if (which != 0)
                queue->tail =
                    key == 0 ? UINT32_MAX - 1 : slot_of(shard, KEYS - 1 - key);
            recover(cache);
            if (which != 2)
                CHECK_EQ(queue_head(shard, QUEUE_SMALL), slot_of(shard, 0));
            check_all_are_kept(cache);
        }
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

/* ---- entries beside each other ------------------------------------------- */

/* Planted bug: what an entry says of the one before it left as it is. */
static void
test_an_entry_that_is_wrong_about_the_one_before_it_is_put_right(void)
{
    struct pmc_cache *cache = open_with_keys();
    struct shard *shard = &cache->shards[0];

    for (uint64_t key = 0; key < KEYS; key++)
        entry_at(shard, slot_offset(shard, slot_of(shard, key)))->before_blocks ^= 5;
    recover(cache);
    check_all_are_kept(cache);
}

/* ---- numbers of entries -------------------------------------------------- */

/* Entries know the low halves of theirs. Planted bugs: the highest of those taken for
 * the last one given; the counter left below them. */
static void
test_no_number_is_given_twice(void)
{
    struct pmc_cache *cache = open_with_keys();
    _Atomic uint64_t *generation = &cache->shards[0].header->generation;
    uint64_t last = load_relaxed(generation);

    store_relaxed(generation, UINT64_C(1) << 33);
    recover(cache);
    CHECK_EQ(load_relaxed(generation), UINT64_C(1) << 33);
    store_relaxed(generation, 0);
    recover(cache);
    CHECK_EQ(load_relaxed(generation), last);
    pmc_close(cache);
}

/* ---- numbers of the header ------------------------------------------------ */

/* A number that readers go by. */
struct number {
    _Atomic uint32_t *in_header;
    uint32_t value;
    bool is_possible;
    bool remembers; /* the shard, when it is recovered */
};

static void
check_number_is_put_right(struct pmc_cache *cache, const struct number *number)
{
    struct shard *shard = &cache->shards[0];
    uint64_t key = 7;

    store_relaxed(number->in_header, number->value);
    CHECK_EQ(shard_geometry_is_possible(shard), number->is_possible);
    if (number->is_possible)
        return;
    recover(cache);
    CHECK(shard_geometry_is_possible(shard));
    CHECK_EQ(pmc_exists(cache, &key, sizeof key),
             number->remembers ? PMC_OK : PMC_MISS);
    put_number(cache, key, VALUE_BYTES);
    CHECK_EQ(pmc_check(cache, NULL, 0), 0);
}

/* Only the number of buckets says where keys are. Planted bugs: one of them is not looked
 * at, or not put right; the shard forgets for want of any; it remembers though its keys are
 * elsewhere. */
static void
test_impossible_numbers_are_put_right(void)
{
    bool more = true;

    for (size_t which = 0; more; which++) {
        struct pmc_cache *cache = open_with_numbers(MANY_KEYS);
        const struct shard *shard = &cache->shards[0];
        struct shard_header *header = shard->header;
        _Atomic uint32_t *bucket_limit = (_Atomic uint32_t *)&header->bucket_limit;
        _Atomic uint32_t *overflow_used = (_Atomic uint32_t *)&header->overflow_used;
        uint32_t count = load_relaxed(&header->bucket_count);
        uint32_t overflow = load_relaxed(&header->overflow_limit);
        const struct number numbers[] = {
            {bucket_limit, shard->max_buckets, true, true},
            {bucket_limit, shard->max_buckets + 1, false, true},
            {bucket_limit, 0, false, true},
            {bucket_limit, count, true, true},
            {bucket_limit, count - 1, false, false},
            {&header->bucket_count, 0, false, false},
            {&header->bucket_count, header->bucket_limit, true, true},
            {&header->bucket_count, header->bucket_limit + 1, false, false},
            {&header->overflow_limit, shard->max_overflow, true, true},
            {&header->overflow_limit, shard->max_overflow + 1, false, true},
            {overflow_used, overflow, true, true},
            {overflow_used, overflow + 1, false, true},
            {&header->limit_blocks, shard->max_blocks, true, true},
            {&header->limit_blocks, shard->max_blocks + 1, false, true},
            {&header->ghost_sets, shard->ghost_sets, true, true},
            {&header->ghost_sets, shard->ghost_sets + 1, false, true},
        };

        CHECK(count > 1 && shard->ghost_sets > 0);
        check_number_is_put_right(cache, &numbers[which]);
        more = which + 1 < sizeof numbers / sizeof *numbers;
        pmc_close(cache);
    }
}

/* ---- buckets that stay busy ---------------------------------------------- */

static struct bucket *
primary_of(const struct shard *shard, uint64_t key)
{
    uint64_t hash = hash_bytes(&key, sizeof key, shard->hash_seed);

    return &shard->buckets[index_bucket_of(hash,
                                           load_relaxed(&shard->header->bucket_count))];
}

static void
check_is_read(struct pmc_cache *cache, uint64_t key, uint64_t recoveries)
{
    struct pmc_stats stats = {0};
    uint8_t value[VALUE_BYTES];

    CHECK_EQ(pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL), PMC_OK);
    CHECK(has_pattern(value, sizeof value, key));
    CHECK_EQ(pmc_stats(cache, &stats), PMC_OK);
    CHECK_EQ(stats.recoveries, recoveries);
}

/* Planted bug: the reader that took the lock finds nothing to do. */
static void
test_a_bucket_that_is_odd_for_nobody_is_recovered_by_who_reads(void)
{
    struct pmc_cache *cache = open_with_keys();

    index_write_begin(primary_of(&cache->shards[0], 7));
    check_is_read(cache, 7, 1);
    check_is_read(cache, 7, 1);
    CHECK_EQ(pmc_check(cache, NULL, 0), 0);
    pmc_close(cache);
}

/* Planted bug: who did not get the lock recovers what a writer is at work on. */
static void
test_a_bucket_that_stays_busy_is_a_miss_and_not_recovered(void)
{
    struct pmc_options options;
    struct pmc_cache *cache;
    struct bucket *bucket;

    pmc_options_default(&options);
    options.size_bytes = POOL_BYTES;
    options.lock_timeout_ms = 20;
    cache = open_with(&options);
    put_number(cache, 7, VALUE_BYTES);
    bucket = primary_of(&cache->shards[0], 7);
    CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
    index_write_begin(bucket);
    CHECK_EQ(pmc_exists(cache, &(uint64_t){7}, sizeof(uint64_t)), PMC_MISS);
    CHECK(load_relaxed(&bucket->seq) & SEQ_ODD);
    index_write_end(bucket);
    shard_unlock(&cache->shards[0]);
    check_is_read(cache, 7, 0);
    pmc_close(cache);
}

/* Planted bug: it is looked for again and again where no bucket is. */
static void
test_a_number_of_buckets_that_cannot_be_is_recovered_by_who_reads(void)
{
    struct pmc_cache *cache = open_with_keys();
    struct shard *shard = &cache->shards[0];

    store_relaxed(&shard->header->bucket_count, UINT32_MAX);
    for (uint64_t key = 0; key < KEYS; key++)
        CHECK_EQ(pmc_exists(cache, &key, sizeof key), PMC_MISS);
    CHECK(shard_geometry_is_possible(shard));
    put_number(cache, 7, VALUE_BYTES);
    check_is_read(cache, 7, 1);
    pmc_close(cache);
}

struct slow_writer {
    struct shard *shard;
    uint64_t key;
    _Atomic bool has_begun;
};

static void *
write_slowly(void *context)
{
    struct slow_writer *writer = context;
    struct bucket *bucket = primary_of(writer->shard, writer->key);

    CHECK_EQ(shard_lock(writer->shard, false), PMC_OK);
    index_write_begin(bucket);
    atomic_store(&writer->has_begun, true);
    clock_sleep_ns(UINT64_C(30000000));
    index_write_end(bucket);
    shard_unlock(writer->shard);
    return NULL;
}

/* Planted bug: the reader recovers what it had to wait for. */
static void
test_a_bucket_that_was_busy_for_long_is_read_and_not_recovered(void)
{
    struct pmc_cache *cache = open_with_keys();
    struct slow_writer writer = {.shard = &cache->shards[0], .key = 7};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, write_slowly, &writer), 0);
    while (!atomic_load(&writer.has_begun))
        clock_sleep_ns(100000);
    check_is_read(cache, writer.key, 0);
    pthread_join(thread, NULL);
    pmc_close(cache);
}

/* ---- what the dead writer was about --------------------------------------- */

static struct entry_head *
head_of(const struct shard *shard, uint64_t key)
{
    return entry_at(shard, slot_offset(shard, slot_of(shard, key)));
}

/* The intent of a writer of this key, who died. */
static void
intend(struct shard *shard, uint64_t key, enum intent_kind kind, bool is_odd)
{
    struct shard_header *header = shard->header;
    struct bucket *primary = primary_of(shard, key);

    header->intent_old = index_read_slot(shard, slot_of(shard, key));
    header->intent_deadline = 0;
    header->intent_checksum = head_of(shard, key)->checksum;
    store_relaxed(&header->intent_slot, slot_of(shard, key));
    store_relaxed(&header->intent_bucket, (uint32_t)(primary - shard->buckets));
    store_relaxed(&header->intent_kind, (uint32_t)kind);
    if (is_odd)
        index_write_begin(primary);
}

/* A bucket that is even was changed in full, or not at all. Planted bug: what was intended
 * is taken back all the same. */
static void
test_what_is_whole_is_not_taken_back(void)
{
    for (enum intent_kind kind = INTENT_NONE; kind <= INTENT_TOUCH; kind++) {
        struct pmc_cache *cache = open_with_keys();
        struct shard *shard = &cache->shards[0];
        uint64_t epoch = load_relaxed(&shard->header->epoch);

        intend(shard, 7, kind, false);
        shard->header->intent_old.tag = 0;
        recover(cache);
        CHECK_EQ(load_relaxed(&shard->header->intent_kind), INTENT_NONE);
        CHECK_EQ(load_relaxed(&shard->header->epoch), epoch + 1);
        check_all_are_kept(cache);
    }
}

/* Planted bugs: one is taken for another; the deadline's high half or its checksum stays; the
 * intent is remembered, and taken back again when other things have happened. */
static void
test_what_is_torn_is_taken_back_or_cleared(void)
{
    for (enum intent_kind kind = INTENT_SLOT; kind <= INTENT_TOUCH; kind++) {
        struct pmc_cache *cache = open_with_keys();
        struct shard *shard = &cache->shards[0];
        uint64_t key = 7;
        uint32_t slot = slot_of(shard, key);
        struct slot_content torn = index_read_slot(shard, slot);
        struct entry_head *head = head_of(shard, key);

        intend(shard, key, kind, true);
        if (kind == INTENT_UPDATE) {
            torn.offset = 1;
            index_write_slot(shard, slot, &torn);
        } else if (kind == INTENT_TOUCH) {
            head->deadline_low = 1;
            head->deadline_high = 1;
            head->checksum ^= 1;
        }
        CHECK_EQ(shard_lock(shard, false), PMC_OK);
        shard_recover_locked(shard);
        shard_unlock(shard);
        CHECK_EQ(load_relaxed(&shard->header->intent_kind), INTENT_NONE);
        CHECK_EQ(load_relaxed(&shard->header->damaged), 0);
        CHECK_EQ(pmc_exists(cache, &key, sizeof key),
                 kind == INTENT_SLOT ? PMC_MISS : PMC_OK);
        CHECK(kind != INTENT_TOUCH || entry_deadline(head) == 0);
        CHECK_EQ(pmc_check(cache, NULL, 0), 0);
        pmc_close(cache);
    }
}

/* Planted bugs: the slot or the bucket is not looked at before it is followed. */
static void
test_an_intent_that_leads_nowhere_is_forgotten(void)
{
    for (enum intent_kind kind = INTENT_SLOT; kind <= INTENT_TOUCH; kind++)
        for (unsigned which = 0; which < 3; which++) {
            struct pmc_cache *cache = open_with_keys();
            struct shard *shard = &cache->shards[0];

            intend(shard, 7, kind, true);
            if (which == 0)
                store_relaxed(&shard->header->intent_slot, NO_SLOT - 1);
            else if (which == 1)
                store_relaxed(&shard->header->intent_bucket, NO_BUCKET - 1);
            else /* a slot that has nothing */
                store_relaxed(&shard->header->intent_slot, BUCKET_STRIDE - 1);
            recover(cache);
            CHECK_EQ(load_relaxed(&shard->header->intent_kind), INTENT_NONE);
            check_all_are_kept(cache);
        }
}

/* ---- slots that lead nowhere ----------------------------------------------- */

/* Planted bugs: such a slot is kept; it is not counted; its neighbours go too. */
static void
test_slots_that_lead_nowhere_are_dropped_and_counted(void)
{
    for (unsigned which = 0; which < 4; which++) {
        struct pmc_cache *cache = open_with_keys();
        struct shard *shard = &cache->shards[0];
        uint64_t key = 7;
        uint32_t slot = slot_of(shard, key);
        struct slot_content content = index_read_slot(shard, slot);
        struct pmc_stats stats = {0};

        if (which == 0)
            content.offset = shard_limit(shard);
        else if (which == 1)
            content.offset = UINT32_MAX;
        else if (which == 2)
            content.offset++; /* inside of the entry */
        else
            content.tag ^= TAG_HASH & -TAG_HASH; /* of another hash */
        index_write_slot(shard, slot, &content);
        recover(cache);
        CHECK_EQ(pmc_stats(cache, &stats), PMC_OK);
        CHECK_EQ(stats.entries, KEYS - 1);
        CHECK_EQ(stats.damaged, which < 3);
        CHECK_EQ(pmc_exists(cache, &key, sizeof key), PMC_MISS);
        put_number(cache, key, VALUE_BYTES);
        check_all_are_kept(cache);
    }
}

/* ---- chains of buckets --------------------------------------------------- */

/* How often each overflow bucket is in a chain or free. */
static void
count_uses(const struct shard *shard, uint32_t *uses, uint32_t most)
{
    uint32_t at;
    uint32_t hops = 0;

    for (uint32_t number = 0; number < load_relaxed(&shard->header->bucket_count);
         number++)
        for (at = index_chain_next(shard, number); at != NO_BUCKET;
             at = index_chain_next(shard, at)) {
            if (!CHECK(at - shard->max_buckets < most && hops++ < most))
                return;
            CHECK(!index_bucket_is_empty(&shard->buckets[at]));
            uses[at - shard->max_buckets]++;
        }
    for (at = shard->header->overflow_free; at != NO_BUCKET;
         at = shard->links[at].next_free) {
        if (!CHECK(at - shard->max_buckets < most && hops++ < most))
            return;
        CHECK(index_bucket_is_empty(&shard->buckets[at]));
        uses[at - shard->max_buckets]++;
    }
}

static void
empty_overflow_bucket(struct shard *shard, uint32_t number)
{
    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        index_clear_slot(shard, number * BUCKET_STRIDE + way);
}

/* Planted bugs: an empty bucket stays in its chain; a bucket is lost, or free and in a chain;
 * what header says of them is believed. */
static void
test_every_overflow_bucket_is_in_one_chain_or_free(void)
{
    for (unsigned which = 0; which < 4; which++) {
        struct pmc_cache *cache = open_with_numbers(MANY_KEYS);
        struct shard *shard = &cache->shards[0];
        struct shard_header *header = shard->header;
        uint32_t used = header->overflow_used;
        uint32_t *uses = calloc(used, sizeof *uses);
        unsigned emptied = 0;

        if (!CHECK(used > 1 && uses))
            abort();
        for (uint32_t i = 0; i < used && which != 3; i += 2) {
            empty_overflow_bucket(shard, shard->max_buckets + i);
            emptied++;
        }
        if (which == 1)
            header->overflow_free = shard->max_buckets; /* in a chain, that is */
        else if (which == 2)
            header->overflow_free = NO_BUCKET - 1;
        else if (which == 3)
            header->overflow_used = 0;
        recover(cache);
        count_uses(shard, uses, used);
        /* Without its number, what is empty at the end may never have been used. */
        for (uint32_t i = 0; i < used; i++)
            CHECK_EQ(uses[i], i < header->overflow_used);
        CHECK(which == 3 || header->overflow_used == used);
        CHECK(which == 3 || emptied > 0);
        free(uses);
        pmc_close(cache);
    }
}

/* Let the chain of a bucket that has none go on with an overflow bucket of another. */
static bool
let_chains_meet(struct shard *shard, uint32_t number)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);

    if (number >= count || index_chain_next(shard, number) != NO_BUCKET)
        return false;
    for (uint32_t other = 0; other < count; other++) {
        uint32_t next = index_chain_next(shard, other);

        if (next != NO_BUCKET) {
            index_chain_to(shard, number, next);
            return true;
        }
    }
    return false;
}

/* Planted bug: the bucket left in both chains. */
static void
test_a_bucket_that_two_chains_lead_to_is_left_in_one(void)
{
    unsigned met = 0;

    for (uint32_t number = 0; number < KEYS; number++) {
        struct pmc_cache *cache = open_with_keys();

        if (let_chains_meet(&cache->shards[0], number)) {
            met++;
            recover(cache);
        }
        pmc_close(cache);
    }
    CHECK(met > 0);
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

/* As who dies while an entry is pulled, or while a bucket is split, leaves it. */
static bool
let_be_in_two_slots(struct shard *shard, uint64_t key)
{
    uint32_t slot = slot_of(shard, key);
    struct slot_content content = index_read_slot(shard, slot);

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        if (slot_tag(slot_bucket(shard, slot), way) == 0) {
            index_write_slot(shard, slot / BUCKET_STRIDE * BUCKET_STRIDE + way,
                             &content);
            return true;
        }
    return false;
}

/* Planted bug: both slots kept. */
static void
test_an_entry_in_two_slots_stays_in_one(void)
{
    unsigned doubled = 0;

    for (uint64_t key = 0; key < KEYS; key++) {
        struct pmc_cache *cache = open_with_keys();

        if (let_be_in_two_slots(&cache->shards[0], key)) {
            doubled++;
            recover(cache);
            CHECK_EQ(load_relaxed(&cache->shards[0].header->entries), KEYS);
        }
        check_all_are_kept(cache);
    }
    CHECK(doubled > 0);
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

/* ---- somebody writes into the header meanwhile -------------------------- */

struct scribbler {
    struct shard_header *header;
    _Atomic uint32_t stop;
};

/* The numbers that recovery goes by: anything, and what could be. */
static void *
scribble(void *argument)
{
    struct scribbler *scribbler = argument;
    struct shard_header *header = scribbler->header;
    _Atomic uint32_t *words[] = {&header->bucket_count, &header->overflow_limit,
                                 &header->limit_blocks};
    struct random random = random_start("scribbled header");

    while (!load_relaxed(&scribbler->stop)) {
        uint32_t value = (uint32_t)random_next(&random);

        store_relaxed(words[random_below(&random, 3)],
                      value >> random_below(&random, 32));
    }
    return NULL;
}

/* Planted bug: a number that was held against what there is room for is read again.
 * A sanitizer sees more of it. */
static void
test_whoever_writes_into_the_header_meanwhile_recovery_stays_in_bounds(void)
{
    struct pmc_cache *cache = open_with_numbers(MANY_KEYS);
    struct shard *shard = &cache->shards[0];
    struct scribbler scribbler = {.header = shard->header};
    pthread_t thread;

    CHECK_EQ(shard_lock(shard, false), PMC_OK);
    pthread_create(&thread, NULL, scribble, &scribbler);
    for (int round = 0; round < ROUNDS_OF(3000); round++)
        shard_recover_locked(shard);
    store_relaxed(&scribbler.stop, 1);
    pthread_join(thread, NULL);
    shard_recover_locked(shard);
    shard_unlock(shard);
    CHECK_EQ(pmc_clear(cache), PMC_OK);
    put_number(cache, 1, VALUE_BYTES);
    check_sound(cache);
    pmc_close(cache);
}

/* Entries keep 32 bits of the counter. Planted bug: 0, which says that there is none, is
 * given like others; a condition compares 32 bits. */
static void
test_generations_that_go_round_are_told_apart_and_never_0(void)
{
    struct pmc_cache *cache = open_private(UINT64_C(1) << 20, PMC_EVICT_S3FIFO);
    struct pmc_put_options same = {.ttl_ms = PMC_TTL_NONE,
                                   .condition = PMC_IF_GENERATION};
    struct pmc_found found;

    store_relaxed(&cache->shards[0].header->generation, (UINT64_C(3) << 32) - 2);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
        CHECK_EQ(pmc_get(cache, "k", 1, NULL, 0, 0, &found), PMC_OK);
        CHECK(found.generation != 0);
    }
    same.generation = found.generation + (UINT64_C(1) << 32);
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &same), PMC_UNMET);
    same.generation = found.generation;
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &same), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
}

int
main(void)
{
    RUN(test_the_order_of_a_queue_outlives_one_broken_place);
    RUN(test_what_no_queue_knows_comes_last);
    RUN(test_entries_in_a_ring_are_led_to_again);
    RUN(test_links_that_are_all_broken_cost_no_entry);
    RUN(test_an_entry_that_names_another_queue_than_its_neighbours_is_put_right);
    RUN(test_heads_and_tails_that_lead_astray_cost_no_entry);
    RUN(test_of_entries_that_overlap_none_is_kept_and_all_others_are);
    RUN(test_an_entry_that_is_wrong_about_the_one_before_it_is_put_right);
    RUN(test_no_number_is_given_twice);
    RUN(test_impossible_numbers_are_put_right);
    RUN(test_a_bucket_that_is_odd_for_nobody_is_recovered_by_who_reads);
    RUN(test_a_bucket_that_stays_busy_is_a_miss_and_not_recovered);
    RUN(test_a_number_of_buckets_that_cannot_be_is_recovered_by_who_reads);
    RUN(test_a_bucket_that_was_busy_for_long_is_read_and_not_recovered);
    RUN(test_what_is_whole_is_not_taken_back);
    RUN(test_what_is_torn_is_taken_back_or_cleared);
    RUN(test_an_intent_that_leads_nowhere_is_forgotten);
    RUN(test_slots_that_lead_nowhere_are_dropped_and_counted);
    RUN(test_every_overflow_bucket_is_in_one_chain_or_free);
    RUN(test_a_bucket_that_two_chains_lead_to_is_left_in_one);
    RUN(test_an_entry_in_two_slots_stays_in_one);
    RUN(test_an_entry_is_freed_by_its_own_slot_only);
    RUN(test_whoever_writes_into_the_header_meanwhile_recovery_stays_in_bounds);
    RUN(test_generations_that_go_round_are_told_apart_and_never_0);
    return check_report();
}
