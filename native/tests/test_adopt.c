/*
 * A kept pool, some of whose values changed while nobody had it: until an entry has
 * been found to be what its checksum says, no call serves it, whatever else happens to
 * it meanwhile. Its slot is split off into another bucket, moved, recovered; its
 * bytes move, its deadline changes; others are put, replaced and evicted around it.
 */
#include "alloc.h"
#include "cache.h"
#include "shard_room.h"
#include "support.h"

#define POOL_BYTES (2u * 1024u * 1024u)
#define KEYS 600u
#define VALUE_MAX 4000u

static size_t
size_of(uint64_t key)
{
    return 8 + key * 97 % (VALUE_MAX - 8);
}

static bool
is_spoilt(uint64_t key)
{
    return key % 3 == 0;
}

static struct pmc_options
kept_options(const struct place *place)
{
    struct pmc_options options = options_at(place, POOL_BYTES);

    options.lifetime = PMC_RESTART;
    return options;
}

static void
put_pattern(struct pmc_cache *cache, uint64_t key, size_t size)
{
    uint8_t value[VALUE_MAX];

    fill_pattern(value, size, key);
    CHECK_EQ(pmc_put(cache, &key, sizeof key, value, size, NULL), PMC_OK);
}

/* A bit of the last byte of its value is another one now. */
static void
spoil(struct pmc_cache *cache, uint64_t key)
{
    struct shard *shard = &cache->shards[0];
    uint32_t slot =
        index_find_locked(shard, cache_hash(cache, &key, sizeof key), &key, sizeof key);
    struct entry_head *head;

    if (!CHECK(slot != NO_SLOT))
        return;
    head = entry_at(shard, slot_offset(shard, slot));
    entry_key(head)[sizeof key + size_of(key) - 1] ^= 4;
}

/* A kept pool that was left with a third of its values spoilt, found again. */
static struct pmc_cache *
open_spoilt(const struct place *place)
{
    struct pmc_options options = kept_options(place);
    struct pmc_cache *cache = open_with(&options);

    for (uint64_t key = 0; key < KEYS; key++)
        put_pattern(cache, key, size_of(key));
    for (uint64_t key = 0; key < KEYS; key++)
        if (is_spoilt(key))
            spoil(cache, key);
    pmc_close(cache);
    cache = open_with(&options);
    CHECK_EQ(cache->pool->origin, POOL_ADOPTED);
    return cache;
}

static void
close_spoilt(struct pmc_cache *cache, const struct place *place)
{
    check_sound(cache);
    pmc_close(cache);
    remove_kept(place, POOL_BYTES);
}

/* ---- every way to read ------------------------------------------------- */

static uint8_t read_back[VALUE_MAX];

static void *
reserve_room(void *context, size_t size)
{
    (void)context;
    return size <= sizeof read_back ? read_back : NULL;
}

static void *
reserve_room_of_many(void *context, size_t number, size_t size)
{
    (void)number;
    return reserve_room(context, size);
}

static enum pmc_status
read_plain(struct pmc_cache *cache, uint64_t key)
{
    return pmc_get(cache, &key, sizeof key, read_back, sizeof read_back, 0, NULL);
}

/* None of the bytes that are copied is the one that changed. */
static enum pmc_status
read_beginning(struct pmc_cache *cache, uint64_t key)
{
    return pmc_get(cache, &key, sizeof key, read_back, 1, 1, NULL);
}

static enum pmc_status
read_reserved(struct pmc_cache *cache, uint64_t key)
{
    return pmc_get_reserve(cache, &key, sizeof key, reserve_room, NULL, NULL);
}

static enum pmc_status
read_versioned(struct pmc_cache *cache, uint64_t key)
{
    struct pmc_versioned versioned;

    return pmc_get_versioned(cache, &key, sizeof key, 0, reserve_room, NULL,
                             &versioned);
}

static enum pmc_status
read_in_batch(struct pmc_cache *cache, uint64_t key)
{
    struct pmc_item item = {.key = &key, .key_size = sizeof key};

    pmc_get_many(cache, &item, 1, reserve_room_of_many, NULL);
    return item.status;
}

