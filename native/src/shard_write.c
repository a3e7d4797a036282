/*
 * Changing a shard; see shard.h. Every function needs the shard lock.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "copy.h"
#include "evict.h"
#include "expiry.h"
#include "fault.h"
#include "lease.h"
#include "pool.h"
#include "queue.h"
#include "shard.h"

/* Buckets that a write looks through for expired entries. */
#define SWEEPS_A_WRITE 2

/* ---- taking entries out ---------------------------------------------- */

/* Keep the key for the callback. Without memory for it the callback is not
 * called: the eviction itself must go on. */
static void
remember_victim(const struct shard *shard, uint32_t offset, enum pmc_cause cause,
                struct victims *victims)
{
    struct entry_head *head = entry_at(shard, offset);
    struct victim record = {.cause = (uint32_t)cause, .key_size = head->key_size};
    size_t size = sizeof record + round_up(record.key_size, 4);

    if (victims->used + size > victims->capacity) {
        size_t capacity = (victims->used + size) * 2;
        uint8_t *bytes = realloc(victims->bytes, capacity);

        if (!bytes)
            return;
        victims->bytes = bytes;
        victims->capacity = capacity;
    }
    memcpy(victims->bytes + victims->used, &record, sizeof record);
    memcpy(victims->bytes + victims->used + sizeof record, entry_key(head),
           record.key_size);
    victims->used += size;
}

static void
count_entry_gone(struct shard *shard, const struct entry_head *head, uint32_t blocks)
{
    struct shard_header *header = shard->header;

    store_relaxed(&header->entries, load_relaxed(&header->entries) - 1);
    if (entry_deadline(head) != 0)
        store_relaxed(&header->mortals, load_relaxed(&header->mortals) - 1);
    store_relaxed(&header->used_blocks, load_relaxed(&header->used_blocks) - blocks);
    store_relaxed(&header->payload_bytes, load_relaxed(&header->payload_bytes) -
                                              head->key_size -
                                              (head->size & EXTENT_SIZE));
}

enum pmc_status
shard_drop_locked(struct shard *shard, uint32_t slot, uint64_t hash,
                  enum pmc_cause cause, struct victims *victims)
{
    struct slot_content content = index_read_slot(shard, slot);
    uint32_t blocks = slot_blocks(shard, slot);

    /* Freeing what another slot points at would give its bytes to two entries. */
    if (index_find_offset_locked(shard, hash, content.offset) != slot)
        return PMC_EDAMAGED;
    if (victims && cause != CAUSE_DELETED)
        remember_victim(shard, content.offset, cause, victims);
    if (cause == PMC_CAUSE_EVICTED)
        shard->policy->evicted(shard, slot, hash, blocks);
    bump_locked(&shard->header->evict,
                cause == PMC_CAUSE_EVICTED || cause == PMC_CAUSE_REQUESTED);
    bump_locked(&shard->header->expired, cause == PMC_CAUSE_EXPIRED);
    queue_remove_locked(shard, slot, blocks);
    index_remove_locked(shard, hash, slot);
    STEP("drop.removed");
    count_entry_gone(shard, entry_at(shard, content.offset), blocks);
    return alloc_free_locked(shard, content.offset, blocks);
}

static uint64_t
slot_hash(const struct shard *shard, uint32_t slot)
{
    return index_hash_at(shard, slot_offset(shard, slot));
}

static enum pmc_status
sweep_expired(struct shard *shard, const struct write_request *request)
{
    for (int sweep = 0; sweep < SWEEPS_A_WRITE; sweep++) {
        uint32_t slot = expiry_sweep_locked(shard, request->now_ms);
        enum pmc_status status;

        if (slot == NO_SLOT)
            continue;
        if (!index_slot_is_sound(shard, slot))
            return PMC_EDAMAGED;
        status = shard_drop_locked(shard, slot, slot_hash(shard, slot),
                                   PMC_CAUSE_EXPIRED, request->victims);
        if (status != PMC_OK)
            return status;
    }
    return PMC_OK;
}

/* ---- put ------------------------------------------------------------- */

static uint64_t
slot_deadline(const struct shard *shard, uint32_t slot)
{
    return entry_deadline(entry_at(shard, slot_offset(shard, slot)));
}

static uint32_t
find_live(const struct shard *shard, const struct write_request *request)
{
    uint32_t slot =
        index_find_locked(shard, request->hash, request->key, request->key_size);

    if (slot != NO_SLOT && expiry_passed(slot_deadline(shard, slot), request->now_ms))
        return NO_SLOT;
    return slot;
}

