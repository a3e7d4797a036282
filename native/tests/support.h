/*
 * What several tests need: random numbers, values that prove themselves, small
 * pools, directories that vanish, children.
 */
#ifndef PMC_TESTS_SUPPORT_H
#define PMC_TESTS_SUPPORT_H

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "pmemcache.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* As many rounds as the build has time for. */
#define ROUNDS_OF(plain) (SANITIZED ? (plain) / 5 : (plain))

/* ---- random numbers -------------------------------------------------- */

struct random {
    uint64_t state;
};

/* Seeded with the clock, or with PMC_TEST_SEED to repeat a run; printed. */
static inline struct random
random_start(const char *what)
{
    const char *text = getenv("PMC_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10)
                         : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();

    printf("%s: PMC_TEST_SEED=%llu\n", what, (unsigned long long)seed);
    fflush(stdout);
    return (struct random){.state = seed};
}

/* SplitMix64 (Steele et al., 2014). */
static inline uint64_t
random_next(struct random *random)
{
    uint64_t word = random->state += UINT64_C(0x9e3779b97f4a7c15);

    word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
    return word ^ word >> 31;
}

static inline uint32_t
random_below(struct random *random, uint32_t limit)
{
    return (uint32_t)(random_next(random) % limit);
}

/* ---- values ---------------------------------------------------------- */

/* Bytes that follow from an identity, so that any mixture of two shows. */
static inline void
fill_pattern(uint8_t *bytes, size_t size, uint64_t identity)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((identity >> (i % 8 * 8)) + i * 31 + (i >> 8) * 7);
}

static inline bool
has_pattern(const uint8_t *bytes, size_t size, uint64_t identity)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (uint8_t)((identity >> (i % 8 * 8)) + i * 31 + (i >> 8) * 7))
            return false;
    return true;
}

/* ---- pools ----------------------------------------------------------- */

/* NULL, and a broken check, when it cannot be opened. */
static inline struct pmc_cache *
open_with(const struct pmc_options *options)
{
    struct pmc_cache *cache = NULL;
    struct pmc_error error;
    enum pmc_status status = pmc_open(options, &cache, &error);

    if (!CHECK_EQ(status, PMC_OK))
        fprintf(stderr, "    %s\n", error.message);
    return cache;
}

static inline struct pmc_cache *
open_private(uint64_t size_bytes, enum pmc_eviction eviction)
{
    struct pmc_options options;

    pmc_options_default(&options);
    options.size_bytes = size_bytes;
    options.eviction = (uint8_t)eviction;
    return open_with(&options);
}

static inline void
check_sound(struct pmc_cache *cache)
{
    char report[4096];

    if (!CHECK_EQ(pmc_check(cache, report, sizeof report), 0))
        fprintf(stderr, "%s", report);
}

/* ... and nobody ever found it otherwise: what a write trips over is mended, and the write
 * repeated, so that a mistake of ours would show here alone. */
static inline void
check_untroubled(struct pmc_cache *cache)
{
    struct pmc_stats stats = {0};

    check_sound(cache);
    CHECK_EQ(pmc_stats(cache, &stats), PMC_OK);
    CHECK_EQ(stats.recoveries, 0);
    CHECK_EQ(stats.damaged, 0);
}

static inline enum pmc_status
put_text(struct pmc_cache *cache, const char *key, const char *value)
{
    return pmc_put(cache, key, strlen(key), value, strlen(value), NULL);
}

/* The value as text in memory that the next call uses again; NULL: a miss. */
static inline const char *
get_text(struct pmc_cache *cache, const char *key)
{
    static _Thread_local char text[4096];
    struct pmc_found found;

    if (pmc_get(cache, key, strlen(key), text, sizeof text - 1, 0, &found) != PMC_OK)
        return NULL;
    text[found.value_size < sizeof text ? found.value_size : sizeof text - 1] = '\0';
    return text;
}

static inline bool
holds_text(struct pmc_cache *cache, const char *key, const char *value)
{
    const char *held = get_text(cache, key);

    return held && strcmp(held, value) == 0;
}

/* ---- directories ----------------------------------------------------- */

struct place {
    char directory[128];
    char path[160]; /* of a pool in it */
};

static inline struct place
make_place_in(const char *directory)
{
    struct place place;

    snprintf(place.directory, sizeof place.directory, "%.90s/pmemcache-test-XXXXXX",
             directory);
    if (!mkdtemp(place.directory))
        abort();
    snprintf(place.path, sizeof place.path, "%s/site.pool", place.directory);
    return place;
}

static inline struct place
make_place(void)
{
    return make_place_in("/tmp");
}

/* Files in a directory whose names begin with prefix. */
static inline unsigned
count_files(const char *directory, const char *prefix)
{
    DIR *stream = opendir(directory);
    const struct dirent *file;
    unsigned count = 0;

    while (stream && (file = readdir(stream)) != NULL)
        count += file->d_name[0] != '.' &&
                 strncmp(file->d_name, prefix, strlen(prefix)) == 0;
    if (stream)
        closedir(stream);
    return count;
}

static inline void
remove_place(const struct place *place)
{
    DIR *stream = opendir(place->directory);
    const struct dirent *file;

    while (stream && (file = readdir(stream)) != NULL) {
        char path[512];

        snprintf(path, sizeof path, "%.127s/%s", place->directory, file->d_name);
        if (unlink(path) != 0)
            rmdir(path);
    }
    if (stream)
        closedir(stream);
    rmdir(place->directory);
}

static inline struct pmc_options
options_at(const struct place *place, uint64_t size_bytes)
{
    struct pmc_options options;

    pmc_options_default(&options);
    options.path = place->path;
    options.size_bytes = size_bytes;
    return options;
}

/* A kept pool's index may lie in shared memory: made volatile, it goes too. */
static inline void
remove_kept(const struct place *place, uint64_t size_bytes)
{
    struct pmc_options options = options_at(place, size_bytes);

    pmc_close(open_with(&options));
    CHECK_EQ(count_files(place->directory, ""), 0);
    remove_place(place);
}

/* ---- children -------------------------------------------------------- */

/* Wait for a child and see that it ended well. */
static inline void
check_child(pid_t child)
{
    int status = -1;

    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void
kill_child(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* A pipe that one process writes a byte to when it is ready. */
struct signal_pipe {
    int ends[2];
};

static inline struct signal_pipe
make_signal(void)
{
    struct signal_pipe made;

    if (pipe(made.ends) != 0)
        abort();
    return made;
}

static inline void
give_signal(const struct signal_pipe *to)
{
    CHECK_EQ(write(to->ends[1], "!", 1), 1);
}

static inline void
await_signal(const struct signal_pipe *from)
{
    char byte;

    CHECK_EQ(read(from->ends[0], &byte, 1), 1);
}

static inline void
close_signal(struct signal_pipe *made)
{
    close(made->ends[0]);
    close(made->ends[1]);
}

static inline pid_t
raw_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

/* Start a child that does something with the pool and then lives on. */
static inline pid_t
start_child(pid_t (*make_child)(void), struct pmc_cache *cache,
            void (*act)(struct pmc_cache *))
{
    struct signal_pipe ready = make_signal();
    pid_t child = make_child();

    if (child == 0) {
        act(cache);
        give_signal(&ready);
        for (;;)
            pause();
    }
    await_signal(&ready);
    close_signal(&ready);
    return child;
}

static inline uint64_t
milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

#endif
