/*
 * Replays a trace of requests through a pool, and through the ideal policies of
 * ideal.h: how many of the requests find their key?
 *
 *   replay KEYS SIZES CAPACITY POLICY SHARDS DIRECTORY
 *
 * KEYS is a file of little-endian 64-bit key numbers, one per request, counted
 * from 0; SIZES a file of 32-bit sizes, one per request, or "-" when every entry
 * counts 1. CAPACITY is in entries, or in bytes when there are sizes. POLICY is
 * s3fifo or lru. The pool is made in DIRECTORY and removed. A request that
 * misses stores its key.
 *
 * The pool holds what the capacity says and nothing more: unsized entries take
 * a fixed number of whole pages each; sized ones take the blocks of their size,
 * with the entry's head inside. The ideal policies charge the same blocks.
 *
 * Prints one line of JSON.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ideal.h"
#include "pmemcache.h"

#define ENTRY_PAGE_BYTES 4096u
#define BLOCK_BYTES 16u

struct trace {
    uint64_t *keys;
    uint32_t *sizes; /* NULL: none */
    size_t requests;
    uint64_t unique;
    uint32_t size_max;
};

struct tally {
    uint64_t hits;
    uint64_t hit_bytes;
};

static void
die(const char *what)
{
    fprintf(stderr, "replay: %s\n", what);
    exit(1);
}

static void *
read_file(const char *path, size_t *bytes_out)
{
    FILE *file = fopen(path, "rb");
    long bytes;
    void *content;

    if (!file || fseek(file, 0, SEEK_END) != 0 || (bytes = ftell(file)) <= 0)
        die(path);
    rewind(file);
    content = malloc((size_t)bytes);
    if (!content || fread(content, 1, (size_t)bytes, file) != (size_t)bytes)
        die(path);
    fclose(file);
    *bytes_out = (size_t)bytes;
    return content;
}

static void
read_trace(struct trace *trace, const char *keys_path, const char *sizes_path)
{
    size_t bytes;

    *trace = (struct trace){.keys = read_file(keys_path, &bytes)};
    trace->requests = bytes / sizeof *trace->keys;
    for (size_t i = 0; i < trace->requests; i++)
        if (trace->keys[i] >= trace->unique)
            trace->unique = trace->keys[i] + 1;
    if (trace->unique >= IDEAL_NONE)
        die("key numbers must be below 2^32 - 1");
    if (strcmp(sizes_path, "-") == 0)
        return;
    trace->sizes = read_file(sizes_path, &bytes);
    if (bytes / sizeof *trace->sizes != trace->requests)
        die("one size per request is needed");
    for (size_t i = 0; i < trace->requests; i++)
        if (trace->sizes[i] > trace->size_max)
            trace->size_max = trace->sizes[i];
}

/* A pool whose shards hold this many bytes of entries in total. */
static struct pmc_cache *
open_pool(const char *directory, uint64_t bytes, uint32_t shards, bool is_lru)
{
    char path[4096];
    struct pmc_options options;
    struct pmc_geometry geometry;
    struct pmc_error error;
    struct pmc_cache *cache;

    snprintf(path, sizeof path, "%s/replay-%ld.pool", directory, (long)getpid());
    pmc_options_default(&options);
    options.path = path;
    options.shards = shards;
    options.eviction = is_lru ? PMC_EVICT_LRU : PMC_EVICT_S3FIFO;
    options.size_bytes = bytes;
    /* The first pool tells what the pool itself takes of its size. */
    for (int turn = 0;; turn++) {
        uint64_t missing;

        if (pmc_open(&options, &cache, &error) != PMC_OK)
            die(error.message);
        pmc_geometry(cache, &geometry);
        missing = bytes - geometry.shard_bytes * geometry.shards;
        if (turn > 0 || missing == 0)
            return cache;
        options.size_bytes += missing;
        pmc_close(cache);
    }
}

/* What an entry's head and key take; measured on an entry without a value. */
static uint64_t
overhead_bytes(struct pmc_cache *cache)
{
    uint64_t key = UINT64_MAX;
    struct pmc_info info;
    uint64_t size = BLOCK_BYTES;

    /* The largest value in the fewest blocks. */
    for (size_t value_size = 0; value_size <= BLOCK_BYTES; value_size++) {
        static const uint8_t zeros[BLOCK_BYTES];

        if (pmc_put(cache, &key, sizeof key, zeros, value_size, NULL) != PMC_OK ||
            pmc_info(cache, &key, sizeof key, &info) != PMC_OK)
            die("the pool does not work");
        if (value_size > 0 && info.stored_bytes > size) {
            pmc_delete(cache, &key, sizeof key, 0);
            return size - (value_size - 1);
        }
        size = info.stored_bytes;
    }
    die("the overhead of an entry is not to be found");
    return 0;
}

