/*
 * Copies into the heap; see copy.h.
 */
#include "copy.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define VECTORS_A_LINE (CACHE_LINE_BYTES / sizeof(__m128i))

/* Streamed stores are combined to whole lines: a line that is not all written goes to
 * memory in parts. */
static void
stream_lines(uint8_t *to, const uint8_t *from, size_t lines)
{
    __m128i *target = (__m128i *)(void *)to;
    const __m128i *source = (const __m128i *)(const void *)from;

    for (; lines > 0; lines--) {
        __m128i line[VECTORS_A_LINE];

        for (size_t i = 0; i < VECTORS_A_LINE; i++)
            line[i] = _mm_loadu_si128(source++);
        for (size_t i = 0; i < VECTORS_A_LINE; i++)
            _mm_stream_si128(target++, line[i]);
    }
    _mm_sfence(); /* a release does not order streamed stores */
}

void
copy_to_heap(void *to, const void *from, size_t size)
{
    size_t before = (CACHE_LINE_BYTES - (uintptr_t)to % CACHE_LINE_BYTES) %
                    CACHE_LINE_BYTES; /* up to the first whole line */
    size_t lines;
    size_t whole;

    if (size < STREAM_BYTES) {
        memcpy(to, from, size);
        return;
    }
    lines = (size - before) / CACHE_LINE_BYTES;
    whole = before + lines * CACHE_LINE_BYTES;
    memcpy(to, from, before);
    memcpy((uint8_t *)to + whole, (const uint8_t *)from + whole, size - whole);
    stream_lines((uint8_t *)to + before, (const uint8_t *)from + before, lines);
}

#else

/* Other processors see for themselves that a long copy overwrites whole lines. */
void
copy_to_heap(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

#endif
