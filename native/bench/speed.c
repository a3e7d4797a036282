/*
 * How far the engine is from a memcpy.
 *
 *   speed [--mib N] [--rounds N]
 *
 * Everything is measured through the public functions on one warmed private pool
 * of N MiB (tmpfs; default 1024), as a ratio to a memcpy of the same bytes from
 * or to as many random slots of a second warmed mapping. Engine and floor take
 * turns in short chunks; the median of the paired ratios counts, so that a slow
 * moment of the machine hits both. Prints one JSON object.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmemcache.h"

#define KEY_BYTES 16
#define CHUNK 20000
#define VALUE_MAX 65536
#define BATCH 64
#define LATENCIES 2000000
#define SCALING_SECONDS 2.0

static struct {
    uint64_t pool_bytes;
    int rounds;
} settings = {.pool_bytes = UINT64_C(1) << 30, .rounds = 15};

static uint8_t scratch[BATCH][VALUE_MAX];

static double
now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t
random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void
make_key(char key_out[static KEY_BYTES + 1], uint64_t id)
{
    snprintf(key_out, KEY_BYTES + 1, "k%015llu",
             (unsigned long long)(id % UINT64_C(1000000000000000)));
}

static void
require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "speed: %s\n", what);
    exit(1);
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double
median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

/* ---- the two sides --------------------------------------------------- */

struct side {
    struct pmc_cache *cache;
    uint8_t *floor;
    size_t value_size;
    uint64_t entries;
    char (*keys)[KEY_BYTES + 1]; /* CHUNK random keys */
    uint32_t *slots;             /* CHUNK random slots */
    uint64_t random;
    uint64_t next_id;
};

static struct side
side_open(size_t value_size)
{
    struct pmc_options options;
    struct pmc_error error;
    struct side side = {.value_size = value_size, .random = 88172645463325252u};
    char key[KEY_BYTES + 1];

    pmc_options_default(&options);
    options.size_bytes = settings.pool_bytes;
    options.preallocate = true;
    require(pmc_open(&options, &side.cache, &error) == PMC_OK, "cannot open the pool");
    side.entries = settings.pool_bytes * 9 / 10 / (value_size + 40);
    memset(scratch[0], 7, value_size);
    for (uint64_t id = 0; id < side.entries; id++) {
        make_key(key, id);
        require(pmc_put(side.cache, key, KEY_BYTES, scratch[0], value_size, NULL) ==
                    PMC_OK,
                "cannot fill the pool");
    }
    side.next_id = side.entries;
    side.floor = mmap(NULL, side.entries * value_size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(side.floor != MAP_FAILED, "cannot map the floor");
    memset(side.floor, 7, side.entries * value_size);
    side.keys = calloc(CHUNK, sizeof *side.keys);
    side.slots = calloc(CHUNK, sizeof *side.slots);
    require(side.keys && side.slots, "no memory");
    return side;
}

static void
side_close(struct side *side)
{
    munmap(side->floor, side->entries * side->value_size);
    pmc_close(side->cache);
    free(side->keys);
    free(side->slots);
}

static void
draw(struct side *side)
{
    for (int i = 0; i < CHUNK; i++) {
        make_key(side->keys[i], random_next(&side->random) % side->entries);
        side->slots[i] = (uint32_t)(random_next(&side->random) % side->entries);
    }
}

static double
time_floor_reads(const struct side *side)
{
    double start = now_seconds();

    for (int i = 0; i < CHUNK; i++) {
        memcpy(scratch[0], side->floor + side->slots[i] * side->value_size,
               side->value_size);
        __asm__ volatile("" ::"r"(scratch) : "memory");
    }
    return now_seconds() - start;
}

static double
time_floor_writes(const struct side *side)
{
    double start = now_seconds();

    for (int i = 0; i < CHUNK; i++) {
        memcpy(side->floor + side->slots[i] * side->value_size, scratch[0],
               side->value_size);
        __asm__ volatile("" ::"r"(side->floor) : "memory");
    }
    return now_seconds() - start;
}

static double
time_gets(struct side *side)
{
    double start = now_seconds();
    int hits = 0;

    for (int i = 0; i < CHUNK; i++)
        hits += pmc_get(side->cache, side->keys[i], KEY_BYTES, scratch[0], VALUE_MAX, 0,
                        NULL) == PMC_OK;
    require(hits > 0, "no key was found");
    return now_seconds() - start;
}

static void *
reserve_scratch(void *context, size_t index, size_t value_size)
{
    (void)context;
    (void)value_size;
    return scratch[index];
}

static double
time_get_many(struct side *side)
{
    struct pmc_item items[BATCH] = {{0}};
    double start = now_seconds();

    for (int first = 0; first + BATCH <= CHUNK; first += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            items[i].key = side->keys[first + i];
            items[i].key_size = KEY_BYTES;
        }
        pmc_get_many(side->cache, items, BATCH, reserve_scratch, NULL);
    }
    return now_seconds() - start;
}

