/*
 * The public functions: arguments are checked, keys hashed, shards chosen, locks
 * taken, callbacks called after they were given back. See pmemcache.h.
 */
#include "cache.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "evict.h"
#include "expiry.h"
#include "fault.h"
#include "hash.h"
#include "lease.h"
#include "pool_geometry.h"

#define DEFAULT_SIZE_BYTES (UINT64_C(64) << 20)
#define DEFAULT_LOCK_TIMEOUT_MS 1000u
/* A shard is this large if the pool is, and there are at most so many. */
#define SHARD_BYTES (UINT64_C(32) << 20)
#define SHARDS_MAX 64u

/* How often a write asks for more memory before it gives up. */
#define GROWTHS_A_WRITE 64
/* Items of a batch whose cache misses are overlapped. */
#define BATCH 16

/* ---- opening --------------------------------------------------------- */

void
pmc_options_default(struct pmc_options *options_out)
{
    *options_out = (struct pmc_options){.size_bytes = DEFAULT_SIZE_BYTES};
}

static uint32_t
shards_for(uint64_t size_bytes)
{
    uint32_t shards = 1;

    while (shards < SHARDS_MAX && size_bytes / (shards * 2) >= SHARD_BYTES)
        shards *= 2;
    return shards;
}

static enum pmc_status
check_options(const struct pmc_options *options, struct pmc_error *error_out)
{
    uint32_t shards = options->shards;

    if (options->size_bytes < PMC_POOL_MIN_BYTES)
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "a pool of %llu bytes is too small; the least is %u",
                         (unsigned long long)options->size_bytes, PMC_POOL_MIN_BYTES);
    if (options->size_bytes != PMC_SIZE_GROW &&
        options->size_bytes > (UINT64_C(1) << 46))
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "a pool of more than 64 TiB is not supported");
    if (options->size_bytes == PMC_SIZE_GROW && options->preallocate)
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "a pool without a size cannot be preallocated; give it "
                         "a size");
    if ((shards & (shards - 1)) != 0 || shards > SHARDS_MAX ||
        (shards > 1 && options->size_bytes / shards < PMC_POOL_MIN_BYTES))
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "%u shards: it must be a power of two, at most %u, and "
                         "leave each shard %u bytes",
                         shards, SHARDS_MAX, PMC_POOL_MIN_BYTES);
    if (options->lifetime > PMC_RESTART || options->eviction > PMC_EVICT_NONE ||
        options->memory > PMC_MEMORY_CONSERVATIVE)
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "lifetime, eviction or memory is not one of its values");
    if (options->lifetime == PMC_RESTART && !options->path)
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "a private pool cannot outlive its processes; give it a "
                         "path or make it volatile");
    return PMC_OK;
}

static void
view_shard(struct pmc_cache *cache, uint32_t number, uint64_t lock_timeout_ns)
{
    const struct pool_identity *identity = &cache->pool->header->identity;
    struct shard *shard = &cache->shards[number];
    uint8_t *index = (uint8_t *)pool_shard_header(cache->pool, number);
    bool has_ghosts = identity->eviction == PMC_EVICT_S3FIFO;

    shard->header = (struct shard_header *)(void *)index;
    shard->buckets = (struct bucket *)(void *)(index + 2 * PAGE_BYTES);
    shard->ghosts =
        (struct ghost_set *)(void *)&shard
            ->buckets[(size_t)identity->max_buckets + identity->max_overflow];
    shard->leases = (struct lease_place *)(void *)(index + PAGE_BYTES);
    shard->versions = pool_versions(cache->pool) + (size_t)number * SHARD_VERSIONS;
    shard->heap = pool_shard_heap(cache->pool, number);
    shard->policy = evict_policy_of((enum pmc_eviction)identity->eviction);
    shard->pool = cache->pool;
    shard->hash_seed = cache->hash_seed;
    shard->lock_timeout_ns = lock_timeout_ns;
    shard->number = number;
    shard->max_blocks =
        (uint32_t)min_u64(identity->shard_bytes / BLOCK_BYTES, UINT32_MAX / 2);
    shard->max_buckets = identity->max_buckets;
    shard->max_overflow = identity->max_overflow;
    shard->ghost_sets = has_ghosts ? identity->ghost_sets : 0;
}

