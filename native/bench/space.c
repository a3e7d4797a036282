/*
 * How much of a pool holds keys and values, once it has been full for a while?
 *
 *   space MIX POOL_MIB SHARDS POLICY DIRECTORY SEQUENCE
 *
 * Keys of 8-24 bytes are asked for with the frequencies of a zipf distribution
 * (exponent 0.9) over ten times what the pool holds; what misses is stored.
 * A key's value always has the same size, drawn from the MIX; where the sizes drift,
 * the keys are others too. After warm-up, ten
 * times the pool's size is written, and the payload (key and value bytes of all
 * entries) is divided by the size of the pool twenty times in each turnover.
 * Beside it: what was moved, what one put evicted, and the hits of the ideal
 * policy of ideal.h on the same requests, with the same blocks and no rule that
 * values be contiguous. SHARDS 0 leaves the number to the pool. Runs of the same
 * SEQUENCE number ask for the same keys in the same order.
 *
 * Prints one line of JSON.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ideal.h"
#include "level.h"
#include "pmemcache.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define KEY_MIN_BYTES 8u
#define KEY_MAX_BYTES 24u
#define HEAD_BYTES 28u
#define BLOCK_BYTES 16u
#define KEYS_OVER_POOL 10u
#define WARM_TURNOVERS 3u
#define TURNOVERS 10u
#define DRIFT_PHASE_TURNOVERS 5u

enum spread {
    UNIFORM,
    LOG_UNIFORM,
};

/* Values of least to most bytes; outliers of a thousand are 1-4 MiB. */
struct sizes {
    uint32_t least;
    uint32_t most;
    enum spread spread;
    uint32_t outliers;
};

/* Phases of DRIFT_PHASE_TURNOVERS each; a mix of one phase goes on with it. */
struct mix {
    const char *name;
    struct sizes phases[3];
    uint32_t phase_count;
};

static const struct mix mixes[] = {
    {"uniform", {{200, 64 * KIB, UNIFORM, 0}}, 1},
    {"log-uniform", {{200, 64 * KIB, LOG_UNIFORM, 0}}, 1},
    {"fixed-1k", {{1024, 1024, UNIFORM, 0}}, 1},
    {"near-1k", {{900, 1148, UNIFORM, 0}}, 1},
    {"fixed-300", {{300, 300, UNIFORM, 0}}, 1},
    {"near-300", {{250, 350, UNIFORM, 0}}, 1},
    {"outliers", {{200, 64 * KIB, UNIFORM, 5}}, 1},
    {"fixed-64k", {{64 * KIB, 64 * KIB, UNIFORM, 0}}, 1},
    {"drift",
     {{200, 1000, UNIFORM, 0},
      {16 * KIB, 64 * KIB, UNIFORM, 0},
      {200, 1000, UNIFORM, 0}},
     3},
};

struct run {
    const struct mix *mix;
    uint32_t phase;
    uint64_t pool_bytes;
    struct pmc_cache *cache;
    struct ideal ideal;
    uint64_t keys;
    uint64_t random;
    uint8_t *value;
    uint64_t requests;
    uint64_t hits;
    uint64_t ideal_hits;
    uint64_t puts;
    uint64_t refused;
    uint64_t evictions_of_put;
    uint64_t evictions_max;
};

static void
die(const char *what)
{
    fprintf(stderr, "space: %s\n", what);
    exit(1);
}

static uint64_t
mixed(uint64_t number)
{
    number ^= number >> 33;
    number *= UINT64_C(0xff51afd7ed558ccd);
    number ^= number >> 33;
    number *= UINT64_C(0xc4ceb9fe1a85ec53);
    return number ^ number >> 33;
}

