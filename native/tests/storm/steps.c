/*
 * Death at every numbered step of every kind of operation.
 *
 * For each scene and n = 1, 2, ...: a fresh pool is given known content, a
 * forked child is armed to die at the n-th step it passes and performs the
 * operation, and the parent, who is attached to the same pool, then looks:
 *   - what the operation did not name is there, to the last byte, but for as
 *     many entries as the shard counts as evicted;
 *   - what it named has its old value, its new one, or none, with the deadline
 *     that belongs to it, and its new one if the child had been told so;
 *   - recovery dropped nothing as damaged, pmc_check() finds every invariant
 *     whole, the pool takes new values, and nobody waited long.
 * It ends when the child survives. Layouts are random, so three survivals in a
 * row are asked for. Recovery is a scene too: there a second child dies while it
 * cleans up after the first.
 *
 * In the end somebody must have died at every step that the engine's sources name:
 * a step that no scene reaches is one whose death nobody has looked at.
 *
 * steps [SCENE]    only the scenes whose name begins so
 */
#include <fcntl.h>

#include "harness.h"

#include "layout.h"

#define KEYS 2048u
#define PROBE_KEY (KEYS - 1)
#define COUNTER_KEY "counter"
#define COUNTER_VALUE 41
#define LOCK_TIMEOUT_MS 20000u
/* Below any wait, above what a busy machine takes for itself. */
#define PATIENCE_NS UINT64_C(8000000000)
#define SURVIVALS 3
#define STEPS_MAX 20000
#define LONG_TTL_MS (INT64_C(1) << 33)
#define SHORT_TTL_MS INT64_C(100000)
#define DELETED 0u

/* What one key may hold. Sequence 0 stands for no entry. */
struct expectation {
    uint64_t old;
    uint64_t new;
    int64_t old_ttl_ms;
    int64_t new_ttl_ms;
    bool done; /* the operation returned: old is no longer right */
};

/* Shared with the child, which notes what it is about to do. */
struct stage {
    struct expectation keys[KEYS];
    bool counter_touched;
    bool counter_done;
    char died_at[PMC_FAULT_NAME_BYTES];
};

struct scene {
    const char *name;
    uint64_t size_bytes;
    uint8_t eviction;
    void (*prepare)(struct pmc_cache *cache);
    void (*act)(struct pmc_cache *cache);
    const char *dies_before; /* recovery: where the first child dies */
    const char *dies_at;     /* only the steps of this name count */
};

static struct stage *stage;

/* ---- operations that are noted --------------------------------------- */

static void
put(struct pmc_cache *cache, uint32_t number, uint64_t sequence, size_t size,
    int64_t ttl_ms)
{
    struct expectation *expected = &stage->keys[number];
    struct pmc_put_options options = {.ttl_ms = ttl_ms};

    expected->new = sequence;
    expected->new_ttl_ms = ttl_ms;
    if (put_stamped(cache, number, sequence, size, &options) != PMC_OK)
        expected->new = DELETED;
    expected->done = true;
}

static void
delete(struct pmc_cache *cache, uint32_t number)
{
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);

    stage->keys[number].new = DELETED;
    pmc_delete(cache, key, key_size, 0);
    stage->keys[number].done = true;
}

/* What has been done so far is what the scene starts from. */
static void
settle(void)
{
    for (uint32_t number = 0; number < KEYS; number++) {
        struct expectation *expected = &stage->keys[number];

        expected->old = expected->new;
        expected->old_ttl_ms = expected->new_ttl_ms;
        expected->done = false;
    }
}

static size_t
some_size(uint32_t number)
{
    return STAMP_BYTES + number * 37u % 300u;
}

/* ---- content --------------------------------------------------------- */

static void
prepare_few(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < 40; number++)
        put(cache, number, 1, some_size(number),
            number % 2 ? SHORT_TTL_MS : PMC_TTL_NONE);
}

/* What made room while the content was put together is not expected. */
static void
forget_evicted(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < KEYS; number++) {
        char key[KEY_ROOM_BYTES];
        size_t key_size = key_write(key, number);

        if (stage->keys[number].new != DELETED &&
            pmc_exists(cache, key, key_size) != PMC_OK)
            stage->keys[number].new = DELETED;
    }
}

