/*
 * The index of a shard; see index.h.
 */
#include "index.h"

#include <string.h>

#include "fault.h"
#include "ghost.h"
#include "hash.h"
#include "queue.h"

/* Entries per primary slot, in percent, above which a bucket is split. */
#define LOAD_PERCENT 80u
#define GHOSTS_PER_100_ENTRIES 150u
/* All are forgotten when their number changes: those that live are kept until so many
 * times as many are wanted. */
#define GHOSTS_WORTH_KEEPING 2u

static uint32_t
primary_of(const struct shard *shard, uint64_t hash)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);

    return index_bucket_of(hash, (uint32_t)min_u64(count, shard->max_buckets));
}

void
index_chain_to(struct shard *shard, uint32_t number, uint32_t next)
{
    _Atomic uint64_t *seq = &shard->buckets[number].seq;
    uint64_t place = next == NO_BUCKET ? 0 : next - shard->max_buckets + 1;

    store_relaxed(seq, (load_relaxed(seq) & ~SEQ_NEXT) | place << 1);
}

void
index_empty_bucket(struct shard *shard, uint32_t number)
{
    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        store_relaxed(&shard->buckets[number].tags[way], 0);
    index_chain_to(shard, number, NO_BUCKET);
}

static uint32_t
slots_in_use(const struct bucket *bucket)
{
    uint32_t used = 0;

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        used += slot_tag(bucket, way) != 0;
    return used;
}

bool
index_bucket_is_empty(const struct bucket *bucket)
{
    return slots_in_use(bucket) == 0;
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
        index_write_begin(&shard->buckets[number]);
        index_empty_bucket(shard, number);
        index_write_end(&shard->buckets[number]);
        STEP("clear.bucket");
    }
    for (uint32_t number = 0; number < overflow_used(shard); number++)
        index_empty_bucket(shard, shard->max_buckets + number);
    header->overflow_used = 0;
    header->overflow_free = NO_BUCKET;
    header->sweep_slot = 0;
}

RACES_BY_DESIGN uint64_t
index_hash_at(const struct shard *shard, uint32_t offset)
{
    struct entry_head *head = entry_at(shard, offset);

    return hash_bytes(entry_key(head), head->key_size, shard->hash_seed);
}

/* Is there an entry at offset, within the heap, of the sizes that the check of this
 * tag stands for? */
RACES_BY_DESIGN static bool
entry_is_sound(const struct shard *shard, uint32_t offset, uint16_t tag)
{
    uint32_t limit = shard_limit(shard);
    const struct entry_head *head = entry_at(shard, offset);

    return offset < limit && limit - offset >= 2 && (head->size & EXTENT_ENTRY) != 0 &&
           index_check(head->size, head->key_size) == (tag & TAG_CHECK) &&
           entry_blocks(head->key_size, head->size & EXTENT_SIZE) <= limit - offset;
}

bool
index_slot_is_sound(const struct shard *shard, uint32_t slot)
{
    return entry_is_sound(shard, slot_offset(shard, slot),
                          slot_tag(slot_bucket(shard, slot), slot % BUCKET_STRIDE));
}

/* ---- finding --------------------------------------------------------- */

static bool
key_equals(const struct shard *shard, uint32_t offset, const void *key, size_t key_size)
{
    struct entry_head *head = entry_at(shard, offset);

    return head->key_size == key_size &&
           (key_size == 0 || memcmp(entry_key(head), key, key_size) == 0);
}

/* Does the slot hold what is looked for? */
typedef bool (*slot_test)(const struct shard *shard, uint32_t slot,
                          const void *context);

/* The first slot of the hash's chain with its tag that passes the test. */
static inline uint32_t
find_in_chain(const struct shard *shard, uint64_t hash, slot_test test,
              const void *context)
{
    uint32_t number = primary_of(shard, hash);
    uint16_t tag = index_tag(hash);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        uint32_t matches = index_matches(&shard->buckets[number], tag);

        for (; matches; matches &= matches - 1) {
            uint32_t slot = number * BUCKET_STRIDE + index_match_way(matches);

            if (test(shard, slot, context))
                return slot;
        }
        number = index_chain_next(shard, number);
    }
    return NO_SLOT;
}

struct wanted_key {
    const void *key;
    size_t key_size;
};

static bool
slot_has_key(const struct shard *shard, uint32_t slot, const void *context)
{
    const struct wanted_key *wanted = context;

    return index_slot_is_sound(shard, slot) &&
           key_equals(shard, slot_offset(shard, slot), wanted->key, wanted->key_size);
}

