/*
 * The hash; see hash.h.
 */
#include "hash.h"

#include <string.h>

#include "base.h"

__extension__ typedef unsigned __int128 u128;

#define SECRET0 UINT64_C(0xa0761d6478bd642f)
#define SECRET1 UINT64_C(0xe7037ed1a0b428db)
#define SECRET2 UINT64_C(0x8ebc6af09c88c6e3)
#define SECRET3 UINT64_C(0x589965cc75374cc3)

static inline uint64_t
fold(uint64_t a, uint64_t b)
{
    u128 product = (u128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
word8(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint64_t
word4(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

/* The last 0-16 bytes as two words; bytes may be counted twice, which is why
 * the size goes into the result too. */
static inline void
tail_words(const uint8_t *bytes, size_t size, uint64_t *a_out, uint64_t *b_out)
{
    if (size >= 8) {
        *a_out = word8(bytes);
        *b_out = word8(bytes + size - 8);
    } else if (size >= 4) {
        *a_out = word4(bytes);
        *b_out = word4(bytes + size - 4);
    } else if (size > 0) {
        *a_out =
            (uint64_t)bytes[0] << 16 | (uint64_t)bytes[size / 2] << 8 | bytes[size - 1];
        *b_out = 0;
    } else {
        *a_out = 0;
        *b_out = 0;
    }
}

RACES_BY_DESIGN uint64_t
hash_bytes(const void *bytes, size_t size, uint64_t seed)
{
    const uint8_t *at = bytes;
    size_t left = size;
    uint64_t a;
    uint64_t b;

    seed ^= SECRET0;
    if (left > 64) {
        uint64_t lane1 = seed;
        uint64_t lane2 = seed;
        uint64_t lane3 = seed;

        do {
            seed = fold(word8(at) ^ SECRET1, word8(at + 8) ^ seed);
            lane1 = fold(word8(at + 16) ^ SECRET2, word8(at + 24) ^ lane1);
            lane2 = fold(word8(at + 32) ^ SECRET3, word8(at + 40) ^ lane2);
            lane3 = fold(word8(at + 48) ^ SECRET0, word8(at + 56) ^ lane3);
            at += 64;
            left -= 64;
        } while (left > 64);
        seed ^= lane1 ^ lane2 ^ lane3;
    }
    while (left > 16) {
        seed = fold(word8(at) ^ SECRET1, word8(at + 8) ^ seed);
        at += 16;
        left -= 16;
    }
    tail_words(at, left, &a, &b);
    return fold(SECRET1 ^ size, fold(a ^ SECRET1, b ^ seed));
}