static bool
condition_holds(const struct shard *shard, const struct write_request *request)
{
    uint32_t slot = find_live(shard, request);

    switch (request->condition) {
    case PMC_IF_ABSENT:
        return slot == NO_SLOT;
    case PMC_IF_PRESENT:
        return slot != NO_SLOT;
    case PMC_IF_GENERATION:
        return slot != NO_SLOT &&
               entry_at(shard, slot_offset(shard, slot))->generation ==
                   request->generation;
    case PMC_IF_VERSION:
        return load_relaxed(index_version(shard, request->hash)) ==
                   request->generation ||
               (request->lease != 0 &&
                lease_stands_locked(shard, request->hash, request->lease));
    default:
        return true;
    }
}

/* An entry keeps the low half, and there 0 means none. */
uint64_t
shard_next_generation(struct shard *shard)
{
    _Atomic uint64_t *generation = &shard->header->generation;

    bump_locked(generation, MUTANT("same-generation") ? 0 : 1);
    if (UNLIKELY((uint32_t)load_relaxed(generation) == 0))
        bump_locked(generation, 1);
    return load_relaxed(generation);
}

/* Write the entry into an extent that no reader can reach. */
static void
write_entry(struct shard *shard, uint32_t offset, const struct write_request *request)
{
    struct entry_head *head = entry_at(shard, offset);

    STEP("write.begin");
    head->size = EXTENT_ENTRY | (uint32_t)request->value_size;
    head->key_size = (uint16_t)request->key_size;
    head->tag = request->tag;
    head->deadline_low = (uint32_t)request->deadline;
    head->deadline_high = (uint8_t)(request->deadline >> 32);
    head->checksum = request->checksum ^ entry_deadline_mark(request->deadline);
    head->generation = (uint32_t)shard_next_generation(shard);
    head->next = NO_SLOT;
    if (request->key_size)
        memcpy(entry_key(head), request->key, request->key_size);
    STEP("write.key");
    if (request->value_size)
        copy_to_heap(entry_key(head) + request->key_size, request->value,
                     request->value_size);
    STEP("write.value");
}

static void
count_entry_new(struct shard *shard, const struct write_request *request,
                uint32_t blocks)
{
    struct shard_header *header = shard->header;

    bump_locked(&header->put, 1);
    bump_locked(&header->entries, 1);
    bump_locked(&header->mortals, request->deadline != 0);
    bump_locked(&header->used_blocks, blocks);
    bump_locked(&header->payload_bytes, request->key_size + request->value_size);
    bump_locked(&header->written_bytes, (uint64_t)blocks * BLOCK_BYTES);
}

static enum pmc_status
replace_entry(struct shard *shard, uint32_t slot, struct slot_content content,
              uint32_t blocks, const struct write_request *request)
{
    struct slot_content old = index_read_slot(shard, slot);
    uint32_t old_blocks = slot_blocks(shard, slot);

    content.state = (uint8_t)(old.state & ~STATE_UNVERIFIED);
    content.heat = shard->policy->bump == BUMP_CLOCK
                       ? (uint8_t)load_relaxed(&shard->header->lru_clock)
                       : (uint8_t)min_u64(old.heat + 1u, HEAT_MAX);
    entry_at(shard, content.offset)->next = entry_at(shard, old.offset)->next;
    index_update_locked(shard, request->hash, slot, &content);
    queue_resize_locked(shard, slot, old_blocks, blocks);
    count_entry_new(shard, request, blocks);
    count_entry_gone(shard, entry_at(shard, old.offset), old_blocks);
    STEP("put.replaced");
    /* The new value is out: what is found broken now must not repeat the put. */
    if (alloc_free_locked(shard, old.offset, old_blocks) != PMC_OK)
        shard_recover_locked(shard);
    return PMC_OK;
}

/* Without another bucket to be had, a neighbour in the chain gives way, where any may. */
static uint32_t
insert_somehow(struct shard *shard, const struct slot_content *content,
               const struct write_request *request)
{
    uint32_t slot = index_insert_locked(shard, request->hash, content);
    uint32_t victim;

    if (slot != NO_SLOT || shard->policy == &evict_none)
        return slot;
    victim = index_any_in_chain(shard, request->hash);
    if (victim == NO_SLOT || !index_slot_is_sound(shard, victim) ||
        shard_drop_locked(shard, victim, slot_hash(shard, victim), PMC_CAUSE_EVICTED,
                          request->victims) != PMC_OK)
        return NO_SLOT;
    return index_insert_locked(shard, request->hash, content);
}

