/*
 * The index of a shard; see index.h.
 */
#include "index.h"

#include <string.h>

#include "fault.h"
#include "hash.h"
#include "queue.h"

/* Entries per primary slot, in percent, above which a bucket is split. */
#define LOAD_PERCENT 85u
#define GHOSTS_PER_100_ENTRIES 150u

static uint32_t
primary_of(const struct shard *shard, uint64_t hash)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);

    return index_bucket_of(hash, (uint32_t)min_u64(count, shard->max_buckets));
}

uint32_t
index_chain_next(const struct shard *shard, const struct bucket *bucket)
{
    uint32_t next = load_relaxed(&bucket->overflow);

    if (next < shard->max_buckets ||
        next - shard->max_buckets >=
            min_u64(load_relaxed(&shard->header->overflow_limit), shard->max_overflow))
        return NO_BUCKET;
    return next;
}

/* Overflow buckets ever taken, as far as there are so many. */
static uint32_t
overflow_used(const struct shard *shard)
{
    return (uint32_t)min_u64(shard->header->overflow_used, shard->max_overflow);
}

void
index_format_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t count = load_relaxed(&header->bucket_count);

    if (count == 0 || count > shard->max_buckets) {
        count = 1;
        store_relaxed(&header->bucket_count, count);
    }
    for (uint32_t number = 0; number < count; number++) {
        struct bucket *bucket = &shard->buckets[number];

        index_write_begin(bucket);
        store_relaxed(&bucket->overflow, NO_BUCKET);
        store_relaxed(&bucket->tags[0], 0);
        store_relaxed(&bucket->tags[1], 0);
        index_write_end(bucket);
        STEP("clear.bucket");
    }
    for (uint32_t number = 0; number < overflow_used(shard); number++) {
        struct bucket *bucket = &shard->buckets[shard->max_buckets + number];

        store_relaxed(&bucket->tags[0], 0);
        store_relaxed(&bucket->tags[1], 0);
    }
    header->overflow_used = 0;
    header->overflow_free = NO_BUCKET;
    header->sweep_bucket = 0;
}

RACES_BY_DESIGN uint64_t
index_hash_at(const struct shard *shard, uint32_t offset)
{
    struct entry_head *head = entry_at(shard, offset);

    return hash_bytes(entry_key(head), head->key_size, shard->hash_seed);
}

RACES_BY_DESIGN bool
index_entry_is_sound(const struct shard *shard, uint32_t offset, uint8_t check)
{
    uint32_t limit = (uint32_t)min_u64(load_relaxed(&shard->header->limit_blocks),
                                       shard->max_blocks);
    uint64_t blocks;

    if (offset >= limit || limit - offset < 2 || !extent_is_entry(shard, offset))
        return false;
    blocks = extent_blocks(shard, offset);
    return blocks <= limit - offset && (uint8_t)blocks == check;
}

/* Does the slot point at an entry of its size? */
static bool
slot_is_sound(const struct shard *shard, const struct bucket *bucket, uint32_t way)
{
    return index_entry_is_sound(shard, load_relaxed(&bucket->offset[way]),
                                load_relaxed(&bucket->check[way]));
}

/* ---- finding --------------------------------------------------------- */

static bool
key_equals(const struct shard *shard, uint32_t offset, const void *key, size_t key_size)
{
    struct entry_head *head = entry_at(shard, offset);

    return head->key_size == key_size &&
           (key_size == 0 || memcmp(entry_key(head), key, key_size) == 0);
}

uint32_t
index_find_locked(const struct shard *shard, uint64_t hash, const void *key,
                  size_t key_size)
{
    uint32_t number = primary_of(shard, hash);
    uint16_t tag = index_tag(hash);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        const struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t offset = load_relaxed(&bucket->offset[way]);

            if (slot_tag(bucket, way) == tag &&
                index_entry_is_sound(shard, offset,
                                     load_relaxed(&bucket->check[way])) &&
                key_equals(shard, offset, key, key_size))
                return number * BUCKET_SLOTS + way;
        }
        number = index_chain_next(shard, bucket);
    }
    return NO_SLOT;
}

bool
index_is_doubtful_locked(const struct shard *shard, uint64_t hash)
{
    uint32_t number = primary_of(shard, hash);
    uint16_t tag = index_tag(hash);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        const struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            if (slot_tag(bucket, way) == tag && !slot_is_sound(shard, bucket, way))
                return true;
        number = index_chain_next(shard, bucket);
    }
    return false;
}

