/*
 * How much of a pool is keys and values, looked at again and again while the pool is
 * written to: at equal steps of what is written, whoever asks and whatever for.
 */
#ifndef PMC_BENCH_LEVEL_H
#define PMC_BENCH_LEVEL_H

#include "pmemcache.h"

#define LEVEL_SAMPLES_A_TURNOVER 20u

struct level {
    struct pmc_cache *cache;
    uint64_t pool_bytes;
    uint64_t next; /* the sample due when so many bytes have been written */
    uint32_t samples;
    double least; /* shares of pool_bytes */
    double sum;
};

static inline struct level
level_begin(struct pmc_cache *cache, uint64_t pool_bytes)
{
    struct level level = {.cache = cache, .pool_bytes = pool_bytes, .least = 1};
    struct pmc_stats stats;

    pmc_stats(cache, &stats);
    level.next = stats.written_bytes + pool_bytes / LEVEL_SAMPLES_A_TURNOVER;
    return level;
}

/* Take a sample if one is due. False: that has been done for so many turnovers. To be
 * asked between any few requests. */
static inline bool
level_goes_on(struct level *level, uint32_t turnovers)
{
    struct pmc_stats stats;
    double share;

    pmc_stats(level->cache, &stats);
    if (stats.written_bytes >= level->next) {
        share = (double)stats.payload_bytes / (double)level->pool_bytes;
        level->sum += share;
        level->least = share < level->least ? share : level->least;
        level->samples++;
        level->next += level->pool_bytes / LEVEL_SAMPLES_A_TURNOVER;
    }
    return level->samples < turnovers * LEVEL_SAMPLES_A_TURNOVER;
}

static inline double
level_mean(const struct level *level)
{
    return level->sum / level->samples;
}

#endif