/* Puts of keys that are new: each evicts. */
static double
time_puts(struct side *side)
{
    double start;

    for (int i = 0; i < CHUNK; i++)
        make_key(side->keys[i], side->next_id++);
    start = now_seconds();
    for (int i = 0; i < CHUNK; i++)
        pmc_put(side->cache, side->keys[i], KEY_BYTES, scratch[0], side->value_size,
                NULL);
    return now_seconds() - start;
}

/* ---- ratios ---------------------------------------------------------- */

static void
print_ratio(const char *name, struct side *side, double (*engine)(struct side *),
            double (*floor)(const struct side *), bool last)
{
    double ratios[64];
    double engine_ns[64];
    double floor_ns[64];
    int rounds = settings.rounds < 64 ? settings.rounds : 64;

    for (int round = 0; round < rounds; round++) {
        draw(side);
        floor_ns[round] = floor(side) / CHUNK * 1e9;
        engine_ns[round] = engine(side) / CHUNK * 1e9;
        ratios[round] = engine_ns[round] / floor_ns[round];
    }
    printf("  \"%s\": {\"ratio\": %.2f, \"engine_ns\": %.0f, \"floor_ns\": %.0f}%s\n",
           name, median(ratios, rounds), median(engine_ns, rounds),
           median(floor_ns, rounds), last ? "" : ",");
    fflush(stdout);
}

static void
measure_gets(size_t value_size, const char *name)
{
    struct side side = side_open(value_size);

    print_ratio(name, &side, time_gets, time_floor_reads, false);
    side_close(&side);
}

static void
measure_puts(size_t value_size, const char *name)
{
    struct side side = side_open(value_size);

    print_ratio(name, &side, time_puts, time_floor_writes, false);
    side_close(&side);
}

/* ---- latency --------------------------------------------------------- */

static double
percentile(const double *sorted, int count, double share)
{
    return sorted[(int)(share * (count - 1))];
}

static void
print_latencies(const char *name, double *ns, int count)
{
    qsort(ns, (size_t)count, sizeof *ns, compare_doubles);
    printf("  \"%s\": {\"p50\": %.0f, \"p99\": %.0f, \"p99.9\": %.0f, "
           "\"p99.99\": %.0f, \"max\": %.0f},\n",
           name, percentile(ns, count, .5), percentile(ns, count, .99),
           percentile(ns, count, .999), percentile(ns, count, .9999),
           percentile(ns, count, 1));
}

static void
measure_latency(struct side *side)
{
    double *ns = calloc(LATENCIES, sizeof *ns);

    require(ns != NULL, "no memory");
    draw(side);
    for (int i = 0; i < LATENCIES; i++) {
        double start = now_seconds();

        pmc_get(side->cache, side->keys[i % CHUNK], KEY_BYTES, scratch[0], VALUE_MAX, 0,
                NULL);
        ns[i] = (now_seconds() - start) * 1e9;
        if (i % CHUNK == CHUNK - 1)
            draw(side);
    }
    print_latencies("get_1024_latency_ns", ns, LATENCIES);
    for (int i = 0; i < LATENCIES; i++) {
        double start = now_seconds();

        memcpy(scratch[0], side->floor + side->slots[i % CHUNK] * side->value_size,
               side->value_size);
        __asm__ volatile("" ::"r"(scratch) : "memory");
        ns[i] = (now_seconds() - start) * 1e9;
        if (i % CHUNK == CHUNK - 1)
            draw(side);
    }
    print_latencies("floor_1024_latency_ns", ns, LATENCIES);
    free(ns);
}

/* ---- processes ------------------------------------------------------- */

enum mix { MIX_GETS, MIX_PUTS, MIX_90_10 };

/* Operations of one process until the time is up. Keys are skewed by squaring a
 * uniform number for the mix, uniform otherwise. */
