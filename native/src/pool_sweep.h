/*
 * Indexes that nobody needs: an index in shared memory whose heap was removed by
 * other hands would keep its memory until the next boot.
 */
#ifndef PMC_POOL_SWEEP_H
#define PMC_POOL_SWEEP_H

#include <stdbool.h>
#include <sys/stat.h>

#include "layout.h"

/* Hold the index: as long as a process (or a child of it) has fd open, no sweep
 * removes the file. Waits for a sweep that is looking at it; false when that
 * takes longer than a second. */
bool pool_hold_index(int index_fd);

/* Does another process hold the index? One that is just being killed may, for a
 * moment: asked again for as long as a second. */
bool pool_index_is_held(int index_fd);

/*
 * Remove this user's indexes in the directory that no process holds and whose
 * heap file is gone or is another pool's. Best effort; changes nothing else.
 */
void pool_sweep_indexes(int directory_fd);

/* Is the heap that this index belongs to, by the path that it notes, still there? It may
 * be that it cannot be told at the moment, as no more files can be opened. */
enum index_heap {
    INDEX_HEAP_THERE, /* *about_out is about it */
    INDEX_HEAP_GONE,
    INDEX_HEAP_UNKNOWN,
};
enum index_heap pool_index_heap(const struct pool_header *header,
                                struct stat *about_out);

#endif