static struct tally
replay_pool(struct pmc_cache *cache, const struct trace *trace, uint64_t entry_bytes)
{
    uint64_t overhead = overhead_bytes(cache);
    uint8_t *value = calloc(1, trace->sizes ? trace->size_max + 1u : entry_bytes);
    struct tally tally = {0};

    if (!value)
        die("out of memory");
    for (size_t i = 0; i < trace->requests; i++) {
        uint64_t key = trace->keys[i];
        uint64_t bytes = trace->sizes ? trace->sizes[i] : entry_bytes;

        if (pmc_get(cache, &key, sizeof key, NULL, 0, 0, NULL) == PMC_OK) {
            tally.hits++;
            tally.hit_bytes += bytes;
        } else {
            pmc_put(cache, &key, sizeof key, value,
                    bytes > overhead ? bytes - overhead : 0, NULL);
        }
    }
    free(value);
    return tally;
}

static struct tally
replay_ideal(const struct trace *trace, uint64_t capacity, bool is_lru)
{
    struct tally tally = {0};
    struct ideal ideal;

    if (!ideal_make(&ideal, trace->unique,
                    trace->sizes ? capacity / BLOCK_BYTES : capacity, is_lru))
        die("out of memory");
    for (size_t i = 0; i < trace->requests; i++) {
        uint32_t size = trace->sizes ? trace->sizes[i] : 1;
        uint32_t blocks = (size + BLOCK_BYTES - 1) / BLOCK_BYTES;

        if (ideal_request(&ideal, (uint32_t)trace->keys[i],
                          trace->sizes ? blocks : 1)) {
            tally.hits++;
            tally.hit_bytes += size;
        }
    }
    ideal_free(&ideal);
    return tally;
}

static void
print_tally(const char *name, struct tally tally, bool is_sized)
{
    printf("\"%s_hits\": %" PRIu64 ", ", name, tally.hits);
    printf("\"%s_hit_bytes\": %" PRIu64 ", ", name,
           is_sized ? tally.hit_bytes : tally.hits);
}

static void
print_outcome(struct pmc_cache *cache, const struct trace *trace, uint64_t capacity,
              struct tally pool)
{
    struct pmc_stats stats;
    uint64_t bytes = trace->requests;

    if (trace->sizes) {
        bytes = 0;
        for (size_t i = 0; i < trace->requests; i++)
            bytes += trace->sizes[i];
    }
    pmc_stats(cache, &stats);
    printf("{\"requests\": %zu, \"bytes\": %" PRIu64 ", ", trace->requests, bytes);
    print_tally("pool", pool, trace->sizes != NULL);
    print_tally("s3fifo", replay_ideal(trace, capacity, false), trace->sizes != NULL);
    print_tally("lru", replay_ideal(trace, capacity, true), trace->sizes != NULL);
    printf("\"entries\": %" PRIu64 ", \"evicted\": %" PRIu64 ", \"rejected\": %" PRIu64
           ", \"moved_bytes\": %" PRIu64 ", \"written_bytes\": %" PRIu64 "}\n",
           stats.entries, stats.evict, stats.rejected, stats.moved_bytes,
           stats.written_bytes);
}

int
main(int argc, char **argv)
{
    struct trace trace;
    struct pmc_cache *cache;
    uint64_t capacity;
    uint64_t entry_bytes = ENTRY_PAGE_BYTES;
    uint32_t shards;
    struct tally tally;

    if (argc != 7)
        die("usage: replay KEYS SIZES|- CAPACITY s3fifo|lru SHARDS DIRECTORY");
    capacity = strtoull(argv[3], NULL, 10);
    shards = (uint32_t)strtoul(argv[5], NULL, 10);
    if (capacity == 0 || shards == 0)
        die("CAPACITY and SHARDS must be at least 1");
    read_trace(&trace, argv[1], argv[2]);
    if (!trace.sizes)
        while (entry_bytes * (capacity / shards) < PMC_POOL_MIN_BYTES)
            entry_bytes += ENTRY_PAGE_BYTES;
    cache = open_pool(argv[6],
                      trace.sizes ? capacity : capacity / shards * shards * entry_bytes,
                      shards, strcmp(argv[4], "lru") == 0);
    tally = replay_pool(cache, &trace, entry_bytes);
    print_outcome(cache, &trace, capacity, tally);
    pmc_close(cache);
    free(trace.keys);
    free(trace.sizes);
    return 0;
}
