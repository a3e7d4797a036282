/*
 * The known ways of hanging for ever on a lock in shared memory, one test each.
 * A robust pthread mutex hangs in the first four; here each ends in an owner that is
 * seen to be dead, or costs others their timeout and no more.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "cache.h"
#include "support.h"

#define SIZE_BYTES (UINT64_C(1) << 20)
#define TIMEOUT_MS 300u
/* Above the timeout: a machine that is busy with other things. */
#define MARGIN_MS 20000u

static struct pmc_options
options_for(const struct place *place, uint32_t timeout_ms)
{
    struct pmc_options options = options_at(place, SIZE_BYTES);

    options.shards = 1;
    options.lock_timeout_ms = timeout_ms;
    return options;
}

static void
lock_first_shard(struct pmc_cache *cache)
{
    CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
}

/* The owner lives: what needs the lock fails when its time is up, and not later. */
static void
check_waits_are_bounded(struct pmc_cache *cache)
{
    uint64_t began = milliseconds();
    uint64_t waited;

    CHECK_EQ(put_text(cache, "k", "new"), PMC_ETIMEDOUT);
    waited = milliseconds() - began;
    CHECK(waited >= TIMEOUT_MS - 1 && waited < TIMEOUT_MS + MARGIN_MS);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_ETIMEDOUT);
    CHECK(holds_text(cache, "k", "old")); /* readers need no lock */
}

/* The owner is dead: the lock is had at once. */
static void
check_lock_is_inherited(struct pmc_cache *cache)
{
    struct pmc_stats before;
    struct pmc_stats after;

    pmc_stats(cache, &before);
    CHECK(holds_text(cache, "k", "old"));
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    CHECK(holds_text(cache, "k", "new"));
    pmc_stats(cache, &after);
    CHECK_EQ(after.recoveries, before.recoveries + 1);
    CHECK_EQ(after.lock_timeouts, before.lock_timeouts);
    check_sound(cache);
}

/* ---- unmapping ------------------------------------------------------- */

/* As a library that is unloaded, or an exec, would leave it. */
static void
lock_and_detach(struct pmc_cache *cache)
{
    lock_first_shard(cache);
    pmc_close(cache);
}

static void
lock_and_unmap(struct pmc_cache *cache)
{
    lock_first_shard(cache);
    munmap(cache->pool->heap, cache->pool->heap_bytes);
    munmap(cache->pool->header, cache->pool->index_bytes);
}

/* Planted bug: a process that exists counts as an owner that lives. */
static void
test_a_lock_whose_holder_detached_and_lives_on_is_inherited(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, 20000);
    struct pmc_cache *cache = open_with(&options);
    pid_t child;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    child = start_child(fork, cache, lock_and_detach);
    check_lock_is_inherited(cache);
    kill_child(child);
    pmc_close(cache);
    remove_place(&place);
}

static void
test_a_holder_that_unmapped_the_pool_costs_the_timeout_until_it_dies(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, TIMEOUT_MS);
    struct pmc_cache *cache = open_with(&options);
    pid_t child;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    child = start_child(fork, cache, lock_and_unmap);
    check_waits_are_bounded(cache);
    kill_child(child);
    check_lock_is_inherited(cache);
    pmc_close(cache);
    remove_place(&place);
}

/* ---- an image -------------------------------------------------------- */

static void
copy_file(const char *from, const char *to)
{
    static uint8_t chunk[1u << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t size;

    CHECK(in >= 0 && out >= 0);
    while ((size = read(in, chunk, sizeof chunk)) > 0)
        CHECK_EQ(write(out, chunk, (size_t)size), size);
    close(in);
    close(out);
}

/* The files of a pool whose lock is held right now, in another directory. */
static void
copy_files(const struct place *from, const struct place *to)
{
    static const char *const suffixes[] = {"", ".lock", ".index"};

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char source[200];
        char target[200];

        snprintf(source, sizeof source, "%s%s", from->path, suffixes[i]);
        snprintf(target, sizeof target, "%s%s", to->path, suffixes[i]);
        if (access(source, R_OK) == 0)
            copy_file(source, target);
    }
}

