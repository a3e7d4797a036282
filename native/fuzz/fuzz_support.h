/*
 * What the fuzz targets share: the input as a stream of choices, values that
 * prove themselves, and stopping when a promise is broken.
 */
#ifndef PMC_FUZZ_SUPPORT_H
#define PMC_FUZZ_SUPPORT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmemcache.h"

/* libFuzzer calls it; nobody else declares it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) require((condition), #condition, __LINE__)

static inline void
require(bool holds, const char *text, int line)
{
    if (holds)
        return;
    fprintf(stderr, "line %d: does not hold: %s\n", line, text);
    abort();
}

/* ---- choices ----------------------------------------------------------- */

struct input {
    const uint8_t *at;
    size_t left;
};

/* The next size bytes, little end first; zeros after the end. */
static inline uint32_t
take(struct input *input, size_t size)
{
    uint32_t number = 0;

    for (size_t i = 0; i < size && input->left > 0; i++) {
        number |= (uint32_t)*input->at++ << (8 * i);
        input->left--;
    }
    return number;
}

/* ---- entries ------------------------------------------------------------ */

#define FUZZ_KEYS 96u
#define FUZZ_VALUE_MAX 8192u

/* The version that each key was put with last; 0: it holds nothing. */
struct fuzz_model {
    uint32_t version[FUZZ_KEYS];
    uint32_t versions; /* given so far */
};

static inline uint32_t
fuzz_value_size(uint32_t version)
{
    return version * 2654435761u % FUZZ_VALUE_MAX;
}

/* Not watched by the fuzzer, to whom it says nothing: most of a run would be spent here. */
#define UNWATCHED __attribute__((no_sanitize("address", "undefined", "coverage")))

UNWATCHED static inline void
fuzz_fill(uint8_t *value, uint32_t size, uint32_t key, uint32_t version)
{
    for (uint32_t at = 0; at < size; at++)
        value[at] = (uint8_t)((version * 31 + key * 17 + at * 7) ^ (at >> 8));
}

static inline size_t
fuzz_key(char text[24], uint32_t key)
{
    return (size_t)snprintf(text, 24, "k%0*u", (int)(key % 16), key);
}

/* Put the next version; on PMC_OK the key holds it. */
static inline enum pmc_status
fuzz_put(struct pmc_cache *cache, struct fuzz_model *model, uint32_t key,
         const struct pmc_put_options *options)
{
    uint8_t value[FUZZ_VALUE_MAX];
    char text[24];
    size_t text_size = fuzz_key(text, key);
    uint32_t version = ++model->versions;
    uint32_t size = fuzz_value_size(version);
    enum pmc_status status;

    fuzz_fill(value, size, key, version);
    status = pmc_put(cache, text, text_size, value, size, options);
    if (status == PMC_OK)
        model->version[key] = version;
    return status;
}

/* A miss, or exactly what was put last. */
static inline enum pmc_status
fuzz_get(struct pmc_cache *cache, const struct fuzz_model *model, uint32_t key)
{
    uint8_t value[FUZZ_VALUE_MAX];
    uint8_t expected[FUZZ_VALUE_MAX];
    char text[24];
    size_t text_size = fuzz_key(text, key);
    uint32_t version = model->version[key];
    struct pmc_found found;
    enum pmc_status status =
        pmc_get(cache, text, text_size, value, sizeof value, 0, &found);

    if (status == PMC_MISS)
        return status;
    REQUIRE(status == PMC_OK);
    REQUIRE(version != 0);
    REQUIRE(found.value_size == fuzz_value_size(version));
    fuzz_fill(expected, (uint32_t)found.value_size, key, version);
    REQUIRE(memcmp(value, expected, found.value_size) == 0);
    return status;
}

static inline enum pmc_status
fuzz_delete(struct pmc_cache *cache, struct fuzz_model *model, uint32_t key)
{
    char text[24];
    enum pmc_status status = pmc_delete(cache, text, fuzz_key(text, key), 0);

    if (status >= 0)
        model->version[key] = 0;
    return status;
}

static inline void
fuzz_walk(struct pmc_cache *cache)
{
    static uint8_t buffer[512 * 1024];
    struct pmc_cursor cursor = {0};
    size_t used;

    while (pmc_keys(cache, &cursor, NULL, 0, buffer, sizeof buffer, &used) == PMC_OK)
        ;
}

static inline void
fuzz_check_sound(struct pmc_cache *cache)
{
    char report[4096];

    if (pmc_check(cache, report, sizeof report) == 0)
        return;
    fputs(report, stderr);
    abort();
}

#endif
