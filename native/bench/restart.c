/*
 * How long does it take to open a pool that earlier processes left full?
 *
 *   restart POOL_MIB VALUE_BYTES ROUNDS DIRECTORY
 *
 * A pool that is kept is filled until it evicts, by a child. In half of the rounds
 * the child then closes it, in the others it is one of several that are killed while
 * they put. After each the time of pmc_open() is taken, and that until the first of the
 * keys was got. The next puts go to all shards: those whose owner was killed are
 * recovered by them, and the slowest and the sum of these recoveries are told. Then every
 * key is got once, whose time and number say what the first look at each value costs and
 * that none was lost. The second look, when all are verified, stands beside it. Page
 * faults are counted in both: the first is what a worker's first pass over the pool
 * costs it.
 *
 * Prints one line of JSON.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmemcache.h"

#define MIB (UINT64_C(1) << 20)
#define VALUE_MAX_BYTES 65536u
#define ROUNDS_MAX 100u
#define WRITERS 4u      /* at work when all are killed */
#define FIRST_PUTS 400u /* to dozens of shards, so each gets some */

struct pass {
    double look_ns; /* a key */
    uint64_t page_faults;
    uint64_t found;
};

struct round {
    double open_ms;
    double first_get_ms;   /* from before opening */
    double slowest_put_ms; /* of the first ones */
    double first_puts_ms;
    struct pass first;
    struct pass second;
    uint64_t entries;
    uint64_t lost;       /* of the entries, those that were not found */
    uint64_t recoveries; /* of shards, whose owners were killed */
};

struct run {
    struct pmc_options options;
    size_t value_bytes;
    uint64_t keys; /* as many as were put */
};

static void
die(const char *why)
{
    fprintf(stderr, "restart: %s\n", why);
    exit(1);
}

static double
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static struct pmc_cache *
open_pool(const struct run *run)
{
    struct pmc_cache *cache;
    struct pmc_error error;

    if (pmc_open(&run->options, &cache, &error) != PMC_OK)
        die(error.message);
    return cache;
}

static void
put_keys(struct pmc_cache *cache, const struct run *run, uint64_t from, uint64_t to)
{
    static uint8_t value[VALUE_MAX_BYTES];

    for (uint64_t key = from; key < to; key++) {
        memcpy(value, &key, sizeof key);
        pmc_put(cache, &key, sizeof key, value, run->value_bytes, NULL);
    }
}

/* What a child does: fill the pool if nobody has, say so, and close it or work on until
 * it is killed. */
_Noreturn static void
use_pool(const struct run *run, uint64_t keys_to_fill, uint64_t works_from, bool closes,
         int ready)
{
    struct pmc_cache *cache = open_pool(run);

    put_keys(cache, run, 0, keys_to_fill);
    if (write(ready, "", 1) != 1)
        die("nobody listens");
    for (uint64_t turn = works_from; !closes; turn++)
        put_keys(cache, run, turn % run->keys, turn % run->keys + 1);
    pmc_close(cache);
    _exit(0);
}

/* In children, of which the only one closes the pool, or all are killed at work. */
static void
use_and_leave(const struct run *run, bool fill, bool killed)
{
    uint32_t count = killed ? WRITERS : 1;
    pid_t children[WRITERS];
    int ready[2];
    char byte;

    if (pipe(ready) != 0)
        die("no pipe");
    for (uint32_t i = 0; i < count; i++) {
        children[i] = fork();
        if (children[i] == 0)
            use_pool(run, fill ? run->keys : 0, run->keys / count * i, !killed,
                     ready[1]);
        if (children[i] < 0 || read(ready[0], &byte, 1) != 1)
            die("a child failed");
    }
    if (killed)
        usleep(20000);
    for (uint32_t i = 0; killed && i < count; i++)
        kill(children[i], SIGKILL);
    for (uint32_t i = 0; i < count; i++)
        waitpid(children[i], NULL, 0);
    close(ready[0]);
    close(ready[1]);
}

static uint64_t
page_faults(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}

/* Get every key once. */
static struct pass
look_at_all(struct pmc_cache *cache, const struct run *run)
{
    static uint8_t value[VALUE_MAX_BYTES];
    struct pass pass = {.found = 0};
    uint64_t faults = page_faults();
    double began = now_ns();

    for (uint64_t key = 0; key < run->keys; key++) {
        if (pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL) != PMC_OK)
            continue;
        pass.found++;
        if (memcmp(value, &key, sizeof key) != 0)
            die("a wrong value");
    }
    pass.look_ns = (now_ns() - began) / (double)run->keys;
    pass.page_faults = page_faults() - faults;
    return pass;
}

