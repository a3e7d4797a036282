/*
 * Time; see clock.h.
 */
#include "clock.h"

#include <time.h>

uint64_t
clock_coarse_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u + 1u;
}

uint64_t
clock_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
clock_sleep_ns(uint64_t duration_ns)
{
    struct timespec pause = {(time_t)(duration_ns / 1000000000u),
                             (long)(duration_ns % 1000000000u)};

    nanosleep(&pause, NULL);
}
