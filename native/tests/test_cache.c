/*
 * Every public function, through the public header alone.
 */
#include <limits.h>
#include <pthread.h>

#include "check.h"
#include "pmemcache.h"
#include "pool_geometry.h"
#include "support.h"

#define MIB (UINT64_C(1) << 20)

static struct pmc_put_options
put_options(enum pmc_condition condition, int64_t ttl_ms)
{
    return (struct pmc_put_options){.ttl_ms = ttl_ms, .condition = (uint8_t)condition};
}

static struct pmc_cache *
open_small(void)
{
    return open_private(MIB, PMC_EVICT_S3FIFO);
}

static struct pmc_info
info_of(struct pmc_cache *cache, const char *key)
{
    struct pmc_info info = {0};

    CHECK_EQ(pmc_info(cache, key, strlen(key), &info), PMC_OK);
    return info;
}

static uint64_t
generation_of(struct pmc_cache *cache, const char *key)
{
    return info_of(cache, key).generation;
}

/* ---- put and get ----------------------------------------------------- */

static void
test_put_get_overwrite_delete(void)
{
    struct pmc_cache *cache = open_small();

    CHECK(!get_text(cache, "k"));
    CHECK_EQ(put_text(cache, "k", "one"), PMC_OK);
    CHECK(holds_text(cache, "k", "one"));
    CHECK_EQ(put_text(cache, "k", "a longer value than before"), PMC_OK);
    CHECK(holds_text(cache, "k", "a longer value than before"));
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_OK);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_OK);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_MISS);
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_MISS);
    check_untroubled(cache);
    pmc_close(cache);
}

static void
test_conditions(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options absent = put_options(PMC_IF_ABSENT, PMC_TTL_NONE);
    struct pmc_put_options present = put_options(PMC_IF_PRESENT, PMC_TTL_NONE);
    struct pmc_put_options same = put_options(PMC_IF_GENERATION, PMC_TTL_NONE);
    struct pmc_put_options unknown = put_options(PMC_ALWAYS, PMC_TTL_NONE);

    CHECK_EQ(pmc_put(cache, "k", 1, "a", 1, &present), PMC_UNMET);
    CHECK_EQ(pmc_put(cache, "k", 1, "a", 1, &same), PMC_UNMET);
    CHECK_EQ(pmc_put(cache, "k", 1, "a", 1, &absent), PMC_OK);
    CHECK_EQ(pmc_put(cache, "k", 1, "b", 1, &absent), PMC_UNMET);
    CHECK(holds_text(cache, "k", "a"));
    CHECK_EQ(pmc_put(cache, "k", 1, "b", 1, &present), PMC_OK);
    same.generation = generation_of(cache, "k");
    CHECK(same.generation != 0);
    CHECK_EQ(pmc_put(cache, "k", 1, "c", 1, &same), PMC_OK);
    CHECK_EQ(pmc_put(cache, "k", 1, "d", 1, &same), PMC_UNMET);
    CHECK(holds_text(cache, "k", "c"));
    unknown.condition = 9;
    CHECK_EQ(pmc_put(cache, "k", 1, "e", 1, &unknown), PMC_EINVAL);
    pmc_close(cache);
}

/* Deleted and stored anew, a key must not have a generation it had before. */
static void
test_generations_never_come_again(void)
{
    struct pmc_cache *cache = open_small();
    uint64_t last = 0;

    for (int i = 0; i < 20; i++) {
        put_text(cache, "k", "v");
        CHECK(generation_of(cache, "k") > last);
        last = generation_of(cache, "k");
        if (i % 3 == 0)
            pmc_delete(cache, "k", 1, 0);
        if (i % 5 == 0)
            pmc_clear(cache);
    }
    pmc_close(cache);
}

static void
test_offsets_and_short_buffers(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_found found;
    char buffer[8] = "........";

    put_text(cache, "k", "0123456789");
    CHECK_EQ(pmc_get(cache, "k", 1, buffer, 4, 0, &found), PMC_OK);
    CHECK(memcmp(buffer, "0123....", 8) == 0);
    CHECK_EQ(found.value_size, 10);
    CHECK_EQ(pmc_get(cache, "k", 1, buffer, 8, 7, NULL), PMC_OK);
    CHECK(memcmp(buffer, "789", 3) == 0 && buffer[4] == '.');
    memset(buffer, '.', sizeof buffer);
    CHECK_EQ(pmc_get(cache, "k", 1, buffer, 8, 10, &found), PMC_OK);
    CHECK_EQ(pmc_get(cache, "k", 1, buffer, 8, SIZE_MAX, &found), PMC_OK);
    CHECK(memcmp(buffer, "........", 8) == 0);
    CHECK_EQ(pmc_get(cache, "k", 1, NULL, 0, 0, &found), PMC_OK);
    CHECK_EQ(found.value_size, 10);
    CHECK_EQ(pmc_get(cache, "k", 1, NULL, 4, 0, &found), PMC_EINVAL);
    pmc_close(cache);
}

static void
test_the_empty_key_and_the_empty_value(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_found found = {.value_size = 9};
    char byte = '.';

    CHECK_EQ(pmc_put(cache, NULL, 0, "v", 1, NULL), PMC_OK);
    CHECK_EQ(pmc_get(cache, "", 0, &byte, 1, 0, NULL), PMC_OK);
    CHECK_EQ(byte, 'v');
    CHECK_EQ(pmc_get(cache, NULL, 0, &byte, 1, 0, NULL), PMC_OK);
    CHECK_EQ(pmc_put(cache, "e", 1, NULL, 0, NULL), PMC_OK);
    CHECK_EQ(pmc_get(cache, "e", 1, &byte, 1, 0, &found), PMC_OK);
    CHECK_EQ(found.value_size, 0);
    CHECK_EQ(pmc_delete(cache, NULL, 0, 0), PMC_OK);
    CHECK_EQ(pmc_delete(cache, NULL, 0, 0), PMC_MISS);
    CHECK_EQ(pmc_put(cache, NULL, 1, "v", 1, NULL), PMC_EINVAL);
    CHECK_EQ(pmc_put(cache, "k", 1, NULL, 1, NULL), PMC_EINVAL);
    check_untroubled(cache);
    pmc_close(cache);
}

