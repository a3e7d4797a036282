/*
 * What a pool that has been full for a while holds, what a put takes out for it,
 * and how many requests find their key: ratios and counts of short runs, the
 * same requests every time. The long runs are in bench/space.c and bench/replay.c.
 */
#include <math.h>
#include <sys/mman.h>

#include "../bench/ideal.h"
#include "../bench/level.h"
#include "cache.h"
#include "check.h"
#include "pmemcache.h"
#include "pool_geometry.h"
#include "support.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define KEYS_OVER_POOL 10u
#define WARM_TURNOVERS 2u
#define TURNOVERS 3u
#define HEAD_AND_KEY_BYTES 32u

static uint8_t value[4 * MIB + 1];

/* ---- requests --------------------------------------------------------- */

struct mix {
    uint32_t least; /* bytes of a value */
    uint32_t most;
    uint32_t outliers; /* of a thousand, which are 1-4 MiB */
};

static const struct mix wide = {.least = 200, .most = 64 * KIB};
static const struct mix narrow = {.least = 900, .most = 1148};
static const struct mix with_outliers = {.least = 200, .most = 64 * KIB, .outliers = 5};
static const struct mix small = {.least = 200, .most = 1000};
static const struct mix large = {.least = 16 * KIB, .most = 64 * KIB};

struct run {
    struct pmc_cache *cache;
    const struct mix *mix;
    struct random random;
    uint64_t keys;
    uint64_t requests;
    uint64_t hits;
    uint64_t puts;
    uint64_t refused;
    uint64_t evicted_by_put;
    uint64_t evicted_most;
    struct ideal ideal;
    uint64_t ideal_hits;
};

