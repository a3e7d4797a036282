/*
 * Files that are cut short while they are mapped, and pages that have no memory.
 *
 * Touching a page behind the end of a file raises SIGBUS, and whoever may write
 * a pool's files can cut them. A process-wide handler, installed when the first
 * pool is opened, answers faults inside the mappings of its pools: it puts
 * zeroed memory in place of the whole pool, index first, and marks the pool as
 * lost. The engine takes zeros for an empty pool, a reader whose bytes vanish
 * under it sees that the number of its bucket has changed, and from the next
 * lock on every change is refused with PMC_EDAMAGED.
 *
 * A page of the heap that was given back to the file system has no memory, and on
 * a full tmpfs cannot have any: SIGBUS too. Nobody writes there, but a reader may
 * be late: what it copies does not count, for the number of its bucket has changed
 * since, but it must be able to. For it a zeroed page of this process's own is put
 * there, and the heap mapped anew by whoever next takes a shard's lock: so nobody
 * writes into a page that others do not see. Both sides write first and then look:
 *
 *   the handler   counts itself in pool.patches, looks at the shard's lock
 *   a writer      takes the shard's lock, looks at pool.patches
 *
 * If the lock is this process's, the handler steps back, and tries again later.
 *
 * Every other SIGBUS goes to the handler that was there before.
 */
#ifndef PMC_POOL_GUARD_H
#define PMC_POOL_GUARD_H

#include "pool.h"

/* Guard the mappings of this pool. False: no memory, or no handler. */
bool guard_add(struct pool *pool);
/* Before they are unmapped. A pool that is not guarded is allowed. */
void guard_remove(const struct pool *pool);

/* Part with the pool: put zeroed memory in place of its mappings, so that reads
 * miss and changes are refused. False: the kernel would not. Async-signal-safe. */
bool guard_give_up(struct pool *pool);

/* With a shard's lock held: if a late reader was given a page of its own, the heap
 * is the file's again. */
void guard_mend_slowly(struct pool *pool);

static inline void
guard_mend(struct pool *pool)
{
    if (UNLIKELY(atomic_load(&pool->patches) != 0))
        guard_mend_slowly(pool);
}

#endif