static enum pmc_status
prepare_shards(struct pmc_cache *cache, const struct pmc_options *options,
               struct pmc_error *error_out)
{
    for (uint32_t number = 0; number < cache->shard_count; number++) {
        struct shard *shard = &cache->shards[number];

        if (cache->pool->origin == POOL_ADOPTED)
            shard_adopt(shard);
        if (cache->pool->origin == POOL_CREATED &&
            shard_format(shard, options->preallocate) != PMC_OK)
            return pool_fail(error_out, PMC_ENOSPACE, 0,
                             "the file system has no room for the smallest pool "
                             "of %s; free some or choose another path",
                             options->path ? options->path : "private memory");
    }
    return PMC_OK;
}

static enum pmc_status
make_cache(struct pool *pool, const struct pmc_options *options,
           struct pmc_cache **cache_out)
{
    struct pmc_cache *cache = calloc(1, sizeof *cache);
    uint32_t count = pool->header->identity.shards;
    uint32_t timeout_ms =
        options->lock_timeout_ms ? options->lock_timeout_ms : DEFAULT_LOCK_TIMEOUT_MS;

    if (!cache)
        return PMC_ESYSTEM;
    cache->shards = calloc(count, sizeof *cache->shards);
    if (!cache->shards) {
        free(cache);
        return PMC_ESYSTEM;
    }
    cache->pool = pool;
    cache->shard_count = count;
    cache->shard_shift = 64u - (uint32_t)__builtin_ctz(count);
    cache->hash_seed = pool->header->identity.pool_id;
    cache->verify = options->verify;
    for (uint32_t number = 0; number < count; number++)
        view_shard(cache, number, (uint64_t)timeout_ms * 1000000u);
    cache->max_blocks = cache->shards[0].max_blocks;
    *cache_out = cache;
    return PMC_OK;
}

static void
free_cache(struct pmc_cache *cache)
{
    free(cache->shards);
    free(cache);
}

enum pmc_status
pmc_open(const struct pmc_options *options, struct pmc_cache **cache_out,
         struct pmc_error *error_out)
{
    struct pmc_options chosen = *options;
    struct pmc_cache *cache;
    struct pool *pool;
    enum pmc_status status;

    if (error_out)
        *error_out = (struct pmc_error){0};
    status = check_options(options, error_out);
    if (status != PMC_OK)
        return status;
    if (chosen.shards == 0)
        chosen.shards = shards_for(chosen.size_bytes);
    status = pool_prepare(&chosen, &pool, error_out);
    if (status != PMC_OK)
        return status;
    status = make_cache(pool, &chosen, &cache);
    if (status != PMC_OK) {
        pool_abandon(pool);
        return pool_fail(error_out, status, 0, "no memory is left for the cache");
    }
    status = prepare_shards(cache, &chosen, error_out);
    if (status == PMC_OK)
        status = pool_publish(pool, error_out);
    if (status != PMC_OK) {
        free_cache(cache);
        pool_abandon(pool);
        return status;
    }
    *cache_out = cache;
    return PMC_OK;
}

void
pmc_close(struct pmc_cache *cache)
{
    if (!cache)
        return;
    pool_close(cache->pool);
    free_cache(cache);
}

/* ---- what all operations share --------------------------------------- */

static inline uint64_t
hash_key(const struct pmc_cache *cache, const void *key, size_t key_size)
{
    return hash_bytes(key, key_size, cache->hash_seed);
}

