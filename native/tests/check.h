/*
 * Assertions for the engine's tests: CHECK() and CHECK_EQ() say what does not
 * hold and go on, RUN() runs one test, check_report() ends main().
 *
 * All may be used by several threads. A child process ends with check_exit(),
 * so that its parent sees whether its checks held.
 */
#ifndef PMC_TESTS_CHECK_H
#define PMC_TESTS_CHECK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Messages of one test that are printed; a loop may break a check a million times. */
#define CHECK_MESSAGES 10

static _Atomic unsigned check_broken; /* checks of the running test that did not hold */
static unsigned check_passed;
static unsigned check_failed;

/* Each is true when it holds. */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(actual, expected)                                                     \
    check_equal((long long)(actual), (long long)(expected), #actual " == " #expected,  \
                __FILE__, __LINE__)
#define RUN(test) check_run((test), #test)

static inline bool
check_that(bool holds, const char *text, const char *file, int line)
{
    if (!holds && atomic_fetch_add(&check_broken, 1) < CHECK_MESSAGES)
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, text);
    return holds;
}

static inline bool
check_equal(long long actual, long long expected, const char *text, const char *file,
            int line)
{
    if (actual != expected && atomic_fetch_add(&check_broken, 1) < CHECK_MESSAGES)
        fprintf(stderr, "%s:%d: does not hold: %s (%lld, %lld)\n", file, line, text,
                actual, expected);
    return actual == expected;
}

static inline void
check_run(void (*test)(void), const char *name)
{
    atomic_store(&check_broken, 0);
    test();
    if (atomic_load(&check_broken) == 0) {
        check_passed++;
        return;
    }
    check_failed++;
    fprintf(stderr, "failed: %s\n", name);
}

/* What main() returns. */
static inline int
check_report(void)
{
    printf("%u passed, %u failed\n", check_passed, check_failed);
    return check_failed != 0;
}

/* End a child process without running what the parent registered with atexit(). */
static inline _Noreturn void
check_exit(void)
{
    fflush(NULL);
    _exit(atomic_load(&check_broken) != 0);
}

#endif
