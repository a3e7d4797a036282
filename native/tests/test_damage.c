/*
 * Bytes that somebody changed, in every part of a pool: at rest, and between two
 * operations of a process that has it mapped. Afterwards every get gives exact
 * bytes or a miss, every operation ends with a status, and an emptied pool is as
 * good as a new one. And files that are cut short under their mapping.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "cache.h"
#include "pool_geometry.h"
#include "support.h"

#define POOL_BYTES (256u * 1024u)
#define KEYS 72u      /* in the pool when it is damaged; more than it can hold */
#define MORE_KEYS 48u /* put afterwards */
#define ALL_KEYS (KEYS + MORE_KEYS)
#define VALUE_MAX 6000u
/* A case that takes longer hangs. */
#define PATIENCE_SECONDS 30u

/* One flip in so many bytes, on average; every byte has its turn in some run. */
#if defined(__SANITIZE_THREAD__)
#define STRIDE 151u
#else
#define STRIDE (SANITIZED ? 31u : 11u)
#endif

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

struct subject {
    struct place place;
    struct pmc_options options;
    struct model model;
    struct pool_identity identity;
    struct image heap;
    struct image index;
    uint32_t buckets;
    uint32_t overflow;
};

static void
take_image(struct image *image)
{
    struct stat about;
    int fd = open(image->path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) != 0)
        abort();
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
    check_sound(cache);
    subject->identity = cache->pool->header->identity;
    subject->buckets = load_relaxed(&cache->shards[0].header->bucket_count);
    subject->overflow = cache->shards[0].header->overflow_used;
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
flip_range(struct subject *subject, bool in_heap, const char *what, size_t from,
           size_t size, enum when when)
{
    for (size_t i = random_below(&dice, STRIDE); i < size;
         i += 1 + random_below(&dice, 2 * STRIDE - 1)) {
        struct image *image = in_heap ? &subject->heap : &subject->index;
        uint8_t bits = (uint8_t)(1u << random_below(&dice, 8));

        if (random_below(&dice, 16) == 0)
            bits = 0xff;
        snprintf(current_case, sizeof current_case, "%s of %s, byte %zu (%zu) ^ %02x\n",
                 when == AT_REST ? "flip at rest" : "flip in use", what, i, from + i,
                 bits);
        flip_one(subject, image, from + i, bits, when);
        if (!files_are_ours(subject)) {
            enum pmc_eviction eviction = (enum pmc_eviction)subject->options.eviction;
            bool verify = subject->options.verify;

            drop_subject(subject);
            make_subject(subject, eviction);
            subject->options.verify = verify;
        }
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

static void
flip_index(struct subject *subject, enum when when)
{
    size_t spans = (size_t)(pool_shards_off(&subject->identity) +
                            pool_shard_spans_off(&subject->identity));
    size_t shard = (size_t)pool_shards_off(&subject->identity);
    size_t buckets = shard + 2 * PAGE_BYTES;
    size_t overflow =
        buckets + (size_t)subject->identity.max_buckets * sizeof(struct bucket);
    size_t links =
        overflow + (size_t)subject->identity.max_overflow * sizeof(struct bucket);
    size_t ghosts = links + ((size_t)subject->identity.max_buckets +
                             subject->identity.max_overflow) *
                                sizeof(struct bucket_links);

    flip_range(subject, false, "the pool header", 0, 128, when);
    flip_range(subject, false, "places", ATTACHMENTS_OFF, 128, when);
    flip_range(subject, false, "versions", VERSIONS_OFF, 256, when);
    flip_range(subject, false, "the shard header", shard, sizeof(struct shard_header),
               when);
    flip_range(subject, false, "leases", shard + PAGE_BYTES, 128, when);
    flip_range(subject, false, "buckets", buckets,
               (size_t)subject->buckets * sizeof(struct bucket), when);
    flip_range(subject, false, "overflow buckets", overflow,
               (size_t)(subject->overflow + 1) * sizeof(struct bucket), when);
    flip_range(subject, false, "links", links,
               (size_t)subject->buckets * sizeof(struct bucket_links), when);
    flip_range(subject, false, "ghosts", ghosts, 256, when);
    /* So few that all have their turn. */
    for (size_t span = 0; span <= POOL_BYTES / SPAN_BYTES; span++)
        flip_one_span(subject, spans + span, when);
}

static void
flip_heap(struct subject *subject, enum when when)
{
    flip_range(subject, true, "the heap header", 0, sizeof(struct pool_identity), when);
    flip_range(subject, true, "extents", HEAP_HEADER_BYTES, 8192, when);
}

static void
flip_all_of(enum pmc_eviction eviction, enum when when)
{
    struct subject subject;

    make_subject(&subject, eviction);
    flip_index(&subject, when);
    subject.options.verify = when == IN_USE;
    flip_heap(&subject, when);
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

static void
cut_under_mapping(bool in_heap, unsigned divisor)
{
    struct subject subject;
    struct pmc_cache *other = open_private(POOL_BYTES, PMC_EVICT_LRU);
    struct pmc_cache *cache;
    const struct image *image = in_heap ? &subject.heap : &subject.index;

    make_subject(&subject, PMC_EVICT_S3FIFO);
    snprintf(current_case, sizeof current_case, "cut to 1/%u of %s\n", divisor,
             in_heap ? "the heap" : "the index");
    cache = open_with(&subject.options);
    check_gets(cache, &subject.model);
    cut(image->path, divisor ? (off_t)(image->size / divisor) : 0);
    check_lost(cache, &subject.model);
    pmc_close(cache);
    CHECK_EQ(put_text(other, "k", "another pool is not concerned"), PMC_OK);
    check_sound(other);
    pmc_close(other);
    cache = open_with(&subject.options); /* a new pool takes its place */
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    CHECK(holds_text(cache, "k", "v"));
    pmc_close(cache);
    drop_subject(&subject);
}

static void
test_heap_cut_short_under_its_mapping_is_lost(void)
{
    cut_under_mapping(true, 0);
    cut_under_mapping(true, 2);
}

static void
test_index_cut_short_under_its_mapping_is_lost(void)
{
    cut_under_mapping(false, 0);
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

static void
touch_foreign_file(void)
{
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    volatile uint8_t *page =
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    signal(SIGALRM, SIG_DFL);
    alarm(PATIENCE_SECONDS);
    page[0] = 1;
}

static void
send_bus_error(void)
{
    raise(SIGBUS);
}

static void
test_bus_errors_elsewhere_are_as_deadly_as_ever(void)
{
    struct pmc_cache *cache = open_private(POOL_BYTES, PMC_EVICT_LRU);

    if (!SANITIZED) { /* sanitizers have a handler of their own, which exits */
        CHECK_EQ(signal_that_ends(touch_foreign_file), SIGBUS);
        CHECK_EQ(signal_that_ends(send_bus_error), SIGBUS);
    }
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    pmc_close(cache);
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
    RUN(test_heads_and_tails_that_name_another_queue_are_recovered);
    RUN(test_bits_flipped_at_rest_harm_nothing_under_s3fifo);
    RUN(test_bits_flipped_at_rest_harm_nothing_under_lru);
    RUN(test_bits_flipped_in_use_harm_nothing_under_s3fifo);
    RUN(test_bits_flipped_in_use_harm_nothing_under_lru);
    RUN(test_bits_flipped_in_use_harm_nothing_without_eviction);
    RUN(test_heap_cut_short_under_its_mapping_is_lost);
    RUN(test_index_cut_short_under_its_mapping_is_lost);
    RUN(test_bus_errors_elsewhere_are_as_deadly_as_ever);
    return check_report();
}
