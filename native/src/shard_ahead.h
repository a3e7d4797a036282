/*
 * Asking the processor for memory before it is needed, so that it comes while something
 * else is done. What comes may be changed by then: nothing here is relied on.
 */
#ifndef PMC_SHARD_AHEAD_H
#define PMC_SHARD_AHEAD_H

#include "shard_look.h"

/* What a write will need of the index. */
static inline void
shard_ahead_of_write(const struct shard *shard, uint64_t hash)
{
    const struct bucket *bucket = shard_primary(shard, hash);

    __builtin_prefetch(bucket);
    __builtin_prefetch(&shard->links[bucket - shard->buckets]);
    __builtin_prefetch(index_version(shard, hash));
}

/* What a look-up will need, first of three steps: the bucket. */
static ALWAYS_INLINE struct bucket *
shard_ahead_of_look(const struct shard *shard, uint64_t hash)
{
    struct bucket *primary = shard_primary(shard, hash);

    __builtin_prefetch(primary);
    return primary;
}

/* Second step: the head and the key of the entry that the bucket seems to have for this
 * hash. The processor's own prefetcher brings the value once a copy begins; asked for
 * line by line it came later. Without such an entry, the chain's next bucket: returned,
 * for the third step, which is this one again. NULL: there is nothing more to ask for. */
static ALWAYS_INLINE const struct bucket *
shard_ahead_of_match(const struct shard *shard, const struct bucket *bucket,
                     uint64_t hash)
{
    uint32_t matches = index_matches(bucket, index_tag(hash));
    const uint8_t *entry;
    uint32_t next;

    if (UNLIKELY(!matches)) {
        next = index_next_of(shard, load_relaxed(&bucket->seq));
        if (next == NO_BUCKET)
            return NULL;
        __builtin_prefetch(&shard->buckets[next]);
        return &shard->buckets[next];
    }
    /* Not checked: to ask for memory that is not there does nothing. */
    entry = (const uint8_t *)entry_at(
        shard, load_relaxed(&bucket->offset[index_match_way(matches)]));
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + CACHE_LINE_BYTES);
    return NULL;
}

#endif