static inline struct shard *
shard_of(const struct pmc_cache *cache, uint64_t hash)
{
    uint64_t number = cache->shard_shift == 64 ? 0 : hash >> cache->shard_shift;

    return &cache->shards[number];
}

static uint64_t
now_ms(const struct pmc_cache *cache)
{
    return clock_coarse_ms() + (uint64_t)cache->clock_offset_ms;
}

static inline struct attachment *
my_counters(const struct pmc_cache *cache)
{
    return &cache->pool->attachments[load_relaxed(&cache->pool->place)];
}

static void
call_on_evict(struct pmc_cache *cache, struct victims *victims)
{
    size_t at = 0;

    while (at < victims->used) {
        struct victim record;

        memcpy(&record, victims->bytes + at, sizeof record);
        at += sizeof record;
        if (cache->on_evict)
            cache->on_evict(cache, victims->bytes + at, record.key_size,
                            (enum pmc_cause)record.cause, cache->on_evict_context);
        at += round_up(record.key_size, 4);
    }
    free(victims->bytes);
}

/* A write to one shard, once, under its lock. The request begins with a struct
 * write_request. */
typedef enum pmc_status (*write_fn)(struct shard *shard, struct write_request *request);

/* One attempt. Bytes that make no sense are mended, and the attempt repeated. */
static enum pmc_status
write_once(struct shard *shard, write_fn write, struct write_request *request,
           bool nowait)
{
    enum pmc_status status = shard_lock(shard, nowait);

    if (status != PMC_OK)
        return status;
    status = write(shard, request);
    if (status == PMC_EDAMAGED) {
        shard_recover_locked(shard);
        status = write(shard, request);
    }
    if (status == PMC_EDAMAGED) {
        shard_clear_locked(shard);
        status = write(shard, request);
    }
    shard_unlock(shard);
    return status;
}

/* Write, giving the shard memory as often as it asks. What the file system
 * refuses is remembered, and the shard then makes do. */
static enum pmc_status
write_shard(struct shard *shard, write_fn write, struct write_request *request,
            uint64_t blocks, bool nowait)
{
    for (int growths = 0;; growths++) {
        enum pmc_status status = write_once(shard, write, request, nowait);

        if (nowait && (status == SHARD_GROW_INDEX || status == SHARD_GROW_HEAP))
            return PMC_BUSY; /* growing takes time, and the lock */
        if (status == SHARD_GROW_INDEX)
            status = shard_grow_index(shard);
        else if (status == SHARD_GROW_HEAP)
            status = shard_grow_heap(shard, blocks);
        else
            return status;
        request->no_growth = growths >= GROWTHS_A_WRITE || status != PMC_OK;
    }
}

static bool
key_is_valid(const void *key, size_t key_size, enum pmc_status *status_out)
{
    if (key_size > PMC_KEY_MAX_BYTES)
        *status_out = PMC_EKEY_SIZE;
    else if (!key && key_size)
        *status_out = PMC_EINVAL;
    else
        return true;
    return false;
}

/* ---- reading --------------------------------------------------------- */

/* Is this thread inside the on-miss callback? */
static _Thread_local bool in_on_miss;

static bool
ask_on_miss(struct pmc_cache *cache, const struct read_request *request)
{
    pmc_on_miss_fn callback = cache->on_miss;

    if (!callback || in_on_miss)
        return false;
    in_on_miss = true;
    callback(cache, request->key, request->key_size, cache->on_miss_context);
    in_on_miss = false;
    return true;
}

static enum pmc_status
read_counted(struct pmc_cache *cache, struct read_request *request,
             struct read_outcome *outcome_out)
{
    struct shard *shard = shard_of(cache, request->hash);
    enum pmc_status status = shard_read(shard, request, outcome_out);

