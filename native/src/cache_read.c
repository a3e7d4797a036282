/*
 * Look-ups; see cache.h.
 */
#include "cache.h"
#include "shard_ahead.h"
#include "shard_look.h"

/* pmc_get_many() does this many items at a time, of three groups in turn. */
#define GROUP 16u
#define ITEMS_UNDER_WAY (3 * GROUP)

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

/* What is not simply a hit. */
static COLD enum pmc_status
read_slowly(struct pmc_cache *cache, struct read_request *request,
            struct read_outcome *outcome_out)
{
    struct shard *shard = cache_shard(cache, request->hash);
    enum pmc_status status = shard_read(shard, request, outcome_out);

    if (status == PMC_MISS && ask_on_miss(cache, request)) {
        request->now_ms = 0;
        status = shard_read(shard, request, outcome_out);
    }
    if (status == PMC_OK)
        cache_count_hit(cache);
    else if (status == PMC_MISS)
        cache_count_miss(cache);
    return status;
}

static ALWAYS_INLINE enum pmc_status
read_counted(struct pmc_cache *cache, const struct shard *shard, struct bucket *primary,
             struct read_request *request, struct read_outcome *outcome_out)
{
    enum look seen = shard_look(shard, primary, request, outcome_out);

    if (UNLIKELY(seen != LOOK_HIT)) {
        struct read_request again = *request;
        struct read_outcome outcome;
        enum pmc_status status = PMC_EINVAL;

        if (seen != LOOK_REFUSED)
            status = read_slowly(cache, &again, &outcome);
        if (status == PMC_OK)
            *outcome_out = outcome;
        return status;
    }
    cache_count_hit(cache);
    return PMC_OK;
}

static inline struct pmc_found
found_of(const struct read_outcome *outcome)
{
    return (struct pmc_found){.generation = outcome->head.generation,
                              .value_size = outcome->head.size & EXTENT_SIZE,
                              .tag = outcome->head.tag};
}

/* As read_counted(), for callers that want no more than what was found. */
static ALWAYS_INLINE enum pmc_status
read_found(struct pmc_cache *cache, const struct shard *shard, struct bucket *primary,
           struct read_request *request, struct pmc_found *found_out)
{
    struct read_outcome outcome;
    enum pmc_status status = read_counted(cache, shard, primary, request, &outcome);

    if (LIKELY(status == PMC_OK) && found_out)
        *found_out = found_of(&outcome);
    return status;
}

/* Written in place: a copy would wait until the stores before it have left the
 * processor, and those for the look-up before. */
static ALWAYS_INLINE void
read_request_init(struct read_request *request_out, const struct pmc_cache *cache,
                  const void *key, size_t key_size)
{
    request_out->key = key;
    request_out->key_size = key_size;
    request_out->hash = cache_hash(cache, key, key_size);
    request_out->now_ms = 0;
    request_out->reserve = NULL;
    request_out->context = NULL;
    request_out->buffer = NULL;
    request_out->capacity = 0;
    request_out->offset = 0;
    request_out->known = 0;
    request_out->in_vain = NULL;
    request_out->bump = true;
}

enum pmc_status
pmc_get(struct pmc_cache *cache, const void *key, size_t key_size, void *buffer,
        size_t capacity, size_t offset, struct pmc_found *found_out)
{
    struct read_request request;
    const struct shard *shard;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    if (!buffer && capacity)
        return PMC_EINVAL;
    read_request_init(&request, cache, key, key_size);
    request.buffer = buffer;
    request.capacity = capacity;
    request.offset = offset;
    shard = cache_shard(cache, request.hash);
    return read_found(cache, shard, shard_primary(shard, request.hash), &request,
                      found_out);
}

enum pmc_status
pmc_get_reserve(struct pmc_cache *cache, const void *key, size_t key_size,
                pmc_reserve_fn reserve, void *context, struct pmc_found *found_out)
{
    struct read_request request;
    const struct shard *shard;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    if (!reserve)
        return PMC_EINVAL;
    read_request_init(&request, cache, key, key_size);
    request.reserve = reserve;
    request.context = context;
    shard = cache_shard(cache, request.hash);
    return read_found(cache, shard, shard_primary(shard, request.hash), &request,
                      found_out);
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
    read_request_init(request_out, cache, key, key_size);
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
        .value_size = outcome.head.size & EXTENT_SIZE,
        .stored_bytes = (size_t)entry_blocks(outcome.head.key_size,
                                             outcome.head.size & EXTENT_SIZE) *
                        BLOCK_BYTES,
        .ttl_ms = ttl_left(cache, entry_deadline(&outcome.head)),
        .generation = outcome.head.generation,
        .heat = outcome.heat,
        .tag = outcome.head.tag,
    };
    return PMC_OK;
}

const volatile uint64_t *
pmc_versions(struct pmc_cache *cache, size_t *count_out)
{
    *count_out = (size_t)cache->shard_count * SHARD_VERSIONS;
    return (const volatile uint64_t *)(uintptr_t)pool_versions(cache->pool);
}

size_t
pmc_version_index(struct pmc_cache *cache, const void *key, size_t key_size)
{
    uint64_t hash = cache_hash(cache, key, key_size);

    return cache_version_index(cache_shard(cache, hash), hash);
}

