/*
 * The hash: deterministic, sensitive to every bit, to the size and to the seed,
 * and even enough for buckets and tags.
 */
#include "hash.h"

#include "check.h"
#include "support.h"

#define LONGEST 200

static void
test_every_bit_counts_at_every_size(void)
{
    uint8_t bytes[LONGEST];

    fill_pattern(bytes, sizeof bytes, 7);
    for (size_t size = 1; size <= LONGEST; size++) {
        uint64_t hash = hash_bytes(bytes, size, 1);

        for (size_t bit = 0; bit < size * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK(hash_bytes(bytes, size, 1) != hash);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        CHECK_EQ(hash_bytes(bytes, size, 1), hash);
    }
}

/* Planted bug: a tail that is read twice makes "aa" and "aaa" the same. */
static void
test_sizes_of_equal_bytes_differ(void)
{
    uint8_t bytes[LONGEST] = {0};
    uint64_t hashes[LONGEST + 1];

    for (size_t size = 0; size <= LONGEST; size++) {
        hashes[size] = hash_bytes(bytes, size, 1);
        for (size_t other = 0; other < size; other++)
            CHECK(hashes[other] != hashes[size]);
    }
}

/* Bytes behind the end must not count: they are another entry's. */
static void
test_bytes_outside_do_not_count(void)
{
    for (size_t size = 0; size <= LONGEST; size++) {
        uint8_t *alone = malloc(size + 1); /* AddressSanitizer watches the end */
        uint8_t inside[LONGEST + 2];

        if (!alone)
            abort();
        fill_pattern(alone, size, 3);
        memset(inside, 0xee, sizeof inside);
        memcpy(inside + 1, alone, size);
        CHECK_EQ(hash_bytes(alone, size, 5), hash_bytes(inside + 1, size, 5));
        free(alone);
    }
}

static void
test_seeds_make_other_hashes(void)
{
    for (uint64_t seed = 1; seed < 100; seed++)
        CHECK(hash_bytes("key", 3, seed) != hash_bytes("key", 3, seed - 1));
}

/* Both halves choose something: the low one a bucket, the high one a tag. */
static void
test_buckets_and_tags_are_even(void)
{
    enum { KEYS = 64000, BOXES = 64 };
    unsigned low[BOXES] = {0};
    unsigned high[BOXES] = {0};

    for (int i = 0; i < KEYS; i++) {
        char key[32];
        size_t size = (size_t)snprintf(key, sizeof key, "user:%d:profile", i);
        uint64_t hash = hash_bytes(key, size, 9);

        low[hash % BOXES]++;
        high[hash >> 58]++;
    }
    for (int box = 0; box < BOXES; box++) {
        /* 1000 are expected with a deviation of 32; seven of them are allowed. */
        CHECK(low[box] > 776 && low[box] < 1224);
        CHECK(high[box] > 776 && high[box] < 1224);
    }
}

int
main(void)
{
    RUN(test_every_bit_counts_at_every_size);
    RUN(test_sizes_of_equal_bytes_differ);
    RUN(test_bytes_outside_do_not_count);
    RUN(test_seeds_make_other_hashes);
    RUN(test_buckets_and_tags_are_even);
    return check_report();
}
