/*
 * Deadlines: milliseconds of the coarse clock in 40 bits; 0 means none.
 */
#ifndef PMC_EXPIRY_H
#define PMC_EXPIRY_H

#include "layout.h"

/* The deadline for a time to live that starts now; beyond 34 years it never
 * ends. ttl_ms is > 0. */
uint64_t expiry_deadline(uint64_t now_ms, int64_t ttl_ms);

static inline bool
expiry_passed(uint64_t deadline, uint64_t now_ms)
{
    return deadline != 0 && deadline <= now_ms;
}

/* Look at the next few slots and return the first of an expired entry; NO_SLOT when
 * there is none. A whole round visits every slot, overflow included. Needs the
 * lock. */
uint32_t expiry_sweep_locked(struct shard *shard, uint64_t now_ms);

#endif