static double
fraction(struct random *random)
{
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

/* A key's value always has the same size. */
static uint32_t
size_of(const struct mix *mix, uint64_t key)
{
    struct random random = {.state = key};
    uint32_t outlier = random_below(&random, 1000);

    if (outlier < mix->outliers)
        return MIB + random_below(&random, 3 * MIB);
    return mix->least + random_below(&random, mix->most - mix->least + 1);
}

static void
count_eviction(struct pmc_cache *cache, const void *key, size_t key_size,
               enum pmc_cause cause, void *context)
{
    struct run *run = context;

    (void)cache;
    (void)key;
    (void)key_size;
    (void)cause;
    run->evicted_by_put++;
}

/* Ask for one key, of zipf frequencies (exponent 0.9); store it if it is missed. */
static void
request(struct run *run)
{
    double span = pow((double)run->keys, 0.1) - 1;
    uint64_t number =
        (uint64_t)(pow(1 + span * fraction(&run->random), 10) - 1) % run->keys;
    uint64_t key = number * 2 + (run->mix == &large); /* sizes of its own */
    uint32_t size = size_of(run->mix, key);

    run->requests++;
    if (run->ideal.keys)
        run->ideal_hits += ideal_request(&run->ideal, (uint32_t)number,
                                         (size + HEAD_AND_KEY_BYTES + 15) / 16);
    if (pmc_get(run->cache, &key, sizeof key, NULL, 0, 0, NULL) == PMC_OK) {
        run->hits++;
        return;
    }
    run->evicted_by_put = 0;
    run->puts++;
    run->refused += pmc_put(run->cache, &key, sizeof key, value, size, NULL) != PMC_OK;
    if (run->evicted_by_put > run->evicted_most)
        run->evicted_most = run->evicted_by_put;
}

static void
start_mix(struct run *run, const struct mix *mix, uint64_t pool_bytes)
{
    run->mix = mix;
    run->keys = KEYS_OVER_POOL * pool_bytes / ((mix->least + mix->most) / 2);
}

/* Hashes are those of every run, too: where entries lie, and so what is moved and
 * evicted, depends on them. */
static void
hash_as_always(struct pmc_cache *cache)
{
    cache->hash_seed = 1;
    for (uint32_t i = 0; i < cache->shard_count; i++)
        cache->shards[i].hash_seed = 1;
}

static void
start_run(struct run *run, const struct mix *mix, uint64_t pool_bytes)
{
    *run = (struct run){.cache = open_private(pool_bytes, PMC_EVICT_S3FIFO),
                        .random = {.state = 1}};
    hash_as_always(run->cache);
    start_mix(run, mix, pool_bytes);
    pmc_on_evict(run->cache, count_eviction, run);
}

/* The share of keys and values in the pool, while so much is written. */
static struct level
turn_over(struct run *run, uint32_t turnovers)
{
    struct level level;
    struct pmc_stats stats;

    pmc_stats(run->cache, &stats);
    level = level_begin(run->cache, stats.capacity_bytes);
    while (level_goes_on(&level, turnovers))
        for (int turn = 0; turn < 20; turn++)
            request(run);
    return level;
}

static void
check_moved_little(const struct run *run)
{
    struct pmc_stats stats;

    pmc_stats(run->cache, &stats);
    CHECK((double)stats.moved_bytes < 0.15 * (double)stats.written_bytes);
}

/* ---- what is full is full of keys and values --------------------------- */

/* Planted bug: windows are never used, and what is free cannot be. */
static void
test_a_full_pool_holds_keys_and_values(void)
{
    static const struct {
        const struct mix *mix;
        double mean;
    } cases[] = {{&wide, 0.975}, {&narrow, 0.935}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct run run;
        struct level level;

        start_run(&run, cases[i].mix, 32 * MIB);
        turn_over(&run, WARM_TURNOVERS);
        level = turn_over(&run, TURNOVERS);
        printf("payload of %u-%u bytes: %.4f, at least %.4f\n", cases[i].mix->least,
               cases[i].mix->most, level_mean(&level), level.least);
        CHECK(level_mean(&level) >= cases[i].mean);
        CHECK_EQ(run.refused, 0);
        CHECK(run.evicted_most <= 1000);
        check_moved_little(&run);
        check_untroubled(run.cache);
        pmc_close(run.cache);
    }
}

/* Planted bug: a value of 4 MiB gives way to one of 1 KiB, and a sixteenth of the
 * pool is empty until it is filled again. */
static void
test_a_large_victim_waits_for_a_put_of_its_kind(void)
{
    struct run run;
    struct level level;

    start_run(&run, &with_outliers, 64 * MIB);
    turn_over(&run, WARM_TURNOVERS);
    level = turn_over(&run, 2 * TURNOVERS);
    printf("payload with 1-4 MiB among it: %.4f, at least %.4f\n", level_mean(&level),
           level.least);
    CHECK(level.least >= 0.95);
    CHECK_EQ(run.refused, 0);
    CHECK(run.evicted_most <= 1000);
    check_moved_little(&run);
    pmc_close(run.cache);
}

/* ... but not for ever: what is never asked for again goes, even if nothing of its
 * size comes. */
static void
test_a_large_victim_goes_at_last(void)
{
    struct pmc_cache *cache = open_private(32 * MIB, PMC_EVICT_S3FIFO);

    CHECK_EQ(pmc_put(cache, "large", 5, value, 4 * MIB, NULL), PMC_OK);
    for (uint64_t key = 0; key < 120000; key++) /* 120 MiB: four turnovers */
        CHECK_EQ(pmc_put(cache, &key, sizeof key, value, 1000, NULL), PMC_OK);
    CHECK_EQ(pmc_exists(cache, "large", 5), PMC_MISS);
    pmc_close(cache);
}

static void
put_sized(struct pmc_cache *cache, const char *key, uint32_t size)
{
    CHECK_EQ(pmc_put(cache, key, strlen(key), value, size, NULL), PMC_OK);
}

static bool
is_there(struct pmc_cache *cache, const char *key)
{
    return pmc_exists(cache, key, strlen(key)) == PMC_OK;
}

/* Store so many values of 48 KiB; 0: until one was evicted. */
static void
put_small(struct pmc_cache *cache, uint64_t *next_key, unsigned count)
{
    struct pmc_stats stats = {0};

    for (unsigned i = 0; count ? i < count : stats.evict == 0; i++) {
        uint64_t key = (*next_key)++;

        CHECK_EQ(pmc_put(cache, &key, sizeof key, value, 48 * KIB, NULL), PMC_OK);
        pmc_stats(cache, &stats);
    }
}

/* Planted bugs: none goes ahead of its turn, so that those that wait take room from small
 * ones; one goes that was used; one goes that has just come. */
static void
test_a_large_value_takes_the_place_of_its_kind_ahead_of_its_turn(void)
{
    struct pmc_cache *cache = open_private(16 * MIB, PMC_EVICT_S3FIFO);
    uint64_t key = 0;
    struct pmc_stats before;
    struct pmc_stats after;

    put_small(cache, &key, 80);
    put_sized(cache, "used", MIB);
    put_small(cache, &key, 80);
    put_sized(cache, "unused", MIB);
    CHECK_EQ(pmc_get(cache, "used", 4, NULL, 0, 0, NULL), PMC_OK);
    put_small(cache, &key, 0);
    pmc_stats(cache, &before);
    put_sized(cache, "new", MIB - KIB);
    pmc_stats(cache, &after);
    CHECK(is_there(cache, "used"));
    CHECK(!is_there(cache, "unused"));
    CHECK_EQ(after.evict, before.evict + 1);
    put_sized(cache, "newer", MIB - KIB);
    CHECK(is_there(cache, "used"));
    CHECK(is_there(cache, "new"));
    pmc_close(cache);
}

/* Planted bugs: what may go is asked of each entry of a window by itself; one goes ahead of
 * its turn though others wait. */
static void
test_two_large_victims_leave_no_deeper_dip_than_one(void)
{
    struct pmc_cache *cache = open_private(16 * MIB, PMC_EVICT_S3FIFO);
    uint64_t key = 0;
    struct pmc_stats stats;

    put_sized(cache, "first", 400 * KIB);
    put_sized(cache, "between", 1000);
    put_sized(cache, "second", 400 * KIB);
    put_small(cache, &key, 2);
    for (int hit = 0; hit < 2; hit++)
        CHECK_EQ(pmc_get(cache, "between", 7, NULL, 0, 0, NULL), PMC_OK);
    put_sized(cache, "neighbour", 500 * KIB);
    put_sized(cache, "other neighbour", 500 * KIB);
    put_small(cache, &key, 80);
    put_sized(cache, "later", 400 * KIB);
    put_small(cache, &key, 0);
    CHECK(is_there(cache, "neighbour") && is_there(cache, "other neighbour"));
    put_sized(cache, "new", 700 * KIB);
    pmc_stats(cache, &stats);
    CHECK(!is_there(cache, "first") && !is_there(cache, "second"));
    CHECK(is_there(cache, "later"));
    CHECK((double)stats.payload_bytes >= 0.95 * (16 * MIB));
    check_untroubled(cache);
    pmc_close(cache);
}

/* Planted bugs: a large value takes the place of all candidates rather than of its
 * own size; what small values leave is of no use to large ones. */
static void
test_drifting_sizes_are_stored_without_a_dip(void)
{
    struct run run;
    struct level first;

    start_run(&run, &small, 32 * MIB);
    turn_over(&run, WARM_TURNOVERS);
    first = turn_over(&run, 1);
    for (int phase = 0; phase < 2; phase++) {
        struct level level;

        start_mix(&run, phase == 0 ? &large : &small, 32 * MIB);
        level = turn_over(&run, TURNOVERS);
        printf("payload after the sizes changed: %.4f, at least %.4f (%.4f)\n",
               level_mean(&level), level.least, first.least);
        CHECK(level.least >= first.least - 0.003);
    }
    CHECK_EQ(run.refused, 0);
    CHECK(run.evicted_most <= 1000);
    check_moved_little(&run);
    check_untroubled(run.cache);
    pmc_close(run.cache);
}

/* ---- homes ------------------------------------------------------------- */

/* The next key, odd or even, of the pool's first shard. */
static uint64_t
next_key_of_first_shard(const struct pmc_cache *cache, uint64_t key, bool odd)
{
    do
        key += 2;
    while (cache_shard(cache, cache_hash(cache, &(uint64_t){key | odd}, sizeof key)) !=
           &cache->shards[0]);
    return key;
}

/* Fill the first shard until it evicts: by turns one that is used, 20 KiB, under an even
 * key, and one that is not, 12 KiB, under an odd one. Returns the last even key. */
static uint64_t
fill_first_shard_by_turns(struct run *run)
{
    uint64_t key = 0;

    for (bool odd = false; run->evicted_by_put == 0; odd = !odd) {
        uint64_t written;

        key = next_key_of_first_shard(run->cache, key, odd);
        written = key | odd;
        CHECK_EQ(pmc_put(run->cache, &written, sizeof written, value,
                         (odd ? 12 : 20) * KIB, NULL),
                 PMC_OK);
    }
    for (uint64_t used = 2; used <= key; used += 2)
        for (int hit = 0; hit < 3; hit++)
            pmc_get(run->cache, &used, sizeof used, NULL, 0, 0, NULL);
    return key;
}

/* How many go for a value of 1200 KiB, in whose window those that are used have to
 * move: the holes that the others leave are no homes for them. */
static uint64_t
evicted_for_homes(uint32_t shards)
{
    struct pmc_options options;
    struct run run = {.evicted_by_put = 0};
    const struct shard *shard;
    uint64_t key;

    pmc_options_default(&options);
    options.size_bytes = (uint64_t)shards * 8 * MIB;
    options.shards = shards;
    run.cache = open_with(&options);
    hash_as_always(run.cache);
    pmc_on_evict(run.cache, count_eviction, &run);
    key = next_key_of_first_shard(run.cache, fill_first_shard_by_turns(&run), false);
    run.evicted_by_put = 0;
    CHECK_EQ(pmc_put(run.cache, &key, sizeof key, value, 1200 * KIB, NULL), PMC_OK);
    shard = &run.cache->shards[0];
    CHECK(run.evicted_by_put > 1200 / 12);
    CHECK(shard->header->free_blocks < shard->max_blocks / 4);
    check_untroubled(run.cache);
    pmc_close(run.cache);
    return run.evicted_by_put;
}

/* Planted bugs: what may be free before those without a home go themselves is measured
 * by the pool, or is not bounded. */
static void
test_what_goes_for_homes_is_bounded_by_the_shard(void)
{
    uint64_t alone = evicted_for_homes(1);
    uint64_t of_four = evicted_for_homes(4);

    printf("evicted for a value of 1200 KiB: %llu of one shard, %llu of one of four\n",
           (unsigned long long)alone, (unsigned long long)of_four);
    CHECK_EQ(of_four, alone);
}

/* ---- a put that cannot succeed ----------------------------------------- */

static void
fill(struct pmc_cache *cache)
{
    for (uint64_t key = 0; key < 2000; key++) {
        enum pmc_status status = pmc_put(cache, &key, sizeof key, value, 1000, NULL);

        CHECK(status == PMC_OK || status == PMC_EFULL);
    }
}

static enum pmc_status
put_if(struct pmc_cache *cache, const char *key, size_t size, uint8_t condition,
       uint64_t generation)
{
    struct pmc_put_options options = {
        .ttl_ms = PMC_TTL_NONE, .condition = condition, .generation = generation};

    return pmc_put(cache, key, strlen(key), value, size, &options);
}

/* Planted bugs: room is made before the condition, or the size, is looked at. */
static void
test_a_put_that_cannot_succeed_evicts_nothing(void)
{
    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_NONE; eviction++) {
        struct pmc_cache *cache = open_private(MIB, (enum pmc_eviction)eviction);
        struct pmc_stats before;
        struct pmc_stats after;
        int64_t sum;

        CHECK_EQ(put_text(cache, "text", "no number"), PMC_OK);
        fill(cache);
        if (eviction != PMC_EVICT_NONE)
            CHECK_EQ(put_text(cache, "text", "no number"), PMC_OK);
        pmc_stats(cache, &before);
        CHECK(before.entries > 900);
        CHECK_EQ(pmc_put(cache, "k", 1, value, MIB, NULL), PMC_EVALUE_SIZE);
        CHECK_EQ(put_if(cache, "text", 200 * KIB, PMC_IF_ABSENT, 0), PMC_UNMET);
        CHECK_EQ(put_if(cache, "k", 200 * KIB, PMC_IF_PRESENT, 0), PMC_UNMET);
        CHECK_EQ(put_if(cache, "text", 200 * KIB, PMC_IF_GENERATION, UINT64_MAX),
                 PMC_UNMET);
        CHECK_EQ(pmc_incr(cache, "text", 4, 1, NULL, &sum), PMC_ENOT_INTEGER);
        if (eviction == PMC_EVICT_NONE)
            CHECK_EQ(pmc_put(cache, "k", 1, value, 200 * KIB, NULL), PMC_EFULL);
        pmc_stats(cache, &after);
        CHECK_EQ(after.evict, before.evict);
        CHECK_EQ(after.entries, before.entries);
        CHECK_EQ(after.payload_bytes, before.payload_bytes);
        CHECK(holds_text(cache, "text", "no number"));
        pmc_close(cache);
    }
}