    if (UNLIKELY(status == PMC_MISS) && ask_on_miss(cache, request)) {
        request->now_ms = 0;
        status = shard_read(shard, request, outcome_out);
    }
    if (status == PMC_OK)
        add_relaxed(&my_counters(cache)->hit, 1);
    else if (status == PMC_MISS)
        add_relaxed(&my_counters(cache)->miss, 1);
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
        .hash = hash_key(cache, key, key_size),
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

    if (!key_is_valid(key, key_size, &status))
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

    if (!key_is_valid(key, key_size, &status))
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
    return (int64_t)deadline - (int64_t)now_ms(cache);
}

/* A look that copies nothing and leaves no trace. */
static enum pmc_status
peek(struct pmc_cache *cache, const void *key, size_t key_size,
     struct read_request *request_out, struct read_outcome *outcome_out)
{
    enum pmc_status status;

    if (!key_is_valid(key, key_size, &status))
        return status;
    *request_out = read_request_of(cache, key, key_size);
    request_out->bump = false;
    return shard_read(shard_of(cache, request_out->hash), request_out, outcome_out);
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
    return (size_t)(index_version(shard_of(cache, hash), hash) -
                    pool_versions(cache->pool));
}

size_t
pmc_version_index(struct pmc_cache *cache, const void *key, size_t key_size)
{
    return version_index(cache, hash_key(cache, key, key_size));
}

enum pmc_status
pmc_get_versioned(struct pmc_cache *cache, const void *key, size_t key_size,
                  pmc_reserve_fn reserve, void *context,
                  struct pmc_versioned *versioned_out)
{
    struct read_request request;
    struct read_outcome outcome;
    enum pmc_status status;

    if (!key_is_valid(key, key_size, &status))
        return status;
    if (!reserve)
        return PMC_EINVAL;
    request = read_request_of(cache, key, key_size);
    request.reserve = reserve;
    request.context = context;
    versioned_out->version_index = version_index(cache, request.hash);
    versioned_out->version =
        load_acquire(index_version(shard_of(cache, request.hash), request.hash));
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

    if (!key_is_valid(key, key_size, &status))
        return status;
    request = read_request_of(cache, key, key_size);
    return shard_read(shard_of(cache, request.hash), &request, &outcome);
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

/* Hash a run of items and fetch their buckets, then their entries, so that the
 * misses of the processor's caches overlap. */
static void
prefetch_items(struct pmc_cache *cache, const struct pmc_item *items, size_t count,
               struct read_request *requests_out)
{
    for (size_t i = 0; i < count; i++) {
        enum pmc_status status;
        bool valid = key_is_valid(items[i].key, items[i].key_size, &status);

        requests_out[i] =
            read_request_of(cache, items[i].key, valid ? items[i].key_size : 0);
        shard_prefetch_bucket(shard_of(cache, requests_out[i].hash),
                              requests_out[i].hash);
    }
    for (size_t i = 0; i < count; i++)
        shard_prefetch_entry(shard_of(cache, requests_out[i].hash),
                             requests_out[i].hash);
}

size_t
pmc_get_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
             pmc_reserve_many_fn reserve, void *context)
{
    struct batch_reserve batch = {.reserve = reserve, .context = context};
    struct read_request requests[BATCH];
    uint64_t now = now_ms(cache);
    size_t found = 0;

    for (size_t first = 0; first < count; first += BATCH) {
        size_t run = (size_t)min_u64(count - first, BATCH);

        prefetch_items(cache, items + first, run, requests);
        for (size_t i = 0; i < run; i++) {
            struct pmc_item *item = &items[first + i];

            if (!key_is_valid(item->key, item->key_size, &item->status))
                continue;
            batch.index = first + i;
            requests[i].now_ms = now;
            requests[i].reserve = reserve_item;
            requests[i].context = &batch;
            item->status = read_found(cache, &requests[i], &item->found);
            found += item->status == PMC_OK;
        }
    }
    return found;
}

/* ---- writing --------------------------------------------------------- */

