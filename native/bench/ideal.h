/*
 * The policies as one would write them without a heap, processes or a budget
 * for memory: exact queues and exact ghosts over keys 0 .. keys - 1. What the
 * engine reaches is measured against these.
 *
 * s3fifo: S3-FIFO (Yang et al., SOSP 2023) whose small queue adapts. Its target
 * starts at 10 % of the capacity and stays within 5-90 %; a miss on a ghost of
 * the small queue (these reach back 0.9 capacities) raises it, a miss on a
 * ghost of the main queue (0.5) lowers it, by four times the entry's size,
 * times the ratio of the ghosts where the other ones are more.
 * lru: least recently used.
 */
#ifndef PMC_BENCH_IDEAL_H
#define PMC_BENCH_IDEAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum ideal_queue {
    IDEAL_NOWHERE,
    IDEAL_SMALL,
    IDEAL_MAIN,
    IDEAL_SMALL_GHOST,
    IDEAL_MAIN_GHOST,
    IDEAL_QUEUES,
};

#define IDEAL_NONE UINT32_MAX
#define IDEAL_PROMOTE_HEAT 2
#define IDEAL_HEAT_MAX 3

struct ideal_key {
    uint32_t older;
    uint32_t younger;
    uint32_t size;
    uint8_t queue;
    uint8_t heat;
};

struct ideal {
    struct ideal_key *keys;
    uint64_t capacity;
    double small_target;
    bool is_lru;
    uint64_t sizes[IDEAL_QUEUES];
    uint64_t limits[IDEAL_QUEUES]; /* of the ghosts */
    uint32_t oldest[IDEAL_QUEUES];
    uint32_t youngest[IDEAL_QUEUES];
};

static inline void
ideal_push(struct ideal *ideal, enum ideal_queue queue, uint32_t number)
{
    struct ideal_key *key = &ideal->keys[number];

    key->queue = (uint8_t)queue;
    key->older = ideal->youngest[queue];
    key->younger = IDEAL_NONE;
    if (key->older != IDEAL_NONE)
        ideal->keys[key->older].younger = number;
    else
        ideal->oldest[queue] = number;
    ideal->youngest[queue] = number;
    ideal->sizes[queue] += key->size;
}

static inline void
ideal_remove(struct ideal *ideal, uint32_t number)
{
    struct ideal_key *key = &ideal->keys[number];
    uint8_t queue = key->queue;

    if (key->older != IDEAL_NONE)
        ideal->keys[key->older].younger = key->younger;
    else
        ideal->oldest[queue] = key->younger;
    if (key->younger != IDEAL_NONE)
        ideal->keys[key->younger].older = key->older;
    else
        ideal->youngest[queue] = key->older;
    ideal->sizes[queue] -= key->size;
    key->queue = IDEAL_NOWHERE;
}

static inline void
ideal_make_ghost(struct ideal *ideal, enum ideal_queue ghosts, uint32_t number)
{
    ideal_push(ideal, ghosts, number);
    while (ideal->sizes[ghosts] > ideal->limits[ghosts])
        ideal_remove(ideal, ideal->oldest[ghosts]);
}

/* Evict from the small queue; when all of it moves on, from nowhere. */
static inline void
ideal_evict_small(struct ideal *ideal)
{
    while (ideal->oldest[IDEAL_SMALL] != IDEAL_NONE) {
        uint32_t number = ideal->oldest[IDEAL_SMALL];

        ideal_remove(ideal, number);
        if (ideal->keys[number].heat < IDEAL_PROMOTE_HEAT) {
            ideal_make_ghost(ideal, IDEAL_SMALL_GHOST, number);
            return;
        }
        ideal->keys[number].heat = 0;
        ideal_push(ideal, IDEAL_MAIN, number);
    }
}

static inline void
ideal_evict_main(struct ideal *ideal)
{
    for (;;) {
        uint32_t number = ideal->oldest[IDEAL_MAIN];

        ideal_remove(ideal, number);
        if (ideal->is_lru)
            return;
        if (ideal->keys[number].heat == 0) {
            ideal_make_ghost(ideal, IDEAL_MAIN_GHOST, number);
            return;
        }
        ideal->keys[number].heat--;
        ideal_push(ideal, IDEAL_MAIN, number);
    }
}

static inline double
ideal_at_least(double value, double least)
{
    return value > least ? value : least;
}

static inline void
ideal_adapt(struct ideal *ideal, const struct ideal_key *ghost)
{
    double capacity = (double)ideal->capacity;
    double small = ideal_at_least((double)ideal->sizes[IDEAL_SMALL_GHOST], 1);
    double main_ = ideal_at_least((double)ideal->sizes[IDEAL_MAIN_GHOST], 1);
    double target = ideal->small_target;

    if (ghost->queue == IDEAL_SMALL_GHOST)
        target += 4 * ideal_at_least(main_ / small, 1) * ghost->size;
    else
        target -= 4 * ideal_at_least(small / main_, 1) * ghost->size;
    if (target > 0.9 * capacity)
        target = 0.9 * capacity;
    ideal->small_target = ideal_at_least(target, 0.05 * capacity);
}

static inline bool
ideal_make(struct ideal *ideal, uint64_t keys, uint64_t capacity, bool is_lru)
{
    *ideal = (struct ideal){
        .keys = calloc(keys, sizeof *ideal->keys),
        .capacity = capacity,
        .small_target = ideal_at_least(0.1 * (double)capacity, 1),
        .is_lru = is_lru,
        .limits = {[IDEAL_SMALL_GHOST] = capacity * 9 / 10,
                   [IDEAL_MAIN_GHOST] = capacity / 2},
    };
    for (int queue = 0; queue < IDEAL_QUEUES; queue++) {
        ideal->oldest[queue] = IDEAL_NONE;
        ideal->youngest[queue] = IDEAL_NONE;
    }
    return ideal->keys != NULL;
}

static inline void
ideal_free(struct ideal *ideal)
{
    free(ideal->keys);
}

/* A request for a key, which is stored when it was a miss. Was it a hit? */
static inline bool
ideal_request(struct ideal *ideal, uint32_t number, uint32_t size)
{
    struct ideal_key *key = &ideal->keys[number];
    bool was_ghost = key->queue == IDEAL_SMALL_GHOST || key->queue == IDEAL_MAIN_GHOST;

    if (key->queue == IDEAL_SMALL || key->queue == IDEAL_MAIN) {
        if (key->heat < IDEAL_HEAT_MAX)
            key->heat++;
        if (ideal->is_lru) {
            ideal_remove(ideal, number);
            ideal_push(ideal, IDEAL_MAIN, number);
        }
        return true;
    }
    if (size > ideal->capacity)
        return false;
    if (was_ghost) {
        ideal_adapt(ideal, key);
        ideal_remove(ideal, number);
    }
    key->size = size;
    while (ideal->sizes[IDEAL_SMALL] + ideal->sizes[IDEAL_MAIN] + size >
           ideal->capacity) {
        bool from_small = (double)ideal->sizes[IDEAL_SMALL] > ideal->small_target;

        if (from_small || ideal->oldest[IDEAL_MAIN] == IDEAL_NONE)
            ideal_evict_small(ideal);
        else
            ideal_evict_main(ideal);
    }
    key->heat = 0;
    ideal_push(ideal, was_ghost || ideal->is_lru ? IDEAL_MAIN : IDEAL_SMALL, number);
    return false;
}

#endif
