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

uint64_t hash_bytes(const void *bytes, size_t size, uint64_t seed);

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
