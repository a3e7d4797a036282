/*
 * Bytes that somebody changed, in every part of a pool: at rest, and between two
 * operations of a process that has it mapped. Afterwards every get gives exact
 * bytes or a miss, every operation ends with a status, and an emptied pool is as
 * good as a new one. And files that are cut short under their mapping, filled with
 * zeros, of another version or another architecture.
 *
 * Which bytes is a matter of sizeof, not of names: every byte of one of each struct
 * that lives in a pool has its turn, so a field that is added has too.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "alloc.h"
#include "cache.h"
#include "pool_geometry.h"
#include "pool_guard.h"
#include "support.h"

#define POOL_BYTES (256u * 1024u)
#define KEYS 72u      /* in the pool when it is damaged; more than it can hold */
#define MORE_KEYS 48u /* put afterwards */
#define ALL_KEYS (KEYS + MORE_KEYS)
#define VALUE_MAX 6000u
/* A case that takes longer hangs. */
#define PATIENCE_SECONDS 30u

/* One flip in so many bytes of a struct, and of what there is much of. There every
 * byte has its turn in some run. */
#if defined(__SANITIZE_THREAD__)
#define EACH 48u
#define SOME 151u
#else
#define EACH (SANITIZED ? 4u : 1u)
#define SOME (SANITIZED ? 61u : 37u)
#endif
/* The shard's header is large, and has no field that is smaller. */
#define WORD 4u

static char current_case[160]; /* for whoever has to find out */
static struct random dice;

static void
say_case(int number)
{
    ssize_t written = write(STDERR_FILENO, current_case, strlen(current_case));

    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

/* ---- a pool with known entries --------------------------------------- */

/* What each key holds, if it holds anything: the version that was put last. */
struct model {
    uint32_t version[ALL_KEYS];
};

static size_t
make_key(char key[32], uint32_t number)
{
    return (size_t)snprintf(key, 32, "key number %u", number);
}

static size_t
value_size(uint32_t number, uint32_t version)
{
    return (number * 977u + version * 131u) % VALUE_MAX;
}

static uint64_t
identity_of(uint32_t number, uint32_t version)
{
    return (uint64_t)number * UINT64_C(0x9e3779b97f4a7c15) + version;
}

static enum pmc_status
put_version(struct pmc_cache *cache, struct model *model, uint32_t number)
{
    uint8_t value[VALUE_MAX];
    char key[32];
    uint32_t version = model->version[number] + 1;
    size_t size = value_size(number, version);
    enum pmc_status status;

    fill_pattern(value, size, identity_of(number, version));
    status = pmc_put(cache, key, make_key(key, number), value, size, NULL);
    if (status == PMC_OK)
        model->version[number] = version;
    return status;
}

static bool
get_is_exact(struct pmc_cache *cache, const struct model *model, uint32_t number)
{
    uint8_t value[VALUE_MAX];
    char key[32];
    uint32_t version = model->version[number];
    struct pmc_found found;
    enum pmc_status status =
        pmc_get(cache, key, make_key(key, number), value, sizeof value, 0, &found);

    if (status == PMC_MISS)
        return true;
    return status == PMC_OK && version != 0 &&
           found.value_size == value_size(number, version) &&
           has_pattern(value, found.value_size, identity_of(number, version));
}

static void
check_gets(struct pmc_cache *cache, const struct model *model)
{
    for (uint32_t number = 0; number < ALL_KEYS; number++)
        if (!CHECK(get_is_exact(cache, model, number)))
            fprintf(stderr, "    key %u after %s", number, current_case);
}

static struct pmc_options
damage_options(const struct place *place, enum pmc_eviction eviction)
{
    struct pmc_options options = options_at(place, POOL_BYTES);

    options.lifetime = PMC_RESTART;
    options.shards = 1;
    options.eviction = (uint8_t)eviction;
    options.lock_timeout_ms = 100;
    return options;
}

/* ---- images of its files --------------------------------------------- */

struct image {
    char path[300];
    uint8_t *bytes; /* as they were when the pool was closed */
    uint8_t *file;  /* a mapping of the file as it is */
    size_t size;
};

/* Bytes of one of the two files, and how many lie between two that are flipped. */
struct part {
    const char *name;
    bool in_heap;
    size_t from;
    size_t size;
    size_t step;
};
#define PARTS_MAX 24u

struct subject {
    struct place place;
    struct pmc_options options;
    struct model model;
    struct pool_identity identity;
    struct image heap;
    struct image index;
    struct part parts[PARTS_MAX];
    size_t part_count;
};

static void
take_image(struct image *image)
{
    struct stat about;
    int fd = open(image->path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) != 0) {
        perror(image->path);
        abort();
    }
    image->size = (size_t)about.st_size;
    image->file = mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    image->bytes = malloc(image->size);
    if (image->file == MAP_FAILED || !image->bytes)
        abort();
    memcpy(image->bytes, image->file, image->size);
    close(fd);
}

static void
drop_image(struct image *image)
{
    munmap(image->file, image->size);
    free(image->bytes);
}

static void
name_files(struct subject *subject)
{
    const struct pool_identity *identity = &subject->identity;

    snprintf(subject->heap.path, sizeof subject->heap.path, "%s", subject->place.path);
    if (identity->index_in_dram)
        snprintf(subject->index.path, sizeof subject->index.path,
                 "/dev/shm/pmemcache.%u.%016llx.index", (unsigned)geteuid(),
                 (unsigned long long)identity->pool_id);
    else
        snprintf(subject->index.path, sizeof subject->index.path, "%s.index",
                 subject->place.path);
}

/* ---- its parts --------------------------------------------------------- */

static void
add_part(struct subject *subject, const char *name, const void *base, const void *start,
         size_t size, size_t step, bool in_heap)
{
    size_t from = (size_t)((const uint8_t *)start - (const uint8_t *)base);

    if (subject->part_count == PARTS_MAX)
        abort();
    subject->parts[subject->part_count++] = (struct part){
        .name = name, .in_heap = in_heap, .from = from, .size = size, .step = step};
}

