/*
 * What the programs of the storm share: keys and values that describe themselves,
 * pools in a folder of their own, and an honest count of what passed.
 *
 *   value   | key 4 | size 4 | sequence 8 | pattern of all three ... |
 *
 * A value is right only if every byte of it is the one that its key, sequence
 * and size call for, so a single torn or foreign byte shows.
 */
#ifndef PMC_STORM_HARNESS_H
#define PMC_STORM_HARNESS_H

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base.h"
#include "fault.h"

#define KEY_ROOM_BYTES 512u
#define VALUE_ROOM_BYTES (64u * 1024u)
#define STAMP_BYTES 16u

struct stamp {
    uint32_t key;
    uint32_t size;
    uint64_t sequence;
};
static_assert(sizeof(struct stamp) == STAMP_BYTES, "no padding");

/* ---- numbers --------------------------------------------------------- */

/* splitmix64 (Steele, Lea and Flood, 2014). */
static inline uint64_t
mix(uint64_t number)
{
    number += UINT64_C(0x9e3779b97f4a7c15);
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
    return number ^ number >> 31;
}

static inline uint64_t
draw(uint64_t *state, uint64_t below)
{
    *state = mix(*state);
    return *state % below;
}

static inline uint64_t
time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void
sleep_us(uint64_t duration_us)
{
    struct timespec pause_for = {(time_t)(duration_us / 1000000u),
                                 (long)(duration_us % 1000000u * 1000u)};

    nanosleep(&pause_for, NULL);
}

/* ---- keys and values ------------------------------------------------- */

/* The bytes of key number *key*: most are short, one in sixteen is long. */
static inline size_t
key_write(char *key_out, uint32_t key)
{
    int used = snprintf(key_out, KEY_ROOM_BYTES, "key:%06u", key);
    size_t size = (size_t)used + (key % 16 == 7 ? key % 300 : 0);

    memset(key_out + used, 'k', size - (size_t)used);
    return size;
}

/* size is at least STAMP_BYTES. */
static inline void
value_write(uint8_t *value_out, uint32_t key, uint64_t sequence, size_t size)
{
    struct stamp stamp = {.key = key, .size = (uint32_t)size, .sequence = sequence};
    uint64_t seed = mix((uint64_t)key << 40 ^ sequence);

    memcpy(value_out, &stamp, STAMP_BYTES);
    for (size_t at = STAMP_BYTES; at < size; at += 8) {
        uint64_t word = mix(seed + at);

        memcpy(value_out + at, &word, size - at < 8 ? size - at : 8);
    }
}

/* Is this, to the last byte, a value that was once written for this key? */
static inline bool
value_is_whole(const uint8_t *value, size_t size, uint32_t key, uint64_t *sequence_out)
{
    struct stamp stamp;
    uint64_t seed;

    if (size < STAMP_BYTES)
        return false;
    memcpy(&stamp, value, STAMP_BYTES);
    *sequence_out = stamp.sequence;
    if (stamp.key != key || stamp.size != size)
        return false;
    seed = mix((uint64_t)key << 40 ^ stamp.sequence);
    for (size_t at = STAMP_BYTES; at < size; at += 8) {
        uint64_t word = mix(seed + at);

        if (memcmp(value + at, &word, size - at < 8 ? size - at : 8) != 0)
            return false;
    }
    return true;
}

/* ---- counting -------------------------------------------------------- */

static int checks_passed;
static int checks_failed;