static void
test_the_longest_key(void)
{
    struct pmc_cache *cache = open_small();
    static char key[PMC_KEY_MAX_BYTES + 1];
    int64_t number;
    struct pmc_info info;

    memset(key, 'k', sizeof key);
    CHECK_EQ(pmc_put(cache, key, PMC_KEY_MAX_BYTES, "v", 1, NULL), PMC_OK);
    CHECK_EQ(pmc_exists(cache, key, PMC_KEY_MAX_BYTES), PMC_OK);
    CHECK_EQ(pmc_exists(cache, key, PMC_KEY_MAX_BYTES - 1), PMC_MISS);
    CHECK_EQ(pmc_put(cache, key, sizeof key, "v", 1, NULL), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_get(cache, key, sizeof key, NULL, 0, 0, NULL), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_exists(cache, key, sizeof key), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_delete(cache, key, sizeof key, 0), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_touch(cache, key, sizeof key, 1000, 0), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_incr(cache, key, sizeof key, 1, NULL, &number), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_info(cache, key, sizeof key, &info), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_evict(cache, key, sizeof key, NULL, NULL), PMC_EKEY_SIZE);
    check_untroubled(cache);
    pmc_close(cache);
}

static void
test_values_up_to_the_promised_size_fit_a_full_pool(void)
{
    static uint8_t value[MIB];
    static uint8_t read_back[MIB];

    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_LRU; eviction++) {
        struct pmc_cache *cache = open_private(MIB, (enum pmc_eviction)eviction);
        struct pmc_geometry geometry;
        size_t largest;

        pmc_geometry(cache, &geometry);
        largest = (size_t)geometry.value_max_bytes - 1; /* the key takes one */
        CHECK(largest > MIB * 9 / 10 && largest < MIB);
        for (uint64_t key = 0; key < 3000; key++)
            CHECK_EQ(pmc_put(cache, &key, sizeof key, value, 500, NULL), PMC_OK);
        fill_pattern(value, largest, 77);
        CHECK_EQ(pmc_put(cache, "k", 1, value, largest, NULL), PMC_OK);
        CHECK_EQ(pmc_get(cache, "k", 1, read_back, sizeof read_back, 0, NULL), PMC_OK);
        CHECK(has_pattern(read_back, largest, 77));
        CHECK_EQ(pmc_put(cache, "k", 1, value, largest + 1, NULL), PMC_EVALUE_SIZE);
        CHECK_EQ(pmc_put(cache, "k", 1, value, SIZE_MAX / 2, NULL), PMC_EVALUE_SIZE);
        CHECK_EQ(pmc_exists(cache, "k", 1), PMC_OK); /* as it was */
        check_untroubled(cache);
        pmc_close(cache);
    }
}

/* Planted bug: giving up after so many evictions, and a pool of small entries
 * that never takes a large one. */
static void
test_a_large_value_finds_room_among_small_ones(void)
{
    static const size_t sizes[] = {20000, 60000, 120000, 200000};
    static uint8_t value[200000];

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pmc_cache *cache = open_private(4 * MIB, PMC_EVICT_S3FIFO);

        for (uint64_t key = 0; key < 90000; key++)
            CHECK_EQ(pmc_put(cache, &key, sizeof key, value, 16, NULL), PMC_OK);
        CHECK_EQ(pmc_put(cache, "large", 5, value, sizes[i], NULL), PMC_OK);
        CHECK_EQ(pmc_exists(cache, "large", 5), PMC_OK);
        pmc_close(cache);
    }
}

/* ---- time ------------------------------------------------------------ */

static void
test_deadlines(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options hour = put_options(PMC_ALWAYS, 3600000);
    struct pmc_put_options absent = put_options(PMC_IF_ABSENT, PMC_TTL_NONE);
    struct pmc_info info;

    CHECK_EQ(pmc_put(cache, "k", 1, "v", 1, &hour), PMC_OK);
    put_text(cache, "forever", "v");
    info = info_of(cache, "k");
    CHECK(info.ttl_ms > 3540000 && info.ttl_ms <= 3600000);
    CHECK_EQ(info_of(cache, "forever").ttl_ms, PMC_TTL_NONE);
    pmc_advance_clock(cache, 3540000);
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_OK);
    pmc_advance_clock(cache, 60001);
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_MISS);
    CHECK(!get_text(cache, "k"));
    CHECK_EQ(pmc_info(cache, "k", 1, &info), PMC_MISS);
    CHECK_EQ(pmc_touch(cache, "k", 1, 1000, 0), PMC_MISS);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_MISS);
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &absent), PMC_OK);
    CHECK(holds_text(cache, "k", "w"));
    CHECK(holds_text(cache, "forever", "v"));
    check_untroubled(cache);
    pmc_close(cache);
}

/* Planted bugs: what is over before it begins is stored; so are the counts of what had a
 * deadline when all is cleared, or a deadline is taken away. */
static void
test_what_is_over_takes_no_room(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options over = put_options(PMC_IF_ABSENT, 0);
    struct pmc_put_options over_too = put_options(PMC_IF_PRESENT, 0);
    struct pmc_put_options minute = put_options(PMC_ALWAYS, 60000);
    struct pmc_stats stats = {0};

    CHECK_EQ(pmc_put(cache, "k", 1, "v", 1, &over), PMC_OK);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.entries, 0);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    CHECK_EQ(pmc_put(cache, "k", 1, "v", 1, &over_too), PMC_OK);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.entries, 0);
    CHECK_EQ(pmc_put(cache, "k", 1, "v", 1, &minute), PMC_OK);
    CHECK_EQ(pmc_touch(cache, "k", 1, PMC_TTL_NONE, 0), PMC_OK);
    check_untroubled(cache);
    CHECK_EQ(pmc_touch(cache, "k", 1, 60000, 0), PMC_OK);
    check_untroubled(cache);
    CHECK_EQ(pmc_clear(cache), PMC_OK);
    check_untroubled(cache);
    pmc_close(cache);
}