static struct write_request
write_request_of(const struct pmc_cache *cache, const void *key, size_t key_size,
                 int64_t ttl_ms, struct victims *victims)
{
    uint64_t now = now_ms(cache);

    return (struct write_request){
        .key = key,
        .key_size = key_size,
        .hash = hash_key(cache, key, key_size),
        .now_ms = now,
        .deadline = ttl_ms > 0 ? expiry_deadline(now, ttl_ms) : now,
        .victims = cache->on_evict ? victims : NULL,
    };
}

static void
count_rejected(struct pmc_cache *cache, enum pmc_status status)
{
    if (status == PMC_ETIMEDOUT)
        add_relaxed(&my_counters(cache)->rejected, 1);
}

static enum pmc_status
put_one(struct pmc_cache *cache, const void *key, size_t key_size, const void *value,
        size_t value_size, uint8_t tag, const struct pmc_put_options *options)
{
    bool nowait = (options->flags & PMC_NOWAIT) != 0;
    uint64_t blocks = entry_blocks(key_size, value_size);
    struct victims victims = {0};
    struct write_request request;
    struct shard *shard;
    enum pmc_status status;

    if (!key_is_valid(key, key_size, &status))
        return status;
    if ((!value && value_size) || options->condition > PMC_IF_VERSION)
        return PMC_EINVAL;
    if (value_size > EXTENT_SIZE || blocks > cache->max_blocks)
        return PMC_EVALUE_SIZE;
    request = write_request_of(cache, key, key_size, options->ttl_ms, &victims);
    request.value = value;
    request.value_size = value_size;
    request.condition = options->condition;
    request.generation = options->generation;
    request.tag = tag;
    request.checksum = shard_checksum(request.hash, tag, value, value_size);
    shard = shard_of(cache, request.hash);
    status = write_shard(shard, shard_put_locked, &request, blocks, nowait);
    count_rejected(cache, status);
    call_on_evict(cache, &victims);
    return status;
}

static const struct pmc_put_options plain_put = {.ttl_ms = PMC_TTL_NONE};

/* A value that is dead on arrival: the key must hold nothing afterwards. */
static enum pmc_status
put_expired(struct pmc_cache *cache, const void *key, size_t key_size,
            const struct pmc_put_options *options)
{
    enum pmc_status status = pmc_delete(cache, key, key_size, options->flags);

    return status == PMC_MISS ? PMC_OK : status;
}

enum pmc_status
pmc_put(struct pmc_cache *cache, const void *key, size_t key_size, const void *value,
        size_t value_size, const struct pmc_put_options *options)
{
    if (!options)
        options = &plain_put;
    if (options->ttl_ms <= 0 && options->condition == PMC_ALWAYS)
        return put_expired(cache, key, key_size, options);
    return put_one(cache, key, key_size, value, value_size, options->tag, options);
}

size_t
pmc_put_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
             const struct pmc_put_options *options)
{
    size_t stored = 0;

    if (!options)
        options = &plain_put;
    for (size_t i = 0; i < count; i++) {
        struct pmc_item *item = &items[i];

        if (options->ttl_ms <= 0 && options->condition == PMC_ALWAYS)
            item->status = put_expired(cache, item->key, item->key_size, options);
        else
            item->status = put_one(cache, item->key, item->key_size, item->value,
                                   item->value_size, item->tag, options);
        stored += item->status == PMC_OK;
    }
    return stored;
}

enum pmc_status
pmc_delete(struct pmc_cache *cache, const void *key, size_t key_size, uint32_t flags)
{
    struct write_request request;
    enum pmc_status status;

    if (!key_is_valid(key, key_size, &status))
        return status;
    request = write_request_of(cache, key, key_size, PMC_TTL_NONE, NULL);
    return write_shard(shard_of(cache, request.hash), shard_delete_locked, &request, 0,
                       (flags & PMC_NOWAIT) != 0);
}