/* So many that nothing more fits without evicting; large and small, and with
 * gaps. */
static void
prepare_full(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < 700; number++)
        put(cache, number, 1, number % 5 ? some_size(number) : some_size(number) * 9,
            PMC_TTL_NONE);
    for (uint32_t number = 500; number < 700; number += 9)
        delete(cache, number);
    forget_evicted(cache);
}

/* Without gaps: whatever comes has to evict. */
static void
prepare_tight(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < 1800; number++)
        put(cache, number, 1, some_size(number), PMC_TTL_NONE);
    forget_evicted(cache);
}

static void
prepare_counter(struct pmc_cache *cache)
{
    struct pmc_incr_options options = {
        .create = true, .initial = COUNTER_VALUE, .ttl_ms = PMC_TTL_NONE};
    int64_t result;

    prepare_few(cache);
    pmc_incr(cache, COUNTER_KEY, sizeof COUNTER_KEY - 1, 0, &options, &result);
}

/* Values that are each about as large as a span of memory. */
#define SPAN_VALUE_BYTES 60000u

static void
prepare_spans(struct pmc_cache *cache)
{
    prepare_few(cache);
    for (uint32_t number = 100; number < 112; number++)
        put(cache, number, 1, SPAN_VALUE_BYTES, PMC_TTL_NONE);
}

/* Some of them deleted, whose memory then is away. */
static void
prepare_away(struct pmc_cache *cache)
{
    struct pmc_stats stats = {0};

    prepare_spans(cache);
    for (uint32_t number = 102; number < 110; number++)
        delete(cache, number);
    pmc_stats(cache, &stats);
    check(stats.given_back_bytes > SPAN_VALUE_BYTES, "nothing was given back");
}

/* ---- acts ------------------------------------------------------------ */

static void
act_put_new(struct pmc_cache *cache)
{
    put(cache, 1000, 2, 500, LONG_TTL_MS);
}

static void
act_put_replacing(struct pmc_cache *cache)
{
    put(cache, 3, 2, some_size(3), LONG_TTL_MS);
    put(cache, 4, 2, some_size(4) + 200, LONG_TTL_MS);
    put(cache, 5, 2, STAMP_BYTES, PMC_TTL_NONE);
}

static void
act_put_evicting(struct pmc_cache *cache)
{
    for (uint32_t number = 1900; number < 1912; number++)
        put(cache, number, 2, 300, PMC_TTL_NONE);
}

static void
act_put_moving(struct pmc_cache *cache)
{
    for (uint32_t number = 1000; number < 1004; number++)
        put(cache, number, 2, 9000, PMC_TTL_NONE);
}

static void
act_delete(struct pmc_cache *cache)
{
    delete(cache, 6);
    delete(cache, 7);
    delete(cache, 8);
}

static void
act_touch(struct pmc_cache *cache)
{
    for (uint32_t number = 9; number < 15; number += 2) {
        char key[KEY_ROOM_BYTES];
        size_t key_size = key_write(key, number);

        stage->keys[number].new_ttl_ms = LONG_TTL_MS;
        pmc_touch(cache, key, key_size, LONG_TTL_MS, 0);
        stage->keys[number].done = true;
    }
}

static void
act_incr(struct pmc_cache *cache)
{
    int64_t result;

    stage->counter_touched = true;
    pmc_incr(cache, COUNTER_KEY, sizeof COUNTER_KEY - 1, 1, NULL, &result);
    stage->counter_done = true;
}

/* For the child it is late: every entry with a short time to live is dead. */
static void
act_expire(struct pmc_cache *cache)
{
    for (uint32_t number = 1; number < 40; number += 2)
        stage->keys[number].new = DELETED;
    pmc_advance_clock(cache, 2 * SHORT_TTL_MS);
    for (uint32_t number = 1000; number < 1012; number++)
        put(cache, number, 2, 100, PMC_TTL_NONE);
}