/* The first puts, to every shard. */
static void
measure_puts(struct pmc_cache *cache, const struct run *run, struct round *round)
{
    double began = now_ns();
    double before = began;

    for (uint64_t i = 0; i < FIRST_PUTS; i++) {
        uint64_t key = run->keys / FIRST_PUTS * i;
        double after;

        put_keys(cache, run, key, key + 1);
        after = now_ns();
        if ((after - before) / 1e6 > round->slowest_put_ms)
            round->slowest_put_ms = (after - before) / 1e6;
        before = after;
    }
    round->first_puts_ms = (before - began) / 1e6;
}

static struct round
measure_round(const struct run *run, bool first, bool killed)
{
    static uint8_t value[VALUE_MAX_BYTES];
    struct round round = {0};
    struct pmc_stats stats;
    struct pmc_cache *cache;
    double began;

    use_and_leave(run, first, killed);
    began = now_ns();
    cache = open_pool(run);
    round.open_ms = (now_ns() - began) / 1e6;
    for (uint64_t key = run->keys; key-- > 0;) /* the last ones are still there */
        if (pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL) == PMC_OK)
            break;
    round.first_get_ms = (now_ns() - began) / 1e6;
    pmc_stats(cache, &stats);
    round.recoveries = stats.recoveries; /* of all times */
    measure_puts(cache, run, &round);
    pmc_stats(cache, &stats);
    round.recoveries = stats.recoveries - round.recoveries;
    round.entries = stats.entries;
    round.first = look_at_all(cache, run);
    round.lost = stats.entries - round.first.found;
    round.second = look_at_all(cache, run);
    pmc_close(cache);
    return round;
}

static int
compare_opens(const void *a, const void *b)
{
    const struct round *left = a;
    const struct round *right = b;

    return (left->open_ms > right->open_ms) - (left->open_ms < right->open_ms);
}

static void
print_rounds(const char *name, struct round *rounds, uint32_t count)
{
    uint64_t lost = 0;
    uint64_t recoveries = 0;
    double slowest_put_ms = 0;
    const struct round *median;

    for (uint32_t i = 0; i < count; i++) {
        lost += rounds[i].lost;
        recoveries += rounds[i].recoveries;
        if (rounds[i].slowest_put_ms > slowest_put_ms)
            slowest_put_ms = rounds[i].slowest_put_ms;
    }
    qsort(rounds, count, sizeof *rounds, compare_opens);
    median = &rounds[count / 2];
    printf(", \"%s\": {\"open_ms_median\": %.2f, \"open_ms_worst\": %.2f"
           ", \"first_get_ms\": %.2f, \"first_puts_ms\": %.2f"
           ", \"slowest_put_ms\": %.2f, \"recoveries\": %" PRIu64
           ", \"first_look_ns\": %.0f, \"second_look_ns\": %.0f"
           ", \"first_look_page_faults\": %" PRIu64
           ", \"second_look_page_faults\": %" PRIu64 ", \"entries\": %" PRIu64
           ", \"lost\": %" PRIu64 "}",
           name, median->open_ms, rounds[count - 1].open_ms, median->first_get_ms,
           median->first_puts_ms, slowest_put_ms, recoveries, median->first.look_ns,
           median->second.look_ns, median->first.page_faults,
           median->second.page_faults, median->entries, lost);
}

int
main(int argc, char **argv)
{
    static struct round rounds[2][ROUNDS_MAX];
    struct run run;
    char path[4096];
    uint64_t pool_bytes;
    uint32_t count;

    if (argc != 5)
        die("usage: restart POOL_MIB VALUE_BYTES ROUNDS DIRECTORY");
    pool_bytes = strtoull(argv[1], NULL, 10) * MIB;
    run.value_bytes = strtoull(argv[2], NULL, 10);
    count = (uint32_t)strtoul(argv[3], NULL, 10);
    if (run.value_bytes < sizeof run.keys || run.value_bytes > VALUE_MAX_BYTES ||
        count == 0 || count > ROUNDS_MAX)
        die("values of 8 to 65536 bytes, 1 to 100 rounds");
    snprintf(path, sizeof path, "%s/restart-%ld.pool", argv[4], (long)getpid());
    pmc_options_default(&run.options);
    run.options.path = path;
    run.options.size_bytes = pool_bytes;
    run.options.lifetime = PMC_RESTART;
    run.keys = pool_bytes / run.value_bytes;
    for (uint32_t i = 0; i < 2 * count; i++)
        rounds[i % 2][i / 2] = measure_round(&run, i == 0, i % 2 != 0);
    printf("{\"pool_bytes\": %" PRIu64 ", \"value_bytes\": %zu", pool_bytes,
           run.value_bytes);
    print_rounds("closed", rounds[0], count);
    print_rounds("killed", rounds[1], count);
    printf("}\n");
    run.options.lifetime = PMC_VOLATILE; /* whoever leaves such a pool removes it */
    pmc_close(open_pool(&run));
    return 0;
}
