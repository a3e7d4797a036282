/*
 * What users of libvmemcache know, by its terms: docs/ancestors.md has the table. Where
 * we do otherwise on purpose, the test says so.
 */
#include "support.h"

#define MIB (UINT64_C(1) << 20)

static struct pmc_stats
stats_of(struct pmc_cache *cache)
{
    struct pmc_stats stats = {0};

    pmc_stats(cache, &stats);
    return stats;
}

/* ---- get ------------------------------------------------------------- */

static void
test_get_past_the_end_copies_nothing_and_tells_the_size(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    static const size_t offsets[] = {7, 8, 4096, 1u << 30, SIZE_MAX};

    put_text(cache, "key", "7 bytes");
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        struct pmc_found found = {0};
        char buffer[4] = "...";

        CHECK_EQ(pmc_get(cache, "key", 3, buffer, sizeof buffer, offsets[i], &found),
                 PMC_OK);
        CHECK_EQ(found.value_size, 7);
        CHECK(strcmp(buffer, "...") == 0);
    }
    pmc_close(cache);
}

static void
test_get_without_a_buffer_tells_the_size(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct pmc_found found = {0};

    put_text(cache, "key", "7 bytes");
    CHECK_EQ(pmc_get(cache, "key", 3, NULL, 0, 0, &found), PMC_OK);
    CHECK_EQ(found.value_size, 7);
    found.value_size = 99;
    CHECK_EQ(pmc_get(cache, "none", 4, NULL, 0, 0, &found), PMC_MISS);
    CHECK_EQ(found.value_size, 99); /* "remains unmodified" */
    pmc_close(cache);
}

/* exists "does not impact the replacement policy or statistics". */
static void
check_exists_leaves_no_trace(enum pmc_eviction eviction)
{
    struct pmc_cache *cache = open_private(MIB, eviction);
    char key[PMC_KEY_MAX_BYTES];
    size_t key_size = 0;
    struct pmc_info before;
    struct pmc_info after;

    put_text(cache, "first", "v");
    CHECK_EQ(pmc_info(cache, "first", 5, &before), PMC_OK);
    put_text(cache, "second", "v");
    CHECK_EQ(pmc_exists(cache, "first", 5), PMC_OK);
    CHECK_EQ(pmc_exists(cache, "third", 5), PMC_MISS);
    CHECK_EQ(pmc_info(cache, "first", 5, &after), PMC_OK);
    CHECK_EQ(after.heat, before.heat);
    CHECK_EQ(stats_of(cache).get, 0);
    CHECK_EQ(stats_of(cache).miss, 0);
    CHECK_EQ(pmc_evict(cache, NULL, 0, key, &key_size), PMC_OK);
    CHECK(key_size == 5 && memcmp(key, "first", 5) == 0);
    pmc_close(cache);
}

/* Planted bug: exists is a use of the entry. */
static void
test_exists_counts_nothing_and_bumps_nothing(void)
{
    check_exists_leaves_no_trace(PMC_EVICT_S3FIFO);
    check_exists_leaves_no_trace(PMC_EVICT_LRU);
}

/* ---- put ------------------------------------------------------------- */

/* EEXIST there; here a put replaces, and PMC_IF_ABSENT asks for the other. */
static void
test_put_of_a_key_that_exists(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct pmc_put_options absent = {.ttl_ms = PMC_TTL_NONE,
                                     .condition = PMC_IF_ABSENT};

    CHECK_EQ(pmc_put(cache, "key", 3, "one", 3, &absent), PMC_OK);
    CHECK_EQ(pmc_put(cache, "key", 3, "two", 3, &absent), PMC_UNMET);
    CHECK(holds_text(cache, "key", "one"));
    CHECK_EQ(put_text(cache, "key", "two"), PMC_OK);
    CHECK(holds_text(cache, "key", "two"));
    CHECK_EQ(stats_of(cache).entries, 1);
    pmc_close(cache);
}

static void
test_values_and_keys_of_size_zero(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct pmc_found found = {.value_size = 1};

    CHECK_EQ(pmc_put(cache, "empty", 5, NULL, 0, NULL), PMC_OK);
    CHECK_EQ(pmc_get(cache, "empty", 5, NULL, 0, 0, &found), PMC_OK);
    CHECK_EQ(found.value_size, 0);
    CHECK_EQ(pmc_put(cache, "", 0, "value", 5, NULL), PMC_OK);
    CHECK_EQ(pmc_put(cache, NULL, 0, "other", 5, NULL), PMC_OK); /* the same key */
    CHECK(holds_text(cache, "", "other"));
    CHECK_EQ(pmc_evict(cache, "", 0, NULL, NULL), PMC_OK); /* it, not the oldest */
    CHECK_EQ(pmc_exists(cache, NULL, 0), PMC_MISS);
    CHECK_EQ(pmc_exists(cache, "empty", 5), PMC_OK);
    CHECK_EQ(stats_of(cache).entries, 1);
    check_untroubled(cache);
    pmc_close(cache);
}