static void
test_touch_moves_the_deadline_and_nothing_else(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options options = put_options(PMC_ALWAYS, 1000);
    uint64_t generation;

    options.tag = 5;
    pmc_put(cache, "k", 1, "v", 1, &options);
    generation = generation_of(cache, "k");
    CHECK_EQ(pmc_touch(cache, "k", 1, 100000, 0), PMC_OK);
    pmc_advance_clock(cache, 50000);
    CHECK(holds_text(cache, "k", "v"));
    CHECK_EQ(generation_of(cache, "k"), generation);
    CHECK_EQ(info_of(cache, "k").tag, 5);
    CHECK_EQ(pmc_touch(cache, "k", 1, PMC_TTL_NONE, 0), PMC_OK);
    CHECK_EQ(info_of(cache, "k").ttl_ms, PMC_TTL_NONE);
    CHECK_EQ(pmc_touch(cache, "k", 1, 0, 0), PMC_OK);
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_MISS);
    CHECK_EQ(pmc_touch(cache, "k", 1, -5, 0), PMC_MISS);
    CHECK_EQ(pmc_touch(cache, "nothing", 7, 1000, 0), PMC_MISS);
    pmc_close(cache);
}

static void
test_a_put_that_is_dead_on_arrival_deletes(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options dead = put_options(PMC_ALWAYS, 0);
    struct pmc_put_options dead_if_present = put_options(PMC_IF_PRESENT, -1);
    struct pmc_written written = {.version = 1};

    put_text(cache, "k", "v");
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &dead), PMC_OK);
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_MISS);
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &dead), PMC_OK);
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &dead_if_present), PMC_UNMET);
    put_text(cache, "k", "v");
    dead_if_present.written_out = &written;
    CHECK_EQ(pmc_put(cache, "k", 1, "w", 1, &dead_if_present), PMC_OK);
    CHECK_EQ(pmc_exists(cache, "k", 1), PMC_MISS);
    CHECK_EQ(written.version, 1); /* nothing was stored that a copy could be of */
    pmc_close(cache);
}

static void
test_expired_entries_are_swept_by_writes(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options second = put_options(PMC_ALWAYS, 1000);
    struct pmc_stats stats;

    for (uint64_t key = 0; key < 2000; key++)
        pmc_put(cache, &key, sizeof key, "v", 1, &second);
    pmc_advance_clock(cache, 2000);
    for (uint64_t i = 0; i < 2000; i++)
        put_text(cache, "k", "v");
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.entries, 1);
    CHECK_EQ(stats.expired, 2000);
    CHECK_EQ(stats.evict, 0);
    check_untroubled(cache);
    pmc_close(cache);
}

/* ---- incr ------------------------------------------------------------ */

static void
test_incr_counts_creates_and_misses(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_incr_options create = {
        .create = true, .initial = 10, .ttl_ms = 3600000, .tag = 2};
    int64_t number = 99;

    CHECK_EQ(pmc_incr(cache, "n", 1, 1, NULL, &number), PMC_MISS);
    CHECK_EQ(number, 99);
    CHECK_EQ(pmc_incr(cache, "n", 1, 5, &create, &number), PMC_OK);
    CHECK_EQ(number, 15);
    CHECK_EQ(info_of(cache, "n").tag, 2);
    CHECK(info_of(cache, "n").ttl_ms > 3540000);
    CHECK_EQ(pmc_incr(cache, "n", 1, -20, NULL, &number), PMC_OK);
    CHECK_EQ(number, -5);
    CHECK(holds_text(cache, "n", "-5"));
    pmc_close(cache);
}

static void
test_incr_keeps_deadline_and_tag_of_what_exists(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options options = put_options(PMC_ALWAYS, 3600000);
    struct pmc_incr_options create = {.create = true, .ttl_ms = 5, .tag = 9};
    struct pmc_info info;
    int64_t number;

    options.tag = 2;
    pmc_put(cache, "n", 1, "9", 1, &options);
    pmc_advance_clock(cache, 1800000);
    CHECK_EQ(pmc_incr(cache, "n", 1, 1, &create, &number), PMC_OK);
    CHECK_EQ(number, 10);
    CHECK_EQ(info_of(cache, "n").tag, 2);
    info = info_of(cache, "n");
    CHECK(info.ttl_ms > 1740000 && info.ttl_ms <= 1800000);
    pmc_advance_clock(cache, 1800001);
    CHECK_EQ(pmc_incr(cache, "n", 1, 1, NULL, &number), PMC_MISS);
    pmc_close(cache);
}

static void
test_incr_refuses_what_is_no_integer(void)
{
    static const char *const not_integers[] = {"",
                                               "-",
                                               "x",
                                               "1x",
                                               " 1",
                                               "1 ",
                                               "+1",
                                               "--1",
                                               "0x10",
                                               "1.5",
                                               "9223372036854775808",
                                               "-9223372036854775809",
                                               "000000000000000000000000000001"};
    struct pmc_cache *cache = open_small();
    int64_t number;

    for (size_t i = 0; i < sizeof not_integers / sizeof *not_integers; i++) {
        put_text(cache, "n", not_integers[i]);
        CHECK_EQ(pmc_incr(cache, "n", 1, 1, NULL, &number), PMC_ENOT_INTEGER);
        CHECK(holds_text(cache, "n", not_integers[i]));
    }
    put_text(cache, "n", "007");
    CHECK_EQ(pmc_incr(cache, "n", 1, 1, NULL, &number), PMC_OK);
    CHECK_EQ(number, 8);
    pmc_close(cache);
}

static void
test_incr_stops_at_the_ends_of_64_bits(void)
{
    struct pmc_cache *cache = open_small();
    int64_t number;

    put_text(cache, "n", "9223372036854775806");
    CHECK_EQ(pmc_incr(cache, "n", 1, 1, NULL, &number), PMC_OK);
    CHECK_EQ(number, INT64_MAX);
    CHECK_EQ(pmc_incr(cache, "n", 1, 1, NULL, &number), PMC_EOVERFLOW);
    CHECK(holds_text(cache, "n", "9223372036854775807"));
    put_text(cache, "n", "-9223372036854775807");
    CHECK_EQ(pmc_incr(cache, "n", 1, -1, NULL, &number), PMC_OK);
    CHECK_EQ(number, INT64_MIN);
    CHECK(holds_text(cache, "n", "-9223372036854775808"));
    CHECK_EQ(pmc_incr(cache, "n", 1, INT64_MIN, NULL, &number), PMC_EOVERFLOW);
    pmc_close(cache);
}