/* Attached to two copies of one pool, at once: neither may feel the other. */
static void
check_copies_are_apart(struct pmc_cache *original, struct pmc_cache *copy)
{
    CHECK_EQ(put_text(copy, "c", "in the copy"), PMC_OK);
    CHECK_EQ(put_text(original, "o", "in the original"), PMC_OK);
    CHECK(holds_text(copy, "c", "in the copy"));
    CHECK(holds_text(original, "o", "in the original"));
    CHECK(!get_text(copy, "o"));
    CHECK(!get_text(original, "c"));
    check_sound(copy);
    check_sound(original);
}

static void
use_image_of_held_pool(const char *directory)
{
    struct place place = make_place_in(directory);
    struct place other = make_place_in(directory);
    struct pmc_options options = options_for(&place, 20000);
    struct pmc_cache *original;
    struct pmc_cache *copy;
    pid_t holder;

    options.lifetime = PMC_RESTART;
    original = open_with(&options);
    CHECK_EQ(put_text(original, "k", "old"), PMC_OK);
    holder = start_child(fork, original, lock_first_shard);
    copy_files(&place, &other);
    options.path = other.path;
    copy = open_with(&options);
    if (copy) {
        const char *kept = get_text(copy, "k");

        CHECK(!kept || strcmp(kept, "old") == 0);
        CHECK_EQ(put_text(copy, "k", "new"), PMC_OK);
        kill_child(holder);
        check_lock_is_inherited(original);
        check_copies_are_apart(original, copy);
    }
    pmc_close(copy);
    pmc_close(original);
    remove_kept(&other, SIZE_BYTES);
    remove_kept(&place, SIZE_BYTES);
}

/* Heap and index lie side by side and are copied together. */
static void
test_a_copied_pool_whose_image_holds_a_lock_is_adopted(void)
{
    use_image_of_held_pool("/dev/shm");
}

/* The copy has the heap and not the index, which lies in shared memory and is the
 * original's. Planted bug: both use it. */
static void
test_a_copied_heap_does_not_share_the_index_of_its_original(void)
{
    use_image_of_held_pool("/tmp");
}

/* ---- raw clones ------------------------------------------------------ */

static void
do_nothing(struct pmc_cache *cache)
{
    (void)cache;
}

static void
put_own_key(struct pmc_cache *cache)
{
    CHECK_EQ(put_text(cache, "child", "was here"), PMC_OK);
}

/* Planted bug: a clone takes its parent's word in the lock for its own. */
static void
test_a_raw_clone_does_not_hold_what_its_parent_holds(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, TIMEOUT_MS);
    struct pmc_cache *cache = open_with(&options);
    pid_t child;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    lock_first_shard(cache);
    child = raw_clone();
    if (child == 0) {
        check_waits_are_bounded(cache);
        check_exit();
    }
    check_child(child);
    shard_unlock(&cache->shards[0]);
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    remove_place(&place);
}

/* A parent takes the lock, makes a raw clone, and is killed; then the clone acts.
 * Returns the clone. */
static pid_t
orphan_clone(const struct pmc_options *options, void (*clone_acts)(struct pmc_cache *))
{
    struct signal_pipe orphaned = make_signal();
    struct signal_pipe ready = make_signal();
    pid_t clone = -1;
    int pids[2];
    pid_t parent;

    CHECK_EQ(pipe(pids), 0);
    parent = fork();
    if (parent == 0) {
        struct pmc_cache *own = open_with(options);

        lock_first_shard(own);
        clone = raw_clone();
        if (clone == 0) {
            await_signal(&orphaned);
            clone_acts(own);
            give_signal(&ready);
            for (;;)
                pause();
        }
        CHECK_EQ(write(pids[1], &clone, sizeof clone), sizeof clone);
        for (;;)
            pause();
    }
    CHECK_EQ(read(pids[0], &clone, sizeof clone), sizeof clone);
    kill_child(parent);
    give_signal(&orphaned);
    await_signal(&ready);
    close(pids[0]);
    close(pids[1]);
    close_signal(&orphaned);
    close_signal(&ready);
    return clone;
}