static void
add_index_parts(struct subject *subject, const struct pmc_cache *cache)
{
    const struct pool *pool = cache->pool;
    const struct shard *shard = &cache->shards[0];
    const struct bucket *overflow = &shard->buckets[shard->max_buckets];
    uint32_t buckets = load_relaxed(&shard->header->bucket_count);
    uint32_t overflows = shard->header->overflow_used + 1;
    const struct {
        const char *name;
        const void *start;
        size_t all_size; /* of the row that this one is the first of */
        size_t size;
        size_t step;
    } parts[] = {
        {"the pool header", pool->header, PAGE_BYTES,
         offsetof(struct pool_header, heap_path) + 48, EACH},
        {"a place", pool->attachments, ATTACHMENTS_MAX * sizeof(struct attachment),
         sizeof(struct attachment), EACH},
        {"a version", shard->versions, SHARD_VERSIONS * sizeof(uint64_t),
         sizeof(uint64_t), EACH},
        {"versions", shard->versions, 0, 512, SOME},
        {"the shard header", shard->header, PAGE_BYTES, sizeof(struct shard_header),
         WORD * EACH},
        {"a lease", shard->leases, PAGE_BYTES, sizeof(struct lease_place), EACH},
        {"leases", shard->leases, 0, 256, SOME},
        {"a bucket", shard->buckets, shard->max_buckets * sizeof(struct bucket),
         sizeof(struct bucket), EACH},
        {"buckets", shard->buckets, 0, buckets * sizeof(struct bucket), SOME},
        {"an overflow bucket", overflow, shard->max_overflow * sizeof(struct bucket),
         sizeof(struct bucket), EACH},
        {"overflow buckets", overflow, 0, overflows * sizeof(struct bucket), SOME},
        {"the links of a bucket", shard->links,
         ((size_t)shard->max_buckets + shard->max_overflow) *
             sizeof(struct bucket_links),
         sizeof(struct bucket_links), EACH},
        {"links", shard->links, 0, buckets * sizeof(struct bucket_links), SOME},
        {"a set of ghosts", shard->ghosts,
         subject->identity.ghost_sets * sizeof(struct ghost_set),
         sizeof(struct ghost_set), EACH},
        {"ghosts", shard->ghosts, 0, 512, SOME},
        {"spans", shard->spans, shard->max_blocks / SPAN_BLOCKS + 1,
         POOL_BYTES / SPAN_BYTES, EACH},
    };
    const uint8_t *end = (const uint8_t *)pool->header;

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        add_part(subject, parts[i].name, pool->header, parts[i].start, parts[i].size,
                 parts[i].step, false);
        if (parts[i].all_size == 0)
            continue;
        /* A row that is added to the layout must be added here; some begin a page. */
        if (!CHECK((const uint8_t *)parts[i].start - end < (ptrdiff_t)PAGE_BYTES))
            fprintf(stderr, "    what lies before %s?\n", parts[i].name);
        end = (const uint8_t *)parts[i].start + parts[i].all_size;
    }
    CHECK((const uint8_t *)pool->header + pool->index_bytes - end <
          (ptrdiff_t)PAGE_BYTES);
}

/* The first extent that is an entry, or a hole; NO_OFFSET: there is none. */
static uint32_t
find_extent(const struct shard *shard, bool entry)
{
    uint32_t limit = shard_limit(shard);

    for (uint32_t at = 0; at < limit; at += (uint32_t)extent_blocks(shard, at))
        if (extent_is_entry(shard, at) == entry)
            return at;
    return NO_OFFSET;
}

static void
add_heap_parts(struct subject *subject, const struct pmc_cache *cache)
{
    const struct shard *shard = &cache->shards[0];
    const uint8_t *heap = cache->pool->heap;
    uint32_t entry = find_extent(shard, true);
    uint32_t hole = find_extent(shard, false);

    if (!CHECK(entry != NO_OFFSET && hole != NO_OFFSET))
        abort();
    add_part(subject, "the heap header", heap, heap, sizeof(struct pool_identity), EACH,
             true);
    add_part(subject, "an entry", heap, entry_at(shard, entry),
             sizeof(struct entry_head) + 16, EACH, true);
    add_part(subject, "a hole", heap, hole_at(shard, hole), sizeof(struct hole_head),
             EACH, true);
    add_part(subject, "extents", heap, shard->heap, 8192, SOME, true);
}

/* Leaves a hole, whose key must not come back. */
static void
delete_one(struct pmc_cache *cache, struct model *model, uint32_t number)
{
    char key[32];

    pmc_delete(cache, key, make_key(key, number), 0);
    model->version[number]++;
}

static void
make_subject(struct subject *subject, enum pmc_eviction eviction)
{
    struct pmc_cache *cache;

    memset(subject, 0, sizeof *subject);
    subject->place = make_place();
    subject->options = damage_options(&subject->place, eviction);
    cache = open_with(&subject->options);
    for (uint32_t number = 0; number < KEYS; number++)
        put_version(cache, &subject->model, number);
    for (uint32_t number = KEYS - 12; number < KEYS; number += 4)
        delete_one(cache, &subject->model, number);
    check_sound(cache);
    subject->identity = cache->pool->header->identity;
    add_index_parts(subject, cache);
    add_heap_parts(subject, cache);
    name_files(subject);
    pmc_close(cache);
    take_image(&subject->heap);
    take_image(&subject->index);
}

static void
drop_subject(struct subject *subject)
{
    struct pmc_options options = subject->options;
    struct pmc_cache *last = NULL;

    drop_image(&subject->heap);
    drop_image(&subject->index);
    /* Whatever pool lies there now is replaced by one that removes itself. */
    options.lifetime = PMC_VOLATILE;
    if (pmc_open(&options, &last, NULL) == PMC_OK)
        pmc_close(last);
    unlink(subject->index.path);
    remove_place(&subject->place);
}

/* ---- what is done with a damaged pool -------------------------------- */

