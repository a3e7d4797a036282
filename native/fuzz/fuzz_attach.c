/*
 * Fuzz target: a pool whose files are overwritten, at rest, while it is in use and
 * verifies, and while it is in use and does not: there all but values and the sizes in
 * their heads, of which slots know four bits. Whatever the bytes are, attaching works or
 * names an error, operations end with a status, gets give exact bytes or a miss, and an
 * emptied pool is sound.
 *
 * Input: a byte for policy and moment, then writes: 1 byte that chooses a part of the
 * pool, 2 bytes place in it, 1 byte length and so many bytes. Parts are what is in use:
 * most of both files is empty, or values, and what is written there is met by nobody.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc.h"
#include "cache.h"
#include "fuzz_support.h"
#include "pool_geometry.h"

#define POLICIES 3u
#define WRITES_MAX 16

/* A file of a pool, as it was when the pool was left. */
struct image {
    char path[300];
    uint8_t *bytes;
    size_t size;
};

/* Bytes that are in use. */
struct part {
    bool in_heap;
    size_t from;
    size_t size;
    size_t links_from; /* of an entry: its head, but for the sizes */
    size_t links_size;
};
#define PARTS_MAX 128u

/* A pool per policy, made once and restored before each run. */
struct origin {
    struct pmc_options options;
    struct fuzz_model model;
    struct image heap;
    struct image index;
    struct part parts[PARTS_MAX];
    uint32_t part_count;
    bool made;
};

static struct origin origins[POLICIES];
static char directory[64];

static void
remove_files(void)
{
    for (uint32_t policy = 0; policy < POLICIES; policy++) {
        char lock[320];

        if (!origins[policy].made)
            continue;
        snprintf(lock, sizeof lock, "%s.lock", origins[policy].heap.path);
        unlink(origins[policy].heap.path);
        unlink(origins[policy].index.path);
        unlink(lock);
    }
    rmdir(directory);
}

static void
make_directory(void)
{
    if (directory[0])
        return;
    /* In memory, so that the index lies beside the heap. */
    snprintf(directory, sizeof directory, "/dev/shm/pmemcache-fuzz-XXXXXX");
    REQUIRE(mkdtemp(directory) != NULL);
    atexit(remove_files);
}

static void
take_image(struct image *image)
{
    struct stat about;
    int fd = open(image->path, O_RDONLY | O_CLOEXEC);

    REQUIRE(fd >= 0 && fstat(fd, &about) == 0);
    image->size = (size_t)about.st_size;
    image->bytes = malloc(image->size);
    REQUIRE(image->bytes && read(fd, image->bytes, image->size) == about.st_size);
    close(fd);
}

static void
add_part(struct origin *origin, const void *base, const void *start, size_t size,
         bool in_heap)
{
    size_t from = (size_t)((const uint8_t *)start - (const uint8_t *)base);

    REQUIRE(origin->part_count < PARTS_MAX);
    origin->parts[origin->part_count++] = (struct part){.in_heap = in_heap,
                                                        .from = from,
                                                        .size = size,
                                                        .links_from = from,
                                                        .links_size = size};
}

static void
add_index_parts(struct origin *origin, const struct pmc_cache *cache)
{
    const struct pool_header *header = cache->pool->header;
    const struct shard *shard = &cache->shards[0];
    uint32_t buckets = load_relaxed(&shard->header->bucket_count);
    uint32_t overflows = shard->header->overflow_used + 1;
    const struct {
        const void *start;
        size_t size;
    } parts[] = {
        {header, sizeof header->identity + 128},
        {cache->pool->attachments, 2 * sizeof(struct attachment)},
        {shard->versions, 256},
        {shard->header, sizeof *shard->header},
        {shard->leases, 256},
        {shard->buckets, buckets * sizeof(struct bucket)},
        {&shard->buckets[shard->max_buckets], overflows * sizeof(struct bucket)},
        {shard->links, buckets * sizeof(struct bucket_links)},
        {&shard->links[shard->max_buckets], overflows * sizeof(struct bucket_links)},
        {shard->spans, PMC_POOL_MIN_BYTES / SPAN_BYTES},
        {shard->ghosts, shard->ghost_sets ? 256 : 0},
    };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].size != 0)
            add_part(origin, header, parts[i].start, parts[i].size, false);
}

/* Its head, with as much of its key and value. */
static void
add_entry(struct origin *origin, const uint8_t *heap, const struct entry_head *head)
{
    struct part *part = &origin->parts[origin->part_count];

    add_part(origin, heap, head, 2 * sizeof *head, true);
    part->links_from += sizeof head->size;
    part->links_size = offsetof(struct entry_head, key_size) - sizeof head->size;
}

