/*
 * Every invariant of a pool, checked shard by shard under the lock.
 *
 * Each check writes a line per broken invariant: shard, what, where. Nothing is
 * changed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "alloc.h"
#include "cache.h"
#include "evict.h"
#include "queue.h"

struct report {
    char *text;
    size_t capacity;
    size_t used;
    int broken;
    uint32_t shard;
};

struct totals {
    uint64_t entries;
    uint64_t mortals;
    uint64_t used_blocks;
    uint64_t payload_bytes;
};

static void broken(struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
broken(struct report *report, const char *format, ...)
{
    char line[256];
    va_list arguments;
    int size;

    report->broken++;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (report->used + 1 >= report->capacity)
        return;
    size = snprintf(report->text + report->used, report->capacity - report->used,
                    "shard %u: %s\n", report->shard, line);
    report->used += (size_t)size;
    if (report->used >= report->capacity)
        report->used = report->capacity - 1;
}

/* ---- index ----------------------------------------------------------- */

static void
check_slot(const struct shard *shard, uint32_t primary, uint32_t slot,
           struct totals *totals, struct report *report)
{
    struct slot_content content = index_read_slot(shard, slot);
    struct entry_head *head;
    uint64_t hash;

    if (!index_slot_is_sound(shard, slot)) {
        broken(report, "slot %u points at no entry (block %u)", slot, content.offset);
        return;
    }
    head = entry_at(shard, content.offset);
    hash = index_hash_at(shard, content.offset);
    if (!index_belongs(shard, primary, hash))
        broken(report, "slot %u holds a key of another bucket", slot);
    if (index_tag(hash) != (content.tag & TAG_HASH))
        broken(report, "slot %u has the wrong tag", slot);
    if (index_find_locked(shard, hash, entry_key(head), head->key_size) != slot)
        broken(report, "the key of slot %u is in another slot too", slot);
    if (queue_of(shard, slot) == 0)
        broken(report, "slot %u is in no queue", slot);
    if (!shard_entry_is_intact(shard, content.offset, hash))
        broken(report, "the value of slot %u has the wrong checksum", slot);
    if (head->generation > load_relaxed(&shard->header->generation))
        broken(report, "slot %u has a generation of the future", slot);
    totals->entries++;
    totals->mortals += entry_deadline(head) != 0;
    totals->used_blocks += slot_blocks(shard, slot);
    totals->payload_bytes += (uint64_t)head->key_size + (head->size & EXTENT_SIZE);
}

/* Each overflow bucket that was ever taken is in a chain or in the list of free ones. */
static void
check_overflow(const struct shard *shard, uint32_t chained, struct report *report)
{
    uint32_t used = shard->header->overflow_used;
    uint32_t number = shard->header->overflow_free;
    uint32_t free = 0;

    for (; number != NO_BUCKET && free <= used; free++) {
        if (number < shard->max_buckets || number - shard->max_buckets >= used ||
            !index_bucket_is_empty(&shard->buckets[number])) {
            broken(report, "bucket %u is listed as free, and cannot be", number);
            return;
        }
        number = shard->links[number].next_free;
    }
    if (chained + free != used)
        broken(report, "%u overflow buckets are in chains, %u are free, %u were taken",
               chained, free, used);
}

static void
check_index(const struct shard *shard, struct totals *totals, struct report *report)
{
    uint32_t count = load_relaxed(&shard->header->bucket_count);
    uint32_t chained = 0;

    if (count == 0 || count > shard->max_buckets) {
        broken(report, "there cannot be %u buckets", count);
        return;
    }
    if (!shard_geometry_is_possible(shard)) {
        broken(report, "sizes in the header contradict each other");
        return;
    }
    for (uint32_t primary = 0; primary < count; primary++) {
        uint32_t number = primary;
        int hops = 0;

        if (load_relaxed(&shard->buckets[primary].seq) & SEQ_ODD)
            broken(report, "bucket %u has an odd sequence number", primary);
        for (; number != NO_BUCKET && hops < CHAIN_MAX; hops++) {
            const struct bucket *bucket = &shard->buckets[number];

            for (uint32_t way = 0; way < BUCKET_SLOTS; way++)
                if (slot_tag(bucket, way) != 0)
                    check_slot(shard, primary, number * BUCKET_STRIDE + way, totals,
                               report);
            number = index_chain_next(shard, number);
        }
        if (number != NO_BUCKET)
            broken(report, "the chain of bucket %u is too long", primary);
        chained += (uint32_t)hops - 1;
    }
    check_overflow(shard, chained, report);
}