/* Once alone, once in place of all others, and one byte more evicts nothing. */
static void
test_value_as_large_as_the_pool(void)
{
    static uint8_t value[MIB];
    static uint8_t read_back[MIB];

    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_NONE; eviction++) {
        struct pmc_cache *cache = open_private(MIB, (enum pmc_eviction)eviction);
        struct pmc_geometry geometry;
        size_t largest;

        pmc_geometry(cache, &geometry);
        largest = (size_t)geometry.value_max_bytes - 3;
        put_text(cache, "other", "small");
        CHECK_EQ(pmc_put(cache, "key", 3, value, largest + 1, NULL), PMC_EVALUE_SIZE);
        CHECK(holds_text(cache, "other", "small"));
        CHECK_EQ(stats_of(cache).evict, 0);
        fill_pattern(value, largest, 3);
        CHECK_EQ(pmc_put(cache, "key", 3, value, largest, NULL),
                 eviction == PMC_EVICT_NONE ? PMC_EFULL : PMC_OK);
        CHECK_EQ(pmc_exists(cache, "other", 5),
                 eviction == PMC_EVICT_NONE ? PMC_OK : PMC_MISS);
        CHECK_EQ(pmc_clear(cache), PMC_OK);
        CHECK_EQ(pmc_put(cache, "key", 3, value, largest, NULL), PMC_OK);
        CHECK_EQ(pmc_get(cache, "key", 3, read_back, largest, 0, NULL), PMC_OK);
        CHECK(has_pattern(read_back, largest, 3));
        check_untroubled(cache);
        pmc_close(cache);
    }
}

/* ---- evict ----------------------------------------------------------- */

/* "If key is null ... the oldest entry will be removed"; ENOENT, ESRCH. Under lru age is
 * known to about a thirtieth of the capacity, not to the entry. */
static void
test_evict_of_the_null_key_takes_what_was_not_used_for_long(void)
{
    enum { ENTRIES = 200, USED = 50 };
    static const uint8_t value[5000];
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    uint64_t key;
    size_t key_size = 0;

    for (key = 0; key < ENTRIES; key++)
        CHECK_EQ(pmc_put(cache, &key, sizeof key, value, sizeof value, NULL), PMC_OK);
    for (key = 0; key < USED; key++)
        CHECK_EQ(pmc_get(cache, &key, sizeof key, NULL, 0, 0, NULL), PMC_OK);
    for (uint64_t turn = 0; turn < ENTRIES - USED; turn++) {
        CHECK_EQ(pmc_evict(cache, NULL, 0, &key, &key_size), PMC_OK);
        CHECK(key_size == sizeof key && key >= USED);
        if (turn == 0)
            CHECK(key < USED + ENTRIES / 25);
    }
    CHECK_EQ(pmc_evict(cache, &key, sizeof key, NULL, NULL), PMC_MISS);
    for (key = 0; key < USED; key++)
        CHECK_EQ(pmc_evict(cache, &key, sizeof key, NULL, NULL), PMC_OK);
    CHECK_EQ(pmc_evict(cache, NULL, 0, NULL, NULL), PMC_MISS);
    CHECK_EQ(stats_of(cache).evict, ENTRIES);
    pmc_close(cache);
}

/* ---- callbacks ------------------------------------------------------- */

struct seen {
    struct pmc_cache *other;
    unsigned calls;
    unsigned hits;
};

/* There the entry "remains available" until the callback returns; here it has left. */
static void
put_again(struct pmc_cache *cache, const void *key, size_t key_size,
          enum pmc_cause cause, void *context)
{
    struct seen *seen = context;

    (void)cause;
    seen->calls++;
    seen->hits += pmc_exists(cache, key, key_size) == PMC_OK;
    CHECK_EQ(pmc_put(cache, "put in on_evict", 15, key, key_size, NULL), PMC_OK);
}

static void
test_put_inside_on_evict(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct seen seen = {0};

    pmc_on_evict(cache, put_again, &seen);
    put_text(cache, "key", "value");
    CHECK_EQ(pmc_evict(cache, NULL, 0, NULL, NULL), PMC_OK);
    CHECK_EQ(seen.calls, 1);
    CHECK_EQ(seen.hits, 0);
    CHECK(holds_text(cache, "put in on_evict", "key"));
    CHECK_EQ(pmc_delete(cache, "put in on_evict", 15, 0), PMC_OK); /* is no eviction */
    CHECK_EQ(seen.calls, 1);
    pmc_close(cache);
}

static void
put_missing(struct pmc_cache *cache, const void *key, size_t key_size, void *context)
{
    struct seen *seen = context;

    seen->calls++;
    CHECK_EQ(pmc_put(cache, key, key_size, "put in on_miss", 14, NULL), PMC_OK);
}