static void
act_clear(struct pmc_cache *cache)
{
    for (uint32_t number = 0; number < KEYS; number++) {
        struct expectation *expected = &stage->keys[number];

        if (expected->done) {
            expected->old = expected->new;
            expected->old_ttl_ms = expected->new_ttl_ms;
            expected->done = false;
        }
        expected->new = DELETED;
    }
    if (pmc_clear(cache) != PMC_OK)
        return;
    for (uint32_t number = 0; number < KEYS; number++)
        stage->keys[number].done = true;
}

static void
act_evict(struct pmc_cache *cache)
{
    for (int turn = 0; turn < 4; turn++)
        pmc_evict(cache, NULL, 0, NULL, NULL);
}

static void
act_split(struct pmc_cache *cache)
{
    for (uint32_t number = 1000; number < 1080; number++)
        put(cache, number, 2, 40, PMC_TTL_NONE);
}

/* So many that the index needs more memory, however the keys lie in it. */
static void
act_grow_index(struct pmc_cache *cache)
{
    for (uint32_t number = 100; number < 900; number++)
        put(cache, number, 2, STAMP_BYTES, PMC_TTL_NONE);
}

static void
act_grow(struct pmc_cache *cache)
{
    for (uint32_t number = 1000; number < 1006; number++)
        put(cache, number, 2, VALUE_ROOM_BYTES, PMC_TTL_NONE);
}

static void
act_give(struct pmc_cache *cache)
{
    for (uint32_t number = 103; number < 108; number++)
        delete(cache, number);
}

static void
act_refill(struct pmc_cache *cache)
{
    for (uint32_t number = 1000; number < 1004; number++)
        put(cache, number, 2, SPAN_VALUE_BYTES, PMC_TTL_NONE);
}

/* The first thing that needs the lock; whoever has died before is buried. */
static void
act_recover(struct pmc_cache *cache)
{
    put(cache, 1950, 3, 64, PMC_TTL_NONE);
}

static void
prepare_first_act(struct pmc_cache *cache)
{
    prepare_few(cache);
}

/* The first child's operations: some of everything. */
static void
act_everything(struct pmc_cache *cache)
{
    act_put_moving(cache);
    act_put_replacing(cache);
    act_touch(cache);
    act_delete(cache);
    act_split(cache);
    act_put_evicting(cache);
    act_clear(cache);
}

/* ---- looking --------------------------------------------------------- */

struct verdict {
    uint64_t missing; /* of entries that the operation did not name */
    bool sound;
};

static bool
ttl_matches(int64_t found_ms, int64_t expected_ms)
{
    if (expected_ms == PMC_TTL_NONE)
        return found_ms == PMC_TTL_NONE;
    return found_ms <= expected_ms && found_ms > expected_ms - 60000;
}

static bool
is_allowed(const struct expectation *expected, uint64_t sequence, int64_t ttl_ms)
{
    if (sequence == expected->new && ttl_matches(ttl_ms, expected->new_ttl_ms))
        return true;
    return !expected->done && sequence == expected->old &&
           ttl_matches(ttl_ms, expected->old_ttl_ms);
}

static bool
was_named(const struct expectation *expected)
{
    return expected->old != expected->new ||
           expected->old_ttl_ms != expected->new_ttl_ms;
}

static void
look_at_key(struct pmc_cache *cache, uint32_t number, struct verdict *verdict)
{
    const struct expectation *expected = &stage->keys[number];
    char key[KEY_ROOM_BYTES];
    size_t key_size = key_write(key, number);
    struct pmc_info info = {0};
    struct pmc_found found;
    uint64_t sequence = 0;
    enum pmc_status status;

    if (expected->old == 0 && expected->new == 0)
        return;
    status = get_stamped(cache, number, &sequence, &found);
    if (status == PMC_MISS) {
        if (expected->done ? expected->new != DELETED : !was_named(expected))
            verdict->missing++;
        return;
    }
    if (status != PMC_OK || pmc_info(cache, key, key_size, &info) != PMC_OK ||
        !is_allowed(expected, sequence, info.ttl_ms)) {
        fprintf(stderr,
                "key %u: %s, sequence %" PRIu64 " (was %" PRIu64 ", to be %" PRIu64
                "%s), ttl %" PRId64 "\n",
                number, pmc_status_text(status), sequence, expected->old, expected->new,
                expected->done ? ", done" : "", info.ttl_ms);
        verdict->sound = false;
    }
}