/* The index has no place for the entry in this extent. */
static enum pmc_status
give_room_back(struct shard *shard, uint32_t offset, uint32_t blocks)
{
    if (shard->policy != &evict_none)
        return PMC_EDAMAGED; /* recovery finds the extent unreferenced */
    return alloc_free_locked(shard, offset, blocks) == PMC_OK ? PMC_EFULL
                                                              : PMC_EDAMAGED;
}

static enum pmc_status
store_entry(struct shard *shard, uint32_t offset, uint32_t blocks,
            const struct write_request *request)
{
    struct slot_content content = {
        .offset = offset,
        .tag = index_tag(request->hash) |
               index_check((uint32_t)request->value_size, (uint32_t)request->key_size)};
    uint32_t slot =
        index_find_locked(shard, request->hash, request->key, request->key_size);

    write_entry(shard, offset, request);
    if (slot != NO_SLOT)
        return replace_entry(shard, slot, content, blocks, request);
    if (index_is_doubtful_locked(shard, request->hash))
        return PMC_EDAMAGED;
    slot = insert_somehow(shard, &content, request);
    if (slot == NO_SLOT)
        return give_room_back(shard, offset, blocks);
    STEP("put.inserted");
    count_entry_new(shard, request, blocks);
    shard->policy->admit(shard, slot, blocks, request->remembered);
    index_balance_locked(shard);
    return PMC_OK;
}

/* No room was found. The key must not go on serving its old value. */
static enum pmc_status
drop_refused(struct shard *shard, struct write_request *request)
{
    enum pmc_status status = shard_delete_locked(shard, request);

    bump_locked(&shard->header->rejected, 1);
    return status < 0 ? status : PMC_DROPPED;
}

/* A put that is repeated, after memory was allocated, is still one miss. */
static void
recall_once(struct shard *shard, struct write_request *request, uint32_t blocks)
{
    uint32_t slot;

    if (request->recalled)
        return;
    request->recalled = true;
    slot = index_find_locked(shard, request->hash, request->key, request->key_size);
    if (slot == NO_SLOT)
        request->remembered = shard->policy->recall(shard, request->hash, blocks);
    else
        shard_foresee_freeing_locked(shard, slot);
}

enum pmc_status
shard_put_locked(struct shard *shard, struct write_request *request)
{
    uint32_t blocks = (uint32_t)entry_blocks(request->key_size, request->value_size);
    uint32_t offset;
    enum pmc_status status;

    shard_foresee_room_locked(shard, blocks);
    if (request->condition != PMC_ALWAYS && !condition_holds(shard, request))
        return PMC_UNMET;
    lease_void_locked(shard, request->hash);
    if (expiry_passed(request->deadline, request->now_ms)) {
        request->written_out = NULL; /* nothing is */
        status = shard_delete_locked(shard, request);
        return status < 0 ? status : PMC_OK;
    }
    status = sweep_expired(shard, request);
    if (status != PMC_OK)
        return status;
    if (!request->no_growth && index_wants(shard) != 0 &&
        !pool_growth_refused(shard->pool))
        return SHARD_GROW_INDEX;
    recall_once(shard, request, blocks);
    status = shard_take_room_locked(shard, blocks, request, &offset);
    if (status == PMC_DROPPED)
        return drop_refused(shard, request);
    if (status == PMC_OK) {
        STEP("put.room");
        status = store_entry(shard, offset, blocks, request);
        shard_foresee_slot_locked(shard);
    }
    if (status == PMC_EFULL)
        bump_locked(&shard->header->rejected, 1);
    return status;
}

/* ---- the others ------------------------------------------------------ */

enum pmc_status
shard_delete_locked(struct shard *shard, struct write_request *request)
{
    uint32_t slot =
        index_find_locked(shard, request->hash, request->key, request->key_size);
    bool live;

    lease_void_locked(shard, request->hash);
    if (slot == NO_SLOT && index_is_doubtful_locked(shard, request->hash))
        return PMC_EDAMAGED;
    if (slot == NO_SLOT) {
        index_absent_locked(shard, request->hash);
        return PMC_MISS;
    }
    live = !expiry_passed(slot_deadline(shard, slot), request->now_ms);
    if (shard_drop_locked(shard, slot, request->hash, CAUSE_DELETED, NULL) != PMC_OK)
        shard_recover_locked(shard); /* it is gone; its neighbours are not sound */
    bump_locked(&shard->header->delete_, live);
    return live ? PMC_OK : PMC_MISS;
}