/* Copies that processes keep, and loads under way, go by these. */
static void
check_versions(const struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < SHARD_VERSIONS; i++)
        if (load_relaxed(&shard->versions[i]) & 1) {
            broken(report, "version %u is odd, and nobody is at work", i);
            break;
        }
    for (uint32_t i = 0; i < LEASE_SETS * LEASE_WAYS; i++)
        if (load_relaxed(&shard->leases[i].hash) != 0 &&
            !(load_relaxed(&shard->leases[i].deadline) & LEASE_VOID) &&
            !(shard->header->lease_sets & UINT32_C(1) << i / LEASE_WAYS))
            broken(report, "the lease at %u is in a set that is said to have none", i);
}

/* ---- extents --------------------------------------------------------- */

/* Is the hole in the list of its bin? */
static bool
hole_is_listed(const struct shard *shard, uint32_t offset)
{
    const struct hole_head *hole = hole_at(shard, offset);
    uint32_t limit = shard_limit(shard);

    if (hole->bin_next != NO_OFFSET &&
        (hole->bin_next >= limit ||
         hole_at(shard, hole->bin_next)->bin_previous != offset))
        return false;
    if (hole->bin_previous == NO_OFFSET)
        return shard->header->bin_head[alloc_bin(hole->size)] == offset;
    return hole->bin_previous < limit &&
           hole_at(shard, hole->bin_previous)->bin_next == offset;
}

/* The map says which bins hold holes. */
static void
check_bins(const struct shard *shard, struct report *report)
{
    const struct shard_header *header = shard->header;

    for (uint32_t bin = 0; bin < BIN_COUNT; bin++)
        if ((header->bin_map[bin / 64] >> (bin % 64) & 1) !=
            (header->bin_head[bin] != NO_OFFSET))
            broken(report, "bin %u is empty, and is not", bin);
}

static void
check_extent(const struct shard *shard, uint32_t offset, uint32_t blocks,
             bool after_hole, struct totals *totals, struct report *report)
{
    if (extent_is_gone(shard, offset)) {
        if (!alloc_is_away(shard, offset, 1))
            broken(report, "the gone extent at block %u is not away", offset);
        return;
    }
    if (!extent_is_entry(shard, offset)) {
        if (after_hole)
            broken(report, "two holes meet at block %u", offset);
        if (!hole_is_listed(shard, offset))
            broken(report, "the hole at block %u is in no bin", offset);
        totals->used_blocks += blocks;
        return;
    }
    if (index_find_offset_locked(shard, index_hash_at(shard, offset), offset) ==
        NO_SLOT)
        broken(report, "the entry at block %u is in no slot", offset);
    totals->entries++;
}

static void
check_extents(const struct shard *shard, const struct totals *index_totals,
              struct report *report)
{
    uint32_t limit = shard_limit(shard);
    struct totals totals = {0}; /* used_blocks counts those of holes */
    uint32_t before_blocks = 0;
    bool after_hole = false;
    uint32_t at = 0;

    if (load_relaxed(&shard->header->limit_blocks) != limit)
        broken(report, "the heap has more blocks than it can");
    while (at < limit) {
        uint64_t blocks = extent_blocks(shard, at);

        if (blocks == 0 || blocks > limit - at) {
            broken(report, "the extent at block %u has no sensible size", at);
            return;
        }
        if (hole_at(shard, at)->before_blocks != before_blocks)
            broken(report, "the extent at block %u mistakes its predecessor", at);
        check_extent(shard, at, (uint32_t)blocks, after_hole, &totals, report);
        after_hole = extent_is_hole(shard, at);
        before_blocks = (uint32_t)blocks;
        at += (uint32_t)blocks;
    }
    if (limit && shard->header->last_offset != limit - before_blocks)
        broken(report, "the last extent is not where it should be");
    if (totals.used_blocks != shard->header->free_blocks)
        broken(report, "%llu blocks are free, %llu are counted",
               (unsigned long long)totals.used_blocks,
               (unsigned long long)shard->header->free_blocks);
    if (totals.entries != index_totals->entries)
        broken(report, "%llu entries lie in the heap, %llu in the index",
               (unsigned long long)totals.entries,
               (unsigned long long)index_totals->entries);
}

