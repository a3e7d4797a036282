/*
 * Many threads on one small pool with few shards: nobody sees bytes of another
 * key or of two values, no increment is lost. Run under ThreadSanitizer too.
 */
#include <pthread.h>

#include "check.h"
#include "pmemcache.h"
#include "support.h"

#define KEYS 300u
#define LARGEST 6000u
#define COUNTERS 4u

struct shared {
    struct pmc_cache *cache;
    int rounds;
    _Atomic uint64_t hits;
    _Atomic uint64_t added[COUNTERS];
};

struct worker {
    struct shared *shared;
    uint64_t seed;
};

/* A value carries its key, its own size and bytes that follow from both. */
struct value_head {
    uint64_t key;
    uint64_t identity;
    uint64_t size;
};

static size_t
make_value(uint8_t *value, uint64_t key, struct random *random)
{
    struct value_head head = {.key = key,
                              .identity = random_next(random),
                              .size = sizeof head + random_below(random, LARGEST)};

    memcpy(value, &head, sizeof head);
    fill_pattern(value + sizeof head, head.size - sizeof head, head.identity);
    return head.size;
}

static void
check_value(const uint8_t *value, size_t size, uint64_t key)
{
    struct value_head head;

    if (!CHECK(size >= sizeof head))
        return;
    memcpy(&head, value, sizeof head);
    CHECK_EQ(head.key, key);
    CHECK_EQ(head.size, size);
    CHECK(has_pattern(value + sizeof head, size - sizeof head, head.identity));
}

static void
write_some(struct shared *shared, uint64_t key, struct random *random, uint8_t *value)
{
    struct pmc_put_options options = {.ttl_ms =
                                          random_below(random, 8) ? PMC_TTL_NONE : 1};
    enum pmc_status status;
    size_t size = make_value(value, key, random);

    status = pmc_put(shared->cache, &key, sizeof key, value, size, &options);
    CHECK(status == PMC_OK || status == PMC_DROPPED);
}

static void
read_some(struct shared *shared, uint64_t key, uint8_t *value)
{
    struct pmc_found found;
    enum pmc_status status = pmc_get(shared->cache, &key, sizeof key, value,
                                     LARGEST + sizeof(struct value_head), 0, &found);

    if (status == PMC_OK) {
        check_value(value, found.value_size, key);
        atomic_fetch_add(&shared->hits, 1);
    } else {
        CHECK_EQ(status, PMC_MISS);
    }
}

/* Counters are kept hot by all, so that they are not evicted; an increment that
 * creates one anew says so by its result. */
static void
count_some(struct shared *shared, uint32_t counter)
{
    char key[16];
    int size = snprintf(key, sizeof key, "n%u", counter);
    int64_t result;

    if (pmc_incr(shared->cache, key, (size_t)size, 1, NULL, &result) == PMC_OK)
        atomic_fetch_add(&shared->added[counter], 1);
}

static void *
work(void *context)
{
    const struct worker *worker = context;
    struct random random = {.state = worker->seed};
    uint8_t *value = malloc(LARGEST + sizeof(struct value_head));

    if (!value)
        abort();
    for (int round = 0; round < worker->shared->rounds; round++) {
        uint64_t key = random_below(&random, KEYS);
        uint32_t choice = random_below(&random, 100);

        if (choice < 30)
            write_some(worker->shared, key, &random, value);
        else if (choice < 85)
            read_some(worker->shared, key, value);
        else if (choice < 90)
            pmc_delete(worker->shared->cache, &key, sizeof key, 0);
        else if (choice < 92)
            pmc_touch(worker->shared->cache, &key, sizeof key, 5, 0);
        else
            count_some(worker->shared, random_below(&random, COUNTERS));
    }
    free(value);
    return NULL;
}

static struct pmc_cache *
open_shards(enum pmc_eviction eviction, uint32_t shards, uint64_t size_bytes)
{
    struct pmc_options options;

    pmc_options_default(&options);
    options.size_bytes = size_bytes;
    options.eviction = (uint8_t)eviction;
    options.shards = shards;
    options.lock_timeout_ms = 60000;
    return open_with(&options);
}