static enum pmc_status
read_to_add(struct pmc_cache *cache, uint64_t key)
{
    int64_t sum;
    enum pmc_status status = pmc_incr(cache, &key, sizeof key, 1, NULL, &sum);

    /* What is sound is no number, which it must have been read for. */
    return status == PMC_ENOT_INTEGER ? PMC_OK : status;
}

static enum pmc_status
read_info(struct pmc_cache *cache, uint64_t key)
{
    struct pmc_info info;

    return pmc_info(cache, &key, sizeof key, &info);
}

static enum pmc_status
read_existence(struct pmc_cache *cache, uint64_t key)
{
    return pmc_exists(cache, &key, sizeof key);
}

typedef enum pmc_status (*read_fn)(struct pmc_cache *cache, uint64_t key);

static const read_fn ways[] = {read_plain,     read_beginning, read_reserved,
                               read_versioned, read_in_batch,  read_to_add,
                               read_info,      read_existence};
#define WAYS (sizeof ways / sizeof *ways)

/* Planted bug: one of the ways to read does not look whether the entry was checked. */
static void
test_no_way_to_read_serves_what_was_not_verified(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_spoilt(&place);
    struct pmc_stats stats;
    unsigned spoilt = 0;

    for (uint64_t key = 0; key < KEYS; key++) {
        read_fn way = ways[key / 3 % WAYS];

        spoilt += is_spoilt(key);
        if (!CHECK_EQ(way(cache, key), is_spoilt(key) ? PMC_MISS : PMC_OK))
            fprintf(stderr, "    way %u\n", (unsigned)(key / 3 % WAYS));
    }
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.damaged, spoilt);
    close_spoilt(cache, &place);
}

/* ---- whatever happens meanwhile ---------------------------------------- */

/* What is found is exact, and no spoilt entry is found. */
static unsigned
count_found(struct pmc_cache *cache)
{
    unsigned found = 0;

    for (uint64_t key = 0; key < KEYS; key++) {
        if (read_plain(cache, key) != PMC_OK)
            continue;
        found++;
        CHECK(!is_spoilt(key) && has_pattern(read_back, size_of(key), key));
    }
    return found;
}

static void
touch_all(struct pmc_cache *cache)
{
    for (uint64_t key = 0; key < KEYS; key++)
        CHECK_EQ(pmc_touch(cache, &key, sizeof key, 1000000 + (int64_t)key, 0), PMC_OK);
}

static void
recover(struct pmc_cache *cache)
{
    CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
    shard_recover_locked(&cache->shards[0]);
    shard_unlock(&cache->shards[0]);
}

/* The index grows to four times its size: every slot has been in another bucket. */
static void
split_all(struct pmc_cache *cache)
{
    const struct shard *shard = &cache->shards[0];
    uint32_t before = load_relaxed(&shard->header->bucket_count);

    for (uint64_t key = KEYS; load_relaxed(&shard->header->bucket_count) < 4 * before;
         key++)
        put_pattern(cache, key, 8);
}

/* Overflow buckets are given back, which pulls entries forward. */
static void
delete_others(struct pmc_cache *cache)
{
    for (uint64_t key = KEYS; key < 4 * KEYS; key++)
        pmc_delete(cache, &key, sizeof key, 0);
}

/* What lies in the first quarter of the heap moves to where others were deleted. */
static void
move_some(struct pmc_cache *cache)
{
    struct shard *shard = &cache->shards[0];
    struct write_request request = {.now_ms = 1};
    struct room room = {.blocks = 1, .request = &request};
    struct window window = {0};
    struct pmc_stats stats;

    for (uint64_t key = KEYS / 2; key < KEYS; key++)
        if (key % 3 == 1)
            pmc_delete(cache, &key, sizeof key, 0);
    CHECK_EQ(shard_lock(shard, false), PMC_OK);
    while (window.end < shard_limit(shard) / 4)
        window.end += (uint32_t)extent_blocks(shard, window.end);
    CHECK_EQ(window_empty(shard, &window, &room), PMC_OK);
    shard_unlock(shard);
    pmc_stats(cache, &stats);
    CHECK(stats.moved_bytes > POOL_BYTES / 16);
}