/* Count one check; say what failed. Returns whether it held. */
static inline bool check(bool holds, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline bool
check(bool holds, const char *format, ...)
{
    va_list arguments;

    if (holds) {
        checks_passed++;
        return true;
    }
    checks_failed++;
    va_start(arguments, format);
    fputs("FAILED: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return false;
}

/* The closing line, and the exit code that goes with it. */
static inline int
finish(void)
{
    printf("%d passed, %d failed\n", checks_passed, checks_failed);
    fflush(stdout);
    return checks_failed == 0 && checks_passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

_Noreturn static inline void
give_up(const char *what)
{
    fprintf(stderr, "cannot %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- processes ------------------------------------------------------- */

/* Fork; the child dies with its parent. */
static inline pid_t
fork_child(void)
{
    pid_t parent = getpid();
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0)
        give_up("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
    }
    return child;
}

static inline int
wait_child(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            give_up("wait for a child");
    return status;
}

static inline bool
was_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static inline void *
share_memory(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        give_up("share memory");
    return memory;
}

/* ---- the folder ------------------------------------------------------ */

static char folder[128];

static inline void
empty_folder(void)
{
    DIR *directory = opendir(folder);
    struct dirent *found;

    if (!directory)
        return;
    while ((found = readdir(directory)) != NULL)
        if (found->d_name[0] != '.')
            unlinkat(dirfd(directory), found->d_name, 0);
    closedir(directory);
}

static pid_t folder_owner;

static inline void
remove_folder(void)
{
    if (getpid() != folder_owner)
        return;
    empty_folder();
    rmdir(folder);
}

static inline void
make_folder_in(const char *base)
{
    snprintf(folder, sizeof folder, "%.90s/pmc-storm-XXXXXX", base);
    if (!mkdtemp(folder))
        give_up("make a folder");
    folder_owner = getpid();
}

/* A folder in memory if there is one, removed when the program ends. */
static inline void
make_folder(void)
{
    const char *base = getenv("TMPDIR");

    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    make_folder_in(base);
    atexit(remove_folder);
}

/* Files in the folder. */
static inline int
folder_files(void)
{
    DIR *directory = opendir(folder);
    struct dirent *found;
    int files = 0;

    if (!directory)
        return -1;
    while ((found = readdir(directory)) != NULL)
        files += found->d_name[0] != '.';
    closedir(directory);
    return files;
}

/* ---- pools ----------------------------------------------------------- */

/* A pool of one shard in the folder. The path is the program's: one pool at a time. */
static inline struct pmc_options
options_in_folder(const char *name, uint64_t size_bytes, uint32_t lock_timeout_ms)
{
    static char path[192];
    struct pmc_options options;

    pmc_options_default(&options);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    options.path = path;
    options.size_bytes = size_bytes;
    options.shards = 1;
    options.lock_timeout_ms = lock_timeout_ms;
    return options;
}

static inline struct pmc_cache *
open_pool(const struct pmc_options *options)
{
    struct pmc_cache *cache = NULL;
    struct pmc_error error;
    enum pmc_status status = pmc_open(options, &cache, &error);

    if (status != PMC_OK) {
        fprintf(stderr, "cannot open %s: %s: %s\n", options->path,
                pmc_status_text(status), error.message);
        return NULL;
    }
    return cache;
}

/* Put a value that describes itself. */
static inline enum pmc_status
put_stamped(struct pmc_cache *cache, uint32_t number, uint64_t sequence, size_t size,
            const struct pmc_put_options *options)
{
    static uint8_t value[VALUE_ROOM_BYTES];
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);

    value_write(value, number, sequence, size);
    return pmc_put(cache, key, key_size, value, size, options);
}

/* What a get finds: PMC_OK sets *sequence_out, PMC_EDAMAGED stands for wrong bytes. */
static inline enum pmc_status
get_stamped(struct pmc_cache *cache, uint32_t number, uint64_t *sequence_out,
            struct pmc_found *found_out)
{
    static uint8_t value[VALUE_ROOM_BYTES];
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);
    enum pmc_status status =
        pmc_get(cache, key, key_size, value, sizeof value, 0, found_out);

    if (status != PMC_OK)
        return status;
    return found_out->value_size <= sizeof value &&
                   value_is_whole(value, found_out->value_size, number, sequence_out)
               ? PMC_OK
               : PMC_EDAMAGED;
}

/* Does every invariant hold? Says which does not. */
static inline bool
is_whole(struct pmc_cache *cache)
{
    static char report[4096];
    int broken = pmc_check(cache, report, sizeof report);

    if (broken != 0)
        fprintf(stderr, "pmc_check: %d (%s)\n%s", broken,
                broken < 0 ? pmc_status_text((enum pmc_status)broken)
                           : "broken invariants",
                report);
    return broken == 0;
}

/* Is this part of the program asked for? The only argument is how names begin. */
static inline bool
is_wanted(const char *name, int count, char **arguments)
{
    return count < 2 || strncmp(name, arguments[1], strlen(arguments[1])) == 0;
}

static inline uint64_t
number_argument(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "%s is not a number\n", text);
        exit(2);
    }
    return number;
}

#endif
