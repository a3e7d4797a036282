/*
 * Changes; see cache.h.
 */
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "evict.h"
#include "expiry.h"
#include "shard_ahead.h"

/* How often a write asks for more memory before it gives up, and once more for each span
 * that its entry is long: what is away may be taken again in pieces as short as that. */
#define GROWTHS_A_WRITE 64u

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
    struct giving giving;
    bool gives;

    if (status != PMC_OK)
        return status;
    shard_note_time_locked(shard, request->now_ms);
    status = write(shard, request);
    if (status == PMC_EDAMAGED) {
        shard_recover_locked(shard);
        status = write(shard, request);
    }
    if (status == PMC_EDAMAGED) {
        shard_clear_locked(shard);
        status = write(shard, request);
    }
    if (status == PMC_OK && request->written_out)
        *request->written_out = (struct pmc_written){
            .version_index = cache_version_index(shard, request->hash),
            .version = load_relaxed(index_version(shard, request->hash)),
            .generation = (uint32_t)load_relaxed(&shard->header->generation)};
    /* What a write has just had allocated, and needs more of, is not free. */
    gives = status != SHARD_GROW_HEAP &&
            shard_give_begin_locked(shard, request->now_ms, &giving);
    shard_unlock(shard);
    if (UNLIKELY(gives))
        shard_give(shard, &giving);
    return pool_is_lost(shard->pool) ? PMC_EDAMAGED : status;
}

/* Write, giving the shard memory as often as it asks. What the file system
 * refuses is remembered, and the shard then makes do. */
static enum pmc_status
write_shard(struct shard *shard, write_fn write, struct write_request *request,
            uint64_t blocks, bool nowait)
{
    uint64_t growths_most = GROWTHS_A_WRITE + blocks / SPAN_BLOCKS;

    for (uint64_t growths = 0;; growths++) {
        enum pmc_status status = write_once(shard, write, request, nowait);

        if ((nowait || !shard_may_wait()) &&
            (status == SHARD_GROW_INDEX || status == SHARD_GROW_HEAP))
            return nowait ? PMC_BUSY : PMC_EWOULD_WAIT; /* growing takes time */
        if (status == SHARD_GROW_INDEX)
            status = shard_grow_index(shard);
        else if (status == SHARD_GROW_HEAP)
            status = shard_grow_heap(shard, blocks);
        else
            return status;
        request->no_growth = growths >= growths_most || status != PMC_OK;
    }
}

static struct write_request
write_request_of(const struct pmc_cache *cache, const void *key, size_t key_size,
                 int64_t ttl_ms, struct victims *victims)
{
    uint64_t now = cache_now_ms(cache);

    return (struct write_request){
        .key = key,
        .key_size = key_size,
        .hash = cache_hash(cache, key, key_size),
        .now_ms = now,
        .deadline = ttl_ms > 0 ? expiry_deadline(now, ttl_ms) : now,
        .victims = cache->on_evict ? victims : NULL,
    };
}

static void
count_rejected(struct pmc_cache *cache, enum pmc_status status)
{
    if (status == PMC_ETIMEDOUT)
        add_relaxed(&cache_counters(cache)->rejected, 1);
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

    if (!cache_key_is_valid(key, key_size, &status))
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
    request.lease = options->lease;
    request.tag = tag;
    request.written_out = options->written_out;
    shard = cache_shard(cache, request.hash);
    shard_ahead_of_write(shard, request.hash);
    shard->policy->foresee(shard, request.hash);
    request.checksum = shard_checksum(request.hash, tag, value, value_size);
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

/* A batch waits in vain once: from then on its items take what is free, and what is not
 * has timed out too. asked are the caller's flags, *flags those for the next item. */
static enum pmc_status
wait_once(enum pmc_status status, uint32_t asked, uint32_t *flags)
{
    if (status == PMC_ETIMEDOUT)
        *flags |= PMC_NOWAIT;
    return status == PMC_BUSY && !(asked & PMC_NOWAIT) ? PMC_ETIMEDOUT : status;
}

size_t
pmc_put_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
             const struct pmc_put_options *options)
{
    struct pmc_put_options each = options ? *options : plain_put;
    uint32_t asked = each.flags;
    size_t stored = 0;

    for (size_t i = 0; i < count; i++) {
        struct pmc_item *item = &items[i];
        enum pmc_status status;

        if (each.ttl_ms <= 0 && each.condition == PMC_ALWAYS)
            status = put_expired(cache, item->key, item->key_size, &each);
        else
            status = put_one(cache, item->key, item->key_size, item->value,
                             item->value_size, item->tag, &each);
        item->status = wait_once(status, asked, &each.flags);
        if (item->status != status)
            count_rejected(cache, item->status);
        stored += item->status == PMC_OK;
    }
    return stored;
}

enum pmc_status
pmc_delete(struct pmc_cache *cache, const void *key, size_t key_size, uint32_t flags)
{
    struct write_request request;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = write_request_of(cache, key, key_size, PMC_TTL_NONE, NULL);
    return write_shard(cache_shard(cache, request.hash), shard_delete_locked, &request,
                       0, (flags & PMC_NOWAIT) != 0);
}

size_t
pmc_delete_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
                uint32_t flags)
{
    uint32_t each = flags;
    size_t deleted = 0;

    for (size_t i = 0; i < count; i++) {
        enum pmc_status status =
            pmc_delete(cache, items[i].key, items[i].key_size, each);

        items[i].status = wait_once(status, flags, &each);
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
    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = write_request_of(cache, key, key_size, ttl_ms, NULL);
    return write_shard(cache_shard(cache, request.hash), shard_touch_locked, &request,
                       0, (flags & PMC_NOWAIT) != 0);
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
    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = (struct incr_request){
        .write = write_request_of(cache, key, key_size, options->ttl_ms, &victims),
        .delta = delta,
        .initial = options->initial,
        .create = options->create,
        .created_tag = options->tag};
    request.created_deadline = request.write.deadline;
    status = write_shard(cache_shard(cache, request.write.hash), shard_incr_locked,
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

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    request = write_request_of(cache, key, key_size, PMC_TTL_NONE, NULL);
    request.victims = &victims;
    status = key ? write_shard(cache_shard(cache, request.hash), shard_evict_locked,
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

/* A write gives back but a little; what was emptied may give back more. */
static void
give_all(struct shard *shard, uint64_t now_ms)
{
    struct giving giving;

    while (shard_lock(shard, false) == PMC_OK) {
        bool gives = shard_give_begin_locked(shard, now_ms, &giving);

        shard_unlock(shard);
        if (!gives)
            return;
        shard_give(shard, &giving);
    }
}

enum pmc_status
pmc_clear(struct pmc_cache *cache)
{
    uint64_t now = cache_now_ms(cache);

    for (uint32_t number = 0; number < cache->shard_count; number++) {
        struct shard *shard = &cache->shards[number];
        enum pmc_status status = shard_lock(shard, false);

        if (status != PMC_OK)
            return status;
        shard_note_time_locked(shard, now);
        /* Sizes that cannot be would outlast what they were damaged with. */
        if (!shard_geometry_is_possible(shard))
            shard_recover_locked(shard);
        shard_clear_locked(shard);
        shard_unlock(shard);
        give_all(shard, now);
    }
    return PMC_OK;
}
