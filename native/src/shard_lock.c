/*
 * Taking a shard's lock, making a shard, growing it; see shard.h.
 */
#include "alloc.h"
#include "evict.h"
#include "fault.h"
#include "lock.h"
#include "pool.h"
#include "pool_geometry.h"
#include "queue.h"
#include "shard.h"

/* The parts of a shard's heap that are allocated one after another. */
#define HEAP_CHUNKS 16u
#define HEAP_CHUNK_MIN_BYTES (64u * 1024u)
#define HEAP_CHUNK_MAX_BYTES (4u * 1024u * 1024u)
#define BUCKETS_AT_START 4u
#define OVERFLOW_AT_START 4u

enum pmc_status
shard_lock(struct shard *shard, bool nowait)
{
    struct pool *pool = shard->pool;
    uint32_t owner = pool_owner(pool);
    struct lock_wait wait = {.owner_lives = pool_owner_lives,
                             .context = pool,
                             .timeout_ns = nowait ? 0 : shard->lock_timeout_ns};

    if (owner == 0)
        return PMC_ECLOSED;
    switch (lock_take(&shard->header->lock, owner, &wait)) {
    case LOCK_TAKEN:
        break;
    case LOCK_INHERITED:
        shard_recover_locked(shard);
        break;
    case LOCK_BUSY:
        return PMC_BUSY;
    case LOCK_TIMED_OUT:
    default:
        add_relaxed(&pool->attachments[load_relaxed(&pool->place)].lock_timeouts, 1);
        return PMC_ETIMEDOUT;
    }
    if (pool_is_lost(pool)) {
        shard_unlock(shard);
        return PMC_EDAMAGED;
    }
    return PMC_OK;
}

void
shard_unlock(struct shard *shard)
{
    lock_release(&shard->header->lock, load_relaxed(&shard->pool->owner));
}

/* ---- growing --------------------------------------------------------- */

static uint64_t
shard_heap_offset(const struct shard *shard)
{
    return (uint64_t)(shard->heap - shard->pool->heap);
}

/* The next part: as much again, at most a sixteenth of the shard, or what one
 * entry needs. */
static uint32_t
next_limit(const struct shard *shard, uint32_t limit, uint64_t wanted_blocks)
{
    uint64_t most = (uint64_t)shard->max_blocks * BLOCK_BYTES / HEAP_CHUNKS;
    uint64_t bytes =
        min_u64((uint64_t)limit * BLOCK_BYTES, min_u64(most, HEAP_CHUNK_MAX_BYTES));
    uint64_t blocks =
        max_u64(max_u64(bytes, HEAP_CHUNK_MIN_BYTES) / BLOCK_BYTES, wanted_blocks);

    blocks = round_up(limit + blocks, PAGE_BYTES / BLOCK_BYTES);
    return (uint32_t)min_u64(blocks, shard->max_blocks);
}

enum pmc_status
shard_grow_heap(struct shard *shard, uint64_t wanted_blocks)
{
    uint32_t old = load_acquire(&shard->header->limit_blocks);
    uint32_t new = next_limit(shard, old, wanted_blocks);
    enum pmc_status status;

    if (new <= old)
        return PMC_ENOSPACE;
    status = pool_allocate_heap(shard->pool,
                                shard_heap_offset(shard) + (uint64_t)old * BLOCK_BYTES,
                                (uint64_t)(new - old) * BLOCK_BYTES);
    if (status != PMC_OK)
        return status;
    STEP("grow.allocated");
    status = shard_lock(shard, false);
    if (status != PMC_OK)
        return status;
    /* Another process may have been faster: its part is ours too. */
    if (load_relaxed(&shard->header->limit_blocks) == old &&
        alloc_grow_locked(shard, new) != PMC_OK)
        shard_recover_locked(shard);
    STEP("grow.published");
    shard_unlock(shard);
    return PMC_OK;
}

/* An eighth more, at least a page's worth; never more than max. */
static uint32_t
some_more(uint32_t now, uint32_t max)
{
    uint64_t more = max_u64(now / 8, PAGE_BYTES / sizeof(struct bucket));

    return (uint32_t)min_u64(now + more, max);
}

/* The outcome of allocating index memory: the lock is held on PMC_OK. */
static enum pmc_status
allocate_and_lock(struct shard *shard, const void *from, uint64_t size_bytes)
{
    enum pmc_status status = pool_allocate_index(shard->pool, from, size_bytes);

    if (status == PMC_OK)
        status = shard_lock(shard, false);
    STEP("grow.index");
    return status;
}

static enum pmc_status
grow_buckets(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t limit = some_more(load_relaxed(&header->bucket_count), shard->max_buckets);
    enum pmc_status status = allocate_and_lock(shard, shard->buckets,
                                               (uint64_t)limit * sizeof(struct bucket));

    if (status != PMC_OK)
        return status;
    if (limit > header->bucket_limit)
        header->bucket_limit = limit;
    shard_unlock(shard);
    return PMC_OK;
}