/* ---- what a hit writes -------------------------------------------------- */

struct image {
    uint8_t *shards; /* all of the index that belongs to shards */
    size_t shards_bytes;
    uint8_t *heap;
    size_t heap_bytes;
};

static struct image
image_of(const struct pmc_cache *cache)
{
    const struct pool *pool = cache->pool;
    size_t start = (size_t)pool_shards_off(&pool->header->identity);

    return (struct image){.shards = (uint8_t *)pool->header + start,
                          .shards_bytes = pool->index_bytes - start,
                          .heap = pool->heap,
                          .heap_bytes = pool->heap_bytes};
}

static size_t
bytes_that_differ(const uint8_t *a, const uint8_t *b, size_t count)
{
    size_t differ = 0;

    for (size_t i = 0; i < count; i++)
        differ += a[i] != b[i];
    return differ;
}

/* Bytes of the shards' index and heap that one hit changes. */
static size_t
bytes_that_a_hit_changes(struct pmc_cache *cache, const char *key)
{
    struct image image = image_of(cache);
    uint8_t *shards = malloc(image.shards_bytes);
    uint8_t *heap = malloc(image.heap_bytes);
    size_t changed = SIZE_MAX;

    if (shards && heap) {
        memcpy(shards, image.shards, image.shards_bytes);
        memcpy(heap, image.heap, image.heap_bytes);
        CHECK_EQ(pmc_get(cache, key, strlen(key), NULL, 0, 0, NULL), PMC_OK);
        changed = bytes_that_differ(shards, image.shards, image.shards_bytes) +
                  bytes_that_differ(heap, image.heap, image.heap_bytes);
    }
    free(shards);
    free(heap);
    return changed;
}