static bool
counter_is_right(struct pmc_cache *cache)
{
    char text[24] = {0};
    struct pmc_found found;
    long value;

    if (pmc_get(cache, COUNTER_KEY, sizeof COUNTER_KEY - 1, text, sizeof text - 1, 0,
                &found) != PMC_OK)
        return !stage->counter_done;
    value = strtol(text, NULL, 10);
    return (value == COUNTER_VALUE && !stage->counter_done) ||
           value == COUNTER_VALUE + 1;
}

static struct verdict
look_at_all(struct pmc_cache *cache)
{
    struct verdict verdict = {.sound = true};

    for (uint32_t number = 0; number < KEYS; number++)
        if (number != PROBE_KEY)
            look_at_key(cache, number, &verdict);
    if (stage->counter_touched && !counter_is_right(cache)) {
        fprintf(stderr, "the counter is neither old nor new\n");
        verdict.sound = false;
    }
    return verdict;
}

/* A value of the parent's own: the pool must go on taking them. */
static bool
probe(struct pmc_cache *cache)
{
    struct pmc_found found;
    uint64_t sequence;

    return put_stamped(cache, PROBE_KEY, 7, 48, NULL) == PMC_OK &&
           get_stamped(cache, PROBE_KEY, &sequence, &found) == PMC_OK;
}

/* Odd steps are met first by a reader, even ones by a writer. */
static void
examine(struct pmc_cache *cache, const struct scene *scene, long step,
        const struct pmc_stats *before)
{
    uint64_t began_ns = time_ns();
    struct pmc_stats after = {0};
    struct verdict first = {.sound = true};
    struct verdict last;
    bool takes_values;

    if (step % 2)
        first = look_at_all(cache);
    takes_values = probe(cache);
    check(takes_values, "%s, step %ld: no value can be stored", scene->name, step);
    check(is_whole(cache), "%s, step %ld: broken invariants", scene->name, step);
    last = look_at_all(cache);
    pmc_stats(cache, &after);
    check(first.sound && last.sound, "%s, step %ld: wrong content", scene->name, step);
    check(last.missing <= after.evict - before->evict,
          "%s, step %ld: %" PRIu64 " entries are gone, %" PRIu64 " were evicted",
          scene->name, step, last.missing, after.evict - before->evict);
    check(after.damaged == before->damaged, "%s, step %ld: damage", scene->name, step);
    check(time_ns() - began_ns < PATIENCE_NS, "%s, step %ld: somebody waited",
          scene->name, step);
}

/* ---- deaths by step -------------------------------------------------- */

#define STEP_NAMES_MAX 200

struct step_deaths {
    char name[PMC_FAULT_NAME_BYTES];
    uint64_t deaths;
};

static struct step_deaths steps_met[STEP_NAMES_MAX];
static size_t steps_met_count;

static struct step_deaths *
deaths_at(const char *name)
{
    for (size_t i = 0; i < steps_met_count; i++)
        if (strcmp(steps_met[i].name, name) == 0)
            return &steps_met[i];
    return NULL;
}

/* A child has ended: if at a step, that one counts. Returns whether it was. */
static bool
note_death(int status)
{
    struct step_deaths *met;

    if (!was_killed(status))
        return false;
    met = deaths_at(stage->died_at);
    if (!met && steps_met_count < STEP_NAMES_MAX) {
        met = &steps_met[steps_met_count++];
        memcpy(met->name, stage->died_at, sizeof met->name);
    }
    if (check(met != NULL, "more than %d steps", STEP_NAMES_MAX))
        met->deaths++;
    return true;
}

/* The name in STEP("..."), or NULL if there is none in the line. */
static char *
step_in_line(char *line)
{
    static const char opening[] = "STEP(\"";
    char *name = strstr(line, opening);
    char *end = name ? strchr(name + sizeof opening - 1, '"') : NULL;

    if (!end)
        return NULL;
    *end = '\0';
    return name + sizeof opening - 1;
}

