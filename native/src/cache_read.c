/*
 * Look-ups; see cache.h.
 */
#include "cache.h"

/* How many items of a batch the stages of pmc_get_many() are apart. */
#define ENTRY_LAG 6u
#define COPY_LAG 3u
#define REQUESTS 16u
static_assert(REQUESTS > ENTRY_LAG + COPY_LAG, "a request lives for all stages");

/* The caches whose on-miss callbacks this thread is inside of, innermost first. */
struct asked {
    const struct pmc_cache *cache;
    const struct asked *outer;
};
static _Thread_local const struct asked *innermost;

static bool
is_asked(const struct pmc_cache *cache)
{
    for (const struct asked *asked = innermost; asked; asked = asked->outer)
        if (asked->cache == cache)
            return true;
    return false;
}

static bool
ask_on_miss(struct pmc_cache *cache, const struct read_request *request)
{
    const struct asked asked = {.cache = cache, .outer = innermost};
    pmc_on_miss_fn callback = cache->on_miss;

    if (!callback || is_asked(cache))
        return false;
    innermost = &asked;
    callback(cache, request->key, request->key_size, cache->on_miss_context);
    innermost = asked.outer;
    return true;
}

static enum pmc_status
read_counted(struct pmc_cache *cache, struct read_request *request,
             struct read_outcome *outcome_out)
{
    struct shard *shard = cache_shard(cache, request->hash);
    enum pmc_status status = shard_read(shard, request, outcome_out);

    if (UNLIKELY(status == PMC_MISS) && ask_on_miss(cache, request)) {
        request->now_ms = 0;
        status = shard_read(shard, request, outcome_out);
    }
    if (status == PMC_OK)
        add_relaxed(&cache_counters(cache)->hit, 1);
    else if (status == PMC_MISS)
        add_relaxed(&cache_counters(cache)->miss, 1);
    return status;
}

/* As read_counted(), for callers that want no more than what was found. */
static enum pmc_status
read_found(struct pmc_cache *cache, struct read_request *request,
           struct pmc_found *found_out)
{
    struct read_outcome outcome;
    enum pmc_status status = read_counted(cache, request, &outcome);

    if (status == PMC_OK && found_out)
        *found_out = outcome.found;
    return status;
}

static struct read_request
read_request_of(const struct pmc_cache *cache, const void *key, size_t key_size)
{
    return (struct read_request){
        .key = key,
        .key_size = key_size,
        .hash = cache_hash(cache, key, key_size),
        .clock_offset_ms = cache->clock_offset_ms,
        .verify = cache->verify,
        .bump = true,
    };
}

enum pmc_status
pmc_get(struct pmc_cache *cache, const void *key, size_t key_size, void *buffer,
        size_t capacity, size_t offset, struct pmc_found *found_out)
{
    struct read_request request;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    if (!buffer && capacity)
        return PMC_EINVAL;
    request = read_request_of(cache, key, key_size);
    request.buffer = buffer;
    request.capacity = capacity;
    request.offset = offset;
    return read_found(cache, &request, found_out);
}

enum pmc_status
pmc_get_reserve(struct pmc_cache *cache, const void *key, size_t key_size,
                pmc_reserve_fn reserve, void *context, struct pmc_found *found_out)
{
    struct read_request request;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    if (!reserve)
        return PMC_EINVAL;
    request = read_request_of(cache, key, key_size);
    request.reserve = reserve;
    request.context = context;
    return read_found(cache, &request, found_out);
}

/* Time left until a deadline, in milliseconds. */
static int64_t
ttl_left(const struct pmc_cache *cache, uint64_t deadline)
{
    if (deadline == 0)
        return PMC_TTL_NONE;
    return (int64_t)deadline - (int64_t)cache_now_ms(cache);
}

/* A look that copies nothing and leaves no trace. */
static enum pmc_status
peek(struct pmc_cache *cache, const void *key, size_t key_size,
     struct read_request *request_out, struct read_outcome *outcome_out)
{
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    *request_out = read_request_of(cache, key, key_size);
    request_out->bump = false;
    return shard_read(cache_shard(cache, request_out->hash), request_out, outcome_out);
}

enum pmc_status
pmc_exists(struct pmc_cache *cache, const void *key, size_t key_size)
{
    struct read_request request;
    struct read_outcome outcome;

    return peek(cache, key, key_size, &request, &outcome);
}

enum pmc_status
pmc_info(struct pmc_cache *cache, const void *key, size_t key_size,
         struct pmc_info *info_out)
{
    struct read_request request;
    struct read_outcome outcome;
    enum pmc_status status = peek(cache, key, key_size, &request, &outcome);

