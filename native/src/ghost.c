/*
 * Ghosts; see ghost.h.
 */
#include "ghost.h"

#include <string.h>

#include "hash.h"

/* The length of a queue, of the capacity, and in how many ticks it is measured. */
#define SMALL_GHOSTS_PERCENT 90u
#define MAIN_GHOSTS_PERCENT 50u
#define GHOST_TICKS 48u

/* Ticks are told apart modulo 256, five lengths of the queue: by then the sets have
 * been swept, if they are not very many more than the ghosts. One is swept for each
 * new ghost, and for large ones, of which there are fewer a length, some more. */
#define SWEEP_BLOCKS 128u
#define MORE_SWEEPS_MOST 3u

/* A place: fingerprint 15 | was in main 1 | tick 8 | size 8. */
#define PLACE_FINGERPRINT 0xfffe0000u
#define PLACE_MAIN 0x00010000u
#define PLACE_TICK_SHIFT 8
static_assert(GHOST_TICKS_KEPT < 256, "a tick has eight bits");

/* ---- the lengths of the queues ---------------------------------------- */

/* A size in eight bits, to a sixteenth: four significant bits. */
static uint32_t
size_code(uint32_t blocks)
{
    uint32_t log;

    if (blocks < 16)
        return blocks;
    log = 31u - (uint32_t)__builtin_clz(blocks);
    return (log - 2) * 8 + (blocks >> (log - 3) & 7);
}

static uint32_t
size_decoded(uint32_t code)
{
    if (code < 16)
        return code;
    return (8 | code % 8) << (code / 8 - 1);
}

static struct ghost_queue *
ghost_queue_of(const struct shard *shard, bool from_main)
{
    return &shard->header->ghost_queues[from_main];
}

static uint64_t
length_percent(bool from_main)
{
    return from_main ? MAIN_GHOSTS_PERCENT : SMALL_GHOSTS_PERCENT;
}

/* How many ticks but the last are alive. */
static uint32_t
ticks_alive(const struct ghost_queue *ghosts)
{
    uint32_t ticks = ghosts->now - ghosts->oldest;

    return ticks < GHOST_TICKS_KEPT ? ticks : 0;
}

static uint32_t *
tick_blocks(struct ghost_queue *ghosts, uint32_t tick)
{
    return &ghosts->tick_blocks[tick % GHOST_TICKS_KEPT];
}

static void
forget_oldest_tick(struct ghost_queue *ghosts)
{
    ghosts->blocks -= min_u64(*tick_blocks(ghosts, ghosts->oldest), ghosts->blocks);
    ghosts->oldest++;
}

/* Count a new ghost; returns its tick. */
static uint32_t
ghost_queue_push(const struct shard *shard, bool from_main, uint32_t blocks)
{
    struct ghost_queue *ghosts = ghost_queue_of(shard, from_main);
    uint64_t limit =
        max_u64(shard_memory_blocks(shard), 1) * length_percent(from_main) / 100;

    if (*tick_blocks(ghosts, ghosts->now) >= limit / GHOST_TICKS) {
        if (ticks_alive(ghosts) == GHOST_TICKS_KEPT - 1)
            forget_oldest_tick(ghosts);
        ghosts->now++;
        *tick_blocks(ghosts, ghosts->now) = 0;
    }
    *tick_blocks(ghosts, ghosts->now) += blocks;
    ghosts->blocks += blocks;
    /* Half a tick too long is as good as half a tick too short. */
    while (ticks_alive(ghosts) > 0 &&
           ghosts->blocks - *tick_blocks(ghosts, ghosts->oldest) / 2 > limit)
        forget_oldest_tick(ghosts);
    return ghosts->now;
}

static void
ghost_queue_remove(struct shard *shard, uint32_t place)
{
    struct ghost_queue *ghosts = ghost_queue_of(shard, (place & PLACE_MAIN) != 0);
    uint32_t age = (ghosts->now - (place >> PLACE_TICK_SHIFT)) & 0xff;
    uint32_t *tick = tick_blocks(ghosts, ghosts->now - age);
    uint32_t blocks = (uint32_t)min_u64(size_decoded(place & 0xff), *tick);

    *tick -= blocks;
    ghosts->blocks -= min_u64(blocks, ghosts->blocks);
}

/* ---- finding ----------------------------------------------------------- */

/* By what the living are told from the dead, of the small and of the main queue. */
struct ghost_clock {
    uint32_t now[2];
    uint32_t alive[2]; /* ticks */
};

static inline struct ghost_clock
ghost_clock_of(const struct shard *shard)
{
    const struct ghost_queue *small = ghost_queue_of(shard, false);
    const struct ghost_queue *main = ghost_queue_of(shard, true);

    return (struct ghost_clock){{small->now, main->now},
                                {ticks_alive(small), ticks_alive(main)}};
}

static inline uint32_t
place_age(const struct ghost_clock *clock, uint32_t place)
{
    return (clock->now[(place & PLACE_MAIN) != 0] - (place >> PLACE_TICK_SHIFT)) & 0xff;
}

