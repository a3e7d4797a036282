/*
 * Files that are cut short while they are mapped.
 *
 * Touching a page behind the end of a file raises SIGBUS, and whoever may write
 * a pool's files can cut them. A process-wide handler, installed when the first
 * pool is opened, answers faults inside the mappings of its pools: it puts
 * zeroed memory in place of the whole pool, index first, and marks the pool as
 * lost. The engine takes zeros for an empty pool, a reader whose bytes vanish
 * under it sees that the number of its bucket has changed, and from the next
 * lock on every change is refused with PMC_EDAMAGED.
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

#endif