enum pmc_status
shard_touch_locked(struct shard *shard, struct write_request *request)
{
    uint32_t slot = find_live(shard, request);
    uint64_t old;

    if (slot == NO_SLOT)
        return PMC_MISS;
    lease_void_locked(shard, request->hash);
    old = slot_deadline(shard, slot);
    index_touch_locked(shard, request->hash, slot, request->deadline);
    store_relaxed(&shard->header->mortals, load_relaxed(&shard->header->mortals) +
                                               (request->deadline != 0) - (old != 0));
    return PMC_OK;
}

/* Read a decimal integer, as pmc_incr() writes it. */
static bool
parse_integer(const uint8_t *text, size_t size, int64_t *value_out)
{
    char digits[24];
    char *end;
    bool negative = size > 0 && text[0] == '-';

    if (size == (size_t)negative || size >= sizeof digits)
        return false;
    for (size_t i = negative; i < size; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    memcpy(digits, text, size);
    digits[size] = '\0';
    errno = 0;
    *value_out = strtoll(digits, &end, 10);
    return errno == 0;
}

/* An adopted entry whose value is not what was stored must not be added to. */
static bool
is_damaged(const struct shard *shard, const struct write_request *request,
           struct slot_content content)
{
    return (content.state & STATE_UNVERIFIED) != 0 &&
           !shard_entry_is_intact(shard, content.offset, request->hash);
}

static uint32_t
find_undamaged(struct shard *shard, const struct write_request *request)
{
    uint32_t slot = find_live(shard, request);

    if (slot == NO_SLOT || !is_damaged(shard, request, index_read_slot(shard, slot)))
        return slot;
    bump_locked(&shard->header->damaged, 1);
    if (shard_drop_locked(shard, slot, request->hash, CAUSE_DELETED, NULL) != PMC_OK)
        shard_recover_locked(shard);
    return NO_SLOT;
}

/* The value that the sum is made from, and what of the entry it keeps. */
static enum pmc_status
read_addend(struct shard *shard, struct incr_request *request, int64_t *addend_out)
{
    uint32_t slot = find_undamaged(shard, &request->write);
    struct slot_content content;
    struct entry_head *head;

    if (slot == NO_SLOT) {
        *addend_out = request->initial;
        request->write.deadline = request->created_deadline;
        request->write.tag = request->created_tag;
        return request->create ? PMC_OK : PMC_MISS;
    }
    content = index_read_slot(shard, slot);
    head = entry_at(shard, content.offset);
    if (!parse_integer(entry_key(head) + head->key_size, head->size & EXTENT_SIZE,
                       addend_out))
        return PMC_ENOT_INTEGER;
    request->write.deadline = entry_deadline(head);
    request->write.tag = head->tag;
    return PMC_OK;
}

enum pmc_status
shard_incr_locked(struct shard *shard, struct write_request *write)
{
    struct incr_request *request = (struct incr_request *)(void *)write;
    int64_t addend;
    enum pmc_status status = read_addend(shard, request, &addend);

    if (status != PMC_OK)
        return status;
    if (__builtin_add_overflow(addend, request->delta, &request->result))
        return PMC_EOVERFLOW;
    write->value = request->digits;
    write->value_size = (size_t)snprintf(request->digits, sizeof request->digits,
                                         "%" PRId64, request->result);
    write->checksum =
        shard_checksum(write->hash, write->tag, request->digits, write->value_size);
    return shard_put_locked(shard, write);
}

enum pmc_status
shard_evict_locked(struct shard *shard, struct write_request *request)
{
    uint32_t slot = request->key ? index_find_locked(shard, request->hash, request->key,
                                                     request->key_size)
                                 : shard_victim_locked(shard);

    if (slot == NO_SLOT)
        return !request->key && load_relaxed(&shard->header->entries) != 0
                   ? PMC_EDAMAGED /* entries that no queue leads to */
                   : PMC_MISS;
    if (!index_slot_is_sound(shard, slot))
        return PMC_EDAMAGED;
    return shard_drop_locked(shard, slot, slot_hash(shard, slot), PMC_CAUSE_REQUESTED,
                             request->victims);
}

void
shard_clear_locked(struct shard *shard)
{
    struct shard_header *header = shard->header;
    struct alloc_rebuild rebuild;

    STEP("clear.begin");
    lease_void_all_locked(shard);
    index_change_all_begin(shard);
    index_format_locked(shard);
    index_change_all_end(shard);
    evict_format_locked(shard);
    alloc_rebuild_begin(&rebuild, shard);
    alloc_rebuild_end(&rebuild);
    store_relaxed(&header->entries, 0);
    store_relaxed(&header->mortals, 0);
    store_relaxed(&header->used_blocks, 0);
    store_relaxed(&header->payload_bytes, 0);
    header->pressed_ms = 0; /* what made room is gone too */
    STEP("clear.end");
}