uint32_t
index_find_offset_locked(const struct shard *shard, uint64_t hash, uint32_t offset)
{
    uint32_t number = primary_of(shard, hash);
    uint16_t tag = index_tag(hash);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        const struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            if (slot_tag(bucket, way) == tag &&
                load_relaxed(&bucket->offset[way]) == offset)
                return number * BUCKET_SLOTS + way;
        number = index_chain_next(shard, bucket);
    }
    return NO_SLOT;
}

uint32_t
index_any_in_chain(const struct shard *shard, uint64_t hash)
{
    uint32_t number = primary_of(shard, hash);

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        if (slot_tag(&shard->buckets[number], way) != 0)
            return number * BUCKET_SLOTS + way;
    return NO_SLOT;
}

/* ---- slots ----------------------------------------------------------- */

struct slot_content
index_read_slot(const struct shard *shard, uint32_t slot)
{
    const struct bucket *bucket = slot_bucket(shard, slot);
    uint32_t way = slot % BUCKET_SLOTS;

    return (struct slot_content){
        .offset = load_relaxed(&bucket->offset[way]),
        .deadline = slot_deadline(bucket, way),
        .tag = slot_tag(bucket, way),
        .heat = load_relaxed(&bucket->heat[way]),
        .state = load_relaxed(&bucket->state[way]),
        .check = load_relaxed(&bucket->check[way]),
    };
}

static void
write_tag(struct bucket *bucket, uint32_t way, uint16_t tag)
{
    uint32_t shift = way % 4 * 16;
    uint64_t word = load_relaxed(&bucket->tags[way / 4]);

    word &= ~(UINT64_C(0xffff) << shift);
    store_relaxed(&bucket->tags[way / 4], word | (uint64_t)tag << shift);
}

void
index_write_slot(struct shard *shard, uint32_t slot, const struct slot_content *content)
{
    struct bucket *bucket = slot_bucket(shard, slot);
    uint32_t way = slot % BUCKET_SLOTS;

    store_relaxed(&bucket->offset[way], content->offset);
    STEP("slot.offset");
    store_relaxed(&bucket->deadline_low[way], (uint32_t)content->deadline);
    store_relaxed(&bucket->deadline_high[way], (uint8_t)(content->deadline >> 32));
    STEP("slot.deadline");
    store_relaxed(&bucket->heat[way], content->heat);
    store_relaxed(&bucket->state[way], content->state);
    store_relaxed(&bucket->check[way], content->check);
    STEP("slot.check");
    write_tag(bucket, way, content->tag);
}

void
index_clear_slot(struct shard *shard, uint32_t slot)
{
    write_tag(slot_bucket(shard, slot), slot % BUCKET_SLOTS, 0);
}

static void
intend(struct shard *shard, const struct bucket *primary, uint32_t slot,
       enum intent_kind kind)
{
    struct shard_header *header = shard->header;

    header->intent_old = index_read_slot(shard, slot);
    store_relaxed(&header->intent_slot, slot);
    store_relaxed(&header->intent_bucket, (uint32_t)(primary - shard->buckets));
    store_release(&header->intent_kind, (uint32_t)kind);
    atomic_signal_fence(memory_order_seq_cst);
}

static void
intent_done(struct shard *shard)
{
    atomic_signal_fence(memory_order_seq_cst);
    store_release(&shard->header->intent_kind, (uint32_t)INTENT_NONE);
}

/* Begin and end changing what is stored under a key: its version is odd from
 * before the new state can be seen until after the old one no longer can. */
static void
change_begin(struct shard *shard, uint64_t hash, struct bucket *primary)
{
    _Atomic uint64_t *version = index_version(shard, hash);

    store_relaxed(version, load_relaxed(version) | 1);
    index_write_begin(primary);
}

static void
change_end(struct shard *shard, uint64_t hash, struct bucket *primary)
{
    _Atomic uint64_t *version = index_version(shard, hash);

    index_write_end(primary);
    if (MUTANT("same-version"))
        store_relaxed(version, load_relaxed(version) - 2);
    store_release(version, (load_relaxed(version) | 1) + 1);
}