size_t
pmc_delete_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
                uint32_t flags)
{
    size_t deleted = 0;

    for (size_t i = 0; i < count; i++) {
        items[i].status = pmc_delete(cache, items[i].key, items[i].key_size, flags);
        deleted += items[i].status == PMC_OK;
    }
    return deleted;
}

enum pmc_status
pmc_touch(struct pmc_cache *cache, const void *key, size_t key_size, int64_t ttl_ms,
          uint32_t flags)
{
    struct write_request request;
    enum pmc_status status;

    if (ttl_ms <= 0)
        return pmc_delete(cache, key, key_size, flags);
    if (!key_is_valid(key, key_size, &status))
        return status;
    request = write_request_of(cache, key, key_size, ttl_ms, NULL);
    return write_shard(shard_of(cache, request.hash), shard_touch_locked, &request, 0,
                       (flags & PMC_NOWAIT) != 0);
}

enum pmc_status
pmc_incr(struct pmc_cache *cache, const void *key, size_t key_size, int64_t delta,
         const struct pmc_incr_options *options, int64_t *result_out)
{
    static const struct pmc_incr_options plain = {.ttl_ms = PMC_TTL_NONE};
    struct victims victims = {0};
    struct incr_request request;
    enum pmc_status status;

    if (!options)
        options = &plain;
    if (!key_is_valid(key, key_size, &status))
        return status;
    request = (struct incr_request){
        .write = write_request_of(cache, key, key_size, options->ttl_ms, &victims),
        .delta = delta,
        .initial = options->initial,
        .create = options->create,
        .created_tag = options->tag};
    request.created_deadline = request.write.deadline;
    status = write_shard(shard_of(cache, request.write.hash), shard_incr_locked,
                         &request.write, entry_blocks(key_size, sizeof request.digits),
                         (options->flags & PMC_NOWAIT) != 0);
    count_rejected(cache, status);
    call_on_evict(cache, &victims);
    if (status == PMC_OK)
        *result_out = request.result;
    return status;
}

/* Evict from the fullest shard that has an entry. */
static enum pmc_status
evict_from_any(struct pmc_cache *cache, struct write_request *request)
{
    for (uint32_t turn = 0; turn <= cache->shard_count; turn++) {
        struct shard *fullest = NULL;
        uint64_t most = 0;
        enum pmc_status status;

        for (uint32_t number = 0; number < cache->shard_count; number++) {
            struct shard *shard = &cache->shards[number];
            uint64_t used = load_relaxed(&shard->header->used_blocks);

            if (used > most) {
                most = used;
                fullest = shard;
            }
        }
        if (!fullest)
            return PMC_MISS;
        status = write_shard(fullest, shard_evict_locked, request, 0, false);
        if (status != PMC_MISS)
            return status;
    }
    return PMC_MISS;
}

enum pmc_status
pmc_evict(struct pmc_cache *cache, const void *key, size_t key_size, void *key_out,
          size_t *key_size_out)
{
    struct victims victims = {0};
    struct write_request request;
    enum pmc_status status;

    if (!key_is_valid(key, key_size, &status))
        return status;
    request = write_request_of(cache, key, key_size, PMC_TTL_NONE, NULL);
    request.victims = &victims;
    status = key ? write_shard(shard_of(cache, request.hash), shard_evict_locked,
                               &request, 0, false)
                 : evict_from_any(cache, &request);
    if (status == PMC_OK && victims.used) {
        struct victim record;

        memcpy(&record, victims.bytes, sizeof record);
        if (key_out)
            memcpy(key_out, victims.bytes + sizeof record, record.key_size);
        if (key_size_out)
            *key_size_out = record.key_size;
    }
    call_on_evict(cache, &victims);
    return status;
}

enum pmc_status
pmc_clear(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < cache->shard_count; number++) {
        struct shard *shard = &cache->shards[number];
        enum pmc_status status = shard_lock(shard, false);

        if (status != PMC_OK)
            return status;
        shard_clear_locked(shard);
        shard_unlock(shard);
    }
    return PMC_OK;
}