/* What is gone is what is away, span for span. */
static void
check_away(const struct shard *shard, struct report *report)
{
    struct alloc_spans away;
    uint64_t blocks = 0;

    for (uint32_t from = 0; alloc_find_away_spans(shard, from, &away); from = away.to) {
        uint32_t size = away.to * SPAN_BLOCKS - away.extent;

        if (!extent_is_gone(shard, away.extent) ||
            hole_at(shard, away.extent)->size != size)
            broken(report, "spans %u to %u are away, and not gone", away.from, away.to);
        blocks += size;
    }
    if (blocks != load_relaxed(&shard->header->away_blocks))
        broken(report, "%llu blocks are away, %llu are counted",
               (unsigned long long)blocks,
               (unsigned long long)load_relaxed(&shard->header->away_blocks));
}

/* ---- queues and counters --------------------------------------------- */

static void
check_queue(const struct shard *shard, uint32_t number, struct totals *totals,
            struct report *report)
{
    const struct queue *queue = &shard->header->queues[number];
    uint32_t previous = NO_SLOT;
    uint32_t slot = queue->head;
    uint64_t blocks = 0;
    uint32_t entries = 0;

    while (slot != NO_SLOT && entries <= queue->entries) {
        if (!slot_is_possible(shard, slot) || queue_of(shard, slot) != number ||
            queue_previous(shard, slot) != previous) {
            broken(report, "queue %u is broken at slot %u", number, slot);
            return;
        }
        blocks += slot_blocks(shard, slot);
        entries++;
        previous = slot;
        slot = queue_next(shard, slot);
    }
    if (queue->tail != previous || queue->entries != entries || queue->blocks != blocks)
        broken(report, "queue %u miscounts: %u entries, %llu blocks found", number,
               entries, (unsigned long long)blocks);
    totals->entries += entries;
}

static void
check_counters(const struct shard *shard, const struct totals *totals,
               struct report *report)
{
    const struct shard_header *header = shard->header;
    struct totals queued = {0};

    for (uint32_t number = 1; number < QUEUES; number++)
        check_queue(shard, number, &queued, report);
    if (queued.entries != totals->entries)
        broken(report, "%llu entries are in queues, %llu in the index",
               (unsigned long long)queued.entries, (unsigned long long)totals->entries);
    if (load_relaxed(&header->mortals) != totals->mortals)
        broken(report, "the counter of entries with a deadline is off");
    if (load_relaxed(&header->entries) != totals->entries ||
        load_relaxed(&header->used_blocks) != totals->used_blocks ||
        load_relaxed(&header->payload_bytes) != totals->payload_bytes)
        broken(report, "the counters of entries, blocks or payload are off");
    if (load_relaxed(&header->intent_kind) != INTENT_NONE)
        broken(report, "an intent was left behind");
}

int
pmc_check(struct pmc_cache *cache, char *report_text, size_t capacity)
{
    struct report report = {.text = report_text, .capacity = capacity};

    if (capacity)
        report_text[0] = '\0';
    for (uint32_t number = 0; number < cache->shard_count; number++) {
        struct shard *shard = &cache->shards[number];
        struct totals totals = {0};
        enum pmc_status status = shard_lock(shard, false);

        if (status != PMC_OK)
            return (int)status;
        report.shard = number;
        check_index(shard, &totals, &report);
        check_versions(shard, &report);
        check_extents(shard, &totals, &report);
        check_bins(shard, &report);
        check_away(shard, &report);
        check_counters(shard, &totals, &report);
        shard_unlock(shard);
    }
    return report.broken;
}