/* Hits on memory that cannot be written to: a store would end the child. */
static void
check_hits_store_nothing(struct pmc_cache *cache, const char *key)
{
    pid_t child;

    fflush(stdout);
    child = fork();

    if (child == 0) {
        struct image image = image_of(cache);

        CHECK_EQ(pmc_exists(cache, key, strlen(key)), PMC_OK); /* attach the child */
        CHECK_EQ(mprotect(image.shards, image.shards_bytes, PROT_READ), 0);
        CHECK_EQ(mprotect(image.heap, image.heap_bytes, PROT_READ), 0);
        for (int hit = 0; hit < 10; hit++)
            CHECK_EQ(pmc_get(cache, key, strlen(key), NULL, 0, 0, NULL), PMC_OK);
        check_exit();
    }
    check_child(child);
}

/* Planted bugs: the heat is stored whatever it is; a hit counts in the shard. */
static void
test_a_hit_writes_one_byte_and_nothing_at_the_greatest_heat(void)
{
    static const struct {
        enum pmc_eviction eviction;
        unsigned writing_hits;
    } cases[] = {{PMC_EVICT_S3FIFO, 3}, {PMC_EVICT_LRU, 0}, {PMC_EVICT_NONE, 3}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pmc_cache *cache = open_private(MIB, cases[i].eviction);

        CHECK_EQ(put_text(cache, "key", "value"), PMC_OK);
        for (unsigned hit = 0; hit < 6; hit++)
            CHECK_EQ(bytes_that_a_hit_changes(cache, "key"),
                     hit < cases[i].writing_hits ? 1 : 0);
        check_hits_store_nothing(cache, "key");
        pmc_close(cache);
    }
}