/* ---- leases ---------------------------------------------------------- */

static struct lease_request
lease_request_of(const struct pmc_cache *cache, const void *key, size_t key_size)
{
    return (struct lease_request){.hash = hash_key(cache, key, key_size),
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

    if (!key_is_valid(key, key_size, &status))
        return status;
    request = lease_request_of(cache, key, key_size);
    request.deadline = request.now_ms + duration_ms;
    shard = shard_of(cache, request.hash);
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

    if (!key_is_valid(key, key_size, &status))
        return status;
    request = lease_request_of(cache, key, key_size);
    request.token = token;
    shard = shard_of(cache, request.hash);
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

    if (!key_is_valid(key, key_size, &status))
        return status;
    request = lease_request_of(cache, key, key_size);
    request.token = token;
    return lease_wait(shard_of(cache, request.hash), &request,
                      (uint64_t)timeout_ms * 1000000u);
}

/* ---- the rest -------------------------------------------------------- */

enum pmc_status
pmc_keys(struct pmc_cache *cache, struct pmc_cursor *cursor, const void *prefix,
         size_t prefix_size, void *buffer, size_t capacity, size_t *used_out)
{
    uint64_t now = now_ms(cache);
    size_t used = 0;

    if (!buffer || capacity < 512 * 1024)
        return PMC_EINVAL;
    while (cursor->shard < cache->shard_count) {
        struct shard *shard = &cache->shards[cursor->shard];
        enum pmc_status status;
        size_t more = 0;

        if (cursor->bucket_count == 0)
            cursor->bucket_count = load_acquire(&shard->header->bucket_count);
        if (cursor->bucket >= cursor->bucket_count) {
            *cursor = (struct pmc_cursor){.shard = cursor->shard + 1};
            continue;
        }
        status =
            shard_keys(shard, cursor->bucket, cursor->bucket_count, prefix, prefix_size,
                       now, (uint8_t *)buffer + used, capacity - used, &more);
        if (status != PMC_OK) {
            if (used > 0)
                break;
            /* One bucket's keys exceed the buffer, or its writer does not end. */
            return status == PMC_DROPPED ? PMC_EINVAL : status;
        }
        used += more;
        cursor->bucket++;
    }
    *used_out = used;
    return used > 0 || cursor->shard < cache->shard_count ? PMC_OK : PMC_MISS;
}

void
pmc_on_evict(struct pmc_cache *cache, pmc_on_evict_fn callback, void *context)
{
    cache->on_evict = callback;
    cache->on_evict_context = context;
}

void
pmc_on_miss(struct pmc_cache *cache, pmc_on_miss_fn callback, void *context)
{
    cache->on_miss = callback;
    cache->on_miss_context = context;
}

static void
add_shard_stats(const struct shard *shard, struct pmc_stats *stats)
{
    const struct shard_header *header = shard->header;
    uint64_t buckets =
        (uint64_t)load_relaxed(&header->bucket_count) + header->overflow_used;

    stats->put += load_relaxed(&header->put);
    stats->delete_ += load_relaxed(&header->delete_);
    stats->evict += load_relaxed(&header->evict);
    stats->expired += load_relaxed(&header->expired);
    stats->rejected += load_relaxed(&header->rejected);
    stats->moved_bytes += load_relaxed(&header->moved_bytes);
    stats->written_bytes += load_relaxed(&header->written_bytes);
    stats->entries += load_relaxed(&header->entries);
    stats->dram_size_used += 2 * PAGE_BYTES + buckets * sizeof(struct bucket) +
                             header->ghost_sets * sizeof(struct ghost_set);
    stats->pool_size_used += load_relaxed(&header->used_blocks) * BLOCK_BYTES;
    stats->payload_bytes += load_relaxed(&header->payload_bytes);
    stats->allocated_bytes +=
        (uint64_t)load_relaxed(&header->limit_blocks) * BLOCK_BYTES;
    stats->capacity_bytes += (uint64_t)shard->max_blocks * BLOCK_BYTES;
    stats->recoveries += load_relaxed(&header->recoveries);
    stats->damaged += load_relaxed(&header->damaged);
}

enum pmc_status
pmc_stats(struct pmc_cache *cache, struct pmc_stats *stats_out)
{
    struct pmc_stats stats = {.dram_size_used =
                                  pool_shards_off(&cache->pool->header->identity)};

    for (uint32_t number = 0; number < cache->shard_count; number++)
        add_shard_stats(&cache->shards[number], &stats);
    for (uint32_t place = 0; place < ATTACHMENTS_MAX; place++) {
        const struct attachment *attachment = &cache->pool->attachments[place];

        stats.hit += load_relaxed(&attachment->hit);
        stats.miss += load_relaxed(&attachment->miss);
        stats.lock_timeouts += load_relaxed(&attachment->lock_timeouts);
        stats.rejected += load_relaxed(&attachment->rejected);
    }
    stats.get = stats.hit + stats.miss;
    stats.attached = pool_attached(cache->pool);
    *stats_out = stats;
    return PMC_OK;
}

enum pmc_status
pmc_geometry(struct pmc_cache *cache, struct pmc_geometry *geometry_out)
{
    const struct pool_identity *identity = &cache->pool->header->identity;

    *geometry_out = (struct pmc_geometry){
        .size_bytes = identity->size_bytes,
        .shard_bytes = identity->shard_bytes,
        .value_max_bytes = min_u64(
            cache->max_blocks * BLOCK_BYTES - sizeof(struct entry_head), EXTENT_SIZE),
        .pool_id = identity->pool_id,
        .shards = identity->shards,
        .layout_version = identity->layout_version,
        .lifetime = identity->lifetime,
        .eviction = identity->eviction,
        .memory = identity->memory,
        .created = cache->pool->origin == POOL_CREATED,
    };
    return PMC_OK;
}

void
pmc_advance_clock(struct pmc_cache *cache, int64_t delta_ms)
{
    cache->clock_offset_ms += delta_ms;
}

const char *
pmc_status_text(enum pmc_status status)
{
    switch (status) {
    case PMC_OK:
        return "done";
    case PMC_MISS:
        return "no such entry";
    case PMC_UNMET:
        return "the condition did not hold";
    case PMC_BUSY:
        return "the lock is not free";
    case PMC_DROPPED:
        return "not stored";
    case PMC_EINVAL:
        return "an argument is out of its range";
    case PMC_EKEY_SIZE:
        return "the key is too long";
    case PMC_EVALUE_SIZE:
        return "the value can never fit in this pool";
    case PMC_EFULL:
        return "the pool is full and eviction is off";
    case PMC_ETIMEDOUT:
        return "a lock was not had in time";
    case PMC_ENOT_INTEGER:
        return "the value is not a decimal 64-bit integer";
    case PMC_EOVERFLOW:
        return "the sum leaves the signed 64-bit range";
    case PMC_ECLOSED:
        return "the cache is closed";
    case PMC_EDAMAGED:
        return "the pool is damaged";
    case PMC_ELAYOUT:
        return "the pool has another layout version";
    case PMC_ENOT_POOL:
        return "the path is not a pool";
    case PMC_EOWNER:
        return "the pool belongs to another user";
    case PMC_EPERMISSIONS:
        return "others may write in the pool's directory";
    case PMC_EGEOMETRY:
        return "the pool is in use with other options";
    case PMC_ENOSPACE:
        return "the file system has no room";
    case PMC_ESYSTEM:
        return "a system call failed";
    case PMC_EATTACH_LIMIT:
        return "too many processes are attached";
    }
    return "unknown status";
}