uint32_t
index_find_locked(const struct shard *shard, uint64_t hash, const void *key,
                  size_t key_size)
{
    struct wanted_key wanted = {key, key_size};

    return find_in_chain(shard, hash, slot_has_key, &wanted);
}

/* Another key with this tag is rare enough to be hashed. */
static bool
slot_is_doubtful(const struct shard *shard, uint32_t slot, const void *context)
{
    const uint64_t *hash = context;
    uint64_t found;

    if (!index_slot_is_sound(shard, slot))
        return true;
    found = index_hash_at(shard, slot_offset(shard, slot));
    return index_tag(found) != index_tag(*hash) ||
           primary_of(shard, found) != primary_of(shard, *hash);
}

bool
index_is_doubtful_locked(const struct shard *shard, uint64_t hash)
{
    return find_in_chain(shard, hash, slot_is_doubtful, &hash) != NO_SLOT;
}

static bool
slot_has_offset(const struct shard *shard, uint32_t slot, const void *context)
{
    return slot_offset(shard, slot) == *(const uint32_t *)context;
}

uint32_t
index_find_offset_locked(const struct shard *shard, uint64_t hash, uint32_t offset)
{
    return find_in_chain(shard, hash, slot_has_offset, &offset);
}

uint32_t
index_any_in_chain(const struct shard *shard, uint64_t hash)
{
    uint32_t number = primary_of(shard, hash);

    for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
        if (slot_tag(&shard->buckets[number], way) != 0)
            return number * BUCKET_STRIDE + way;
    return NO_SLOT;
}

/* ---- slots ----------------------------------------------------------- */

struct slot_content
index_read_slot(const struct shard *shard, uint32_t slot)
{
    const struct bucket *bucket = slot_bucket(shard, slot);
    uint32_t way = slot % BUCKET_STRIDE;

    return (struct slot_content){
        .offset = load_relaxed(&bucket->offset[way]),
        .tag = slot_tag(bucket, way),
        .heat = load_relaxed(&bucket->heat[way]),
        .state = load_relaxed(&bucket->state[way]),
    };
}

void
index_write_slot(struct shard *shard, uint32_t slot, const struct slot_content *content)
{
    struct bucket *bucket = slot_bucket(shard, slot);
    uint32_t way = slot % BUCKET_STRIDE;

    store_relaxed(&bucket->offset[way], content->offset);
    STEP("slot.offset");
    store_relaxed(&bucket->heat[way], content->heat);
    store_relaxed(&bucket->state[way], content->state);
    STEP("slot.state");
    store_relaxed(&bucket->tags[way], content->tag);
}

void
index_clear_slot(struct shard *shard, uint32_t slot)
{
    store_relaxed(&slot_bucket(shard, slot)->tags[slot % BUCKET_STRIDE], 0);
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

    if (!MUTANT("skip-first-bump"))
        store_relaxed(version, load_relaxed(version) | 1);
    WRITE_DELAY();
    index_write_begin(primary);
}

static void
change_end(struct shard *shard, uint64_t hash, struct bucket *primary)
{
    _Atomic uint64_t *version = index_version(shard, hash);

    index_write_end(primary);
    WRITE_DELAY();
    if (MUTANT("skip-second-bump"))
        return;
    if (MUTANT("same-version"))
        store_relaxed(version, load_relaxed(version) - 2);
    store_release(version, (load_relaxed(version) | 1) + 1);
}