static void
test_put_inside_on_miss_is_what_the_get_returns(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct seen seen = {0};

    pmc_on_miss(cache, put_missing, &seen);
    CHECK(holds_text(cache, "key", "put in on_miss"));
    CHECK(holds_text(cache, "", "put in on_miss"));
    CHECK(holds_text(cache, "key", "put in on_miss"));
    CHECK_EQ(seen.calls, 2);
    CHECK_EQ(stats_of(cache).hit, 3);
    CHECK_EQ(stats_of(cache).miss, 0); /* no get came back without a value */
    pmc_close(cache);
}

/* There the get returns what was put "even if it did not fit"; here that is a miss. */
static void
put_too_much(struct pmc_cache *cache, const void *key, size_t key_size, void *context)
{
    static uint8_t value[2 * MIB];
    struct seen *seen = context;

    seen->calls++;
    CHECK_EQ(pmc_put(cache, key, key_size, value, sizeof value, NULL), PMC_EVALUE_SIZE);
}

static void
test_put_inside_on_miss_that_does_not_fit_is_a_miss(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct seen seen = {0};

    pmc_on_miss(cache, put_too_much, &seen);
    CHECK(!get_text(cache, "key"));
    CHECK_EQ(seen.calls, 1);
    pmc_close(cache);
}

/* Two levels: what the fast cache has not, it gets from the slow one, whose own
 * callback makes it. A miss of the fast one in there asks nobody again. */
static void
get_from_other(struct pmc_cache *cache, const void *key, size_t key_size, void *context)
{
    struct seen *seen = context;
    char value[64];
    struct pmc_found found;

    seen->calls++;
    seen->hits += pmc_exists(cache, key, key_size) == PMC_OK;
    CHECK_EQ(pmc_get(cache, "nested", 6, NULL, 0, 0, NULL), PMC_MISS);
    CHECK_EQ(pmc_get(seen->other, key, key_size, value, sizeof value, 0, &found),
             PMC_OK);
    CHECK_EQ(pmc_put(cache, key, key_size, value, found.value_size, NULL), PMC_OK);
}

/* Planted bug: a miss inside of one cache's callback keeps the other's from being
 * called. */
static void
test_nested_misses_of_two_caches_call_each_callback_once(void)
{
    struct pmc_cache *slow = open_private(MIB, PMC_EVICT_LRU);
    struct pmc_cache *fast = open_private(MIB, PMC_EVICT_LRU);
    struct seen slow_seen = {0};
    struct seen fast_seen = {.other = slow};

    pmc_on_miss(slow, put_missing, &slow_seen);
    pmc_on_miss(fast, get_from_other, &fast_seen);
    CHECK(holds_text(fast, "key", "put in on_miss"));
    CHECK(holds_text(fast, "key", "put in on_miss"));
    CHECK_EQ(fast_seen.calls, 1);
    CHECK_EQ(fast_seen.hits, 0);
    CHECK_EQ(slow_seen.calls, 1);
    pmc_on_miss(slow, NULL, NULL);
    CHECK(!get_text(slow, "nested"));
    pmc_close(fast);
    pmc_close(slow);
}

/* ---- statistics ------------------------------------------------------ */

static void
test_statistics_of_the_ancestor(void)
{
    struct pmc_cache *cache = open_private(MIB, PMC_EVICT_LRU);
    struct pmc_stats empty = stats_of(cache);
    struct pmc_stats stats;

    put_text(cache, "key", "value");
    get_text(cache, "key");
    get_text(cache, "none");
    stats = stats_of(cache);
    CHECK_EQ(stats.put, 1);
    CHECK_EQ(stats.get, 2);
    CHECK_EQ(stats.hit, 1);
    CHECK_EQ(stats.miss, 1);
    CHECK_EQ(stats.entries, 1);
    CHECK(stats.pool_size_used >= 8 && stats.pool_size_used <= 64);
    CHECK_EQ(stats.payload_bytes, 8);
    CHECK(stats.dram_size_used >= empty.dram_size_used);
    CHECK_EQ(pmc_evict(cache, NULL, 0, NULL, NULL), PMC_OK);
    stats = stats_of(cache);
    CHECK_EQ(stats.evict, 1);
    CHECK_EQ(stats.entries, 0);
    CHECK_EQ(stats.pool_size_used, 0);
    pmc_close(cache);
}

int
main(void)
{
    RUN(test_get_past_the_end_copies_nothing_and_tells_the_size);
    RUN(test_get_without_a_buffer_tells_the_size);
    RUN(test_exists_counts_nothing_and_bumps_nothing);
    RUN(test_put_of_a_key_that_exists);
    RUN(test_values_and_keys_of_size_zero);
    RUN(test_value_as_large_as_the_pool);
    RUN(test_evict_of_the_null_key_takes_what_was_not_used_for_long);
    RUN(test_put_inside_on_evict);
    RUN(test_put_inside_on_miss_is_what_the_get_returns);
    RUN(test_put_inside_on_miss_that_does_not_fit_is_a_miss);
    RUN(test_nested_misses_of_two_caches_call_each_callback_once);
    RUN(test_statistics_of_the_ancestor);
    return check_report();
}