void
index_absent_locked(struct shard *shard, uint64_t hash)
{
    _Atomic uint64_t *version = index_version(shard, hash);

    store_release(version, (load_relaxed(version) | 1) + 1);
}

void
index_change_all_begin(struct shard *shard)
{
    for (uint32_t i = 0; i < SHARD_VERSIONS; i++)
        store_relaxed(&shard->versions[i], load_relaxed(&shard->versions[i]) | 1);
    atomic_thread_fence(memory_order_release);
}

void
index_change_all_end(struct shard *shard)
{
    for (uint32_t i = 0; i < SHARD_VERSIONS; i++)
        store_release(&shard->versions[i], (load_relaxed(&shard->versions[i]) | 1) + 1);
}

static struct bucket *
primary_bucket(const struct shard *shard, uint64_t hash)
{
    return &shard->buckets[primary_of(shard, hash)];
}

void
index_update_locked(struct shard *shard, uint64_t hash, uint32_t slot,
                    const struct slot_content *content)
{
    struct bucket *primary = primary_bucket(shard, hash);

    intend(shard, primary, slot, INTENT_UPDATE);
    STEP("update.begin");
    change_begin(shard, hash, primary);
    index_write_slot(shard, slot, content);
    STEP("update.written");
    change_end(shard, hash, primary);
    STEP("update.end");
    intent_done(shard);
}

void
index_move_locked(struct shard *shard, uint64_t hash, uint32_t slot, uint32_t offset)
{
    struct bucket *primary = primary_bucket(shard, hash);

    index_write_begin(primary);
    STEP("move.begin");
    store_relaxed(&slot_bucket(shard, slot)->offset[slot % BUCKET_SLOTS], offset);
    STEP("move.written");
    index_write_end(primary);
}

/* The bucket is in no chain any more. Its slots are cleared, because the expiry
 * sweep looks at every overflow bucket ever taken. */
static void
give_overflow(struct shard *shard, uint32_t number)
{
    struct bucket *bucket = &shard->buckets[number];

    store_relaxed(&bucket->tags[0], 0);
    store_relaxed(&bucket->tags[1], 0);
    store_relaxed(&bucket->overflow, shard->header->overflow_free);
    shard->header->overflow_free = number;
}

static bool
bucket_is_empty(const struct bucket *bucket)
{
    return load_relaxed(&bucket->tags[0]) == 0 && load_relaxed(&bucket->tags[1]) == 0;
}

/* ---- overflow -------------------------------------------------------- */

/* May this bucket be what the list of free ones names? Those hold nothing. */
static bool
overflow_is_free(const struct shard *shard, uint32_t number)
{
    return number >= shard->max_buckets &&
           number - shard->max_buckets < overflow_used(shard) &&
           bucket_is_empty(&shard->buckets[number]);
}

static uint32_t
take_overflow(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t limit =
        (uint32_t)min_u64(load_relaxed(&header->overflow_limit), shard->max_overflow);
    uint32_t number = header->overflow_free;
    struct bucket *bucket;

    if (overflow_is_free(shard, number)) {
        header->overflow_free = load_relaxed(&shard->buckets[number].overflow);
    } else {
        header->overflow_free = NO_BUCKET;
        number = shard->max_buckets + header->overflow_used;
        while (header->overflow_used < limit &&
               !bucket_is_empty(&shard->buckets[number])) {
            header->overflow_used++; /* it was miscounted */
            number++;
        }
        if (header->overflow_used >= limit)
            return NO_BUCKET;
        header->overflow_used++;
    }
    bucket = &shard->buckets[number];
    store_relaxed(&bucket->tags[0], 0);
    store_relaxed(&bucket->tags[1], 0);
    store_relaxed(&bucket->overflow, NO_BUCKET);
    return number;
}

/* A free slot of the chain that starts at number, lengthened if need be. The
 * primary bucket is odd, or nobody can reach it yet. */
static uint32_t
free_slot_in_chain(struct shard *shard, uint32_t number)
{
    for (int hops = 0; hops < CHAIN_MAX; hops++) {
        struct bucket *bucket = &shard->buckets[number];
        uint32_t next = index_chain_next(shard, bucket);

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            if (slot_tag(bucket, way) == 0)
                return number * BUCKET_SLOTS + way;
        if (next == NO_BUCKET) {
            next = take_overflow(shard);
            if (next == NO_BUCKET)
                return NO_SLOT;
            STEP("insert.overflow");
            store_relaxed(&bucket->overflow, next);
        }
        number = next;
    }
    return NO_SLOT;
}