static void
test_a_raw_clone_inherits_the_lock_of_its_dead_parent(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, 20000);
    struct pmc_cache *cache = open_with(&options);
    pid_t clone;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    clone = orphan_clone(&options, put_own_key);
    CHECK(holds_text(cache, "child", "was here"));
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    check_sound(cache);
    kill(clone, SIGKILL);
    pmc_close(cache);
    remove_place(&place);
}

/* A clone that never uses the pool keeps its dead parent's lock file open, so the
 * parent looks alive. That costs the timeout, for as long as the clone lives. */
static void
test_an_idle_raw_clone_of_a_dead_holder_costs_the_timeout_until_it_ends(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, TIMEOUT_MS);
    struct pmc_cache *cache = open_with(&options);
    pid_t clone;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    clone = orphan_clone(&options, do_nothing);
    check_waits_are_bounded(cache);
    kill(clone, SIGKILL);
    while (kill(clone, 0) == 0 && put_text(cache, "k", "new") != PMC_OK)
        continue;
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    remove_place(&place);
}

/* Make a clone that never uses the pool, and leave. */
static void
clone_and_leave(struct pmc_cache *cache)
{
    if (raw_clone() == 0)
        for (;;)
            pause();
    pmc_close(cache);
}

/* Planted bug: the gate is open before the place is given back, so that of two who leave
 * at once neither is the last. The clone keeps the place's description open for ever. */
static void
test_who_has_left_is_nobody_though_a_raw_clone_has_its_files_open(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, TIMEOUT_MS);
    struct pmc_cache *cache = open_with(&options);
    pid_t child = fork();

    if (child == 0) {
        /* The clone dies with it: the group is its own. */
        setpgid(0, 0);
        clone_and_leave(cache);
        check_exit();
    }
    check_child(child);
    CHECK_EQ(pool_attached(cache->pool), 1);
    pmc_close(cache);
    CHECK_EQ(count_files(place.directory, ""), 0);
    kill(-child, SIGKILL);
    remove_place(&place);
}

/* ---- many locks ------------------------------------------------------ */

/* The kernel gives back no more than 2,048 robust mutexes of a dead thread. */
#define LOCKS_WANTED 2100u
#define SHARDS 64u
#define POOLS ((LOCKS_WANTED + SHARDS - 1) / SHARDS)

static struct pmc_cache *many[POOLS];

static void
lock_everything(struct pmc_cache *unused)
{
    (void)unused;
    for (uint32_t pool = 0; pool < POOLS; pool++)
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            CHECK_EQ(shard_lock(&many[pool]->shards[shard], false), PMC_OK);
}

static void
check_shard_is_inherited(uint32_t pool, uint32_t shard)
{
    CHECK(load_relaxed(&many[pool]->shards[shard].header->lock) != 0);
    if (CHECK_EQ(shard_lock(&many[pool]->shards[shard], false), PMC_OK))
        shard_unlock(&many[pool]->shards[shard]);
}

static void
test_more_locks_than_a_robust_list_has_are_all_inherited(void)
{
    struct pmc_options options;
    pid_t holder;

    pmc_options_default(&options);
    options.size_bytes = SHARDS * PMC_POOL_MIN_BYTES;
    options.shards = SHARDS;
    options.lock_timeout_ms = 20000;
    for (uint32_t pool = 0; pool < POOLS; pool++)
        many[pool] = open_with(&options);
    holder = start_child(fork, NULL, lock_everything);
    kill_child(holder);
    /* All of the first and the last pool, and one lock of each other. */
    for (uint32_t pool = 0; pool < POOLS; pool++)
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            if (pool == 0 || pool == POOLS - 1 || shard == pool)
                check_shard_is_inherited(pool, shard);
    for (uint32_t pool = 0; pool < POOLS; pool++)
        pmc_close(many[pool]);
}

