/*
 * Leases; see lease.h. After the leases of Nishtala et al., Scaling Memcache at
 * Facebook (NSDI 2013), with an owner whose death ends them.
 */
#include "lease.h"

#include "clock.h"
#include "fault.h"
#include "lock.h"
#include "pool.h"

/* How long a waiter sleeps before it looks whether the owner lives. */
#define SLICE_NS UINT64_C(10000000)

static struct lease_place *
lease_set(const struct shard *shard, uint64_t hash)
{
    return &shard->leases[hash % LEASE_SETS * LEASE_WAYS];
}

/* hash 0 marks a free place. */
static uint64_t
lease_hash(uint64_t hash)
{
    return hash ? hash : 1;
}

static bool
has_ended(const struct shard *shard, const struct lease_place *place, uint64_t now_ms)
{
    return (load_relaxed(&place->deadline) & ~LEASE_VOID) <= now_ms ||
           !pool_owner_lives(shard->pool, load_relaxed(&place->owner));
}

static void
end_lease(struct shard *shard, struct lease_place *place)
{
    uint32_t set = (uint32_t)(place - shard->leases) / LEASE_WAYS;
    bool used = false;

    store_relaxed(&place->hash, 0);
    store_relaxed(&place->token, 0);
    atomic_fetch_add_explicit(&place->ended, 1, memory_order_release);
    lock_wake_all(&place->ended);
    for (uint32_t way = 0; way < LEASE_WAYS; way++)
        used |= load_relaxed(&shard->leases[set * LEASE_WAYS + way].hash) != 0;
    if (!used)
        shard->header->lease_sets &= ~(UINT32_C(1) << set);
}

static void
begin_lease(struct shard *shard, struct lease_place *place,
            const struct lease_request *request)
{
    shard->header->lease_sets |= UINT32_C(1) << request->hash % LEASE_SETS;
    store_relaxed(&place->owner, request->owner);
    store_relaxed(&place->deadline, request->deadline);
    store_relaxed(&place->token, request->token);
    store_release(&place->hash, lease_hash(request->hash));
}

static struct lease_place *
find_place(const struct shard *shard, uint64_t hash)
{
    struct lease_place *set = lease_set(shard, hash);

    for (uint32_t way = 0; way < LEASE_WAYS; way++)
        if (load_relaxed(&set[way].hash) == lease_hash(hash))
            return &set[way];
    return NULL;
}

static struct lease_place *
find_free_place(struct shard *shard, const struct lease_request *request)
{
    struct lease_place *set = lease_set(shard, request->hash);

    for (uint32_t way = 0; way < LEASE_WAYS; way++)
        if (load_relaxed(&set[way].hash) == 0)
            return &set[way];
    for (uint32_t way = 0; way < LEASE_WAYS; way++)
        if (has_ended(shard, &set[way], request->now_ms)) {
            end_lease(shard, &set[way]);
            return &set[way];
        }
    return NULL;
}

enum pmc_status
lease_take_locked(struct shard *shard, const struct lease_request *request,
                  uint64_t *holder_out)
{
    struct lease_place *place = find_place(shard, request->hash);

    if (place && !has_ended(shard, place, request->now_ms)) {
        *holder_out = load_relaxed(&place->token);
        return PMC_BUSY;
    }
    if (place)
        end_lease(shard, place);
    else
        place = find_free_place(shard, request);
    if (!place)
        return PMC_DROPPED;
    begin_lease(shard, place, request);
    return PMC_OK;
}

enum pmc_status
lease_release_locked(struct shard *shard, const struct lease_request *request)
{
    struct lease_place *place = find_place(shard, request->hash);

    if (!place || load_relaxed(&place->token) != request->token)
        return PMC_MISS;
    end_lease(shard, place);
    return PMC_OK;
}

static void
make_void(struct lease_place *place)
{
    store_relaxed(&place->deadline, load_relaxed(&place->deadline) | LEASE_VOID);
}

/* Called by every write: most find no lease in the set. */
void
lease_void_locked(struct shard *shard, uint64_t hash)
{
    struct lease_place *place;

    if (!(shard->header->lease_sets & UINT32_C(1) << hash % LEASE_SETS))
        return;
    place = find_place(shard, hash);
    if (place && !MUTANT("keep-lease"))
        make_void(place);
}

/* What is void need not be found again. */
void
lease_void_all_locked(struct shard *shard)
{
    shard->header->lease_sets = 0;
    for (uint32_t i = 0; i < LEASE_SETS * LEASE_WAYS; i++)
        make_void(&shard->leases[i]);
}

bool
lease_stands_locked(const struct shard *shard, uint64_t hash, uint64_t token)
{
    const struct lease_place *place = find_place(shard, hash);

    return place && load_relaxed(&place->token) == token &&
           !(load_relaxed(&place->deadline) & LEASE_VOID);
}

enum pmc_status
lease_wait(struct shard *shard, const struct lease_request *request,
           uint64_t timeout_ns)
{
    uint64_t began_ns = clock_now_ns();

    for (;;) {
        struct lease_place *place = find_place(shard, request->hash);
        uint32_t ended;
        uint64_t waited_ns;

        if (!place)
            return PMC_OK;
        ended = load_acquire(&place->ended);
        if (load_relaxed(&place->token) != request->token ||
            has_ended(shard, place, clock_coarse_ms()))
            return PMC_OK;
        waited_ns = clock_now_ns() - began_ns;
        if (waited_ns >= timeout_ns)
            return PMC_BUSY;
        lock_sleep(&place->ended, ended, min_u64(SLICE_NS, timeout_ns - waited_ns));
    }
}
