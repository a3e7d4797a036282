/*
 * The eviction policy: in what order entries give way. One struct of functions,
 * one file per policy; all need the shard lock.
 *
 * A policy does not evict. It proposes candidates, oldest first, which stay in
 * the cache until the shard takes one of them (which one, decides the room that
 * it leaves), and it is told what became of every entry.
 */
#ifndef PMC_EVICT_H
#define PMC_EVICT_H

#include "layout.h"

/* Queue numbers. */
#define QUEUE_CANDIDATE 1u
#define QUEUE_SMALL 2u
#define QUEUE_MAIN 3u
#define QUEUE_LRU_FIRST 4u
#define LRU_CLASSES (QUEUES - QUEUE_LRU_FIRST)
static_assert(QUEUES <= STATE_QUEUE + 1, "queue numbers fit the state byte");

/* What a reader's hit stores in the heat byte. */
enum evict_bump {
    BUMP_COUNT, /* one more, at most HEAT_MAX */
    BUMP_CLOCK, /* shard_header.lru_clock */
};
#define HEAT_MAX 3u

/* An entry that was used since its turn came last is passed over, and moves on. So many
 * are in one call at most, a fraction of a millisecond: where all of a large shard is in
 * use, one put would look at all of it while others wait. The next in order is proposed
 * then, used or not. */
#define PASSED_MOST 1024u

struct evict_policy {
    const char *name;
    enum evict_bump bump;
    /* A key that is not in the cache is about to be stored: does the policy
     * remember it? Called once a put, before anything is evicted for it. */
    bool (*recall)(struct shard *shard, uint64_t hash, uint32_t blocks);
    /* Ask the processor for what recall() and evicted() will look at. Needs no lock. */
    void (*foresee)(const struct shard *shard, uint64_t hash);
    /* Put a new entry into a queue; remembered is what recall() said. */
    void (*admit)(struct shard *shard, uint32_t slot, uint32_t blocks, bool remembered);
    /* Move the next victim to QUEUE_CANDIDATE and return it; NO_SLOT when no
     * entry is left outside that queue. */
    uint32_t (*propose)(struct shard *shard);
    /* The same ahead of its turn, for one of so many blocks or more that has not been
     * used of late; NO_SLOT when none is near. */
    uint32_t (*propose_early)(struct shard *shard, uint32_t least_blocks);
    /* The entry that propose() would begin with, or NO_SLOT. */
    uint32_t (*peek)(const struct shard *shard);
    /* Has a candidate been used since it was proposed? Then it is put back. */
    bool (*pardon)(struct shard *shard, uint32_t slot, uint32_t blocks);
    /* The entry in slot is about to be evicted: remember what is worth it. */
    void (*evicted)(struct shard *shard, uint32_t slot, uint64_t hash, uint32_t blocks);
};

extern const struct evict_policy evict_s3fifo;
extern const struct evict_policy evict_lru;
extern const struct evict_policy evict_none;

const struct evict_policy *evict_policy_of(enum pmc_eviction eviction);

/* For policies that keep no memory of what left, and strictly to their order. */
bool evict_recall_nothing(struct shard *shard, uint64_t hash, uint32_t blocks);
void evict_foresee_nothing(const struct shard *shard, uint64_t hash);
uint32_t evict_propose_none_early(struct shard *shard, uint32_t least_blocks);
void evict_remember_nothing(struct shard *shard, uint32_t slot, uint64_t hash,
                            uint32_t blocks);

/* The policy's state of an empty shard. */
void evict_format_locked(struct shard *shard);

#endif