void
index_absent_locked(struct shard *shard, uint64_t hash)
{
    _Atomic uint64_t *version = index_version(shard, hash);

    if (!MUTANT("absent-keeps-version"))
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

/* The entry's head is written in place; readers of the bucket look again. */
void
index_touch_locked(struct shard *shard, uint64_t hash, uint32_t slot, uint64_t deadline)
{
    struct bucket *primary = primary_bucket(shard, hash);
    struct entry_head *head = entry_at(shard, slot_offset(shard, slot));

    shard->header->intent_deadline = entry_deadline(head);
    shard->header->intent_checksum = head->checksum;
    intend(shard, primary, slot, INTENT_TOUCH);
    STEP("touch.begin");
    change_begin(shard, hash, primary);
    head->checksum ^= entry_deadline_mark(entry_deadline(head));
    head->deadline_low = (uint32_t)deadline;
    STEP("touch.torn");
    head->deadline_high = (uint8_t)(deadline >> 32);
    head->checksum ^= entry_deadline_mark(deadline);
    change_end(shard, hash, primary);
    STEP("touch.end");
    intent_done(shard);
}

void
index_move_locked(struct shard *shard, uint64_t hash, uint32_t slot, uint32_t offset)
{
    struct bucket *primary = primary_bucket(shard, hash);

    index_write_begin(primary);
    STEP("move.begin");
    store_relaxed(&slot_bucket(shard, slot)->offset[slot % BUCKET_STRIDE], offset);
    STEP("move.written");
    index_write_end(primary);
}

/* ---- overflow -------------------------------------------------------- */

/* The bucket is in no chain any more. Its slots are cleared, because the expiry
 * sweep looks at every overflow bucket ever taken. */
static void
give_overflow(struct shard *shard, uint32_t number)
{
    index_empty_bucket(shard, number);
    shard->links[number].next_free = shard->header->overflow_free;
    shard->header->overflow_free = number;
}

/* May this bucket be what the list of free ones names? Those hold nothing. */
static bool
overflow_is_free(const struct shard *shard, uint32_t number)
{
    return number >= shard->max_buckets &&
           number - shard->max_buckets < overflow_used(shard) &&
           index_bucket_is_empty(&shard->buckets[number]);
}

static uint32_t
take_overflow(struct shard *shard)
{
    struct shard_header *header = shard->header;
    uint32_t limit =
        (uint32_t)min_u64(load_relaxed(&header->overflow_limit), shard->max_overflow);
    uint32_t number = header->overflow_free;

    if (overflow_is_free(shard, number)) {
        header->overflow_free = shard->links[number].next_free;
    } else {
        header->overflow_free = NO_BUCKET;
        number = shard->max_buckets + header->overflow_used;
        while (header->overflow_used < limit &&
               !index_bucket_is_empty(&shard->buckets[number])) {
            header->overflow_used++; /* it was miscounted */
            number++;
        }
        if (header->overflow_used >= limit)
            return NO_BUCKET;
        header->overflow_used++;
    }
    index_empty_bucket(shard, number);
    return number;
}

/* A free slot of the chain that starts at number, lengthened if need be. The
 * primary bucket is odd, or nobody can reach it yet. */
static uint32_t
free_slot_in_chain(struct shard *shard, uint32_t number)
{
    for (int hops = 0; hops < CHAIN_MAX; hops++) {
        const struct bucket *bucket = &shard->buckets[number];
        uint32_t next = index_chain_next(shard, number);

        for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
            if (slot_tag(bucket, way) == 0)
                return number * BUCKET_STRIDE + way;
        if (next == NO_BUCKET) {
            next = take_overflow(shard);
            if (next == NO_BUCKET)
                return NO_SLOT;
            STEP("insert.overflow");
            index_chain_to(shard, number, next);
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
index_belongs(const struct shard *shard, uint32_t primary, uint64_t hash)
{
    return primary_of(shard, hash) == primary;
}

static void
copy_slot(struct shard *shard, uint32_t from, uint32_t to)
{
    struct slot_content content = index_read_slot(shard, from);

    index_write_slot(shard, to, &content);
}

/* Is there an entry in the slot, and does it look like one? */
static bool
slot_is_whole(const struct shard *shard, uint32_t slot)
{
    return slot_tag(slot_bucket(shard, slot), slot % BUCKET_STRIDE) != 0 &&
           index_slot_is_sound(shard, slot);
}

/* Copy what belongs to the new bucket. False: no overflow bucket was left, and
 * the copies are to be forgotten. */
static bool
split_copy(struct shard *shard, uint32_t parent, uint32_t child)
{
    uint32_t number = parent;

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t from = number * BUCKET_STRIDE + way;
            uint32_t to;

            if (!slot_is_whole(shard, from) ||
                index_bucket_of(index_hash_at(shard, slot_offset(shard, from)),
                                child + 1) != child)
                continue;
            to = free_slot_in_chain(shard, child);
            if (to == NO_SLOT)
                return false;
            copy_slot(shard, from, to);
            STEP("split.copy");
        }
        number = index_chain_next(shard, number);
    }
    return true;
}

/* Clear in the parent what now lives in the child, and tell the queues. */
static void
split_clear(struct shard *shard, uint32_t parent)
{
    uint32_t number = parent;

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t from = number * BUCKET_STRIDE + way;
            uint64_t hash;
            uint32_t to;

            if (!slot_is_whole(shard, from))
                continue;
            hash = index_hash_at(shard, slot_offset(shard, from));
            if (primary_of(shard, hash) == parent)
                continue;
            to = index_find_offset_locked(shard, hash, slot_offset(shard, from));
            if (to == NO_SLOT)
                continue; /* its tag is not its key's: left for recovery */
            queue_relocate_locked(shard, from, to);
            index_clear_slot(shard, from);
            STEP("split.clear");
        }
        number = index_chain_next(shard, number);
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
                return number * BUCKET_STRIDE + way;
        number = index_chain_next(shard, number);
    }
    return NO_SLOT;
}