    if (status != PMC_OK)
        return status;
    *info_out = (struct pmc_info){
        .value_size = outcome.found.value_size,
        .stored_bytes = (size_t)outcome.blocks * BLOCK_BYTES,
        .ttl_ms = ttl_left(cache, outcome.deadline),
        .generation = outcome.found.generation,
        .heat = outcome.heat,
        .tag = outcome.found.tag,
    };
    return PMC_OK;
}

const volatile uint64_t *
pmc_versions(struct pmc_cache *cache, size_t *count_out)
{
    *count_out = (size_t)cache->shard_count * SHARD_VERSIONS;
    return (const volatile uint64_t *)(uintptr_t)pool_versions(cache->pool);
}

static size_t
version_index(const struct pmc_cache *cache, uint64_t hash)
{
    return (size_t)(index_version(cache_shard(cache, hash), hash) -
                    pool_versions(cache->pool));
}

size_t
pmc_version_index(struct pmc_cache *cache, const void *key, size_t key_size)
{
    return version_index(cache, cache_hash(cache, key, key_size));
}

enum pmc_status
pmc_get_versioned(struct pmc_cache *cache, const void *key, size_t key_size,
                  pmc_reserve_fn reserve, void *context,
                  struct pmc_versioned *versioned_out)
{
    struct read_request request;
    struct read_outcome outcome;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    if (!reserve)
        return PMC_EINVAL;
    request = read_request_of(cache, key, key_size);
    request.reserve = reserve;
    request.context = context;
    versioned_out->version_index = version_index(cache, request.hash);
    versioned_out->version =
        load_acquire(index_version(cache_shard(cache, request.hash), request.hash));
    status = read_counted(cache, &request, &outcome);
    if (status == PMC_OK) {
        versioned_out->found = outcome.found;
        versioned_out->ttl_ms = ttl_left(cache, outcome.deadline);
    }
    return status;
}

enum pmc_status
pmc_bump(struct pmc_cache *cache, const void *key, size_t key_size)
{
    struct read_request request;
    struct read_outcome outcome;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = read_request_of(cache, key, key_size);
    return shard_read(cache_shard(cache, request.hash), &request, &outcome);
}

struct batch_reserve {
    pmc_reserve_many_fn reserve;
    void *context;
    size_t index;
};

static void *
reserve_item(void *context, size_t value_size)
{
    const struct batch_reserve *batch = context;

    return batch->reserve(batch->context, batch->index, value_size);
}

/* The request of an item; an invalid key is hashed as the empty one and refused
 * when its turn comes. Its bucket is fetched meanwhile. */
static void
begin_item(struct pmc_cache *cache, const struct pmc_item *item,
           struct read_request *request_out)
{
    enum pmc_status status;
    bool valid = cache_key_is_valid(item->key, item->key_size, &status);

    *request_out = read_request_of(cache, item->key, valid ? item->key_size : 0);
    shard_prefetch_bucket(cache_shard(cache, request_out->hash), request_out->hash);
}

static void
finish_item(struct pmc_cache *cache, struct pmc_item *item,
            struct read_request *request, struct batch_reserve *batch)
{
    if (!cache_key_is_valid(item->key, item->key_size, &item->status))
        return;
    request->reserve = reserve_item;
    request->context = batch;
    item->status = read_found(cache, request, &item->found);
}

/* Three stages, each some items behind the one before, so that the processor
 * fetches the buckets and entries of the next items while it copies this one. */
size_t
pmc_get_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
             pmc_reserve_many_fn reserve, void *context)
{
    struct batch_reserve batch = {.reserve = reserve, .context = context};
    struct read_request requests[REQUESTS];
    uint64_t now = cache_now_ms(cache);
    size_t found = 0;

    for (size_t step = 0; step < count + ENTRY_LAG + COPY_LAG; step++) {
        if (step < count)
            begin_item(cache, &items[step], &requests[step % REQUESTS]);
        if (step >= ENTRY_LAG && step - ENTRY_LAG < count) {
            uint64_t hash = requests[(step - ENTRY_LAG) % REQUESTS].hash;

            shard_prefetch_entry(cache_shard(cache, hash), hash);
        }
        if (step >= ENTRY_LAG + COPY_LAG) {
            size_t index = step - ENTRY_LAG - COPY_LAG;

            batch.index = index;
            requests[index % REQUESTS].now_ms = now;
            finish_item(cache, &items[index], &requests[index % REQUESTS], &batch);
            found += items[index].status == PMC_OK;
        }
    }
    return found;
}