/* ---- hits ---------------------------------------------------------------- */

/* Planted bugs: ghosts are never remembered; candidates go by their room alone. */
static void
test_hits_are_those_of_the_ideal_policy(void)
{
    static const struct mix *const mixes[] = {&narrow, &wide};

    for (size_t i = 0; i < 2; i++) {
        struct run run;
        double from_ideal;

        start_run(&run, mixes[i], 16 * MIB);
        CHECK(ideal_make(&run.ideal, run.keys, 16 * MIB / 16, false));
        turn_over(&run, WARM_TURNOVERS + TURNOVERS);
        from_ideal =
            100 * ((double)run.hits - (double)run.ideal_hits) / (double)run.requests;
        printf("hits beside the ideal policy: %+.2f points\n", from_ideal);
        CHECK(from_ideal >= -0.5);
        ideal_free(&run.ideal);
        pmc_close(run.cache);
    }
}

int
main(void)
{
    RUN(test_a_full_pool_holds_keys_and_values);
    RUN(test_a_large_victim_waits_for_a_put_of_its_kind);
    RUN(test_a_large_victim_goes_at_last);
    RUN(test_a_large_value_takes_the_place_of_its_kind_ahead_of_its_turn);
    RUN(test_two_large_victims_leave_no_deeper_dip_than_one);
    RUN(test_drifting_sizes_are_stored_without_a_dip);
    RUN(test_what_goes_for_homes_is_bounded_by_the_shard);
    RUN(test_a_put_that_cannot_succeed_evicts_nothing);
    RUN(test_a_hit_writes_one_byte_and_nothing_at_the_greatest_heat);
    RUN(test_hits_are_those_of_the_ideal_policy);
    return check_report();
}
