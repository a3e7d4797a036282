/*
 * What shard_room.c, which decides which entries give way, and shard_window.c,
 * which finds and empties windows, share. All need the shard lock.
 */
#ifndef PMC_SHARD_ROOM_H
#define PMC_SHARD_ROOM_H

#include "shard.h"

/* Room that is to be made, and on what terms. */
struct room {
    uint32_t blocks;
    uint32_t evict_price; /* of a block */
    uint32_t move_price;
    uint64_t small_most; /* blocks of a victim that need not wait */
    uint64_t free_most;  /* blocks free with a victim that need not wait */
    uint64_t home_most;  /* blocks free when others are still evicted for a home */
    bool homes_in_order; /* what makes homes goes by its order, not by its size */
    const struct write_request *request;
};

/* A run of neighbours. */
struct window {
    uint32_t start; /* blocks [start, end) */
    uint32_t end;
    uint32_t going; /* blocks of candidates in it, if it was scanned */
    uint64_t cost;  /* of emptying it */
};

/* ---- shard_room.c: candidates ---- */

/* How many candidates are worth a look for an entry of this size. */
uint32_t room_look_ahead(uint32_t blocks);
/* The candidate after this one, proposing another at the end. */
uint32_t room_next_candidate(struct shard *shard, uint32_t slot);
/* May a victim of this size go for this room? */
bool room_may_go(const struct shard *shard, const struct room *room, uint32_t blocks);

enum pmc_status room_evict_slot(struct shard *shard, uint32_t slot,
                                const struct write_request *request);
/* Evict a candidate; the first one in order may have been passed over. */
enum pmc_status room_evict_candidate(struct shard *shard, uint32_t slot, bool passes,
                                     const struct room *room);
/* Evict the first candidate that may go; the smallest of many if none may. */
enum pmc_status room_evict_in_order(struct shard *shard, const struct room *room);

/* ---- shard_window.c ---- */

/* The cost of what is out of the question. */
#define WINDOW_FORBIDDEN (UINT64_C(1) << 40)

/* The cheapest window around one of the largest holes or of the candidates, if it
 * costs less than cost_limit; else PMC_DROPPED. */
enum pmc_status window_find(struct shard *shard, const struct room *room,
                            uint64_t cost_limit, struct window *window_out);
/* Of all windows in a stretch of the heap that begins at the first candidate,
 * the cheapest: for entries that take the place of many others. */
enum pmc_status window_scan(struct shard *shard, const struct room *room,
                            struct window *window_out);
enum pmc_status window_empty(struct shard *shard, const struct window *window,
                             const struct room *room);

#endif