static inline bool
place_is_alive(const struct ghost_clock *clock, uint32_t place)
{
    return place != 0 &&
           place_age(clock, place) <= clock->alive[(place & PLACE_MAIN) != 0];
}

static struct ghost_set *
ghost_set_of(const struct shard *shard, uint64_t mixed)
{
    return &shard->ghosts[(mixed & UINT32_MAX) * ghost_sets(shard) >> 32];
}

static uint32_t
place_fingerprint(uint64_t mixed)
{
    uint32_t bits = (uint32_t)(mixed >> 32) & PLACE_FINGERPRINT;

    return bits ? bits : PLACE_FINGERPRINT;
}

static struct ghost
ghost_at(const struct ghost_clock *clock, uint32_t *place)
{
    bool was_main = (*place & PLACE_MAIN) != 0;
    uint64_t tick = SHARE_UNIT / 100 * length_percent(was_main) / GHOST_TICKS;

    return (struct ghost){
        .place = place, .was_main = was_main, .depth = tick * place_age(clock, *place)};
}

struct ghost
ghost_find(const struct shard *shard, uint64_t hash)
{
    uint64_t mixed = hash_word(hash);
    struct ghost_set *set;

    if (ghost_sets(shard) == 0)
        return (struct ghost){0};
    set = ghost_set_of(shard, mixed);
    for (uint32_t way = 0; way < GHOST_WAYS; way++) {
        uint32_t *place = &set->place[way];
        struct ghost_clock clock;

        if ((*place & PLACE_FINGERPRINT) != place_fingerprint(mixed))
            continue;
        clock = ghost_clock_of(shard);
        if (place_is_alive(&clock, *place))
            return ghost_at(&clock, place);
    }
    return (struct ghost){0};
}

void
ghost_foresee(const struct shard *shard, uint64_t hash)
{
    if (ghost_sets(shard) != 0)
        __builtin_prefetch(ghost_set_of(shard, hash_word(hash)), 1);
}

void
ghost_remove_locked(struct shard *shard, const struct ghost *ghost)
{
    ghost_queue_remove(shard, *ghost->place);
    *ghost->place = 0;
}

/* ---- adding ------------------------------------------------------------ */

/* Where a new ghost may go: a place that is free or dead, else the oldest. */
static uint32_t *
ghost_place(const struct shard *shard, const struct ghost_clock *clock, uint64_t mixed)
{
    struct ghost_set *set = ghost_set_of(shard, mixed);
    uint32_t *oldest = &set->place[0];

    for (uint32_t way = 0; way < GHOST_WAYS; way++) {
        uint32_t *place = &set->place[way];

        if (!place_is_alive(clock, *place))
            return place;
        if (place_age(clock, *place) > place_age(clock, *oldest))
            oldest = place;
    }
    return oldest;
}

/* Free the places of the dead before their ticks' numbers come round. */
static void
ghost_sweep(struct shard *shard, const struct ghost_clock *clock, uint32_t blocks)
{
    uint32_t *next = &shard->header->ghost_sweep;
    uint32_t sweeps = 1 + (uint32_t)min_u64(blocks / SWEEP_BLOCKS, MORE_SWEEPS_MOST);

    for (uint32_t turn = 0; turn < sweeps; turn++) {
        uint32_t *places;

        if (*next >= ghost_sets(shard))
            *next = 0;
        places = shard->ghosts[(*next)++].place;
        for (uint32_t way = 0; way < GHOST_WAYS; way++)
            if (!place_is_alive(clock, places[way]))
                places[way] = 0;
    }
    __builtin_prefetch(&shard->ghosts[*next], 1); /* for the next ghost */
}

void
ghost_add_locked(struct shard *shard, uint64_t hash, bool from_main, uint32_t blocks)
{
    struct ghost_clock clock = ghost_clock_of(shard);
    uint64_t mixed = hash_word(hash);
    uint32_t code = size_code(blocks);
    uint32_t tick;
    uint32_t *place;

    if (ghost_sets(shard) == 0)
        return;
    ghost_sweep(shard, &clock, blocks);
    place = ghost_place(shard, &clock, mixed);
    if (place_is_alive(&clock, *place))
        ghost_queue_remove(shard, *place);
    tick = ghost_queue_push(shard, from_main, size_decoded(code));
    *place = place_fingerprint(mixed) | (from_main ? PLACE_MAIN : 0) |
             (tick & 0xff) << PLACE_TICK_SHIFT | code;
}

/* ---- the whole --------------------------------------------------------- */

void
ghost_format_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;

    memset(header->ghost_queues, 0, sizeof header->ghost_queues);
    header->ghost_sweep = 0;
    for (uint32_t set = 0; set < ghost_sets(shard); set++)
        shard->ghosts[set] = (struct ghost_set){{0}};
}

uint64_t
ghost_blocks(const struct shard *shard, bool from_main)
{
    return ghost_queue_of(shard, from_main)->blocks;
}