static void
walk_keys(struct pmc_cache *cache)
{
    static uint8_t buffer[512 * 1024];
    struct pmc_cursor cursor = {0};
    size_t used;
    unsigned calls = 0;

    while (calls < 1000 &&
           pmc_keys(cache, &cursor, NULL, 0, buffer, sizeof buffer, &used) == PMC_OK)
        calls++;
    CHECK(calls < 1000);
}

static void
delete_and_miss(struct pmc_cache *cache, uint32_t number)
{
    char key[32];
    size_t size = make_key(key, number);

    if (pmc_delete(cache, key, size, 0) >= 0 &&
        !CHECK_EQ(pmc_exists(cache, key, size), PMC_MISS))
        fprintf(stderr, "    deleted key %u after %s", number, current_case);
}

static void
use_leases_and_numbers(struct pmc_cache *cache)
{
    struct pmc_incr_options options = {.create = true, .ttl_ms = PMC_TTL_NONE};
    struct pmc_lease lease;
    int64_t sum;

    if (pmc_lease_take(cache, "l", 1, 50, &lease) == PMC_OK)
        pmc_lease_release(cache, "l", 1, lease.token);
    if (pmc_incr(cache, "n", 1, 5, &options, &sum) == PMC_OK)
        CHECK_EQ(sum, 5);
    pmc_delete(cache, "n", 1, 0);
}

/* Afterwards an emptied pool must be as good as new. */
static void
start_anew(struct pmc_cache *cache)
{
    CHECK_EQ(pmc_clear(cache), PMC_OK);
    if (!CHECK_EQ(put_text(cache, "after", "all"), PMC_OK) ||
        !CHECK(holds_text(cache, "after", "all")))
        fprintf(stderr, "    after %s", current_case);
    check_sound(cache);
}

static void
exercise(struct pmc_cache *cache, struct model model)
{
    static char report[4096];
    struct pmc_stats stats;

    check_gets(cache, &model);
    walk_keys(cache);
    pmc_stats(cache, &stats);
    CHECK(pmc_check(cache, report, sizeof report) >= 0);
    use_leases_and_numbers(cache);
    for (uint32_t number = 1; number < KEYS; number += 5)
        put_version(cache, &model, number);
    for (uint32_t number = 2; number < KEYS; number += 9)
        delete_and_miss(cache, number);
    for (int turn = 0; turn < 3; turn++)
        CHECK(pmc_evict(cache, NULL, 0, NULL, NULL) >= 0);
    check_gets(cache, &model);
    for (uint32_t number = KEYS; number < ALL_KEYS; number++)
        put_version(cache, &model, number);
    check_gets(cache, &model);
    walk_keys(cache);
    start_anew(cache);
}

/* ---- flipping bits --------------------------------------------------- */

enum when { AT_REST, IN_USE };

static void
restore(const struct image *image)
{
    memcpy(image->file, image->bytes, image->size);
}

static void
flip_one(struct subject *subject, const struct image *image, size_t at, uint8_t bits,
         enum when when)
{
    struct pmc_cache *cache = NULL;
    struct pmc_error error;
    enum pmc_status status;

    alarm(PATIENCE_SECONDS);
    restore(&subject->heap);
    restore(&subject->index);
    if (when == AT_REST)
        image->file[at] ^= bits;
    status = pmc_open(&subject->options, &cache, &error);
    if (status != PMC_OK) {
        CHECK(when == AT_REST && error.message[0] != '\0');
        return;
    }
    if (when == IN_USE) {
        check_gets(cache, &subject->model); /* they count as verified now */
        image->file[at] ^= bits;
    }
    exercise(cache, subject->model);
    pmc_close(cache);
}

/* The files were removed as too damaged, or replaced: begin with the old ones. */
static bool
files_are_ours(const struct subject *subject)
{
    struct stat index;
    struct stat heap;
    struct pool_identity identity;
    int fd = open(subject->heap.path, O_RDONLY | O_CLOEXEC);
    bool same = fd >= 0 && fstat(fd, &heap) == 0 &&
                read(fd, &identity, sizeof identity) == sizeof identity &&
                identity.pool_id == subject->identity.pool_id &&
                stat(subject->index.path, &index) == 0;

    if (fd >= 0)
        close(fd);
    return same;
}

static void
make_anew(struct subject *subject)
{
    enum pmc_eviction eviction = (enum pmc_eviction)subject->options.eviction;
    bool verify = subject->options.verify;

    drop_subject(subject);
    make_subject(subject, eviction);
    subject->options.verify = verify;
}

/* Of every step bytes, one has some of its bits changed. */
static void
flip_part(struct subject *subject, size_t number, enum when when)
{
    const struct part part = subject->parts[number];

    for (size_t i = 0; i < part.size; i += part.step) {
        const struct image *image = part.in_heap ? &subject->heap : &subject->index;
        size_t at =
            min_u64(i + random_below(&dice, (uint32_t)part.step), part.size - 1);
        uint8_t bits = (uint8_t)(1u << random_below(&dice, 8));

        if (random_below(&dice, 16) == 0)
            bits = 0xff;
        snprintf(current_case, sizeof current_case, "%s of %s, byte %zu ^ %02x\n",
                 when == AT_REST ? "flip at rest" : "flip in use", part.name, at, bits);
        flip_one(subject, image, part.from + at, bits, when);
        if (!files_are_ours(subject))
            make_anew(subject);
    }
    alarm(0);
}

/* What an entry lies in is said to be away, and the other way round. */
static void
flip_one_span(struct subject *subject, size_t at, enum when when)
{
    snprintf(current_case, sizeof current_case, "flip of the span at %zu\n", at);
    flip_one(subject, &subject->index, at, subject->index.bytes[at] ^ SPAN_AWAY, when);
    alarm(0);
}

/* So few that all have their turn. */
static void
flip_spans(struct subject *subject, enum when when)
{
    size_t spans = (size_t)(pool_shards_off(&subject->identity) +
                            pool_shard_spans_off(&subject->identity));

    for (size_t span = 0; span <= POOL_BYTES / SPAN_BYTES; span++)
        flip_one_span(subject, spans + span, when);
}