/* ---- stopped --------------------------------------------------------- */

static void
test_a_stopped_holder_costs_the_timeout_and_goes_on_unharmed(void)
{
    struct place place = make_place();
    struct pmc_options options = options_for(&place, TIMEOUT_MS);
    struct pmc_cache *cache = open_with(&options);
    struct signal_pipe ready = make_signal();
    pid_t child;
    int status;

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    child = fork();
    if (child == 0) {
        lock_first_shard(cache);
        raise(SIGSTOP);
        shard_unlock(&cache->shards[0]);
        CHECK_EQ(put_text(cache, "child", "goes on"), PMC_OK);
        check_exit();
    }
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    check_waits_are_bounded(cache);
    kill(child, SIGCONT);
    check_child(child);
    CHECK(holds_text(cache, "child", "goes on"));
    CHECK_EQ(put_text(cache, "k", "new"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    close_signal(&ready);
    remove_place(&place);
}

/* Every bucket is being changed. */
static void
hold_all_buckets(struct pmc_cache *cache)
{
    struct shard *shard = &cache->shards[0];

    CHECK_EQ(shard_lock(shard, false), PMC_OK);
    for (uint32_t i = 0; i < load_relaxed(&shard->header->bucket_count); i++)
        index_write_begin(&shard->buckets[i]);
}

static void *
reserve_text(void *context, size_t index, size_t value_size)
{
    static char text[20][16];

    (void)context;
    return value_size <= sizeof text[index] ? text[index] : NULL;
}

/* Planted bug: each item of a batch waits for the writer who stands in its bucket. */
static void
test_a_batch_of_reads_waits_for_a_stopped_writer_once(void)
{
    const struct pmc_options options = {.size_bytes = UINT64_C(1) << 20,
                                        .lock_timeout_ms = TIMEOUT_MS};
    struct pmc_cache *cache = open_with(&options);
    struct pmc_item items[20] = {{0}};
    char keys[20][8];
    struct pmc_stats stats;
    pid_t holder;

    for (int i = 0; i < 20; i++) {
        snprintf(keys[i], sizeof keys[i], "key %d", i % 10);
        items[i] = (struct pmc_item){.key = keys[i], .key_size = strlen(keys[i])};
        CHECK_EQ(put_text(cache, keys[i], "value"), PMC_OK);
    }
    holder = start_child(fork, cache, hold_all_buckets);
    CHECK_EQ(pmc_get_many(cache, items, 20, reserve_text, NULL), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(items[i].status, PMC_MISS);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.lock_timeouts, 1);
    kill_child(holder);
    CHECK_EQ(pmc_get_many(cache, items, 20, reserve_text, NULL), 20);
    check_sound(cache);
    pmc_close(cache);
}

int
main(void)
{
    RUN(test_a_lock_whose_holder_detached_and_lives_on_is_inherited);
    RUN(test_a_holder_that_unmapped_the_pool_costs_the_timeout_until_it_dies);
    RUN(test_a_copied_pool_whose_image_holds_a_lock_is_adopted);
    RUN(test_a_copied_heap_does_not_share_the_index_of_its_original);
    RUN(test_a_raw_clone_does_not_hold_what_its_parent_holds);
    RUN(test_a_raw_clone_inherits_the_lock_of_its_dead_parent);
    RUN(test_an_idle_raw_clone_of_a_dead_holder_costs_the_timeout_until_it_ends);
    RUN(test_who_has_left_is_nobody_though_a_raw_clone_has_its_files_open);
    RUN(test_more_locks_than_a_robust_list_has_are_all_inherited);
    RUN(test_a_stopped_holder_costs_the_timeout_and_goes_on_unharmed);
    RUN(test_a_batch_of_reads_waits_for_a_stopped_writer_once);
    return check_report();
}