static size_t
check_steps_of(const char *file)
{
    char name[512];
    char line[512];
    size_t found = 0;
    FILE *source;

    snprintf(name, sizeof name, "%s/%s", PMC_ENGINE_SOURCES, file);
    source = fopen(name, "r");
    if (!source)
        give_up("read a source");
    while (fgets(line, sizeof line, source)) {
        const char *step = step_in_line(line);

        if (!step)
            continue;
        found++;
        check(deaths_at(step) != NULL, "nobody died at %s, in %s", step, file);
    }
    fclose(source);
    return found;
}

/* Every step that the sources name must have been somebody's last. */
static void
check_all_steps_were_met(void)
{
    DIR *directory = opendir(PMC_ENGINE_SOURCES);
    const struct dirent *file;
    size_t found = 0;

    if (!directory)
        give_up("read " PMC_ENGINE_SOURCES);
    while ((file = readdir(directory)) != NULL)
        if (file->d_name[0] != '.')
            found += check_steps_of(file->d_name);
    closedir(directory);
    printf("%zu steps in the sources, deaths at each:", found);
    for (size_t i = 0; i < steps_met_count; i++)
        printf("%s %s %" PRIu64, i ? "," : "", steps_met[i].name, steps_met[i].deaths);
    printf("\n");
    check(found >= 40, "only %zu steps in " PMC_ENGINE_SOURCES, found);
}

/* ---- scenes on one pool ---------------------------------------------- */

static struct pmc_options
options_of(const struct scene *scene)
{
    struct pmc_options options =
        options_in_folder("steps.pool", scene->size_bytes, LOCK_TIMEOUT_MS);

    options.eviction = scene->eviction;
    if (scene->prepare == prepare_spans || scene->prepare == prepare_away)
        options.memory = PMC_MEMORY_CONSERVATIVE;
    return options;
}

/* Let a child act and die at the step. Returns how it ended. */
static int
act_and_die(struct pmc_cache *cache, void (*act)(struct pmc_cache *), long step,
            const char *step_name)
{
    pid_t child = fork_child();

    if (child == 0) {
        pmc_fault_tell(stage->died_at);
        pmc_fault_arm(step, step_name);
        act(cache);
        _exit(0);
    }
    return wait_child(child);
}

/* What has happened in all runs of a scene. */
struct tally {
    long steps; /* the highest at which a child died */
    uint64_t deaths;
    uint64_t first_deaths; /* recovery: of first children */
    uint64_t evict;
    uint64_t moved_bytes;
};

/* One fresh pool, one child that dies at the step. False: it survived. */
static bool
run_once(const struct scene *scene, long step, struct tally *tally)
{
    struct pmc_options options = options_of(scene);
    struct pmc_cache *cache = open_pool(&options);
    struct pmc_stats before = {0};
    struct pmc_stats after = {0};
    int status;

    if (!check(cache != NULL, "%s: no pool", scene->name))
        return false;
    *stage = (struct stage){0};
    scene->prepare(cache);
    settle();
    pmc_stats(cache, &before);
    if (scene->dies_before) {
        status = act_and_die(cache, act_everything, 1 + step % 3, scene->dies_before);
        tally->first_deaths += note_death(status);
    }
    status = act_and_die(cache, scene->act, step, scene->dies_at);
    check(was_killed(status) || status == 0, "%s, step %ld: wait status %#x",
          scene->name, step, (unsigned)status);
    examine(cache, scene, step, &before);
    pmc_stats(cache, &after);
    tally->evict += after.evict - before.evict;
    tally->moved_bytes += after.moved_bytes - before.moved_bytes;
    pmc_close(cache);
    check(folder_files() == 0, "%s, step %ld: files were left behind", scene->name,
          step);
    empty_folder();
    return note_death(status);
}