static void
flip_all_of(enum pmc_eviction eviction, enum when when)
{
    struct subject subject;

    make_subject(&subject, eviction);
    for (size_t number = 0; number < subject.part_count; number++) {
        /* At rest everything is verified anyway. */
        subject.options.verify = when == IN_USE && subject.parts[number].in_heap;
        flip_part(&subject, number, when);
    }
    flip_spans(&subject, when);
    drop_subject(&subject);
}

static void
test_bits_flipped_at_rest_harm_nothing_under_s3fifo(void)
{
    flip_all_of(PMC_EVICT_S3FIFO, AT_REST);
}

static void
test_bits_flipped_at_rest_harm_nothing_under_lru(void)
{
    flip_all_of(PMC_EVICT_LRU, AT_REST);
}

static void
test_bits_flipped_in_use_harm_nothing_under_s3fifo(void)
{
    flip_all_of(PMC_EVICT_S3FIFO, IN_USE);
}

static void
test_bits_flipped_in_use_harm_nothing_under_lru(void)
{
    flip_all_of(PMC_EVICT_LRU, IN_USE);
}

static void
test_bits_flipped_in_use_harm_nothing_without_eviction(void)
{
    flip_all_of(PMC_EVICT_NONE, IN_USE);
}

/* ---- heads, in a pool that does not verify ------------------------------ */

/* The extent after so many others, and how much of it is not a value. */
static uint8_t *
find_head(const struct shard *shard, uint32_t number, size_t *size_out)
{
    uint32_t limit = shard_limit(shard);
    uint32_t at = 0;

    for (uint32_t i = 0; i < number && at < limit; i++)
        at += (uint32_t)extent_blocks(shard, at);
    if (at >= limit)
        return NULL;
    *size_out = extent_is_entry(shard, at)
                    ? sizeof(struct entry_head) + entry_at(shard, at)->key_size
                    : sizeof(struct hole_head);
    return (uint8_t *)entry_at(shard, at);
}

/* False: there are fewer extents. */
static bool
flip_one_head(struct subject *subject, uint32_t number)
{
    struct pmc_cache *cache;
    uint8_t *head;
    size_t size;

    alarm(PATIENCE_SECONDS);
    restore(&subject->heap);
    restore(&subject->index);
    cache = open_with(&subject->options);
    check_gets(cache, &subject->model); /* they count as verified now */
    head = find_head(&cache->shards[0], number, &size);
    if (head) {
        size_t at = random_below(&dice, (uint32_t)size);
        uint8_t bits = (uint8_t)(1u << random_below(&dice, 8));

        snprintf(current_case, sizeof current_case,
                 "flip in use of head %u, byte %zu ^ %02x\n", number, at, bits);
        head[at] ^= bits;
        exercise(cache, subject->model);
    }
    pmc_close(cache);
    alarm(0);
    return head != NULL;
}

/* Planted bug: the sizes that a head says are not held against the slot's check. */
static void
test_heads_that_change_in_use_harm_nothing_though_nobody_verifies(void)
{
    for (int eviction = PMC_EVICT_S3FIFO; eviction <= PMC_EVICT_NONE; eviction++) {
        struct subject subject;
        uint32_t heads = 0;

        make_subject(&subject, (enum pmc_eviction)eviction);
        while (flip_one_head(&subject, heads)) {
            heads += SANITIZED ? 5 : 1;
            if (!files_are_ours(&subject))
                make_anew(&subject);
        }
        CHECK(heads > 30);
        drop_subject(&subject);
    }
}

/* Written over between the look at its sizes and the look at its bytes. Planted bug: the
 * second look takes the sizes for looked at. */
static void
test_sizes_that_change_under_a_check_lead_nowhere(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_S3FIFO);
    const struct shard *shard = &cache->shards[0];
    struct entry_head *head;
    uint32_t size;
    uint64_t hash;

    CHECK_EQ(put_text(cache, "key", "value"), PMC_OK);
    head = entry_at(shard, 0);
    size = head->size;
    hash = index_hash_at(shard, 0);
    CHECK(shard_entry_is_intact(shard, 0, hash));
    head->size = EXTENT_ENTRY | EXTENT_SIZE;
    CHECK(!shard_entry_is_intact(shard, 0, hash));
    head->size = size;
    CHECK(shard_entry_is_intact(shard, 0, hash));
    pmc_close(cache);
}

/* ---- headers ----------------------------------------------------------- */

/* The same in both files, so that only the checksum tells. */
static void
check_changed_header_is_not_adopted(struct subject *subject, size_t at, uint8_t bits)
{
    struct pmc_cache *cache = NULL;
    struct pmc_error error = {0};

    subject->heap.file[at] ^= bits;
    subject->index.file[at] ^= bits;
    snprintf(current_case, sizeof current_case,
             "flip in both headers, byte %zu ^ %02x\n", at, bits);
    alarm(PATIENCE_SECONDS);
    if (pmc_open(&subject->options, &cache, &error) == PMC_OK) {
        if (!CHECK_EQ(cache->pool->origin, POOL_CREATED))
            fprintf(stderr, "    %s", current_case);
        exercise(cache, (struct model){{0}});
    }
    CHECK(error.message[0] != '\0');
    pmc_close(cache);
    alarm(0);
}

/* Planted bug: the checksum of the header is not looked at. */
static void
test_a_header_that_changed_in_both_files_is_not_believed(void)
{
    for (size_t at = 0; at < sizeof(struct pool_identity); at += EACH) {
        struct subject subject;

        make_subject(&subject, PMC_EVICT_S3FIFO);
        check_changed_header_is_not_adopted(&subject, at,
                                            (uint8_t)(1u << random_below(&dice, 8)));
        drop_subject(&subject);
    }
}

/* ---- keys and values that change -------------------------------------- */

static struct entry_head *
head_of(const struct shard *shard, const void *key, size_t key_size)
{
    uint64_t hash = hash_bytes(key, key_size, shard->hash_seed);
    uint32_t slot = index_find_locked(shard, hash, key, key_size);

    if (!CHECK(slot != NO_SLOT))
        abort();
    return entry_at(shard, slot_offset(shard, slot));
}