/* ---- batches --------------------------------------------------------- */

/* More than are under way at a time, several times. */
#define BATCH 130u

struct rooms {
    uint8_t bytes[BATCH][32];
    size_t size[BATCH];
    size_t refuse; /* the item that gets no room */
};

static void *
room_of(void *context, size_t index, size_t value_size)
{
    struct rooms *rooms = context;

    rooms->size[index] = value_size;
    return index == rooms->refuse ? NULL : rooms->bytes[index];
}

static void
test_batches(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_item items[BATCH];
    struct rooms rooms = {.refuse = SIZE_MAX};
    char keys[BATCH][8];

    for (size_t i = 0; i < BATCH; i++) {
        snprintf(keys[i], sizeof keys[i], "key%zu", i);
        items[i] = (struct pmc_item){.key = keys[i],
                                     .key_size = strlen(keys[i]),
                                     .value = keys[i],
                                     .value_size = strlen(keys[i]),
                                     .tag = (uint8_t)i};
    }
    CHECK_EQ(pmc_put_many(cache, items, BATCH, NULL), BATCH);
    CHECK_EQ(pmc_delete_many(cache, items, 10, 0), 10);
    CHECK_EQ(pmc_delete_many(cache, items, 10, 0), 0);
    CHECK_EQ(items[0].status, PMC_MISS);
    CHECK_EQ(pmc_get_many(cache, items, BATCH, room_of, &rooms), BATCH - 10);
    for (size_t i = 0; i < BATCH; i++) {
        CHECK_EQ(items[i].status, i < 10 ? PMC_MISS : PMC_OK);
        if (i < 10)
            continue;
        CHECK_EQ(items[i].found.tag, i);
        CHECK_EQ(rooms.size[i], strlen(keys[i]));
        CHECK(memcmp(rooms.bytes[i], keys[i], rooms.size[i]) == 0);
    }
    rooms.refuse = 20;
    CHECK_EQ(pmc_get_many(cache, items, BATCH, room_of, &rooms), BATCH - 11);
    CHECK_EQ(items[20].status, PMC_EINVAL);
    CHECK_EQ(pmc_get_many(cache, items, 0, room_of, &rooms), 0);
    pmc_close(cache);
}

static void
test_a_bad_item_of_a_batch_harms_no_other(void)
{
    struct pmc_cache *cache = open_small();
    struct rooms rooms = {.refuse = SIZE_MAX};
    static char long_key[PMC_KEY_MAX_BYTES + 1];
    struct pmc_item items[] = {
        {.key = "a", .key_size = 1, .value = "v", .value_size = 1},
        {.key = NULL, .key_size = 5, .value = "v", .value_size = 1},
        {.key = long_key, .key_size = sizeof long_key, .value = "v", .value_size = 1},
        {.key = "b", .key_size = 1, .value = "v", .value_size = 1},
    };

    CHECK_EQ(pmc_put_many(cache, items, 4, NULL), 2);
    CHECK_EQ(items[1].status, PMC_EINVAL);
    CHECK_EQ(items[2].status, PMC_EKEY_SIZE);
    CHECK_EQ(pmc_get_many(cache, items, 4, room_of, &rooms), 2);
    CHECK_EQ(items[1].status, PMC_EINVAL);
    CHECK_EQ(items[2].status, PMC_EKEY_SIZE);
    CHECK_EQ(items[3].status, PMC_OK);
    pmc_close(cache);
}

struct one_room {
    uint8_t bytes[64];
    size_t size;
};

static void *
one_room_of(void *context, size_t value_size)
{
    struct one_room *room = context;

    room->size = value_size;
    return value_size <= sizeof room->bytes ? room->bytes : NULL;
}

static void
test_get_reserve_asks_for_the_size(void)
{
    struct pmc_cache *cache = open_small();
    struct one_room room = {.size = 0};
    struct pmc_found found;
    uint8_t large[65] = {0};

    put_text(cache, "k", "value");
    CHECK_EQ(pmc_get_reserve(cache, "k", 1, one_room_of, &room, &found), PMC_OK);
    CHECK_EQ(room.size, 5);
    CHECK(memcmp(room.bytes, "value", 5) == 0);
    CHECK_EQ(found.value_size, 5);
    pmc_put(cache, "l", 1, large, sizeof large, NULL);
    CHECK_EQ(pmc_get_reserve(cache, "l", 1, one_room_of, &room, NULL), PMC_EINVAL);
    CHECK_EQ(pmc_get_reserve(cache, "m", 1, one_room_of, &room, NULL), PMC_MISS);
    CHECK_EQ(pmc_get_reserve(cache, "k", 1, NULL, NULL, NULL), PMC_EINVAL);
    pmc_close(cache);
}

/* ---- walking --------------------------------------------------------- */

#define WALKED 5000

struct inserter {
    struct pmc_cache *cache;
    _Atomic bool stop;
};

static void *
insert_others(void *context)
{
    struct inserter *inserter = context;

    for (uint64_t i = 0; i < 60000 && !atomic_load(&inserter->stop); i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "other:%llu", (unsigned long long)i);

        pmc_put(inserter->cache, key, (size_t)size, "v", 1, NULL);
    }
    return NULL;
}

/* Count how often each "walk:<number>" is given. */
static void
walk_all(struct pmc_cache *cache, const char *prefix, unsigned *seen,
         unsigned *others_out)
{
    static uint8_t buffer[512 * 1024];
    struct pmc_cursor cursor = {0};
    size_t used;
    enum pmc_status status;

    *others_out = 0;
    while ((status = pmc_keys(cache, &cursor, prefix, strlen(prefix), buffer,
                              sizeof buffer, &used)) == PMC_OK)
        for (size_t at = 0; at < used;) {
            uint32_t size;
            char key[64] = {0};
            int number;

            memcpy(&size, buffer + at, sizeof size);
            if (!CHECK(size < sizeof key))
                return;
            memcpy(key, buffer + at + sizeof size, size);
            at += sizeof size + size;
            if (sscanf(key, "walk:%d", &number) == 1)
                seen[number]++;
            else
                (*others_out)++;
        }
    CHECK_EQ(status, PMC_MISS);
    CHECK_EQ(used, 0);
}