enum pmc_status
pmc_get_versioned(struct pmc_cache *cache, const void *key, size_t key_size,
                  uint64_t known, pmc_reserve_fn reserve, void *context,
                  struct pmc_versioned *versioned_out)
{
    struct read_request request;
    struct read_outcome outcome;
    const struct shard *shard;
    enum pmc_status status;

    if (!cache_key_is_valid(key, key_size, &status))
        return status;
    if (!reserve)
        return PMC_EINVAL;
    read_request_init(&request, cache, key, key_size);
    request.reserve = reserve;
    request.context = context;
    request.known = known;
    shard = cache_shard(cache, request.hash);
    versioned_out->version_index = cache_version_index(shard, request.hash);
    versioned_out->version = load_acquire(index_version(shard, request.hash));
    status = read_counted(cache, shard, shard_primary(shard, request.hash), &request,
                          &outcome);
    if (status == PMC_OK) {
        versioned_out->found = found_of(&outcome);
        versioned_out->ttl_ms = ttl_left(cache, entry_deadline(&outcome.head));
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
    read_request_init(&request, cache, key, key_size);
    return shard_read(cache_shard(cache, request.hash), &request, &outcome);
}

struct batch_reserve {
    pmc_reserve_many_fn reserve;
    void *context;
    size_t index;
    bool in_vain;
};

static void *
reserve_item(void *context, size_t value_size)
{
    const struct batch_reserve *batch = context;

    return batch->reserve(batch->context, batch->index, value_size);
}

/* An item on its way through the stages. */
struct item_under_way {
    const struct shard *shard;
    struct bucket *primary;
    const struct bucket *second; /* NULL: none, or it is not needed */
    uint64_t hash;
};

/* An invalid key is hashed as the empty one and refused when its turn comes. */
static ALWAYS_INLINE void
begin_item(struct pmc_cache *cache, const struct pmc_item *item,
           struct item_under_way *begun_out)
{
    enum pmc_status status;
    bool valid = cache_key_is_valid(item->key, item->key_size, &status);
    uint64_t hash = cache_hash(cache, item->key, valid ? item->key_size : 0);

    begun_out->hash = hash;
    begun_out->shard = cache_shard(cache, hash);
    begun_out->primary = shard_ahead_of_look(begun_out->shard, hash);
}

static ALWAYS_INLINE void
match_item(struct item_under_way *item)
{
    item->second = shard_ahead_of_match(item->shard, item->primary, item->hash);
}

static ALWAYS_INLINE void
match_second(const struct item_under_way *item)
{
    if (item->second)
        shard_ahead_of_match(item->shard, item->second, item->hash);
}

static inline void
finish_item(struct pmc_cache *cache, struct pmc_item *item,
            const struct item_under_way *begun, uint64_t now,
            struct batch_reserve *batch)
{
    struct read_request request = {
        .key = item->key,
        .key_size = item->key_size,
        .hash = begun->hash,
        .now_ms = now,
        .reserve = reserve_item,
        .context = batch,
        .in_vain = &batch->in_vain,
        .bump = true,
    };

    if (cache_key_is_valid(item->key, item->key_size, &item->status))
        item->status =
            read_found(cache, begun->shard, begun->primary, &request, &item->found);
}

/* Items [from, to) of a batch, all in the same stage. */
struct group {
    size_t from;
    size_t to;
};

/* The group that is so many groups behind the one that begins at item number at. */
static inline struct group
group_behind(size_t at, size_t groups, size_t count)
{
    size_t lag = groups * GROUP;

    if (at < lag)
        return (struct group){0, 0};
    return (struct group){at - lag, min_u64(at - lag + GROUP, count)};
}

/* A group is looked up in three stages, with a stage of another group between, so that
 * its buckets and entries come meanwhile. Each stage is a short loop: a request for
 * memory whose page is not known yet holds the processor up, but not those that follow
 * within its window, so that a group waits hardly longer than one item would. */
size_t
pmc_get_many(struct pmc_cache *cache, struct pmc_item *items, size_t count,
             pmc_reserve_many_fn reserve, void *context)
{
    struct batch_reserve batch = {.reserve = reserve, .context = context};
    struct item_under_way under_way[ITEMS_UNDER_WAY];
    uint64_t now = cache_now_ms(cache);
    size_t found = 0;

    for (size_t at = 0; at < count + 2 * GROUP; at += GROUP) {
        struct group begun = group_behind(at, 0, count);
        struct group matched = group_behind(at, 1, count);
        struct group copied = group_behind(at, 2, count);

        for (size_t i = begun.from; i < begun.to; i++)
            begin_item(cache, &items[i], &under_way[i % ITEMS_UNDER_WAY]);
        for (size_t i = matched.from; i < matched.to; i++)
            match_item(&under_way[i % ITEMS_UNDER_WAY]);
        for (size_t i = copied.from; i < copied.to; i++)
            match_second(&under_way[i % ITEMS_UNDER_WAY]);
        for (batch.index = copied.from; batch.index < copied.to; batch.index++) {
            struct pmc_item *item = &items[batch.index];

            finish_item(cache, item, &under_way[batch.index % ITEMS_UNDER_WAY], now,
                        &batch);
            found += item->status == PMC_OK;
        }
    }
    return found;
}