static void
run_scene(const struct scene *scene)
{
    struct tally tally = {0};
    int survivals = 0;

    for (long step = 1; survivals < SURVIVALS && step < STEPS_MAX; step++) {
        if (checks_failed > 20)
            return;
        if (run_once(scene, step, &tally)) {
            tally.steps = step;
            tally.deaths++;
            survivals = 0;
        } else {
            survivals++;
        }
    }
    printf("%-24s %5ld steps, %5" PRIu64 " deaths, %6" PRIu64 " evicted, %8" PRIu64
           " bytes moved\n",
           scene->name, tally.steps, tally.deaths + tally.first_deaths, tally.evict,
           tally.moved_bytes);
    check(tally.deaths > 0, "%s: nobody died", scene->name);
    check(!scene->dies_before || tally.first_deaths > 0, "%s: nobody died at %s",
          scene->name, scene->dies_before);
    check(scene->act != act_put_moving || tally.moved_bytes > 0, "nothing was moved");
    check(scene->act != act_put_evicting || tally.evict > 0, "nothing was evicted");
}

#define SMALL_POOL (256u * 1024u)
#define LARGE_POOL (2048u * 1024u)
#define RECOVERY(where)                                                                \
    {"recovery after " where,                                                          \
     SMALL_POOL,                                                                       \
     PMC_EVICT_S3FIFO,                                                                 \
     prepare_first_act,                                                                \
     act_recover,                                                                      \
     where,                                                                            \
     NULL}
#define MOVING_RECOVERY(where)                                                         \
    {"recovery after " where,                                                          \
     SMALL_POOL,                                                                       \
     PMC_EVICT_S3FIFO,                                                                 \
     prepare_full,                                                                     \
     act_recover,                                                                      \
     where,                                                                            \
     NULL}
#define ON(pool, name, prepare, act)                                                   \
    {name, pool, PMC_EVICT_S3FIFO, prepare, act, NULL, NULL}
#define GROWTH(at)                                                                     \
    {"index growth, " at,                                                              \
     LARGE_POOL,                                                                       \
     PMC_EVICT_S3FIFO,                                                                 \
     prepare_few,                                                                      \
     act_grow_index,                                                                   \
     NULL,                                                                             \
     at}

static const struct scene scenes[] = {
    ON(LARGE_POOL, "put new", prepare_few, act_put_new),
    ON(LARGE_POOL, "put replacing", prepare_few, act_put_replacing),
    ON(SMALL_POOL, "put evicting", prepare_tight, act_put_evicting),
    {"put evicting, lru", SMALL_POOL, PMC_EVICT_LRU, prepare_tight, act_put_evicting,
     NULL, NULL},
    ON(SMALL_POOL, "put moving", prepare_full, act_put_moving),
    {"put moving, lru", SMALL_POOL, PMC_EVICT_LRU, prepare_full, act_put_moving, NULL,
     NULL},
    ON(LARGE_POOL, "delete", prepare_few, act_delete),
    ON(LARGE_POOL, "touch", prepare_few, act_touch),
    ON(LARGE_POOL, "incr", prepare_counter, act_incr),
    ON(LARGE_POOL, "expire", prepare_few, act_expire),
    {"expire, no eviction", SMALL_POOL, PMC_EVICT_NONE, prepare_few, act_expire, NULL,
     NULL},
    ON(LARGE_POOL, "clear", prepare_few, act_clear),
    ON(SMALL_POOL, "evict", prepare_full, act_evict),
    ON(LARGE_POOL, "split and overflow", prepare_few, act_split),
    ON(LARGE_POOL, "heap growth", prepare_few, act_grow),
    GROWTH("grow.index"),
    GROWTH("grow.ghosts"),
    ON(LARGE_POOL, "memory given back", prepare_spans, act_give),
    ON(LARGE_POOL, "memory given back, all", prepare_spans, act_clear),
    ON(LARGE_POOL, "memory taken again", prepare_away, act_refill),
    RECOVERY("slot.offset"),
    RECOVERY("slot.state"),
    RECOVERY("touch.torn"),
    RECOVERY("update.end"),
    RECOVERY("remove.written"),
    RECOVERY("drop.removed"),
    RECOVERY("insert.overflow"),
    RECOVERY("split.copy"),
    RECOVERY("split.publish"),
    RECOVERY("split.clear"),
    RECOVERY("split.pull"),
    RECOVERY("put.room"),
    RECOVERY("put.replaced"),
    RECOVERY("clear.bucket"),
    MOVING_RECOVERY("move.copied"),
    MOVING_RECOVERY("move.begin"),
    MOVING_RECOVERY("move.written"),
    MOVING_RECOVERY("move.published"),
};