static void
fill_walked(struct pmc_cache *cache)
{
    for (int i = 0; i < WALKED; i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "walk:%d", i);

        CHECK_EQ(pmc_put(cache, key, (size_t)size, "v", 1, NULL), PMC_OK);
    }
}

static void
test_a_walk_gives_each_key_once_while_others_are_inserted(void)
{
    for (int round = 0; round < ROUNDS_OF(5); round++) {
        struct inserter inserter = {.cache = open_private(32 * MIB, PMC_EVICT_LRU)};
        static unsigned seen[WALKED];
        unsigned others;
        pthread_t thread;

        fill_walked(inserter.cache);
        pthread_create(&thread, NULL, insert_others, &inserter);
        for (int walk = 0; walk < 4; walk++) {
            memset(seen, 0, sizeof seen);
            walk_all(inserter.cache, walk % 2 ? "walk:" : "", seen, &others);
            for (int i = 0; i < WALKED; i++)
                CHECK_EQ(seen[i], 1);
            CHECK(walk % 2 == 0 || others == 0);
        }
        atomic_store(&inserter.stop, true);
        pthread_join(thread, NULL);
        check_untroubled(inserter.cache);
        pmc_close(inserter.cache);
    }
}

static void
test_a_walk_skips_the_expired_and_honours_the_prefix(void)
{
    struct pmc_cache *cache = open_private(4 * MIB, PMC_EVICT_LRU);
    struct pmc_put_options second = put_options(PMC_ALWAYS, 1000);
    static unsigned seen[WALKED];
    uint8_t small[100];
    struct pmc_cursor cursor = {0};
    size_t used;
    unsigned others;

    memset(seen, 0, sizeof seen);
    pmc_put(cache, "walk:1", 6, "v", 1, &second);
    put_text(cache, "walk:2", "v");
    put_text(cache, "wal", "v");
    put_text(cache, "x", "v");
    pmc_advance_clock(cache, 2000);
    walk_all(cache, "walk:", seen, &others);
    CHECK_EQ(seen[1], 0);
    CHECK_EQ(seen[2], 1);
    CHECK_EQ(others, 0);
    CHECK_EQ(pmc_keys(cache, &cursor, "", 0, small, sizeof small, &used), PMC_EINVAL);
    pmc_clear(cache);
    walk_all(cache, "", seen, &others);
    CHECK_EQ(others, 0);
    pmc_close(cache);
}

/* ---- evicting -------------------------------------------------------- */

static void
test_evict_by_policy_and_by_key(void)
{
    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_NONE; eviction++) {
        struct pmc_cache *cache = open_private(MIB, (enum pmc_eviction)eviction);
        static char key[PMC_KEY_MAX_BYTES];
        size_t key_size = 0;
        struct pmc_stats stats;

        CHECK_EQ(pmc_evict(cache, NULL, 0, key, &key_size), PMC_MISS);
        put_text(cache, "first", "v");
        put_text(cache, "second", "v");
        put_text(cache, "third", "v");
        CHECK_EQ(pmc_evict(cache, "second", 6, key, &key_size), PMC_OK);
        CHECK(key_size == 6 && memcmp(key, "second", 6) == 0);
        CHECK_EQ(pmc_evict(cache, "second", 6, key, &key_size), PMC_MISS);
        CHECK_EQ(pmc_evict(cache, NULL, 0, key, &key_size), PMC_OK);
        CHECK(key_size == 5 && memcmp(key, "first", 5) == 0);
        CHECK_EQ(pmc_evict(cache, NULL, 0, NULL, NULL), PMC_OK);
        CHECK_EQ(pmc_evict(cache, NULL, 0, NULL, NULL), PMC_MISS);
        pmc_stats(cache, &stats);
        CHECK_EQ(stats.evict, 3);
        CHECK_EQ(stats.entries, 0);
        check_untroubled(cache);
        pmc_close(cache);
    }
}

/* Planted bug: a victim chosen long ago goes though it was hit since. */
static void
test_evict_spares_what_was_hit_since_it_was_chosen(void)
{
    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_LRU; eviction++) {
        struct pmc_cache *cache = open_private(MIB, (enum pmc_eviction)eviction);
        static uint8_t value[500];
        uint64_t first = 0;
        uint64_t victim = 0;

        /* Full: making room for the last ones left candidates waiting. */
        for (uint64_t key = 0; key < 4000; key++)
            pmc_put(cache, &key, sizeof key, value, sizeof value, NULL);
        while (pmc_exists(cache, &first, sizeof first) == PMC_MISS)
            first++;
        for (uint64_t key = first; key < first + 100; key++)
            for (int hits = 0; hits < 3; hits++)
                pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL);
        CHECK_EQ(pmc_evict(cache, NULL, 0, &victim, NULL), PMC_OK);
        CHECK(victim >= first + 100);
        pmc_close(cache);
    }
}

static void
test_without_eviction_a_full_pool_refuses(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_NONE);
    static uint8_t value[30000];
    struct pmc_put_options minute = put_options(PMC_ALWAYS, 60000);
    struct pmc_stats stats;
    uint64_t stored = 0;
    uint64_t key = 0;

    CHECK_EQ(pmc_put(cache, "dying", 5, value, 30000, &minute), PMC_OK);
    while (pmc_put(cache, &stored, sizeof stored, value, 1000, NULL) == PMC_OK)
        stored++;
    CHECK(stored > 900);
    CHECK_EQ(pmc_put(cache, &key, sizeof key, value, 1000, NULL), PMC_EFULL);
    CHECK_EQ(pmc_put(cache, "new", 3, value, 1000, NULL), PMC_EFULL);
    for (key = 0; key < stored; key++) /* nothing was harmed */
        CHECK_EQ(pmc_exists(cache, &key, sizeof key), PMC_OK);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.evict, 0);
    CHECK(stats.rejected >= 3);
    pmc_advance_clock(cache, 61000); /* the dead make room */
    CHECK_EQ(pmc_put(cache, "new", 3, value, 1000, NULL), PMC_OK);
    key = 5;
    CHECK_EQ(pmc_delete(cache, &key, sizeof key, 0), PMC_OK);
    CHECK_EQ(pmc_put(cache, "newer", 5, value, 900, NULL), PMC_OK);
    check_untroubled(cache);
    pmc_close(cache);
}