static uint64_t
run_mix(struct side *side, enum mix mix, uint64_t seed)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    double end = now_seconds() + SCALING_SECONDS;
    char key[KEY_BYTES + 1];
    uint64_t done = 0;

    while (now_seconds() < end) {
        for (int i = 0; i < 256; i++, done++) {
            double share = (double)(random_next(&state) >> 11) * 0x1p-53;
            uint64_t id;

            if (mix == MIX_90_10)
                share = share * share * share;
            id = (uint64_t)(share * (double)side->entries);
            make_key(key, id);
            if (mix == MIX_PUTS || (mix == MIX_90_10 && random_next(&state) % 10 == 0))
                pmc_put(side->cache, key, KEY_BYTES, scratch[0], side->value_size,
                        NULL);
            else
                pmc_get(side->cache, key, KEY_BYTES, scratch[0], VALUE_MAX, 0, NULL);
        }
    }
    return done;
}

static double
run_processes(struct side *side, enum mix mix, int processes)
{
    uint64_t *done =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t total = 0;

    require(done != MAP_FAILED, "no memory");
    for (int process = 0; process < processes; process++)
        if (fork() == 0) {
            done[process] = run_mix(side, mix, (uint64_t)process + 1);
            _exit(0);
        }
    for (int process = 0; process < processes; process++)
        wait(NULL);
    for (int process = 0; process < processes; process++)
        total += done[process];
    munmap(done, 4096);
    return (double)total / SCALING_SECONDS;
}

static void
measure_scaling(struct side *side, enum mix mix, const char *name, bool last)
{
    double ratios[5];
    double one = 0;

    for (int round = 0; round < 5; round++) {
        one = run_processes(side, mix, 1);
        ratios[round] = run_processes(side, mix, 2) / one;
    }
    printf("  \"%s\": {\"two_processes_to_one\": %.2f, \"one_per_second\": %.0f}%s\n",
           name, median(ratios, 5), one, last ? "" : ",");
    fflush(stdout);
}

/* A reader of a key whose bucket another process keeps writing. */
static void
measure_busy_bucket(struct side *side)
{
    char key[KEY_BYTES + 1];
    double quiet;
    double busy;
    pid_t writer;

    make_key(key, 1);
    for (int i = 0; i < CHUNK; i++)
        memcpy(side->keys[i], key, sizeof key);
    time_gets(side);
    quiet = time_gets(side);
    writer = fork();
    if (writer == 0) {
        for (;;)
            pmc_put(side->cache, key, KEY_BYTES, scratch[0], side->value_size, NULL);
    }
    usleep(100000);
    time_gets(side);
    busy = time_gets(side);
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    printf("  \"get_beside_busy_writer\": {\"slower\": %.2f},\n", busy / quiet);
}

static void
parse_arguments(int count, char **arguments)
{
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(arguments[i], "--mib") == 0)
            settings.pool_bytes = strtoull(arguments[i + 1], NULL, 10) << 20;
        else if (strcmp(arguments[i], "--rounds") == 0)
            settings.rounds = (int)strtol(arguments[i + 1], NULL, 10);
        else
            require(false, "usage: speed [--mib N] [--rounds N]");
    }
    require(count % 2 == 1 && settings.pool_bytes >= 1 << 24 && settings.rounds > 0,
            "usage: speed [--mib N >= 16] [--rounds N > 0]");
}

int
main(int count, char **arguments)
{
    struct side side;

    parse_arguments(count, arguments);
    printf("{\n");
    measure_gets(64, "get_64");
    measure_gets(256, "get_256");
    measure_gets(4096, "get_4096");
    measure_gets(65536, "get_65536");
    measure_puts(65536, "put_65536_evicting");
    side = side_open(1024);
    print_ratio("get_1024", &side, time_gets, time_floor_reads, false);
    print_ratio("get_many_64_of_1024", &side, time_get_many, time_floor_reads, false);
    measure_latency(&side);
    measure_busy_bucket(&side);
    measure_scaling(&side, MIX_GETS, "gets_scaling", false);
    print_ratio("put_1024_evicting", &side, time_puts, time_floor_writes, false);
    measure_scaling(&side, MIX_PUTS, "puts_scaling", false);
    measure_scaling(&side, MIX_90_10, "mix_90_10_scaling", true);
    printf("}\n");
    side_close(&side);
    return 0;
}