/* As if the key of another entry had the same hash. Planted bugs: long keys are compared by
 * their ends, short ones by half of their words; readers or writers compare less than all. */
static void
test_every_byte_of_a_key_counts(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_NONE);
    struct shard *shard = &cache->shards[0];
    uint8_t key[40];

    for (size_t size = 1; size <= sizeof key; size++) {
        uint64_t hash;
        uint8_t *stored;

        fill_pattern(key, size, size);
        hash = hash_bytes(key, size, shard->hash_seed);
        CHECK_EQ(pmc_put(cache, key, size, "v", 1, NULL), PMC_OK);
        stored = entry_key(head_of(shard, key, size));
        for (size_t at = 0; at < size; at++) {
            stored[at] ^= 0x20;
            CHECK_EQ(pmc_exists(cache, key, size), PMC_MISS);
            CHECK_EQ(index_find_locked(shard, hash, key, size), NO_SLOT);
            stored[at] ^= 0x20;
        }
        CHECK_EQ(pmc_exists(cache, key, size), PMC_OK);
    }
    check_sound(cache);
    pmc_close(cache);
}

static void *
get_in_vain(void *context)
{
    CHECK(get_text(context, "k") == NULL);
    return NULL;
}

static bool
somebody_waits(const struct shard *shard)
{
    return load_acquire(&shard->header->lock) >> 31 != 0;
}

enum meanwhile { PUT_RIGHT, DELETED };

/* A reader finds a value damaged, and waits for the lock to drop it; whoever has the lock
 * puts it right, or deletes it. */
static void
find_damage_too_late(enum meanwhile meanwhile)
{
    struct pmc_options options;
    struct pmc_cache *cache;
    struct shard *shard;
    struct write_request request = {.key = "k", .key_size = 1, .now_ms = 1};
    struct pmc_stats stats = {0};
    uint8_t *value;
    pthread_t thread;

    pmc_options_default(&options);
    options.size_bytes = POOL_BYTES;
    options.verify = true;
    options.lock_timeout_ms = PATIENCE_SECONDS * 1000;
    cache = open_with(&options);
    shard = &cache->shards[0];
    request.hash = hash_bytes("k", 1, shard->hash_seed);
    CHECK_EQ(put_text(cache, "k", "value"), PMC_OK);
    value = entry_key(head_of(shard, "k", 1)) + 1;
    CHECK_EQ(shard_lock(shard, false), PMC_OK);
    *value ^= 1;
    CHECK_EQ(pthread_create(&thread, NULL, get_in_vain, cache), 0);
    while (!somebody_waits(shard))
        clock_sleep_ns(100000);
    *value ^= 1;
    if (meanwhile == DELETED)
        CHECK_EQ(shard_delete_locked(shard, &request), PMC_OK);
    shard_unlock(shard);
    pthread_join(thread, NULL);
    CHECK_EQ(holds_text(cache, "k", "value"), meanwhile == PUT_RIGHT);
    CHECK_EQ(pmc_stats(cache, &stats), PMC_OK);
    CHECK_EQ(stats.damaged, 0);
    check_sound(cache);
    pmc_close(cache);
}

/* Planted bug: the reader drops what has the key by then. */
static void
test_what_was_damaged_a_moment_ago_is_looked_at_again(void)
{
    find_damage_too_late(PUT_RIGHT);
    find_damage_too_late(DELETED);
}

/* ---- queues ----------------------------------------------------------- */

/* Every head and tail leads to the same slot, whatever queue that is in. */
static void
test_heads_and_tails_that_name_another_queue_are_recovered(void)
{
    for (uint32_t slot = 0; slot < 24; slot++) {
        enum pmc_eviction eviction = slot % 2 ? PMC_EVICT_LRU : PMC_EVICT_S3FIFO;
        struct pmc_cache *cache = open_private(POOL_BYTES, eviction);
        struct model model = {0};

        snprintf(current_case, sizeof current_case, "heads that name slot %u\n", slot);
        alarm(PATIENCE_SECONDS);
        for (uint32_t number = 0; number < KEYS; number++)
            put_version(cache, &model, number);
        for (uint32_t number = 0; number < QUEUES; number++) {
            cache->shards[0].header->queues[number].head = slot;
            cache->shards[0].header->queues[number].tail = slot;
        }
        exercise(cache, model);
        pmc_close(cache);
    }
    alarm(0);
}

/* ---- files cut short --------------------------------------------------- */

static void
cut(const char *path, off_t size)
{
    CHECK_EQ(truncate(path, size), 0);
}

/* After the cut everything is a miss or refused, and the pool can be left. */
static void
check_lost(struct pmc_cache *cache, const struct model *model)
{
    char report[256];
    struct pmc_stats stats;

    check_gets(cache, model);
    for (uint32_t number = 0; number < KEYS; number++) {
        char key[32];

        pmc_put(cache, key, make_key(key, number), "v", 1, NULL);
    }
    walk_keys(cache);
    CHECK_EQ(pmc_stats(cache, &stats), PMC_OK);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_EDAMAGED);
    CHECK(get_text(cache, "k") == NULL);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_EDAMAGED);
    CHECK_EQ(pmc_clear(cache), PMC_EDAMAGED);
    CHECK_EQ(pmc_check(cache, report, sizeof report), PMC_EDAMAGED);
}

/* A new pool takes the place of one that was lost. */
static void
check_new_pool_works(const struct subject *subject)
{
    struct pmc_cache *cache = open_with(&subject->options);

    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    CHECK(holds_text(cache, "k", "v"));
    check_sound(cache);
    pmc_close(cache);
}

/* Somebody cuts a file, and perhaps makes it as long as it was. Whoever reads behind
 * its end has lost the pool; whoever does not, goes on. */