/* ---- coming and going ------------------------------------------------ */

/* A child makes a pool, joins the parent's, adopts what those who were killed left,
 * maybe inside the lock, replaces it, or leaves: as the last, a pool that others have, or
 * one that is kept. It dies at the step on its way. */
enum coming { CREATE, JOIN, ADOPT, INHERIT, REPLACE, LEAVE, LEAVE_OTHERS, LEAVE_KEPT };

static const struct scene door = {
    .name = "door", .size_bytes = SMALL_POOL, .eviction = PMC_EVICT_S3FIFO};

static bool
is_leaving(enum coming coming)
{
    return coming >= LEAVE;
}

/* Where those died, inside the lock, whose pool is adopted. */
static const char *const inside[] = {"slot.offset", "touch.torn",   "remove.written",
                                     "split.copy",  "split.clear",  "split.pull",
                                     "put.room",    "put.replaced", "clear.bucket"};
#define INSIDE (long)(sizeof inside / sizeof *inside)

_Noreturn static void
come_and_die(enum coming coming, const struct pmc_options *options, long step)
{
    struct pmc_cache *cache;

    pmc_fault_tell(stage->died_at);
    if (!is_leaving(coming))
        pmc_fault_arm(step, NULL);
    cache = open_pool(options);
    if (!cache)
        _exit(3);
    if (is_leaving(coming)) {
        if (coming != LEAVE_OTHERS)
            prepare_few(cache);
        settle();
        pmc_fault_arm(step, NULL);
        pmc_close(cache);
    }
    _exit(0); /* without a close: died after the last step */
}

/* Somebody fills a pool that is to be kept, and is killed; inside the lock if a step is
 * named. */
static void
leave_content(const struct pmc_options *options, const char *dies_at)
{
    pid_t child = fork_child();

    if (child == 0) {
        struct pmc_cache *cache = open_pool(options);

        if (!cache)
            _exit(3);
        prepare_few(cache);
        settle();
        pmc_fault_tell(stage->died_at);
        pmc_fault_arm(1, dies_at);
        if (dies_at)
            act_everything(cache);
        else
            raise(SIGKILL);
        _exit(0);
    }
    check(was_killed(wait_child(child)), "adopt: nobody died at %s",
          dies_at ? dies_at : "all");
}

/* Whoever comes next: a volatile pool that nobody has is made anew, and one that was left
 * with other options; else all that nobody evicted is there. */
static void
look_after_coming(enum coming coming, const char *name, long step,
                  struct pmc_cache *cache)
{
    struct pmc_stats stats = {0};
    struct verdict verdict;

    if (coming == LEAVE || coming == REPLACE)
        *stage = (struct stage){0};
    verdict = look_at_all(cache);
    pmc_stats(cache, &stats);
    check(verdict.sound && verdict.missing <= stats.evict,
          "%s, step %ld: wrong content or %" PRIu64 " entries gone", name, step,
          verdict.missing);
    check(probe(cache), "%s, step %ld: no value can be stored", name, step);
    check(is_whole(cache), "%s, step %ld: broken invariants", name, step);
    pmc_close(cache);
}

/* Indexes in shared memory of pools in the folder. */
static int
indexes_in_memory(void)
{
    DIR *directory = opendir("/dev/shm");
    const struct dirent *found;
    int indexes = 0;

    while (directory && (found = readdir(directory)) != NULL) {
        struct pool_header header;
        int fd = strncmp(found->d_name, "pmemcache.", 10) == 0
                     ? openat(dirfd(directory), found->d_name, O_RDONLY | O_CLOEXEC)
                     : -1;

        if (fd < 0)
            continue;
        indexes += pread(fd, &header, sizeof header, 0) == sizeof header &&
                   strncmp(header.heap_path, folder, strlen(folder)) == 0;
        close(fd);
    }
    if (directory)
        closedir(directory);
    return indexes;
}

