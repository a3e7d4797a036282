/*
 * Taking a shard's lock, and what follows an owner's death; see shard.h.
 */
#include "lock.h"
#include "pool.h"
#include "pool_guard.h"
#include "shard.h"

static _Thread_local bool thread_waits = true;

void
pmc_thread_waits(bool waits)
{
    thread_waits = waits;
}

bool
shard_may_wait(void)
{
    return thread_waits;
}

enum pmc_status
shard_lock(struct shard *shard, bool nowait)
{
    struct pool *pool = shard->pool;
    uint32_t owner = pool_owner(pool);
    struct lock_wait wait = {.owner_lives = pool_owner_lives,
                             .context = pool,
                             .timeout_ns =
                                 nowait || !thread_waits ? 0 : shard->lock_timeout_ns};

    if (owner == 0)
        return PMC_ECLOSED;
    switch (lock_take(&shard->header->lock, owner, &wait)) {
    case LOCK_TAKEN:
        guard_mend(pool);
        break;
    case LOCK_INHERITED:
        guard_mend(pool);
        shard_recover_locked(shard);
        break;
    case LOCK_BUSY:
        return nowait ? PMC_BUSY : PMC_EWOULD_WAIT;
    case LOCK_TIMED_OUT:
    default:
        add_relaxed(&pool_own_attachment(pool)->lock_timeouts, 1);
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
    if (UNLIKELY(shard->header->queues_doubtful))
        shard_recover_locked(shard);
    /* Not ours any more: another may have taken us for dead and been at work beside us.
     * Whoever has the lock next gives it back in order. */
    if (!lock_release(&shard->header->lock, load_relaxed(&shard->pool->owner)) &&
        !pool_is_lost(shard->pool))
        shard->header->queues_doubtful = 1;
}