static void
cut_under_mapping(bool in_heap, size_t size, bool stretched, bool is_lost)
{
    struct subject subject;
    struct pmc_cache *other = open_private(POOL_BYTES, PMC_EVICT_LRU);
    struct pmc_cache *cache;
    const struct image *image = in_heap ? &subject.heap : &subject.index;

    make_subject(&subject, PMC_EVICT_S3FIFO);
    snprintf(current_case, sizeof current_case, "%s cut to %zu bytes\n",
             in_heap ? "heap" : "index", size);
    alarm(PATIENCE_SECONDS);
    subject.options.verify = true;
    cache = open_with(&subject.options);
    check_gets(cache, &subject.model);
    cut(image->path, (off_t)size);
    if (stretched)
        cut(image->path, (off_t)image->size);
    if (is_lost)
        check_lost(cache, &subject.model);
    else
        exercise(cache, subject.model);
    pmc_close(cache);
    alarm(0);
    CHECK_EQ(put_text(other, "k", "another pool is not concerned"), PMC_OK);
    check_sound(other);
    pmc_close(other);
    if (!stretched)
        check_new_pool_works(&subject);
    drop_subject(&subject);
}

static void
test_heap_cut_short_under_its_mapping_is_lost(void)
{
    cut_under_mapping(true, 0, false, true);
    cut_under_mapping(true, HEAP_HEADER_BYTES, false, true);
    cut_under_mapping(true, POOL_BYTES / 2, false, true);
}

static void
test_index_cut_short_under_its_mapping_is_lost(void)
{
    cut_under_mapping(false, 0, false, true);
    cut_under_mapping(false, PAGE_BYTES, false, true);
    cut_under_mapping(false, VERSIONS_OFF + PAGE_BYTES, false, true);
}

static void
test_files_cut_and_stretched_under_their_mapping_are_empty(void)
{
    cut_under_mapping(true, HEAP_HEADER_BYTES, true, false);
    cut_under_mapping(true, POOL_BYTES / 2, true, false);
    cut_under_mapping(false, VERSIONS_OFF, true, false);
}

/* What a reader meets between the comparison of its key and the copy. */
struct half_lost {
    struct pmc_cache *cache;
    uint8_t value[2000];
};

/* The pool is parted with, but its index cannot be replaced: half of it is done, and
 * nothing more will be, until the reader has copied. */
static void *
lose_half(void *context, size_t value_size)
{
    struct half_lost *half = context;
    struct pool *pool = half->cache->pool;
    struct pool_header *header = pool->header;

    CHECK(value_size <= sizeof half->value);
    if (!pool_is_lost(pool)) {
        pool->header = (void *)((uint8_t *)header + 1); /* no page begins there */
        CHECK(!guard_give_up(pool));
        pool->header = header;
    }
    return half->value;
}

/* Planted bug: the heap is replaced before the index, or although that cannot be. */
static void
test_no_reader_sees_the_heap_of_a_lost_pool_without_its_index(void)
{
    struct half_lost half = {.cache = open_private(POOL_BYTES, PMC_EVICT_LRU)};
    uint8_t value[sizeof half.value];
    enum pmc_status status;

    fill_pattern(value, sizeof value, 7);
    CHECK_EQ(pmc_put(half.cache, "k", 1, value, sizeof value, NULL), PMC_OK);
    status = pmc_get_reserve(half.cache, "k", 1, lose_half, &half, NULL);
    CHECK(status == PMC_MISS ||
          (status == PMC_OK && has_pattern(half.value, sizeof half.value, 7)));
    CHECK(pool_is_lost(half.cache->pool));
    CHECK(guard_give_up(half.cache->pool));
    CHECK(get_text(half.cache, "k") == NULL);
    CHECK_EQ(put_text(half.cache, "k", "v"), PMC_EDAMAGED);
    pmc_close(half.cache);
}

/* ---- zeros -------------------------------------------------------------- */

/* Restored, then zeroed from a place on. */
static void
zero_files(const struct subject *subject, bool heap, bool index, size_t heap_from,
           size_t index_from)
{
    if (heap)
        memset(subject->heap.file + heap_from, 0, subject->heap.size - heap_from);
    if (index)
        memset(subject->index.file + index_from, 0, subject->index.size - index_from);
}

/* Nothing says any more that this was a pool: an error that names the file. */
static void
test_files_of_zeros_are_an_error_or_an_empty_pool(void)
{
    for (unsigned which = 1; which <= 3; which++) {
        struct subject subject;
        struct pmc_cache *cache = NULL;
        struct pmc_error error = {0};

        make_subject(&subject, PMC_EVICT_S3FIFO);
        snprintf(current_case, sizeof current_case, "zeros in files %u\n", which);
        alarm(PATIENCE_SECONDS);
        zero_files(&subject, which & 1, which & 2, 0, 0);
        if (pmc_open(&subject.options, &cache, &error) == PMC_OK)
            exercise(cache, (struct model){{0}});
        else
            CHECK(strstr(error.message, "not a pool") != NULL);
        pmc_close(cache);
        restore(&subject.heap);
        restore(&subject.index);
        cache = open_with(&subject.options); /* nothing was changed */
        CHECK(get_is_exact(cache, &subject.model, 1));
        pmc_close(cache);
        alarm(0);
        drop_subject(&subject);
    }
}

/* Behind the headers, at rest and under somebody's hands. */
static void
test_pools_whose_shards_are_zeroed_are_empty(void)
{
    for (unsigned which = 1; which <= 3; which++)
        for (unsigned when = 0; when < 2; when++) {
            struct subject subject;
            struct pmc_cache *cache = NULL;
            size_t shards;

            make_subject(&subject, PMC_EVICT_LRU);
            shards = (size_t)pool_shards_off(&subject.identity);
            snprintf(current_case, sizeof current_case, "zeroed shards %u\n", which);
            alarm(PATIENCE_SECONDS);
            subject.options.verify = true;
            if (when == AT_REST)
                zero_files(&subject, which & 1, which & 2, HEAP_HEADER_BYTES, shards);
            cache = open_with(&subject.options);
            if (when == IN_USE) {
                check_gets(cache, &subject.model);
                zero_files(&subject, which & 1, which & 2, HEAP_HEADER_BYTES, shards);
            }
            exercise(cache, subject.model);
            pmc_close(cache);
            alarm(0);
            drop_subject(&subject);
        }
}

/* ---- other versions and architectures ----------------------------------- */