static void
add_heap_parts(struct origin *origin, const struct pmc_cache *cache)
{
    const struct shard *shard = &cache->shards[0];
    const uint8_t *heap = cache->pool->heap;

    add_part(origin, heap, heap, sizeof(struct pool_identity), true);
    for (uint32_t at = 0; at < shard_limit(shard) && origin->part_count < PARTS_MAX;
         at += (uint32_t)extent_blocks(shard, at)) {
        if (extent_is_entry(shard, at))
            add_entry(origin, heap, entry_at(shard, at));
        else
            add_part(origin, heap, hole_at(shard, at), sizeof(struct hole_head), true);
    }
}

static void
make_origin(struct origin *origin, uint32_t policy)
{
    struct pmc_cache *cache;

    make_directory();
    snprintf(origin->heap.path, sizeof origin->heap.path, "%s/%u", directory, policy);
    snprintf(origin->index.path, sizeof origin->index.path, "%s/%u.index", directory,
             policy);
    pmc_options_default(&origin->options);
    origin->options.path = origin->heap.path;
    origin->options.size_bytes = PMC_POOL_MIN_BYTES;
    origin->options.lifetime = PMC_RESTART;
    origin->options.eviction = (uint8_t)policy;
    origin->options.lock_timeout_ms = 20;
    REQUIRE(pmc_open(&origin->options, &cache, NULL) == PMC_OK);
    for (uint32_t key = 0; key < FUZZ_KEYS * 3 / 4; key++)
        fuzz_put(cache, &origin->model, key, NULL);
    add_index_parts(origin, cache);
    add_heap_parts(origin, cache);
    pmc_close(cache);
    take_image(&origin->heap);
    take_image(&origin->index);
    origin->made = true;
}

/* A file with these bytes, mapped: the old one may be gone, or another's. */
static uint8_t *
restore(const struct image *image)
{
    int fd = open(image->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint8_t *bytes;

    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)image->size) == 0);
    bytes = mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(bytes != MAP_FAILED);
    close(fd);
    memcpy(bytes, image->bytes, image->size);
    return bytes;
}

static void
overwrite(struct input *input, const struct origin *origin, bool verified,
          uint8_t *heap, uint8_t *index)
{
    for (int writes = 0; input->left > 0 && writes < WRITES_MAX; writes++) {
        const struct part *part = &origin->parts[take(input, 1) % origin->part_count];
        size_t from = verified ? part->from : part->links_from;
        size_t size = verified ? part->size : part->links_size;
        uint8_t *bytes = (part->in_heap ? heap : index) + from;
        size_t at = take(input, 2) % size;
        uint32_t length = take(input, 1) % 16 + 1;

        for (uint32_t i = 0; i < length && at + i < size && input->left > 0; i++)
            bytes[at + i] = (uint8_t)take(input, 1);
    }
}

static void
exercise(struct pmc_cache *cache, struct fuzz_model model)
{
    char report[4096];
    struct pmc_stats stats;
    struct pmc_lease lease;

    for (uint32_t key = 0; key < FUZZ_KEYS; key++)
        fuzz_get(cache, &model, key);
    fuzz_walk(cache);
    pmc_stats(cache, &stats);
    pmc_check(cache, report, sizeof report);
    pmc_lease_take(cache, "l", 1, 10, &lease);
    for (uint32_t key = 0; key < FUZZ_KEYS; key += 3)
        if (fuzz_put(cache, &model, key, NULL) == PMC_DROPPED)
            model.version[key] = 0;
    for (uint32_t key = 1; key < FUZZ_KEYS; key += 5)
        fuzz_delete(cache, &model, key);
    for (int turn = 0; turn < 4; turn++)
        pmc_evict(cache, NULL, 0, NULL, NULL);
    for (uint32_t key = 0; key < FUZZ_KEYS; key++)
        fuzz_get(cache, &model, key);
    REQUIRE(pmc_clear(cache) == PMC_OK);
    fuzz_check_sound(cache);
    REQUIRE(fuzz_put(cache, &model, 0, NULL) == PMC_OK);
    REQUIRE(fuzz_get(cache, &model, 0) == PMC_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    uint32_t choice = take(&input, 1);
    uint32_t policy = choice % POLICIES;
    uint32_t moment = (choice / POLICIES) % 3;
    bool in_use = moment != 0;
    struct origin *origin = &origins[policy];
    struct pmc_options options;
    struct pmc_cache *cache = NULL;
    uint8_t *heap;
    uint8_t *index;

    if (!origin->made)
        make_origin(origin, policy);
    options = origin->options;
    options.verify = moment == 1; /* at rest everything is verified anyway */
    heap = restore(&origin->heap);
    index = restore(&origin->index);
    if (!in_use)
        overwrite(&input, origin, true, heap, index);
    if (pmc_open(&options, &cache, NULL) == PMC_OK) {
        for (uint32_t key = 0; in_use && key < FUZZ_KEYS; key++)
            fuzz_get(cache, &origin->model, key); /* they count as verified now */
        if (in_use)
            overwrite(&input, origin, options.verify, heap, index);
        exercise(cache, origin->model);
        pmc_close(cache);
    }
    munmap(heap, origin->heap.size);
    munmap(index, origin->index.size);
    return 0;
}