/* Entries so little that a bucket and its chain are full before the heap is.
 * Planted bug: a neighbour gives way under this policy too. */
static void
test_without_eviction_a_full_index_refuses(void)
{
    struct pmc_cache *cache = open_private(PMC_POOL_MIN_BYTES, PMC_EVICT_NONE);
    static bool stored[PMC_POOL_MIN_BYTES / 16];
    const uint32_t keys = sizeof stored / sizeof *stored;
    struct pmc_stats stats;
    uint32_t count = 0;
    uint32_t key;

    for (key = 0; key < keys; key++) {
        enum pmc_status status = pmc_put(cache, &key, sizeof key, "", 0, NULL);

        CHECK(status == PMC_OK || status == PMC_EFULL);
        stored[key] = status == PMC_OK;
        count += stored[key];
    }
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.evict, 0);
    CHECK_EQ(stats.entries, count);
    CHECK_EQ(stats.rejected, keys - count);
    for (key = 0; key < keys; key++)
        CHECK_EQ(pmc_exists(cache, &key, sizeof key), stored[key] ? PMC_OK : PMC_MISS);
    check_untroubled(cache);
    pmc_close(cache);
}

/* Under a policy a neighbour gives way. Planted bugs: none does, and the shard is recovered
 * or cleared for want of a place; more than one goes. */
static void
test_with_eviction_a_full_index_takes_the_place_of_a_neighbour(void)
{
    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_LRU; eviction++) {
        struct pmc_cache *cache =
            open_private(PMC_POOL_MIN_BYTES, (enum pmc_eviction)eviction);
        const uint32_t keys = PMC_POOL_MIN_BYTES / 16;
        struct pmc_stats stats = {0};

        for (uint32_t key = 0; key < keys; key++) {
            CHECK_EQ(pmc_put(cache, &key, sizeof key, "", 0, NULL), PMC_OK);
            CHECK_EQ(pmc_exists(cache, &key, sizeof key), PMC_OK);
        }
        pmc_stats(cache, &stats);
        CHECK_EQ(stats.entries + stats.evict, keys);
        CHECK_EQ(stats.rejected, 0);
        check_untroubled(cache);
        pmc_close(cache);
    }
}

/* Small entries come and go for long: overflow buckets run out, but no entry may
 * go, and none be refused, while there is room. */
static void
test_without_eviction_nothing_goes_however_long_entries_come_and_go(void)
{
    struct pmc_cache *cache = open_private(PMC_POOL_MIN_BYTES, PMC_EVICT_NONE);
    struct random random = random_start("churn");
    static bool present[4000];
    unsigned count = 0;
    struct pmc_stats stats;

    memset(present, 0, sizeof present);
    for (int step = 0; step < ROUNDS_OF(400000); step++) {
        uint32_t key = random_below(&random, 4000);

        if (present[key]) {
            if (!CHECK_EQ(pmc_delete(cache, &key, sizeof key, 0), PMC_OK))
                break;
            present[key] = false;
            count--;
        } else if (count < 3900) {
            if (!CHECK_EQ(pmc_put(cache, &key, sizeof key, "12345678", 8, NULL),
                          PMC_OK))
                break;
            present[key] = true;
            count++;
        }
    }
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.evict, 0);
    CHECK_EQ(stats.entries, count);
    check_untroubled(cache);
    pmc_close(cache);
}

static void
test_the_largest_shard_finds_what_was_put(void)
{
    struct pmc_options options;
    struct pmc_cache *cache;

    pmc_options_default(&options);
    options.size_bytes = UINT64_C(32) << 30;
    options.shards = 1;
    cache = open_with(&options);
    for (uint32_t key = 0; key < 2000; key++)
        CHECK_EQ(pmc_put(cache, &key, sizeof key, &key, sizeof key, NULL), PMC_OK);
    for (uint32_t key = 0; key < 2000; key++) {
        uint32_t value = 0;

        CHECK_EQ(pmc_get(cache, &key, sizeof key, &value, sizeof value, 0, NULL),
                 PMC_OK);
        CHECK_EQ(value, key);
    }
    check_untroubled(cache);
    pmc_close(cache);
}

/* A pool without a size may be on a file system that is larger than all its shards can
 * be. Planted bug: they are planned as large as that, and slots have more numbers than
 * there are. */
static void
test_without_a_size_shards_are_planned_no_larger_than_they_can_be(void)
{
    struct pmc_options options;

    pmc_options_default(&options);
    options.size_bytes = PMC_SIZE_GROW;
    for (uint64_t has_bytes = UINT64_C(1) << 30; has_bytes <= UINT64_C(1) << 50;
         has_bytes *= 2)
        for (options.shards = 0; options.shards <= 2; options.shards++) {
            struct pool_identity identity;
            uint64_t buckets;

            pool_geometry(&options, has_bytes, &identity);
            buckets = (uint64_t)identity.max_buckets + identity.max_overflow;
            CHECK(buckets * BUCKET_STRIDE < NO_SLOT);
            CHECK(identity.shard_bytes / BLOCK_BYTES <= UINT32_MAX / 2);
        }
}

/* ---- callbacks ------------------------------------------------------- */

struct seen {
    unsigned evicted;
    unsigned expired;
    unsigned requested;
    unsigned misses;
    unsigned wrong;
};

static void
on_evict(struct pmc_cache *cache, const void *key, size_t key_size,
         enum pmc_cause cause, void *context)
{
    struct seen *seen = context;
    int64_t number;