/* Ask the processor for what pulling the entries of a bucket will touch. */
static void
foresee_pulls(const struct shard *shard, uint32_t number)
{
    __builtin_prefetch(&shard->links[number]);
    prefetch_entries(shard, number);
}

/* Pull entries from overflow buckets into free slots before them, and give the
 * empty ones back. Killed in between, an entry is in two slots. */
static void
shorten_chain(struct shard *shard, uint32_t primary)
{
    uint32_t previous = primary;
    uint32_t number = index_chain_next(shard, primary);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        uint32_t next = index_chain_next(shard, number);

        foresee_pulls(shard, number);
        for (uint32_t way = 0; way < BUCKET_SLOTS; way++) {
            uint32_t from = number * BUCKET_STRIDE + way;
            uint32_t to;

            if (slot_tag(&shard->buckets[number], way) == 0)
                continue;
            to = free_slot_before(shard, primary, number);
            if (to == NO_SLOT)
                break;
            copy_slot(shard, from, to);
            STEP("split.pull");
            queue_relocate_locked(shard, from, to);
            index_clear_slot(shard, from);
        }
        if (index_bucket_is_empty(&shard->buckets[number])) {
            index_chain_to(shard, previous, next);
            STEP("split.unlink");
            give_overflow(shard, number);
        } else {
            previous = number;
        }
        number = next;
    }
}

/* Are as many slots of the chain free as a bucket has? Then one can be given back.
 * With fewer, what an entry leaves is filled by the next one that comes: pulling one
 * there would only mean to look for it, and for its neighbours in the queue. */
static bool
has_bucket_to_spare(const struct shard *shard, uint32_t primary)
{
    uint32_t number = primary;
    uint32_t free = 0;

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        free += BUCKET_SLOTS - slots_in_use(&shard->buckets[number]);
        number = index_chain_next(shard, number);
    }
    return free >= BUCKET_SLOTS;
}

void
index_remove_locked(struct shard *shard, uint64_t hash, uint32_t slot)
{
    struct bucket *primary = primary_bucket(shard, hash);
    uint32_t number = (uint32_t)(primary - shard->buckets);

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
    if (index_chain_next(shard, number) != NO_BUCKET &&
        has_bucket_to_spare(shard, number))
        shorten_chain(shard, number);
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
        number = shard->links[number].next_free;
    return spare >= 2;
}

/* The copies in a bucket that is not published after all. */
static void
forget_copies(struct shard *shard, uint32_t child)
{
    uint32_t number = index_chain_next(shard, child);

    for (int hops = 0; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
        uint32_t next = index_chain_next(shard, number);

        give_overflow(shard, number);
        number = next;
    }
    index_empty_bucket(shard, child);
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
    index_empty_bucket(shard, child);
    if (split_copy(shard, parent, child)) {
        STEP("split.publish");
        store_release(&header->bucket_count, child + 1);
        STEP("split.published");
        split_clear(shard, parent);
        shorten_chain(shard, parent);
    } else {
        forget_copies(shard, child);
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

uint64_t
index_ghosts_for(const struct shard *shard)
{
    return load_relaxed(&shard->header->entries) * GHOSTS_PER_100_ENTRIES / 100;
}

static bool
ghosts_are_alive(const struct shard *shard)
{
    return ghost_blocks(shard, false) != 0 || ghost_blocks(shard, true) != 0;
}

unsigned
index_wants(const struct shard *shard)
{
    const struct shard_header *header = shard->header;
    uint32_t count = load_relaxed(&header->bucket_count);
    uint64_t ghosts = (uint64_t)header->ghost_sets * GHOST_WAYS;
    unsigned wants = 0;

    if (is_loaded(shard) && count == header->bucket_limit && count < shard->max_buckets)
        wants |= INDEX_WANTS_BUCKETS;
    if (!overflow_is_ample(shard) &&
        load_relaxed(&header->overflow_limit) < shard->max_overflow)
        wants |= INDEX_WANTS_OVERFLOW;
    if (ghosts_are_alive(shard))
        ghosts *= GHOSTS_WORTH_KEEPING;
    if (index_ghosts_for(shard) > ghosts && header->ghost_sets < shard->ghost_sets)
        wants |= INDEX_WANTS_GHOSTS;
    return wants;
}
