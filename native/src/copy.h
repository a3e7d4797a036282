/*
 * Copies into the heap. Large ones stream: they go past the processor's caches
 * into memory, so that no line is read only to be overwritten, and nothing that
 * is hot leaves the caches for bytes that others will read, if anybody.
 */
#ifndef PMC_COPY_H
#define PMC_COPY_H

#include "base.h"

/* From here on streaming takes less time: .85 of it at 8 KiB, .65 at 64 KiB, as much at
 * 4 KiB, more below (puts over a pool of 1 GiB on tmpfs). */
#define STREAM_BYTES (8u * 1024u)

/* memcpy(): the ranges do not overlap. Whoever sees a store that is released after it
 * sees the copy. */
void copy_to_heap(void *to, const void *from, size_t size);

#endif