static void
run_workers(struct shared *shared, unsigned count)
{
    struct random random = random_start("threads");
    struct worker workers[8];
    pthread_t threads[8];

    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){.shared = shared, .seed = random_next(&random)};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    check_untroubled(shared->cache);
    CHECK(atomic_load(&shared->hits) > 0);
}

static void
run_policy(enum pmc_eviction eviction)
{
    static struct shared shared;

    memset(&shared, 0, sizeof shared);
    shared.cache = open_shards(eviction, 2, 2 * PMC_POOL_MIN_BYTES);
    shared.rounds = ROUNDS_OF(40000);
    run_workers(&shared, 4);
    pmc_close(shared.cache);
}

static void
test_s3fifo_never_shows_wrong_bytes(void)
{
    run_policy(PMC_EVICT_S3FIFO);
}

static void
test_lru_never_shows_wrong_bytes(void)
{
    run_policy(PMC_EVICT_LRU);
}

static void
test_no_increment_is_lost(void)
{
    static struct shared shared;

    memset(&shared, 0, sizeof shared);
    shared.cache = open_shards(PMC_EVICT_LRU, 2, 8u << 20); /* nothing is evicted */
    shared.rounds = ROUNDS_OF(40000);
    for (uint32_t counter = 0; counter < COUNTERS; counter++) {
        char key[16];

        snprintf(key, sizeof key, "n%u", counter);
        CHECK_EQ(put_text(shared.cache, key, "0"), PMC_OK);
    }
    run_workers(&shared, 4);
    for (uint32_t counter = 0; counter < COUNTERS; counter++) {
        char key[16];
        const char *held;

        snprintf(key, sizeof key, "n%u", counter);
        held = get_text(shared.cache, key);
        CHECK(held && strtoull(held, NULL, 10) == atomic_load(&shared.added[counter]));
        CHECK(atomic_load(&shared.added[counter]) > 0);
    }
    pmc_close(shared.cache);
}

/* Index and heap grow while everybody reads: keys must not vanish meanwhile. */
struct growth {
    struct pmc_cache *cache;
    _Atomic uint64_t written;
    uint64_t total;
};

static void *
write_in_order(void *context)
{
    struct growth *growth = context;

    for (uint64_t key = 0; key < growth->total; key++) {
        CHECK_EQ(pmc_put(growth->cache, &key, sizeof key, &key, sizeof key, NULL),
                 PMC_OK);
        atomic_store(&growth->written, key + 1);
    }
    return NULL;
}

static void *
read_what_is_written(void *context)
{
    struct growth *growth = context;
    struct random random = {.state = (uint64_t)(uintptr_t)&random};
    uint64_t written;

    while ((written = atomic_load(&growth->written)) < growth->total) {
        uint64_t key = written ? random_next(&random) % written : 0;
        uint64_t value = ~key;

        if (!written)
            continue;
        CHECK_EQ(
            pmc_get(growth->cache, &key, sizeof key, &value, sizeof value, 0, NULL),
            PMC_OK);
        CHECK_EQ(value, key);
    }
    return NULL;
}

static void
test_nothing_vanishes_while_the_index_grows(void)
{
    static struct growth growth;
    pthread_t writer;
    pthread_t readers[2];

    growth = (struct growth){.cache = open_shards(PMC_EVICT_S3FIFO, 1, 16u << 20),
                             .total = (uint64_t)ROUNDS_OF(100000)};
    pthread_create(&writer, NULL, write_in_order, &growth);
    for (int i = 0; i < 2; i++)
        pthread_create(&readers[i], NULL, read_what_is_written, &growth);
    pthread_join(writer, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    check_untroubled(growth.cache);
    pmc_close(growth.cache);
}

int
main(void)
{
    RUN(test_s3fifo_never_shows_wrong_bytes);
    RUN(test_lru_never_shows_wrong_bytes);
    RUN(test_no_increment_is_lost);
    RUN(test_nothing_vanishes_while_the_index_grows);
    return check_report();
}