/* What was kept is removed by whoever leaves it as one that is not to be. */
static void
forget_kept(struct pmc_options options)
{
    options.lifetime = PMC_VOLATILE;
    pmc_close(open_pool(&options));
}

static bool
come_once(enum coming coming, const char *name, long step, const char *dies_at)
{
    struct pmc_options options = options_of(&door);
    bool kept = coming == ADOPT || coming == INHERIT || coming == REPLACE ||
                coming == LEAVE_KEPT;
    struct pmc_cache *mine = NULL;
    uint64_t began_ns;
    bool died;
    pid_t child;
    int status;

    *stage = (struct stage){0};
    options.lifetime = kept ? PMC_RESTART : PMC_VOLATILE;
    if (coming == ADOPT || coming == INHERIT || coming == REPLACE)
        leave_content(&options, dies_at);
    if (coming == REPLACE)
        options.eviction = PMC_EVICT_LRU;
    if (coming == JOIN || coming == LEAVE_OTHERS) {
        mine = open_pool(&options);
        prepare_few(mine);
        settle();
    }
    child = fork_child();
    if (child == 0)
        come_and_die(coming, &options, step);
    status = wait_child(child);
    check(was_killed(status) || status == 0, "%s, step %ld: wait status %#x", name,
          step, (unsigned)status);
    died = note_death(status);
    began_ns = time_ns();
    if (!mine)
        mine = open_pool(&options);
    if (check(mine != NULL, "%s, step %ld: no pool afterwards", name, step))
        look_after_coming(coming, name, step, mine);
    check(time_ns() - began_ns < PATIENCE_NS, "%s, step %ld: somebody waited", name,
          step);
    if (kept)
        forget_kept(options);
    check(folder_files() == 0 && indexes_in_memory() == 0,
          "%s, step %ld: files were left behind", name, step);
    empty_folder();
    return died;
}

static void
run_coming(enum coming coming, const char *name, const char *dies_at)
{
    long step = 1;

    while (come_once(coming, name, step, dies_at) && checks_failed <= 20)
        step++;
    printf("%-24s %5ld steps\n", name, step - 1);
    check(step > 1, "%s: nobody died", name);
}

static void
run_inheritance(const char *name)
{
    for (long i = 0; i < INSIDE && checks_failed <= 20; i++) {
        char full[64];

        snprintf(full, sizeof full, "%s %s", name, inside[i]);
        run_coming(INHERIT, full, inside[i]);
    }
}

static void
run_comings(int count, char **arguments)
{
    static const struct {
        const char *name;
        enum coming coming;
    } comings[] = {{"create", CREATE},
                   {"attach", JOIN},
                   {"adopt", ADOPT},
                   {"replace", REPLACE},
                   {"detach", LEAVE},
                   {"detach from others", LEAVE_OTHERS},
                   {"detach from what is kept", LEAVE_KEPT}};

    for (size_t i = 0; i < sizeof comings / sizeof comings[0]; i++)
        if (is_wanted(comings[i].name, count, arguments))
            run_coming(comings[i].coming, comings[i].name, NULL);
}

/* Where the index does not lie beside the heap. */
static void
run_comings_on_disk(int count, char **arguments)
{
    struct stat memory;
    struct stat disk;

    if (stat("/dev/shm", &memory) != 0 || stat("/tmp", &disk) != 0 ||
        memory.st_dev == disk.st_dev) {
        printf("skipped: coming and going on a disk (there is none at /tmp)\n");
        return;
    }
    remove_folder();
    make_folder_in("/tmp");
    printf("on a disk:\n");
    run_comings(count, arguments);
}

int
main(int count, char **arguments)
{
    stage = share_memory(sizeof *stage);
    make_folder();
    alarm(880);
    run_comings(count, arguments);
    if (is_wanted("inherit", count, arguments))
        run_inheritance("inherit");
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        if (is_wanted(scenes[i].name, count, arguments) && checks_failed <= 20)
            run_scene(&scenes[i]);
    if (count < 2)
        check_all_steps_were_met();
    run_comings_on_disk(count, arguments);
    return finish();
}
