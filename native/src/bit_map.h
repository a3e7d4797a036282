/*
 * A bit a number, in ordinary memory: sets of blocks, slots or buckets.
 */
#ifndef PMC_BIT_MAP_H
#define PMC_BIT_MAP_H

#include <stdlib.h>

#include "base.h"

struct bit_map {
    uint64_t *words;
    uint32_t bits;
};

/* All bits are clear. False: no memory. free(map->words) in both cases. */
static inline bool
bit_map_make(struct bit_map *map, uint32_t bits)
{
    map->words = calloc((size_t)bits / 64 + 1, sizeof(uint64_t));
    map->bits = bits;
    return map->words != NULL;
}

/* What is beyond the map is not in it. */
static inline bool
bit_map_has(const struct bit_map *map, uint32_t number)
{
    return number < map->bits && (map->words[number / 64] >> (number % 64) & 1) != 0;
}

static inline void
bit_map_add(struct bit_map *map, uint32_t number)
{
    assert(number < map->bits);
    map->words[number / 64] |= UINT64_C(1) << (number % 64);
}

static inline void
bit_map_remove(struct bit_map *map, uint32_t number)
{
    assert(number < map->bits);
    map->words[number / 64] &= ~(UINT64_C(1) << (number % 64));
}

/* Ask the processor for the bit of a number, which may be any. */
static inline void
bit_map_prefetch(const struct bit_map *map, uint32_t number)
{
    __builtin_prefetch(&map->words[number / 64], 1);
}

/* The first one at or after this number; map->bits when there is none. */
static inline uint32_t
bit_map_next(const struct bit_map *map, uint32_t number)
{
    while (number < map->bits) {
        uint64_t word = map->words[number / 64] >> (number % 64);

        if (word)
            return number + (uint32_t)__builtin_ctzll(word);
        number = (number / 64 + 1) * 64;
    }
    return map->bits;
}

#endif
