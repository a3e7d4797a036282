/*
 * The hash; see hash.h.
 */
#include "hash.h"

#include "base.h"

#define SECRET2 UINT64_C(0x8ebc6af09c88c6e3)
#define SECRET3 UINT64_C(0x589965cc75374cc3)

RACES_BY_DESIGN uint64_t
hash_bytes(const void *bytes, size_t size, uint64_t seed)
{
    const uint8_t *at = bytes;
    size_t left = size;

    seed ^= HASH_SECRET0;
    if (left > 64) {
        uint64_t lane1 = seed;
        uint64_t lane2 = seed;
        uint64_t lane3 = seed;

        do {
            seed = hash_fold(hash_word8(at) ^ HASH_SECRET1, hash_word8(at + 8) ^ seed);
            lane1 =
                hash_fold(hash_word8(at + 16) ^ SECRET2, hash_word8(at + 24) ^ lane1);
            lane2 =
                hash_fold(hash_word8(at + 32) ^ SECRET3, hash_word8(at + 40) ^ lane2);
            lane3 = hash_fold(hash_word8(at + 48) ^ HASH_SECRET0,
                              hash_word8(at + 56) ^ lane3);
            at += 64;
            left -= 64;
        } while (left > 64);
        seed ^= lane1 ^ lane2 ^ lane3;
    }
    while (left > 16) {
        seed = hash_fold(hash_word8(at) ^ HASH_SECRET1, hash_word8(at + 8) ^ seed);
        at += 16;
        left -= 16;
    }
    return hash_tail(at, left, size, seed);
}
