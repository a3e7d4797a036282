/*
 * Where things lie in a pool's files, computed from its identity alone.
 */
#ifndef PMC_POOL_GEOMETRY_H
#define PMC_POOL_GEOMETRY_H

#include "layout.h"

#define HEAP_HEADER_BYTES PAGE_BYTES
#define ATTACHMENTS_OFF PAGE_BYTES
#define VERSIONS_OFF (ATTACHMENTS_OFF + ATTACHMENTS_MAX * sizeof(struct attachment))

#define SHARDS_MAX 64u
/* 32 GiB. Of what is longer, blocks and slots would have numbers that are none. */
#define SHARD_BYTES_MAX ((uint64_t)(UINT32_MAX / 2) * BLOCK_BYTES)

/* Fill in all of identity but pool_id, boot_id, index_in_dram and checksum. */
void pool_geometry(const struct pmc_options *options, uint64_t heap_limit_bytes,
                   struct pool_identity *identity_out);

/* Where the shards begin in the index file. */
uint64_t pool_shards_off(const struct pool_identity *identity);
uint64_t pool_shard_index_bytes(const struct pool_identity *identity);
/* Where the bytes of the spans begin in a shard's part of it. */
uint64_t pool_shard_spans_off(const struct pool_identity *identity);
uint64_t pool_index_bytes(const struct pool_identity *identity);
uint64_t pool_heap_bytes(const struct pool_identity *identity);

/* Byte order, word size and the size of everything that lives in a pool. */
uint32_t pool_abi(void);
uint64_t pool_identity_checksum(const struct pool_identity *identity);

#endif