static void
check_is_foreign(struct subject *subject, struct pool_identity *in_file,
                 uint32_t version, uint32_t abi)
{
    struct pmc_cache *cache = open_with(&subject->options);
    struct pmc_cache *second = NULL;
    struct pmc_error error = {0};

    in_file->layout_version = version;
    in_file->abi = abi;
    CHECK_EQ(pmc_open(&subject->options, &second, &error), PMC_ELAYOUT);
    CHECK(strstr(error.message, "layout version") != NULL);
    CHECK_EQ(put_text(cache, "k", "those who have it go on"), PMC_OK);
    pmc_close(cache);
    cache = open_with(&subject->options); /* nobody has it: made anew */
    CHECK(!get_text(cache, "k"));
    CHECK(get_is_exact(cache, &(struct model){{0}}, 1));
    exercise(cache, (struct model){{0}});
    pmc_close(cache);
}

static void
test_another_version_or_architecture_is_refused_in_use_and_replaced_after(void)
{
    for (unsigned which = 0; which < 6; which++) {
        struct subject subject;
        struct pool_identity *identity;
        uint32_t abi;

        make_subject(&subject, PMC_EVICT_S3FIFO);
        identity = (void *)(which % 2 ? subject.heap.file : subject.index.file);
        abi = subject.identity.abi;
        if (which / 2 == 0)
            check_is_foreign(&subject, identity, LAYOUT_VERSION + 1, abi);
        else if (which / 2 == 1)
            check_is_foreign(&subject, identity, LAYOUT_VERSION,
                             __builtin_bswap32(abi));
        else
            check_is_foreign(&subject, identity, LAYOUT_VERSION, abi ^ 1);
        drop_subject(&subject);
    }
}

/* In a child, which dies of it. */
static int
signal_that_ends(void (*act)(void))
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        act();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* A page that its file does not have. */
static volatile uint8_t *
map_foreign_file_at(void *address)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    int fixed = address ? MAP_FIXED : 0;
    volatile uint8_t *page =
        mmap(address, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, fd, 0);

    signal(SIGALRM, SIG_DFL);
    alarm(PATIENCE_SECONDS);
    return page;
}

static void
touch_foreign_file(void)
{
    map_foreign_file_at(NULL)[0] = 1;
}

static void
send_bus_error(void)
{
    raise(SIGBUS);
}

/* Where a pool was, and is no more. */
static void
touch_where_a_pool_was(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_LRU);
    void *heap = cache->pool->heap;

    pmc_close(cache);
    map_foreign_file_at(heap)[0] = 1;
}

static void
test_bus_errors_elsewhere_are_as_deadly_as_ever(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_LRU);

    if (!SANITIZED) { /* sanitizers have a handler of their own, which exits */
        CHECK_EQ(signal_that_ends(touch_foreign_file), SIGBUS);
        CHECK_EQ(signal_that_ends(send_bus_error), SIGBUS);
        CHECK_EQ(signal_that_ends(touch_where_a_pool_was), SIGBUS);
    }
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    pmc_close(cache);
}

/* ---- the check ------------------------------------------------------- */

/* Is it noticed that a word of the shard's has another value? */
#define EXPECT_NOTICE(cache, word, value)                                              \
    do {                                                                               \
        char report[4096];                                                             \
        __typeof__(word) before = (word);                                              \
                                                                                       \
        (word) = (value);                                                              \
        CHECK(pmc_check((cache), report, sizeof report) > 0);                          \
        (word) = before;                                                               \
        check_sound(cache);                                                            \
    } while (0)

/* Planted bug: no broken invariant but those that every operation goes by. */
static void
test_the_check_notices_what_no_operation_may(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_S3FIFO);
    struct shard *shard = &cache->shards[0];
    struct shard_header *header = shard->header;
    struct pmc_lease lease;
    uint32_t hole;

    for (uint32_t number = 0; number < 200; number++) {
        char key[32];
        size_t size = make_key(key, number);

        CHECK_EQ(pmc_put(cache, key, size, key, size, NULL), PMC_OK);
    }
    CHECK_EQ(pmc_lease_take(cache, "l", 1, 60000, &lease), PMC_OK);
    check_sound(cache);
    hole = alloc_large_hole(shard);
    EXPECT_NOTICE(cache, hole_at(shard, hole)->bin_next, 0);
    EXPECT_NOTICE(cache, header->bin_map[0], header->bin_map[0] ^ 1);
    EXPECT_NOTICE(cache, header->bin_head[3], hole);
    EXPECT_NOTICE(cache, header->overflow_free, 0);
    EXPECT_NOTICE(cache, header->overflow_used, header->overflow_used ^ 1);
    EXPECT_NOTICE(cache, header->overflow_limit, shard->max_overflow + 1);
    EXPECT_NOTICE(cache, header->bucket_limit, shard->max_buckets + 1);
    EXPECT_NOTICE(cache, header->ghost_sets, shard->ghost_sets + 1);
    EXPECT_NOTICE(cache, header->lease_sets, 0);
    EXPECT_NOTICE(cache, shard->versions[7], 1);
    pmc_close(cache);
}

/* Planted bug: what is removed is all but what cannot be. */
static void
test_clearing_mends_sizes_that_cannot_be(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_S3FIFO);
    struct shard *shard = &cache->shards[0];

    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    shard->header->bucket_limit = shard->max_buckets + 1;
    CHECK_EQ(pmc_clear(cache), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
}

/* ---- who was there before ------------------------------------------------ */

#define WITH_INFO 7
#define WITHOUT_INFO 8

static uintptr_t expected_fault;

static void
answer_with_info(int number, siginfo_t *info, void *context)
{
    bool is_right = number == SIGBUS && context &&
                    (info->si_code <= 0 || (uintptr_t)info->si_addr == expected_fault);

    _exit(is_right ? WITH_INFO : 1);
}

static void
answer_without_info(int number)
{
    _exit(number == SIGBUS ? WITHOUT_INFO : 1);
}

/* How a child ends that had an answer to SIGBUS before it opened a pool: its exit status,
 * or minus the signal. */