    seen->evicted += cause == PMC_CAUSE_EVICTED;
    seen->expired += cause == PMC_CAUSE_EXPIRED;
    seen->requested += cause == PMC_CAUSE_REQUESTED;
    /* It left, and no lock is held: the same shard can be written to. */
    seen->wrong += pmc_exists(cache, key, key_size) != PMC_MISS;
    seen->wrong += pmc_incr(cache, "n", 1, 1, NULL, &number) == PMC_ETIMEDOUT;
}

static void
test_on_evict_is_called_without_locks_for_all_that_made_room(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_put_options second = put_options(PMC_ALWAYS, 1000);
    struct seen seen = {0};
    struct pmc_stats stats;
    static uint8_t value[1000];

    put_text(cache, "n", "0");
    pmc_put(cache, "dying", 5, "v", 1, &second);
    pmc_on_evict(cache, on_evict, &seen);
    pmc_advance_clock(cache, 2000);
    for (uint64_t key = 0; key < 2000; key++)
        pmc_put(cache, &key, sizeof key, value, sizeof value, NULL);
    CHECK_EQ(pmc_evict(cache, NULL, 0, NULL, NULL), PMC_OK);
    pmc_stats(cache, &stats);
    CHECK_EQ(seen.expired, 1);
    CHECK_EQ(seen.requested, 1);
    CHECK(seen.evicted > 900);
    CHECK_EQ(seen.evicted + seen.requested, stats.evict);
    CHECK_EQ(seen.wrong, 0);
    pmc_on_evict(cache, NULL, NULL);
    pmc_evict(cache, NULL, 0, NULL, NULL);
    CHECK_EQ(seen.requested, 1);
    pmc_delete(cache, "n", 1, 0); /* deletes are no evictions */
    CHECK_EQ(seen.requested, 1);
    pmc_close(cache);
}

static void
on_miss(struct pmc_cache *cache, const void *key, size_t key_size, void *context)
{
    struct seen *seen = context;

    seen->misses++;
    seen->wrong += pmc_get(cache, "other", 5, NULL, 0, 0, NULL) != PMC_MISS;
    if (key_size == 4)
        pmc_put(cache, key, key_size, "loaded", 6, NULL);
}

static void
test_on_miss_can_store_what_the_get_then_returns(void)
{
    struct pmc_cache *cache = open_small();
    struct seen seen = {0};
    struct pmc_stats stats;

    pmc_on_miss(cache, on_miss, &seen);
    CHECK(holds_text(cache, "load", "loaded"));
    CHECK_EQ(seen.misses, 1); /* not for the miss inside the callback */
    CHECK(holds_text(cache, "load", "loaded"));
    CHECK_EQ(seen.misses, 1);
    CHECK(!get_text(cache, "not"));
    CHECK_EQ(seen.misses, 2);
    CHECK_EQ(pmc_exists(cache, "never", 5), PMC_MISS);
    CHECK_EQ(seen.misses, 2);
    CHECK_EQ(seen.wrong, 0);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.hit, 2);
    CHECK_EQ(stats.miss, 3); /* "not", and "other" twice */
    pmc_close(cache);
}

/* ---- the rest -------------------------------------------------------- */

static void
test_info_and_heat(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_info info;

    put_text(cache, "k", "0123456789");
    info = info_of(cache, "k");
    CHECK_EQ(info.value_size, 10);
    CHECK(info.stored_bytes >= 11 && info.stored_bytes <= 11 + 24 + 16);
    CHECK_EQ(info.heat, 0);
    for (int i = 0; i < 9; i++)
        info_of(cache, "k"); /* looking is not using */
    CHECK_EQ(info_of(cache, "k").heat, 0);
    for (int i = 0; i < 9; i++)
        get_text(cache, "k");
    CHECK_EQ(info_of(cache, "k").heat, 3);
    pmc_close(cache);
}

static void
test_statistics_add_up(void)
{
    struct pmc_cache *cache = open_small();
    struct pmc_stats stats;

    put_text(cache, "a", "12345");
    put_text(cache, "a", "123");
    put_text(cache, "b", "1");
    get_text(cache, "a");
    get_text(cache, "nothing");
    pmc_delete(cache, "b", 1, 0);
    pmc_delete(cache, "b", 1, 0);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.put, 3);
    CHECK_EQ(stats.hit, 1);
    CHECK_EQ(stats.miss, 1);
    CHECK_EQ(stats.get, 2);
    CHECK_EQ(stats.delete_, 1);
    CHECK_EQ(stats.entries, 1);
    CHECK_EQ(stats.payload_bytes, 4);
    CHECK_EQ(stats.pool_size_used, 32);
    CHECK_EQ(stats.attached, 1);
    CHECK_EQ(stats.evict + stats.expired + stats.rejected + stats.recoveries +
                 stats.damaged + stats.lock_timeouts,
             0);
    CHECK(stats.capacity_bytes > MIB * 9 / 10 && stats.capacity_bytes <= MIB);
    CHECK(stats.allocated_bytes <= stats.capacity_bytes);
    CHECK(stats.dram_size_used > 0);
    pmc_close(cache);
}

static void
test_clear_removes_everything_and_the_pool_goes_on(void)
{
    struct pmc_cache *cache = open_private(2 * MIB, PMC_EVICT_LRU);
    struct pmc_stats stats;

    for (int round = 0; round < 3; round++) {
        for (uint64_t key = 0; key < 5000; key++)
            CHECK_EQ(pmc_put(cache, &key, sizeof key, "value", 5, NULL), PMC_OK);
        CHECK_EQ(pmc_clear(cache), PMC_OK);
        pmc_stats(cache, &stats);
        CHECK_EQ(stats.entries, 0);
        CHECK_EQ(stats.payload_bytes, 0);
        for (uint64_t key = 0; key < 5000; key += 100)
            CHECK_EQ(pmc_exists(cache, &key, sizeof key), PMC_MISS);
        check_untroubled(cache);
    }
    pmc_close(cache);
}

