/*
 * Random operations against a plain model, for every policy and several mixes of
 * value sizes in pools that are much too small. What the cache says is compared
 * with what was stored last; what it may have evicted it need not have.
 */
#include "check.h"
#include "pmemcache.h"
#include "support.h"

#define KEYS 1500u
#define LARGEST 150000u

struct known {
    uint64_t identity; /* of the bytes last stored */
    uint32_t size;
    uint64_t deadline_ms; /* of the model's clock; 0: none */
    uint8_t tag;
    bool live; /* false: a hit would be wrong */
};

struct model {
    struct random random;
    struct pmc_cache *cache;
    struct known known[KEYS];
    uint64_t now_ms;
    uint64_t stored;
    uint64_t hits;
    uint64_t dropped;
    uint32_t largest;
    bool evicts;
};

static uint8_t written[LARGEST];
static uint8_t read_back[LARGEST];

struct key {
    char text[64];
    size_t size;
};

static struct key
key_of(uint32_t number)
{
    struct key key;

    key.size = (size_t)snprintf(key.text, sizeof key.text, "key:%u:%.*s", number,
                                (int)(number % 23), "xxxxxxxxxxxxxxxxxxxxxxx");
    return key;
}

static bool
is_expired(const struct model *model, const struct known *known)
{
    return known->deadline_ms != 0 && known->deadline_ms <= model->now_ms;
}

/* Mostly small values, whatever the largest is. */
static uint32_t
pick_size(struct model *model)
{
    uint32_t bits = random_below(&model->random, 18);
    uint32_t limit = (1u << bits) < model->largest ? 1u << bits : model->largest;

    return random_below(&model->random, limit + 1);
}

/* Deadlines are half a jump of the clock from every look at them: the real clock moves
 * too, and further on a busy machine. */
#define JUMP_MS 90000
#define TTL_MS (11 * JUMP_MS + JUMP_MS / 2)
#define TOUCHED_MS (22 * JUMP_MS + JUMP_MS / 2)

static int64_t
pick_ttl(struct model *model)
{
    return random_below(&model->random, 4) ? PMC_TTL_NONE : TTL_MS;
}

static void
model_put(struct model *model, uint32_t number)
{
    struct known *known = &model->known[number];
    struct key key = key_of(number);
    struct pmc_put_options options = {.ttl_ms = pick_ttl(model),
                                      .tag = (uint8_t)random_next(&model->random)};
    uint32_t size = pick_size(model);
    uint64_t identity = random_next(&model->random);
    enum pmc_status status;

    fill_pattern(written, size, identity);
    status = pmc_put(model->cache, key.text, key.size, written, size, &options);
    if (status == PMC_OK) {
        *known = (struct known){.identity = identity,
                                .size = size,
                                .deadline_ms =
                                    options.ttl_ms == PMC_TTL_NONE
                                        ? 0
                                        : model->now_ms + (uint64_t)options.ttl_ms,
                                .tag = options.tag,
                                .live = true};
        model->stored++;
    } else if (status == PMC_DROPPED) {
        known->live = false;
        model->dropped++;
    } else {
        CHECK_EQ(status, PMC_EFULL);
        CHECK(!model->evicts);
    }
}

static void
model_get(struct model *model, uint32_t number)
{
    const struct known *known = &model->known[number];
    struct key key = key_of(number);
    struct pmc_found found;
    enum pmc_status status = pmc_get(model->cache, key.text, key.size, read_back,
                                     sizeof read_back, 0, &found);

    if (status == PMC_MISS) {
        CHECK(model->evicts || !known->live || is_expired(model, known));
        return;
    }
    model->hits++;
    if (!CHECK_EQ(status, PMC_OK))
        return;
    CHECK(known->live && !is_expired(model, known));
    CHECK_EQ(found.value_size, known->size);
    CHECK_EQ(found.tag, known->tag);
    CHECK(has_pattern(read_back, known->size, known->identity));
}

static void
model_delete(struct model *model, uint32_t number)
{
    struct key key = key_of(number);
    enum pmc_status status = pmc_delete(model->cache, key.text, key.size, 0);
    const struct known *known = &model->known[number];
    bool may_be_there = known->live && !is_expired(model, known);

    CHECK(status == PMC_OK || status == PMC_MISS);
    CHECK(status == PMC_MISS || may_be_there);
    CHECK(status == PMC_OK || model->evicts || !may_be_there);
    model->known[number].live = false;
}

static void
model_touch(struct model *model, uint32_t number)
{
    struct key key = key_of(number);

    if (pmc_touch(model->cache, key.text, key.size, TOUCHED_MS, 0) == PMC_OK)
        model->known[number].deadline_ms = model->now_ms + TOUCHED_MS;
}

static void
model_step(struct model *model)
{
    uint32_t number = random_below(&model->random, KEYS);
    uint32_t choice = random_below(&model->random, 1000);

    if (choice < 400)
        model_put(model, number);
    else if (choice < 900)
        model_get(model, number);
    else if (choice < 960)
        model_delete(model, number);
    else if (choice < 990)
        model_touch(model, number);
    else if (choice < 994 && model->evicts)
        pmc_evict(model->cache, NULL, 0, NULL, NULL);
    else if (choice < 999) {
        model->now_ms += JUMP_MS;
        pmc_advance_clock(model->cache, JUMP_MS);
    } else if (random_below(&model->random, 20) == 0) {
        CHECK_EQ(pmc_clear(model->cache), PMC_OK);
        for (uint32_t i = 0; i < KEYS; i++)
            model->known[i].live = false;
    }
}

static void
run_model(uint64_t size_bytes, enum pmc_eviction eviction, uint32_t largest, int steps)
{
    static struct model model;

    model = (struct model){.cache = open_private(size_bytes, eviction),
                           .largest = largest,
                           .evicts = eviction != PMC_EVICT_NONE};
    model.random = random_start("model");
    for (int step = 0; step < steps; step++) {
        model_step(&model);
        if (step % (steps / 8) == 0)
            check_untroubled(model.cache);
    }
    check_untroubled(model.cache);
    CHECK(model.stored > (uint64_t)steps / 100);
    CHECK(model.hits > 0);
    CHECK_EQ(model.dropped, 0);
    pmc_close(model.cache);
}

/* Sizes of pools and of the largest values. */
static const struct mix {
    uint64_t size_bytes;
    uint32_t largest;
    int steps;
} mixes[] = {
    {PMC_POOL_MIN_BYTES, 100, 150000},
    {PMC_POOL_MIN_BYTES, 3000, 150000},
    {1u << 20, 20000, 100000},
    {1u << 20, LARGEST, 50000},
};

static void
run_mixes(enum pmc_eviction eviction)
{
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        run_model(mixes[i].size_bytes, eviction, mixes[i].largest,
                  ROUNDS_OF(mixes[i].steps));
}

static void
test_s3fifo_agrees_with_a_plain_model(void)
{
    run_mixes(PMC_EVICT_S3FIFO);
}

static void
test_lru_agrees_with_a_plain_model(void)
{
    run_mixes(PMC_EVICT_LRU);
}

static void
test_no_eviction_agrees_with_a_plain_model(void)
{
    run_mixes(PMC_EVICT_NONE);
}

int
main(void)
{
    RUN(test_s3fifo_agrees_with_a_plain_model);
    RUN(test_lru_agrees_with_a_plain_model);
    RUN(test_no_eviction_agrees_with_a_plain_model);
    return check_report();
}
