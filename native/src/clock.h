/*
 * Time, in milliseconds and nanoseconds of CLOCK_MONOTONIC: the same for all
 * processes of a boot, and deaf to changes of the wall clock.
 */
#ifndef PMC_CLOCK_H
#define PMC_CLOCK_H

#include <stdint.h>

/* Milliseconds, to the resolution of the kernel's tick (1-10 ms). Never 0.
 * No system call. */
uint64_t clock_coarse_ms(void);

/* Nanoseconds, exact. For bounded waits. */
uint64_t clock_now_ns(void);

/* Sleep about this long. */
void clock_sleep_ns(uint64_t duration_ns);

#endif