/* Planted bugs: the mark is lost when a slot is copied, or by recovery. */
static void
test_what_was_not_verified_stays_so_whatever_happens_to_it(void)
{
    static void (*const acts[])(struct pmc_cache *) = {touch_all, recover, split_all,
                                                       delete_others, move_some};

    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        struct place place = make_place();
        struct pmc_cache *cache = open_spoilt(&place);
        struct pmc_stats stats;

        if (acts[i] == delete_others)
            split_all(cache);
        acts[i](cache);
        CHECK(count_found(cache) > KEYS / 6);
        pmc_stats(cache, &stats);
        CHECK(stats.damaged > KEYS / 12);
        close_spoilt(cache, &place);
    }
}

/* As one who is killed while it writes the slot of this key leaves its shard. */
static void
die_in_update(struct pmc_cache *cache, uint64_t key)
{
    struct shard *shard = &cache->shards[0];
    struct shard_header *header = shard->header;
    uint64_t hash = cache_hash(cache, &key, sizeof key);
    uint32_t slot = index_find_locked(shard, hash, &key, sizeof key);

    CHECK_EQ(shard_lock(shard, false), PMC_OK);
    header->intent_old = index_read_slot(shard, slot);
    store_relaxed(&header->intent_slot, slot);
    store_relaxed(&header->intent_bucket,
                  index_bucket_of(hash, load_relaxed(&header->bucket_count)));
    store_relaxed(&header->intent_kind, (uint32_t)INTENT_UPDATE);
    index_write_begin(&shard->buckets[load_relaxed(&header->intent_bucket)]);
}

/* Planted bug: who takes the update back, after all were marked, does not mark it. */
static void
test_an_update_that_is_taken_back_is_not_verified_either(void)
{
    struct place place = make_place();
    struct pmc_options options = kept_options(&place);
    struct pmc_cache *cache = open_with(&options);
    struct pmc_stats stats;

    put_pattern(cache, 3, size_of(3));
    put_pattern(cache, 4, size_of(4));
    spoil(cache, 3);
    die_in_update(cache, 3);
    pmc_close(cache);
    cache = open_with(&options);
    CHECK_EQ(cache->pool->origin, POOL_ADOPTED);
    CHECK_EQ(read_plain(cache, 3), PMC_MISS);
    CHECK_EQ(read_plain(cache, 4), PMC_OK);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.recoveries, 1);
    CHECK_EQ(stats.damaged, 1);
    close_spoilt(cache, &place);
}

/* ---- once is enough ----------------------------------------------------- */

/* An entry is checked by its first get; what is put is as it was given. */
static void
test_verified_entries_and_new_ones_are_not_checked_again(void)
{
    struct place place = make_place();
    struct pmc_cache *cache = open_spoilt(&place);
    struct pmc_stats stats;

    for (uint64_t key = 0; key < KEYS; key++)
        if (is_spoilt(key))
            put_pattern(cache, key, size_of(key));
    for (int turn = 0; turn < 2; turn++)
        for (uint64_t key = 0; key < KEYS; key++)
            CHECK_EQ(read_plain(cache, key), PMC_OK);
    for (uint64_t key = 0; key < KEYS; key++) {
        spoil(cache, key); /* nobody looks any more */
        CHECK_EQ(read_plain(cache, key), PMC_OK);
        spoil(cache, key);
    }
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.damaged, 0);
    close_spoilt(cache, &place);
}

int
main(void)
{
    RUN(test_no_way_to_read_serves_what_was_not_verified);
    RUN(test_what_was_not_verified_stays_so_whatever_happens_to_it);
    RUN(test_an_update_that_is_taken_back_is_not_verified_either);
    RUN(test_verified_entries_and_new_ones_are_not_checked_again);
    return check_report();
}
