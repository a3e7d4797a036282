/*
 * Fuzz target: a sequence of operations on a sound pool, against a model that
 * knows what each key may hold. Evicted entries may be missing; nothing may be
 * wrong, and the pool is sound whenever one looks.
 *
 * Input: a byte for the policy, then operations of an opcode and arguments.
 */
#include "fuzz_support.h"

#define COUNTERS 4u

struct counters {
    int64_t sum[COUNTERS];
};

static struct pmc_cache *
open_for(uint8_t choice)
{
    struct pmc_options options;
    struct pmc_cache *cache;

    pmc_options_default(&options);
    options.size_bytes = PMC_POOL_MIN_BYTES;
    options.eviction = choice % 3;
    REQUIRE(pmc_open(&options, &cache, NULL) == PMC_OK);
    return cache;
}

static void
put_with_condition(struct pmc_cache *cache, struct fuzz_model *model, uint32_t key,
                   uint8_t condition)
{
    struct pmc_put_options options = {.ttl_ms = PMC_TTL_NONE,
                                      .condition = condition % 3};
    enum pmc_status status = fuzz_put(cache, model, key, &options);

    /* Refused for want of room: whatever was there may be gone. */
    REQUIRE(status == PMC_OK || status == PMC_UNMET || status == PMC_DROPPED ||
            status == PMC_EFULL);
    if (status == PMC_DROPPED)
        model->version[key] = 0;
    if (status == PMC_OK && options.condition == PMC_ALWAYS)
        REQUIRE(fuzz_get(cache, model, key) == PMC_OK);
}

/* Time passes; what had a deadline may be gone, and is when the deadline passed. */
static void
put_for_a_moment(struct pmc_cache *cache, struct fuzz_model *model, uint32_t key)
{
    struct pmc_put_options options = {.ttl_ms = 1000};

    if (fuzz_put(cache, model, key, &options) != PMC_OK)
        return;
    pmc_advance_clock(cache, 2000);
    REQUIRE(fuzz_get(cache, model, key) == PMC_MISS);
    model->version[key] = 0;
}

static void
evict_one(struct pmc_cache *cache)
{
    static char key[PMC_KEY_MAX_BYTES];
    size_t size;

    REQUIRE(pmc_evict(cache, NULL, 0, key, &size) >= 0);
}

/* Counters have keys of their own. Eviction may have taken one; none is ever wrong. */
static void
add_to_counter(struct pmc_cache *cache, struct counters *counters, uint32_t key)
{
    const char text[2] = {'n', (char)(key % COUNTERS)};
    struct pmc_incr_options options = {
        .create = true, .initial = 1000, .ttl_ms = PMC_TTL_NONE};
    int64_t *expected = &counters->sum[key % COUNTERS];
    char digits[24] = {0};
    int64_t sum;
    enum pmc_status status = pmc_incr(cache, text, sizeof text, key, &options, &sum);

    REQUIRE(status == PMC_OK || status == PMC_DROPPED || status == PMC_EFULL);
    if (status != PMC_OK)
        return;
    REQUIRE(sum == *expected + key || sum == 1000 + (int64_t)key);
    *expected = sum;
    REQUIRE(pmc_get(cache, text, sizeof text, digits, sizeof digits - 1, 0, NULL) ==
                PMC_OK &&
            strtoll(digits, NULL, 10) == sum);
}

/* What one read says, whether alone, from the middle, or with others. */
static void
read_otherwise(struct pmc_cache *cache, const struct fuzz_model *model, uint32_t key)
{
    uint8_t value[FUZZ_VALUE_MAX];
    uint8_t expected[FUZZ_VALUE_MAX];
    char text[24];
    size_t text_size = fuzz_key(text, key);
    uint32_t size = fuzz_value_size(model->version[key]);
    uint32_t offset = size / 3;
    struct pmc_info info;
    struct pmc_found found;
    enum pmc_status status = pmc_info(cache, text, text_size, &info);

    REQUIRE(status == pmc_exists(cache, text, text_size));
    REQUIRE(status ==
            pmc_get(cache, text, text_size, value, sizeof value, offset, &found));
    if (status != PMC_OK)
        return;
    REQUIRE(info.value_size == size && found.value_size == size);
    REQUIRE(info.generation == found.generation);
    fuzz_fill(expected, size, key, model->version[key]);
    REQUIRE(memcmp(value, expected + offset, size - offset) == 0);
}

static void
operate(struct pmc_cache *cache, struct fuzz_model *model, struct counters *counters,
        struct input *input)
{
    uint8_t code = (uint8_t)take(input, 1);
    uint32_t key = take(input, 1) % FUZZ_KEYS;
    char text[24];

    switch (code % 16) {
    case 0:
        REQUIRE(fuzz_delete(cache, model, key) >= 0);
        REQUIRE(fuzz_get(cache, model, key) == PMC_MISS);
        break;
    case 1:
        evict_one(cache);
        break;
    case 2:
        put_for_a_moment(cache, model, key);
        break;
    case 3:
        fuzz_walk(cache);
        fuzz_check_sound(cache);
        break;
    case 4:
        REQUIRE(pmc_touch(cache, text, fuzz_key(text, key), PMC_TTL_NONE, 0) >= 0);
        break;
    case 5:
        if (key != 0)
            break; /* seldom: what follows begins with an empty pool */
        REQUIRE(pmc_clear(cache) == PMC_OK);
        memset(model->version, 0, sizeof model->version);
        break;
    case 10:
        add_to_counter(cache, counters, key);
        break;
    case 11:
        read_otherwise(cache, model, key);
        break;
    case 6:
    case 7:
    case 8:
        fuzz_get(cache, model, key);
        break;
    case 9:
        put_with_condition(cache, model, key, (uint8_t)take(input, 1));
        break;
    default:
        put_with_condition(cache, model, key, PMC_ALWAYS);
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    struct fuzz_model model = {{0}, 0};
    struct counters counters = {{0}};
    struct pmc_cache *cache = open_for((uint8_t)take(&input, 1));

    while (input.left > 0)
        operate(cache, &model, &counters, &input);
    for (uint32_t key = 0; key < FUZZ_KEYS; key++)
        fuzz_get(cache, &model, key);
    fuzz_check_sound(cache);
    pmc_close(cache);
    return 0;
}