uint32_t
index_insert_locked(struct shard *shard, uint64_t hash,
                    const struct slot_content *content)
{
    uint32_t number = primary_of(shard, hash);
    struct bucket *primary = &shard->buckets[number];
    uint32_t slot;

    change_begin(shard, hash, primary);
    slot = free_slot_in_chain(shard, number);
    if (slot != NO_SLOT) {
        intend(shard, primary, slot, INTENT_SLOT);
        STEP("insert.begin");
        index_write_slot(shard, slot, content);
        STEP("insert.written");
    }
    change_end(shard, hash, primary);
    STEP("insert.end");
    intent_done(shard);
    return slot;
}

/* ---- splitting ------------------------------------------------------- */

bool
index_belongs(const struct shard *shard, uint32_t primary, uint32_t offset)
{
    return primary_of(shard, index_hash_at(shard, offset)) == primary;
}

static void
copy_slot(struct shard *shard, uint32_t from, uint32_t to)
{
    struct slot_content content = index_read_slot(shard, from);

    index_write_slot(shard, to, &content);
}

/* Copy what belongs to the new bucket. False: no overflow bucket was left, and
 * the copies are to be forgotten. */
static bool
split_copy(struct shard *shard, uint32_t parent, uint32_t child)
{
    uint32_t number = parent;

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        const struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t offset = load_relaxed(&bucket->offset[way]);
            uint32_t to;

            if (slot_tag(bucket, way) == 0 || !slot_is_sound(shard, bucket, way) ||
                index_bucket_of(index_hash_at(shard, offset), child + 1) != child)
                continue;
            to = free_slot_in_chain(shard, child);
            if (to == NO_SLOT)
                return false;
            copy_slot(shard, number * BUCKET_SLOTS + way, to);
            STEP("split.copy");
        }
        number = index_chain_next(shard, bucket);
    }
    return true;
}

/* Clear in the parent what now lives in the child, and tell the queues. */
static void
split_clear(struct shard *shard, uint32_t parent)
{
    uint32_t number = parent;

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        struct bucket *bucket = &shard->buckets[number];

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t offset = load_relaxed(&bucket->offset[way]);
            uint64_t hash;
            uint32_t to;

            if (slot_tag(bucket, way) == 0 || !slot_is_sound(shard, bucket, way))
                continue;
            hash = index_hash_at(shard, offset);
            if (primary_of(shard, hash) == parent)
                continue;
            to = index_find_offset_locked(shard, hash, offset);
            if (to == NO_SLOT)
                continue; /* its tag is not its key's: left for recovery */
            queue_relocate_locked(shard, number * BUCKET_SLOTS + way, to);
            write_tag(bucket, way, 0);
            STEP("split.clear");
        }
        number = index_chain_next(shard, bucket);
    }
}

/* A free slot of the chain in a bucket before stop. */
static uint32_t
free_slot_before(const struct shard *shard, uint32_t primary, uint32_t stop)
{
    uint32_t number = primary;

    for (int hops = 0; number != stop && number != NO_BUCKET && hops < CHAIN_MAX;
         hops++) {
        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            if (slot_tag(&shard->buckets[number], way) == 0)
                return number * BUCKET_SLOTS + way;
        number = index_chain_next(shard, &shard->buckets[number]);
    }
    return NO_SLOT;
}

/* Pull entries from overflow buckets into free slots before them, and give the
 * empty ones back. Killed in between, an entry is in two slots. */
static void
shorten_chain(struct shard *shard, uint32_t primary)
{
    uint32_t previous = primary;
    uint32_t number = index_chain_next(shard, &shard->buckets[primary]);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        struct bucket *bucket = &shard->buckets[number];
        uint32_t next = index_chain_next(shard, bucket);

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t from = number * BUCKET_SLOTS + way;
            uint32_t to;

            if (slot_tag(bucket, way) == 0)
                continue;
            to = free_slot_before(shard, primary, number);
            if (to == NO_SLOT)
                break;
            copy_slot(shard, from, to);
            STEP("split.pull");
            queue_relocate_locked(shard, from, to);
            write_tag(bucket, way, 0);
        }
        if (bucket_is_empty(bucket)) {
            store_relaxed(&shard->buckets[previous].overflow, next);
            STEP("split.unlink");
            give_overflow(shard, number);
        } else {
            previous = number;
        }
        number = next;
    }
}