/* [0, 1) */
static double
fraction(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

/* ---- what is asked for ------------------------------------------------ */

static uint32_t
size_of_key(const struct sizes *sizes, uint64_t key)
{
    uint64_t bits = mixed(key + 1);
    double part = fraction(mixed(bits + 1));
    double ratio = (double)sizes->most / sizes->least;

    if (bits % 1000 < sizes->outliers)
        return (uint32_t)(MIB + part * 3 * MIB);
    if (sizes->spread == LOG_UNIFORM)
        return (uint32_t)(sizes->least * pow(ratio, part));
    return sizes->least + (uint32_t)(part * (sizes->most - sizes->least + 1));
}

static double
mean_size(const struct sizes *sizes)
{
    double sum = 0;

    for (uint64_t key = 0; key < 10000; key++)
        sum += size_of_key(sizes, key);
    return sum / 10000;
}

static size_t
key_size_of(uint64_t key)
{
    return KEY_MIN_BYTES + mixed(key) % (KEY_MAX_BYTES - KEY_MIN_BYTES + 1);
}

/* The next key: the inverse of the continuous distribution with this exponent,
 * rounded down. 10 is 1 / (1 - 0.9). */
static uint64_t
next_key(struct run *run)
{
    double span = pow((double)run->keys, 0.1) - 1;
    double rank;

    run->random += UINT64_C(0x9e3779b97f4a7c15);
    rank = pow(1 + span * fraction(mixed(run->random)), 10) - 1;
    return rank < (double)run->keys ? (uint64_t)rank : run->keys - 1;
}

/* ---- running ---------------------------------------------------------- */

static void
count_eviction(struct pmc_cache *cache, const void *key, size_t key_size,
               enum pmc_cause cause, void *context)
{
    struct run *run = context;

    (void)cache;
    (void)key;
    (void)key_size;
    (void)cause;
    run->evictions_of_put++;
}

static void
request(struct run *run)
{
    uint64_t number = next_key(run);
    uint8_t key[KEY_MAX_BYTES] = {0};
    size_t key_size = key_size_of(number);
    size_t size = size_of_key(&run->mix->phases[run->phase], number);
    uint64_t bytes = HEAD_BYTES + key_size + size;

    memcpy(key, &number, sizeof number);
    key[sizeof number - 1] = (uint8_t)(run->phase % 2);
    run->requests++;
    run->ideal_hits +=
        ideal_request(&run->ideal, (uint32_t)number,
                      (uint32_t)((bytes + BLOCK_BYTES - 1) / BLOCK_BYTES));
    if (pmc_get(run->cache, key, key_size, NULL, 0, 0, NULL) == PMC_OK) {
        run->hits++;
        return;
    }
    run->evictions_of_put = 0;
    run->refused +=
        pmc_put(run->cache, key, key_size, run->value, size, NULL) != PMC_OK;
    run->puts++;
    if (run->evictions_of_put > run->evictions_max)
        run->evictions_max = run->evictions_of_put;
}

/* Ask until so many bytes more have been written; take samples of the payload. */
static struct level
run_turnovers(struct run *run, uint32_t turnovers)
{
    struct level level = level_begin(run->cache, run->pool_bytes);

    while (level_goes_on(&level, turnovers))
        for (int turn = 0; turn < 100; turn++)
            request(run);
    return level;
}

static void
start_phase(struct run *run, uint32_t phase)
{
    double entry = mean_size(&run->mix->phases[phase]) + 40;
    uint64_t keys = (uint64_t)(KEYS_OVER_POOL * (double)run->pool_bytes / entry);

    run->phase = phase;
    run->keys = keys;
    ideal_free(&run->ideal);
    if (!ideal_make(&run->ideal, keys, run->pool_bytes / BLOCK_BYTES, false))
        die("out of memory");
}

static void
open_pool(struct run *run, uint32_t shards, const char *policy, const char *directory)
{
    char path[4096];
    struct pmc_options options;
    struct pmc_error error;

    snprintf(path, sizeof path, "%s/space-%ld.pool", directory, (long)getpid());
    pmc_options_default(&options);
    options.path = path;
    options.size_bytes = run->pool_bytes;
    options.shards = shards;
    options.eviction = strcmp(policy, "lru") == 0 ? PMC_EVICT_LRU : PMC_EVICT_S3FIFO;
    if (pmc_open(&options, &run->cache, &error) != PMC_OK)
        die(error.message);
    pmc_on_evict(run->cache, count_eviction, run);
}

static void
forget_counts(struct run *run)
{
    run->requests = run->hits = run->ideal_hits = 0;
    run->puts = run->refused = run->evictions_max = 0;
}

/* The phases after the first of a drifting mix: the least level of each. */
static void
drift(struct run *run)
{
    for (uint32_t phase = 1; phase < run->mix->phase_count; phase++) {
        struct level change;
        struct level level;

        start_phase(run, phase);
        change = run_turnovers(run, 1);
        level = run_turnovers(run, DRIFT_PHASE_TURNOVERS - 1);
        printf(", \"phase_%u_change_least\": %.5f, \"phase_%u_mean\": %.5f"
               ", \"phase_%u_least\": %.5f",
               phase, change.least, phase, level_mean(&level), phase, level.least);
    }
}

static void
measure(struct run *run)
{
    struct pmc_stats before;
    struct pmc_stats after;
    struct level level;

    start_phase(run, 0);
    run_turnovers(run, WARM_TURNOVERS);
    pmc_stats(run->cache, &before);
    forget_counts(run);
    level = run_turnovers(run, run->mix->phase_count > 1 ? DRIFT_PHASE_TURNOVERS
                                                         : TURNOVERS);
    printf("{\"mix\": \"%s\", \"pool_bytes\": %" PRIu64
           ", \"payload_mean\": %.5f, \"payload_least\": %.5f"
           ", \"hit_ratio\": %.5f, \"ideal_hit_ratio\": %.5f",
           run->mix->name, run->pool_bytes, level_mean(&level), level.least,
           (double)run->hits / (double)run->requests,
           (double)run->ideal_hits / (double)run->requests);
    drift(run);
    pmc_stats(run->cache, &after);
    printf(", \"puts\": %" PRIu64 ", \"refused\": %" PRIu64
           ", \"evictions_a_put\": %.3f, \"evictions_max\": %" PRIu64
           ", \"moved_share\": %.4f, \"dram_bytes_an_entry\": %.1f"
           ", \"entries\": %" PRIu64 "}\n",
           run->puts, run->refused,
           (double)(after.evict - before.evict) / (double)run->puts, run->evictions_max,
           (double)(after.moved_bytes - before.moved_bytes) /
               (double)(after.written_bytes - before.written_bytes),
           (double)after.dram_size_used / (double)after.entries, after.entries);
}

int
main(int argc, char **argv)
{
    struct run run = {.value = calloc(1, 4 * MIB + 1)};

    if (argc != 7 || !run.value)
        die("usage: space MIX POOL_MIB SHARDS s3fifo|lru DIRECTORY SEQUENCE");
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (strcmp(mixes[i].name, argv[1]) == 0)
            run.mix = &mixes[i];
    if (!run.mix)
        die("there is no such mix");
    run.pool_bytes = strtoull(argv[2], NULL, 10) * MIB;
    run.random = strtoull(argv[6], NULL, 10);
    open_pool(&run, (uint32_t)strtoul(argv[3], NULL, 10), argv[4], argv[5]);
    measure(&run);
    pmc_close(run.cache);
    ideal_free(&run.ideal);
    free(run.value);
    return 0;
}
