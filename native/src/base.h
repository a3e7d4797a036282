/*
 * What every file of the engine needs: sizes, bits and barriers.
 */
#ifndef PMC_BASE_H
#define PMC_BASE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmemcache.h"

#define CACHE_LINE_BYTES 64u
#define PAGE_BYTES 4096u

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define COLD __attribute__((noinline, cold))

/* Bytes that a writer may be changing are copied and compared on purpose; the
 * sequence number of the bucket decides afterwards whether they count. */
#if defined(__SANITIZE_THREAD__)
#define RACES_BY_DESIGN __attribute__((no_sanitize("thread"), noinline))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_BY_DESIGN __attribute__((no_sanitize("thread"), noinline))
#endif
#endif
#ifndef RACES_BY_DESIGN
#define RACES_BY_DESIGN
#endif

static inline uint64_t
round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

static inline uint64_t
min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t
max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline void
cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Short names for the memory orders in use. */
#define load_relaxed(object) atomic_load_explicit((object), memory_order_relaxed)
#define load_acquire(object) atomic_load_explicit((object), memory_order_acquire)
#define store_relaxed(object, value)                                                   \
    atomic_store_explicit((object), (value), memory_order_relaxed)
#define store_release(object, value)                                                   \
    atomic_store_explicit((object), (value), memory_order_release)
#define add_relaxed(object, value)                                                     \
    atomic_fetch_add_explicit((object), (value), memory_order_relaxed)

/* A counter that only the holder of the shard's lock changes, and anybody
 * may read. */
#define bump_locked(object, value)                                                     \
    store_relaxed((object), load_relaxed(object) + (value))

#endif