void
index_remove_locked(struct shard *shard, uint64_t hash, uint32_t slot)
{
    struct bucket *primary = primary_bucket(shard, hash);

    if (MUTANT("evict-without-sequence")) {
        index_clear_slot(shard, slot);
        return;
    }
    intend(shard, primary, slot, INTENT_SLOT);
    STEP("remove.begin");
    change_begin(shard, hash, primary);
    index_clear_slot(shard, slot);
    STEP("remove.written");
    /* From here on the slot may take an entry from the chain's end. */
    intent_done(shard);
    shorten_chain(shard, (uint32_t)(primary - shard->buckets));
    change_end(shard, hash, primary);
    STEP("remove.end");
}

/* Two overflow buckets must be free before a split begins: then only a chain of
 * rare length can make it fail half-way. */
static bool
overflow_is_ample(const struct shard *shard)
{
    const struct shard_header *header = shard->header;
    uint64_t spare = load_relaxed(&header->overflow_limit) - header->overflow_used;
    uint32_t end = shard->max_buckets + overflow_used(shard);
    uint32_t number = header->overflow_free;

    for (; spare < 2 && number >= shard->max_buckets && number < end; spare++)
        number = load_relaxed(&shard->buckets[number].overflow);
    return spare >= 2;
}

/* The copies in a bucket that is not published after all. */
static void
forget_copies(struct shard *shard, struct bucket *child)
{
    uint32_t number = index_chain_next(shard, child);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        uint32_t next = index_chain_next(shard, &shard->buckets[number]);

        give_overflow(shard, number);
        number = next;
    }
    store_relaxed(&child->overflow, NO_BUCKET);
    store_relaxed(&child->tags[0], 0);
    store_relaxed(&child->tags[1], 0);
}

static void
split_next_bucket(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t child = load_relaxed(&header->bucket_count);
    uint32_t parent = child ^ (UINT32_C(1) << (31 - __builtin_clz(child)));
    struct bucket *old = &shard->buckets[parent];
    struct bucket *new = &shard->buckets[child];

    STEP("split.begin");
    index_write_begin(old);
    index_write_begin(new);
    store_relaxed(&new->overflow, NO_BUCKET);
    store_relaxed(&new->tags[0], 0);
    store_relaxed(&new->tags[1], 0);
    if (split_copy(shard, parent, child)) {
        STEP("split.publish");
        store_release(&header->bucket_count, child + 1);
        STEP("split.published");
        split_clear(shard, parent);
        shorten_chain(shard, parent);
    } else {
        forget_copies(shard, new);
    }
    index_write_end(new);
    index_write_end(old);
    STEP("split.end");
}

static bool
is_loaded(const struct shard *shard)
{
    uint64_t slots =
        (uint64_t)load_relaxed(&shard->header->bucket_count) * BUCKET_SLOTS;

    return load_relaxed(&shard->header->entries) * 100 > slots * LOAD_PERCENT;
}

void
index_balance_locked(struct shard *shard)
{
    const struct shard_header *header = shard->header;

    for (int splits = 0; splits < 2 && is_loaded(shard); splits++) {
        uint32_t count = load_relaxed(&header->bucket_count);

        if (count == 0 || count >= min_u64(header->bucket_limit, shard->max_buckets) ||
            !overflow_is_ample(shard))
            return;
        split_next_bucket(shard);
    }
}

unsigned
index_wants(const struct shard *shard)
{
    const struct shard_header *header = shard->header;
    uint32_t count = load_relaxed(&header->bucket_count);
    uint64_t ghosts = load_relaxed(&header->entries) * GHOSTS_PER_100_ENTRIES / 100;
    unsigned wants = 0;

    if (is_loaded(shard) && count == header->bucket_limit && count < shard->max_buckets)
        wants |= INDEX_WANTS_BUCKETS;
    if (!overflow_is_ample(shard) &&
        load_relaxed(&header->overflow_limit) < shard->max_overflow)
        wants |= INDEX_WANTS_OVERFLOW;
    if (ghosts > (uint64_t)header->ghost_sets * GHOST_WAYS &&
        header->ghost_sets < shard->ghost_sets)
        wants |= INDEX_WANTS_GHOSTS;
    return wants;
}
