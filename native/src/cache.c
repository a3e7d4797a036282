/*
 * Opening, closing, and what a pool is and holds; see cache.h.
 */
#include "cache.h"

#include <stdlib.h>

#include "evict.h"
#include "pool_geometry.h"

#define DEFAULT_SIZE_BYTES (UINT64_C(64) << 20)
#define DEFAULT_LOCK_TIMEOUT_MS 1000u

/* ---- opening --------------------------------------------------------- */

void
pmc_options_default(struct pmc_options *options_out)
{
    *options_out = (struct pmc_options){.size_bytes = DEFAULT_SIZE_BYTES};
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
        (options->size_bytes - HEAP_HEADER_BYTES) / (shards ? shards : SHARDS_MAX) >
            SHARD_BYTES_MAX)
        return pool_fail(error_out, PMC_EINVAL, 0,
                         "a pool of %llu bytes is too large: a shard holds 32 GiB at "
                         "most, and there are at most %u",
                         (unsigned long long)options->size_bytes,
                         shards ? shards : SHARDS_MAX);
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
view_shard(struct pmc_cache *cache, uint32_t number, const struct pmc_options *options)
{
    uint32_t timeout_ms =
        options->lock_timeout_ms ? options->lock_timeout_ms : DEFAULT_LOCK_TIMEOUT_MS;
    const struct pool_identity *identity = &cache->pool->header->identity;
    struct shard *shard = &cache->shards[number];
    uint8_t *index = (uint8_t *)pool_shard_header(cache->pool, number);
    size_t all_buckets = (size_t)identity->max_buckets + identity->max_overflow;
    bool has_ghosts = identity->eviction == PMC_EVICT_S3FIFO;

    shard->header = (struct shard_header *)(void *)index;
    shard->buckets = (struct bucket *)(void *)(index + 2 * PAGE_BYTES);
    shard->links = (struct bucket_links *)(void *)&shard->buckets[all_buckets];
    shard->ghosts = (struct ghost_set *)(void *)&shard->links[all_buckets];
    shard->spans = index + pool_shard_spans_off(identity);
    shard->leases = (struct lease_place *)(void *)(index + PAGE_BYTES);
    shard->versions = pool_versions(cache->pool) + (size_t)number * SHARD_VERSIONS;
    shard->heap = pool_shard_heap(cache->pool, number);
    shard->policy = evict_policy_of((enum pmc_eviction)identity->eviction);
    shard->pool = cache->pool;
    shard->hash_seed = cache->hash_seed;
    shard->lock_timeout_ns = (uint64_t)timeout_ms * 1000000u;
    shard->verify = options->verify ? STATE_UNVERIFIED : 0;
    shard->number = number;
    shard->max_blocks = (uint32_t)(identity->shard_bytes / BLOCK_BYTES);
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

    if (!cache)
        return PMC_ESYSTEM;
    cache->shards = calloc(count, sizeof *cache->shards);
    if (!cache->shards) {
        free(cache);
        return PMC_ESYSTEM;
    }
    cache->pool = pool;
    cache->shard_count = count;
    cache->shard_shift = 63u - (uint32_t)__builtin_ctz(count);
    cache->hash_seed = pool->header->identity.pool_id;
    for (uint32_t number = 0; number < count; number++)
        view_shard(cache, number, options);
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
    struct pmc_cache *cache;
    struct pool *pool;
    enum pmc_status status;

    if (error_out)
        *error_out = (struct pmc_error){0};
    status = check_options(options, error_out);
    if (status != PMC_OK)
        return status;
    status = pool_prepare(options, &pool, error_out);
    if (status != PMC_OK)
        return status;
    status = make_cache(pool, options, &cache);
    if (status != PMC_OK) {
        pool_abandon(pool);
        return pool_fail(error_out, status, 0, "no memory is left for the cache");
    }
    status = prepare_shards(cache, options, error_out);
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

/* ---- the rest -------------------------------------------------------- */

enum pmc_status
pmc_keys(struct pmc_cache *cache, struct pmc_cursor *cursor, const void *prefix,
         size_t prefix_size, void *buffer, size_t capacity, size_t *used_out)
{
    uint64_t now = cache_now_ms(cache);
    size_t used = 0;

    if (!buffer || capacity < 512 * 1024)
        return PMC_EINVAL;
    while (cursor->shard < cache->shard_count) {
        struct shard *shard = &cache->shards[cursor->shard];
        enum pmc_status status;
        size_t more = 0;

        if (cursor->bucket_count == 0)
            cursor->bucket_count = (uint32_t)min_u64(
                load_acquire(&shard->header->bucket_count), shard->max_buckets);
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
        (uint64_t)header->bucket_limit + load_relaxed(&header->overflow_limit);

    stats->put += load_relaxed(&header->put);
    stats->delete_ += load_relaxed(&header->delete_);
    stats->evict += load_relaxed(&header->evict);
    stats->expired += load_relaxed(&header->expired);
    stats->rejected += load_relaxed(&header->rejected);
    stats->moved_bytes += load_relaxed(&header->moved_bytes);
    stats->written_bytes += load_relaxed(&header->written_bytes);
    stats->entries += load_relaxed(&header->entries);
    stats->dram_size_used +=
        2 * PAGE_BYTES +
        buckets * (sizeof(struct bucket) + sizeof(struct bucket_links)) +
        header->ghost_sets * sizeof(struct ghost_set);
    stats->pool_size_used += load_relaxed(&header->used_blocks) * BLOCK_BYTES;
    stats->payload_bytes += load_relaxed(&header->payload_bytes);
    stats->allocated_bytes += shard_memory_blocks(shard) * BLOCK_BYTES;
    stats->given_back_bytes += load_relaxed(&header->given_back_bytes);
    stats->capacity_bytes += (uint64_t)shard->max_blocks * BLOCK_BYTES;
    stats->recoveries += load_relaxed(&header->recoveries);
    stats->damaged += load_relaxed(&header->damaged);
}

enum pmc_status
pmc_stats(struct pmc_cache *cache, struct pmc_stats *stats_out)
{
    const struct pool_header *header = cache->pool->header;
    struct pmc_stats stats = {
        .dram_size_used = pool_shards_off(&header->identity),
        .growths_refused = load_relaxed(&header->growths_refused),
    };

    for (uint32_t number = 0; number < cache->shard_count; number++)
        add_shard_stats(&cache->shards[number], &stats);
    for (uint32_t place = 0; place < ATTACHMENTS_MAX; place++) {
        const struct attachment *attachment = &cache->pool->attachments[place];

        stats.hit += load_relaxed(&attachment->quick.hit) +
                     load_relaxed(&attachment->shared.hit);
        stats.miss += load_relaxed(&attachment->quick.miss) +
                      load_relaxed(&attachment->shared.miss);
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
    for (uint32_t number = 0; number < cache->shard_count; number++)
        cache->shards[number].clock_offset_ms += delta_ms;
}