/* Planted bugs: what is overwritten keeps its place and its heat, or begins without any. */
static void
test_overwriting_counts_as_use(void)
{
    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_LRU; eviction++) {
        struct pmc_cache *cache = open_private(MIB, (enum pmc_eviction)eviction);
        static uint8_t value[1000];
        unsigned missing = 0;

        for (unsigned i = 0; i < 3; i++)
            pmc_put(cache, "often", 5, value, sizeof value, NULL);
        for (uint64_t key = 0; key < 10000; key++) {
            pmc_put(cache, &key, sizeof key, value, sizeof value, NULL);
            if (key % 300 == 0) { /* the pool holds a thousand */
                missing += pmc_exists(cache, "often", 5) != PMC_OK;
                pmc_put(cache, "often", 5, value, sizeof value, NULL);
            }
        }
        CHECK_EQ(missing, 0);
        check_untroubled(cache);
        pmc_close(cache);
    }
}

static void
test_geometry_says_what_was_asked_for(void)
{
    struct pmc_options options;
    struct pmc_geometry geometry;
    struct pmc_cache *cache;

    pmc_options_default(&options);
    options.size_bytes = 8 * MIB;
    options.shards = 4;
    options.eviction = PMC_EVICT_LRU;
    cache = open_with(&options);
    CHECK_EQ(pmc_geometry(cache, &geometry), PMC_OK);
    CHECK_EQ(geometry.size_bytes, 8 * MIB);
    CHECK_EQ(geometry.shards, 4);
    CHECK_EQ(geometry.eviction, PMC_EVICT_LRU);
    CHECK_EQ(geometry.lifetime, PMC_VOLATILE);
    CHECK(geometry.created);
    CHECK(geometry.shard_bytes <= 2 * MIB && geometry.shard_bytes > MIB);
    for (uint64_t key = 0; key < 1000; key++)
        CHECK_EQ(pmc_put(cache, &key, sizeof key, &key, sizeof key, NULL), PMC_OK);
    for (uint64_t key = 0; key < 1000; key++)
        CHECK_EQ(pmc_exists(cache, &key, sizeof key), PMC_OK);
    check_untroubled(cache);
    pmc_close(cache);
}

static void
expect_refused(const struct pmc_options *options)
{
    struct pmc_cache *cache = NULL;
    struct pmc_error error;

    CHECK_EQ(pmc_open(options, &cache, &error), PMC_EINVAL);
    CHECK(cache == NULL && strlen(error.message) > 10);
    CHECK_EQ(pmc_open(options, &cache, NULL), PMC_EINVAL);
}

static void
test_options_out_of_range_are_refused(void)
{
    struct pmc_options good;
    struct pmc_options bad;

    pmc_options_default(&good);
    bad = good, bad.size_bytes = PMC_POOL_MIN_BYTES - 1, expect_refused(&bad);
    bad = good, bad.size_bytes = UINT64_MAX - 1, expect_refused(&bad);
    bad = good, bad.shards = 3, expect_refused(&bad);
    bad = good, bad.shards = 128, expect_refused(&bad);
    bad = good, bad.shards = 64, bad.size_bytes = MIB, expect_refused(&bad);
    bad = good, bad.eviction = 3, expect_refused(&bad);
    bad = good, bad.lifetime = 2, expect_refused(&bad);
    bad = good, bad.memory = 2, expect_refused(&bad);
    bad = good, bad.lifetime = PMC_RESTART, expect_refused(&bad);
    bad = good, bad.size_bytes = PMC_SIZE_GROW, bad.preallocate = true,
    expect_refused(&bad);
}

static void
test_every_status_has_its_text(void)
{
    for (int status = PMC_EATTACH_LIMIT; status <= PMC_DROPPED; status++)
        CHECK(strcmp(pmc_status_text((enum pmc_status)status), "unknown status") != 0);
    CHECK(pmc_status_text((enum pmc_status)99) != NULL);
    pmc_close(NULL);
}

int
main(void)
{
    RUN(test_put_get_overwrite_delete);
    RUN(test_conditions);
    RUN(test_generations_never_come_again);
    RUN(test_offsets_and_short_buffers);
    RUN(test_the_empty_key_and_the_empty_value);
    RUN(test_the_longest_key);
    RUN(test_values_up_to_the_promised_size_fit_a_full_pool);
    RUN(test_a_large_value_finds_room_among_small_ones);
    RUN(test_deadlines);
    RUN(test_what_is_over_takes_no_room);
    RUN(test_touch_moves_the_deadline_and_nothing_else);
    RUN(test_a_put_that_is_dead_on_arrival_deletes);
    RUN(test_expired_entries_are_swept_by_writes);
    RUN(test_incr_counts_creates_and_misses);
    RUN(test_incr_keeps_deadline_and_tag_of_what_exists);
    RUN(test_incr_refuses_what_is_no_integer);
    RUN(test_incr_stops_at_the_ends_of_64_bits);
    RUN(test_batches);
    RUN(test_a_bad_item_of_a_batch_harms_no_other);
    RUN(test_get_reserve_asks_for_the_size);
    RUN(test_a_walk_gives_each_key_once_while_others_are_inserted);
    RUN(test_a_walk_skips_the_expired_and_honours_the_prefix);
    RUN(test_evict_by_policy_and_by_key);
    RUN(test_evict_spares_what_was_hit_since_it_was_chosen);
    RUN(test_without_eviction_a_full_pool_refuses);
    RUN(test_without_eviction_a_full_index_refuses);
    RUN(test_with_eviction_a_full_index_takes_the_place_of_a_neighbour);
    RUN(test_without_eviction_nothing_goes_however_long_entries_come_and_go);
    RUN(test_on_evict_is_called_without_locks_for_all_that_made_room);
    RUN(test_on_miss_can_store_what_the_get_then_returns);
    RUN(test_info_and_heat);
    RUN(test_statistics_add_up);
    RUN(test_clear_removes_everything_and_the_pool_goes_on);
    RUN(test_overwriting_counts_as_use);
    RUN(test_geometry_says_what_was_asked_for);
    RUN(test_options_out_of_range_are_refused);
    RUN(test_the_largest_shard_finds_what_was_put);
    RUN(test_without_a_size_shards_are_planned_no_larger_than_they_can_be);
    RUN(test_every_status_has_its_text);
    return check_report();
}