static int
end_of_child(const struct sigaction *before, bool by_fault)
{
    volatile uint8_t *page;
    pid_t child = fork();
    int status;

    if (child == 0) {
        sigaction(SIGBUS, before, NULL);
        (void)open_private(POOL_BYTES, PMC_EVICT_LRU);
        page = map_foreign_file_at(NULL);
        expected_fault = (uintptr_t)page;
        if (by_fault)
            page[0] = 1;
        else
            raise(SIGBUS);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Planted bugs: whoever was there is forgotten, or told of a fault without its address; a
 * signal that was sent and ignored kills; a fault that was ignored goes on for ever. Must
 * be the first to open a pool in this process. */
static void
test_bus_errors_elsewhere_go_to_who_was_there_before(void)
{
    const struct sigaction with_info = {.sa_sigaction = answer_with_info,
                                        .sa_flags = SA_SIGINFO};
    const struct sigaction without = {.sa_handler = answer_without_info};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};

    if (SANITIZED) {
        printf("skipped: who was there before (the sanitizer handles SIGBUS)\n");
        return;
    }
    for (unsigned by_fault = 0; by_fault < 2; by_fault++) {
        CHECK_EQ(end_of_child(&with_info, by_fault), WITH_INFO);
        CHECK_EQ(end_of_child(&without, by_fault), WITHOUT_INFO);
        CHECK_EQ(end_of_child(&ignore, by_fault), by_fault ? -SIGBUS : 0);
    }
}

/* ---- signals without an address ------------------------------------------ */

/* A handler that came after ours sends the signal on. */
static void
raise_for_a_cut_file(bool in_heap)
{
    struct subject subject;
    struct pmc_cache *others[2];
    struct pmc_cache *closed;
    struct pmc_cache *cache;

    make_subject(&subject, PMC_EVICT_LRU);
    closed = open_private(POOL_BYTES, PMC_EVICT_LRU);
    others[0] = open_private(POOL_BYTES, PMC_EVICT_LRU);
    cache = open_with(&subject.options);
    others[1] = open_private(POOL_BYTES, PMC_EVICT_LRU);
    pmc_close(closed);
    cut(in_heap ? subject.heap.path : subject.index.path, HEAP_HEADER_BYTES);
    raise(SIGBUS);
    CHECK(pool_is_lost(cache->pool));
    CHECK_EQ(put_text(cache, "k", "v"), PMC_EDAMAGED);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(put_text(others[i], "k", "another pool is not concerned"), PMC_OK);
        pmc_close(others[i]);
    }
    pmc_close(cache);
    drop_subject(&subject);
    check_exit();
}

/* Planted bugs: the signal is passed on, and deadly; all pools are given up for it; a pool
 * that is closed takes the guard of the others with it. */
static void
test_a_signal_without_address_is_for_the_pools_whose_files_are_cut(void)
{
    if (SANITIZED) {
        printf("skipped: signals without address (the sanitizer handles SIGBUS)\n");
        return;
    }
    for (unsigned in_heap = 0; in_heap < 2; in_heap++) {
        pid_t child = fork();

        if (child == 0)
            raise_for_a_cut_file(in_heap);
        check_child(child);
    }
}

/* A process that another sends the signal to, when a file of its is cut. */
static void
test_a_signal_of_another_process_is_as_deadly_as_ever(void)
{
    struct subject subject;
    struct pmc_cache *cache;
    pid_t child;
    int status = 0;

    if (SANITIZED) {
        printf("skipped: signals of others (the sanitizer handles SIGBUS)\n");
        return;
    }
    make_subject(&subject, PMC_EVICT_LRU);
    cache = open_with(&subject.options);
    child = fork();
    if (child == 0) {
        alarm(PATIENCE_SECONDS);
        for (;;)
            pause();
    }
    cut(subject.heap.path, HEAP_HEADER_BYTES);
    kill(child, SIGBUS);
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    pmc_close(cache);
    drop_subject(&subject);
}

int
main(void)
{
    dice = random_start("test_damage");
    signal(SIGALRM, say_case);
    if (!SANITIZED) {
        signal(SIGSEGV, say_case);
        signal(SIGABRT, say_case);
    }
    RUN(test_bus_errors_elsewhere_go_to_who_was_there_before);
    RUN(test_heads_and_tails_that_name_another_queue_are_recovered);
    RUN(test_bits_flipped_at_rest_harm_nothing_under_s3fifo);
    RUN(test_bits_flipped_at_rest_harm_nothing_under_lru);
    RUN(test_bits_flipped_in_use_harm_nothing_under_s3fifo);
    RUN(test_bits_flipped_in_use_harm_nothing_under_lru);
    RUN(test_bits_flipped_in_use_harm_nothing_without_eviction);
    RUN(test_heads_that_change_in_use_harm_nothing_though_nobody_verifies);
    RUN(test_sizes_that_change_under_a_check_lead_nowhere);
    RUN(test_a_header_that_changed_in_both_files_is_not_believed);
    RUN(test_every_byte_of_a_key_counts);
    RUN(test_what_was_damaged_a_moment_ago_is_looked_at_again);
    RUN(test_heap_cut_short_under_its_mapping_is_lost);
    RUN(test_index_cut_short_under_its_mapping_is_lost);
    RUN(test_files_cut_and_stretched_under_their_mapping_are_empty);
    RUN(test_no_reader_sees_the_heap_of_a_lost_pool_without_its_index);
    RUN(test_files_of_zeros_are_an_error_or_an_empty_pool);
    RUN(test_pools_whose_shards_are_zeroed_are_empty);
    RUN(test_another_version_or_architecture_is_refused_in_use_and_replaced_after);
    RUN(test_bus_errors_elsewhere_are_as_deadly_as_ever);
    RUN(test_the_check_notices_what_no_operation_may);
    RUN(test_clearing_mends_sizes_that_cannot_be);
    RUN(test_a_signal_without_address_is_for_the_pools_whose_files_are_cut);
    RUN(test_a_signal_of_another_process_is_as_deadly_as_ever);
    return check_report();
}
