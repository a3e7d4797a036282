/*
 * A fast 64-bit hash of bytes under a seed, for keys and for checksums.
 *
 * The construction is the multiply-and-fold of wyhash (Wang Yi, 2019): 128-bit
 * products of input words and secrets, folded by xor. The seed is random per
 * pool, so keys cannot be chosen to collide. Not a cryptographic hash.
 */
#ifndef PMC_HASH_H
#define PMC_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_SECRET0 UINT64_C(0xa0761d6478bd642f)
#define HASH_SECRET1 UINT64_C(0xe7037ed1a0b428db)

static inline uint64_t
hash_fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 u128;
    u128 product = (u128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
hash_word8(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint64_t
hash_word4(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

/* The last 0-16 bytes as two words; bytes may be counted twice, which is why
 * the size goes into the result too. */
static inline void
hash_tail_words(const uint8_t *bytes, size_t size, uint64_t *a_out, uint64_t *b_out)
{
    if (size >= 8) {
        *a_out = hash_word8(bytes);
        *b_out = hash_word8(bytes + size - 8);
    } else if (size >= 4) {
        *a_out = hash_word4(bytes);
        *b_out = hash_word4(bytes + size - 4);
    } else if (size > 0) {
        *a_out =
            (uint64_t)bytes[0] << 16 | (uint64_t)bytes[size / 2] << 8 | bytes[size - 1];
        *b_out = 0;
    } else {
        *a_out = 0;
        *b_out = 0;
    }
}

/* What is left of size bytes, 16 at most, under the state of those before. */
static inline uint64_t
hash_tail(const uint8_t *bytes, size_t left, size_t size, uint64_t state)
{
    uint64_t a;
    uint64_t b;

    hash_tail_words(bytes, left, &a, &b);
    return hash_fold(HASH_SECRET1 ^ size, hash_fold(a ^ HASH_SECRET1, b ^ state));
}

uint64_t hash_bytes(const void *bytes, size_t size, uint64_t seed);

/* The same; without a call for what most keys are. */
static inline uint64_t
hash_short_bytes(const void *bytes, size_t size, uint64_t seed)
{
    return size <= 16 ? hash_tail(bytes, size, size, seed ^ HASH_SECRET0)
                      : hash_bytes(bytes, size, seed);
}

/* Spread the bits of one word. */
static inline uint64_t
hash_word(uint64_t word)
{
    word ^= word >> 32;
    word *= UINT64_C(0xd6e8feb86659fd93);
    word ^= word >> 32;
    word *= UINT64_C(0xd6e8feb86659fd93);
    return word ^ (word >> 32);
}

#endif