static enum pmc_status
grow_overflow(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t limit =
        some_more(load_relaxed(&header->overflow_limit), shard->max_overflow);
    enum pmc_status status =
        allocate_and_lock(shard, &shard->buckets[shard->max_buckets],
                          (uint64_t)limit * sizeof(struct bucket));

    if (status != PMC_OK)
        return status;
    if (limit > load_relaxed(&header->overflow_limit))
        store_release(&header->overflow_limit, limit);
    shard_unlock(shard);
    return PMC_OK;
}

/* Ghosts start anew when their number changes: the place of each depends on
 * it. That happens while the pool fills, before there are any. */
static enum pmc_status
grow_ghosts(struct shard *shard, uint32_t sets)
{
    enum pmc_status status = allocate_and_lock(
        shard, shard->ghosts, (uint64_t)sets * sizeof(struct ghost_set));

    if (status != PMC_OK)
        return status;
    if (sets > shard->header->ghost_sets) {
        for (uint32_t set = 0; set < sets; set++)
            shard->ghosts[set] = (struct ghost_set){{0}};
        shard->header->ghost_sets = sets;
    }
    shard_unlock(shard);
    return PMC_OK;
}

/* The lock is taken only for what was wanted without it: asking again is
 * harmless, and so is an answer that is a moment old. */
enum pmc_status
shard_grow_index(struct shard *shard)
{
    enum pmc_status status = shard_lock(shard, false);
    unsigned wants;
    uint32_t sets;

    if (status != PMC_OK)
        return status;
    wants = index_wants(shard);
    sets = (uint32_t)min_u64(max_u64(evict_ghost_sets(shard) * UINT64_C(2), 1),
                             shard->ghost_sets);
    shard_unlock(shard);
    if (status == PMC_OK && wants & INDEX_WANTS_BUCKETS)
        status = grow_buckets(shard);
    if (status == PMC_OK && wants & INDEX_WANTS_OVERFLOW)
        status = grow_overflow(shard);
    if (status == PMC_OK && wants & INDEX_WANTS_GHOSTS)
        status = grow_ghosts(shard, sets);
    return status;
}

/* ---- making ---------------------------------------------------------- */

enum pmc_status
shard_format(struct shard *shard, bool preallocated)
{
    struct shard_header *header = shard->header;
    uint32_t first = preallocated ? shard->max_blocks : next_limit(shard, 0, 1);
    uint32_t overflow = (uint32_t)min_u64(OVERFLOW_AT_START, shard->max_overflow);
    uint32_t buckets = (uint32_t)min_u64(BUCKETS_AT_START, shard->max_buckets);
    enum pmc_status status = pool_allocate_index(
        shard->pool, header, 2 * PAGE_BYTES + buckets * sizeof(struct bucket));

    if (status == PMC_OK)
        status = pool_allocate_index(shard->pool, &shard->buckets[shard->max_buckets],
                                     overflow * sizeof(struct bucket));
    if (status == PMC_OK && shard->ghost_sets)
        status =
            pool_allocate_index(shard->pool, shard->ghosts, sizeof(struct ghost_set));
    if (status == PMC_OK && !preallocated)
        status = pool_allocate_heap(shard->pool, shard_heap_offset(shard),
                                    (uint64_t)first * BLOCK_BYTES);
    if (status != PMC_OK)
        return status;
    header->bucket_limit = buckets;
    header->ghost_sets = shard->ghost_sets ? 1 : 0;
    store_relaxed(&header->overflow_limit, overflow);
    store_relaxed(&header->bucket_count, 1);
    index_format_locked(shard);
    evict_format_locked(shard);
    alloc_format_locked(shard);
    return alloc_grow_locked(shard, first);
}

static void
mark_unverified(struct shard *shard, struct bucket *bucket)
{
    (void)shard;
    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        store_relaxed(&bucket->state[way],
                      (uint8_t)(load_relaxed(&bucket->state[way]) | STATE_UNVERIFIED));
}

void
shard_adopt(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint64_t recoveries = load_relaxed(&header->recoveries);
    uint32_t count;

    /* The bytes of an index that lay in a file are input, like any other. */
    store_relaxed(&header->lock, 0);
    shard_recover_locked(shard);
    store_relaxed(&header->recoveries, recoveries);
    count = load_relaxed(&header->bucket_count);
    for (uint32_t number = 0; number < count; number++)
        mark_unverified(shard, &shard->buckets[number]);
    for (uint32_t number = 0; number < header->overflow_used; number++)
        mark_unverified(shard, &shard->buckets[shard->max_buckets + number]);
}
