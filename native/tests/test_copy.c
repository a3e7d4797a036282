/*
 * Copies into the heap are copies, wherever they begin and end.
 */
#include "copy.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

#define MARGIN 64u
#define SIZE_MOST (2u * STREAM_BYTES)

static uint8_t from[CACHE_LINE_BYTES + SIZE_MOST];
static uint8_t expected[MARGIN + CACHE_LINE_BYTES + SIZE_MOST + MARGIN];
static _Alignas(CACHE_LINE_BYTES) uint8_t to[sizeof expected];

static void
check_copy(size_t to_off, size_t from_off, size_t size)
{
    memset(to, 0xaa, sizeof to);
    memset(expected, 0xaa, sizeof expected);
    memcpy(expected + MARGIN + to_off, from + from_off, size);
    copy_to_heap(to + MARGIN + to_off, from + from_off, size);
    CHECK(memcmp(to, expected, sizeof to) == 0);
}

/* Planted bugs: what is before the first whole line, or after the last, is not copied. */
static void
test_every_byte_is_copied_and_no_other(void)
{
    static const size_t sizes[] = {0,
                                   1,
                                   STREAM_BYTES - 1,
                                   STREAM_BYTES,
                                   STREAM_BYTES + 1,
                                   STREAM_BYTES + CACHE_LINE_BYTES - 1,
                                   STREAM_BYTES + CACHE_LINE_BYTES,
                                   SIZE_MOST};

    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t to_off = 0; to_off < CACHE_LINE_BYTES; to_off++)
            check_copy(to_off, to_off * 7 % CACHE_LINE_BYTES, sizes[i]);
}

int
main(void)
{
    RUN(test_every_byte_is_copied_and_no_other);
    return check_report();
}
