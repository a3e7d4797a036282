/*
 * The right to load a key; see cache.h.
 */
#include "cache.h"
#include "lease.h"

static struct lease_request
lease_request_of(const struct pmc_cache *cache, const void *key, size_t key_size)
{
    return (struct lease_request){.hash = cache_hash(cache, key, key_size),
                                  .now_ms = clock_coarse_ms(),
                                  .owner = pool_owner(cache->pool)};
}

enum pmc_status
pmc_lease_take(struct pmc_cache *cache, const void *key, size_t key_size,
               uint32_t duration_ms, struct pmc_lease *lease_out)
{
    struct lease_request request;
    struct shard *shard;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = lease_request_of(cache, key, key_size);
    request.deadline = request.now_ms + duration_ms;
    shard = cache_shard(cache, request.hash);
    status = shard_lock(shard, false);
    if (status != PMC_OK)
        return status;
    request.token = shard_next_generation(shard);
    lease_out->token = request.token;
    lease_out->version = load_relaxed(index_version(shard, request.hash));
    status = lease_take_locked(shard, &request, &lease_out->token);
    shard_unlock(shard);
    return status;
}

enum pmc_status
pmc_lease_release(struct pmc_cache *cache, const void *key, size_t key_size,
                  uint64_t token)
{
    struct lease_request request;
    struct shard *shard;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = lease_request_of(cache, key, key_size);
    request.token = token;
    shard = cache_shard(cache, request.hash);
    status = shard_lock(shard, false);
    if (status != PMC_OK)
        return status;
    status = lease_release_locked(shard, &request);
    shard_unlock(shard);
    return status;
}

enum pmc_status
pmc_lease_wait(struct pmc_cache *cache, const void *key, size_t key_size,
               uint64_t token, uint32_t timeout_ms)
{
    struct lease_request request;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = lease_request_of(cache, key, key_size);
    request.token = token;
    return lease_wait(cache_shard(cache, request.hash), &request,
                      (uint64_t)timeout_ms * 1000000u);
}
