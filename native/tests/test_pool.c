/*
 * Named pools and their files: made by one of many, removed by the last, kept
 * when asked, refused when they are something else; and what children inherit.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "cache.h"
#include "check.h"
#include "pool_geometry.h"
#include "pool_guard.h"
#include "pool_seat.h"
#include "support.h"

#define SIZE_BYTES (UINT64_C(1) << 20)

static enum pmc_status
try_open(const struct pmc_options *options, struct pmc_error *error_out)
{
    struct pmc_cache *cache = NULL;
    enum pmc_status status = pmc_open(options, &cache, error_out);

    pmc_close(cache);
    return status;
}

/* The name of the index, wherever it lies. */
static unsigned
count_indexes(const struct place *place, uint64_t pool_id)
{
    char name[64];

    snprintf(name, sizeof name, "pmemcache.%u.%016llx.index", (unsigned)geteuid(),
             (unsigned long long)pool_id);
    return count_files("/dev/shm", name) +
           count_files(place->directory, "site.pool.index");
}

static uint64_t
pool_id_of(struct pmc_cache *cache)
{
    struct pmc_geometry geometry = {0};

    pmc_geometry(cache, &geometry);
    return geometry.pool_id;
}

/* ---- opening together ------------------------------------------------ */

/* Open when told, join the count, and leave when told. */
static void
open_and_count(const struct place *place, const struct signal_pipe *go,
               const struct signal_pipe *ready, const struct signal_pipe *leave)
{
    struct pmc_options options = options_at(place, SIZE_BYTES);
    struct pmc_incr_options create = {.create = true, .ttl_ms = PMC_TTL_NONE};
    struct pmc_cache *cache;
    int64_t result;

    await_signal(go);
    cache = open_with(&options);
    if (cache)
        CHECK_EQ(pmc_incr(cache, "n", 1, 1, &create, &result), PMC_OK);
    give_signal(ready);
    await_signal(leave);
    pmc_close(cache);
    check_exit();
}

/* Planted bug: two make a pool each, and count apart. */
static void
test_processes_that_open_at_once_share_one_pool(void)
{
    enum { OPENERS = 4 };

    for (int round = 0; round < ROUNDS_OF(60); round++) {
        struct place place = make_place();
        struct pmc_options options = options_at(&place, SIZE_BYTES);
        struct signal_pipe go = make_signal();
        struct signal_pipe ready = make_signal();
        struct signal_pipe leave = make_signal();
        struct pmc_cache *cache;
        pid_t openers[OPENERS];

        for (int i = 0; i < OPENERS; i++) {
            openers[i] = fork();
            if (openers[i] == 0)
                open_and_count(&place, &go, &ready, &leave);
        }
        for (int i = 0; i < OPENERS; i++)
            give_signal(&go);
        for (int i = 0; i < OPENERS; i++)
            await_signal(&ready);
        cache = open_with(&options);
        CHECK(holds_text(cache, "n", "4"));
        check_sound(cache);
        pmc_close(cache);
        for (int i = 0; i < OPENERS; i++)
            give_signal(&leave); /* all leave at once: one removes the files */
        for (int i = 0; i < OPENERS; i++)
            check_child(openers[i]);
        CHECK_EQ(count_files(place.directory, ""), 0);
        close_signal(&go);
        close_signal(&ready);
        close_signal(&leave);
        remove_place(&place);
    }
}

/* Opening and closing without end, against each other: nobody may fail, and each
 * finds what it has stored itself. */
static void
test_processes_that_come_and_go_never_fail(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    pid_t children[3];

    for (int i = 0; i < 3; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            for (int round = 0; round < ROUNDS_OF(60); round++) {
                struct pmc_cache *cache = open_with(&options);

                if (!cache)
                    break;
                CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
                CHECK(holds_text(cache, "k", "v"));
                pmc_close(cache);
            }
            check_exit();
        }
    }
    for (int i = 0; i < 3; i++)
        check_child(children[i]);
    CHECK_EQ(count_files(place.directory, ""), 0);
    remove_place(&place);
}

/* ---- leaving --------------------------------------------------------- */

static void
test_the_last_one_out_removes_a_volatile_pool(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct pmc_cache *first = open_with(&options);
    struct pmc_cache *second = open_with(&options);
    uint64_t pool_id = pool_id_of(first);
    struct stat about;

    CHECK_EQ(pool_id_of(second), pool_id);
    CHECK_EQ(count_indexes(&place, pool_id), 1);
    CHECK_EQ(stat(place.path, &about), 0);
    CHECK_EQ(about.st_mode & 0777, 0600);
    put_text(first, "k", "v");
    pmc_close(first);
    CHECK(holds_text(second, "k", "v"));
    CHECK_EQ(stat(place.path, &about), 0);
    pmc_close(second);
    CHECK_EQ(count_files(place.directory, ""), 0);
    CHECK_EQ(count_indexes(&place, pool_id), 0);
    remove_place(&place);
}

static void
test_after_all_were_killed_the_next_starts_clean(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct signal_pipe ready = make_signal();
    struct pmc_cache *cache;
    pid_t child = fork();

    if (child == 0) {
        cache = open_with(&options);
        put_text(cache, "k", "v");
        shard_lock(&cache->shards[0], false); /* dies as the lock's owner */
        give_signal(&ready);
        for (;;)
            pause();
    }
    await_signal(&ready);
    kill_child(child);
    CHECK(count_files(place.directory, "site.pool") >= 2);
    cache = open_with(&options);
    CHECK(!get_text(cache, "k"));
    CHECK_EQ(put_text(cache, "k", "w"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    CHECK_EQ(count_files(place.directory, ""), 0);
    close_signal(&ready);
    remove_place(&place);
}

/* ---- restart --------------------------------------------------------- */

static struct pmc_options
restart_options(const struct place *place)
{
    struct pmc_options options = options_at(place, SIZE_BYTES);

    options.lifetime = PMC_RESTART;
    return options;
}

static void
test_a_restart_pool_is_kept_and_goes_on(void)
{
    struct place place = make_place();
    struct pmc_options options = restart_options(&place);

    for (int round = 0; round < 3; round++) {
        struct pmc_cache *cache = open_with(&options);
        struct pmc_geometry geometry;
        uint64_t wrong = 0;

        pmc_geometry(cache, &geometry);
        CHECK_EQ(geometry.created, round == 0);
        for (uint64_t key = 0; key < 1000; key++) {
            uint64_t value = ~key;

            CHECK_EQ(pmc_get(cache, &key, sizeof key, &value, sizeof value, 0, NULL),
                     round ? PMC_OK : PMC_MISS);
            wrong += round && value != key;
            CHECK_EQ(pmc_put(cache, &key, sizeof key, &key, sizeof key, NULL), PMC_OK);
        }
        CHECK_EQ(wrong, 0);
        check_sound(cache);
        pmc_close(cache);
    }
    remove_kept(&place, SIZE_BYTES);
}

/* A process may have to part with a pool though its files are whole. Planted bug: it goes by
 * the zeros in its place, which say that the pool is volatile. */
static void
test_a_kept_pool_outlives_a_process_that_lost_it(void)
{
    struct place place = make_place();
    struct pmc_options options = restart_options(&place);
    struct pmc_cache *cache = open_with(&options);

    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    CHECK(guard_give_up(cache->pool));
    CHECK(!get_text(cache, "k"));
    pmc_close(cache);
    cache = open_with(&options);
    CHECK(holds_text(cache, "k", "v"));
    pmc_close(cache);
    remove_kept(&place, SIZE_BYTES);
}

static void
test_a_restart_pool_survives_the_death_of_its_lock_owner(void)
{
    struct place place = make_place();
    struct pmc_options options = restart_options(&place);
    struct signal_pipe ready = make_signal();
    struct pmc_cache *cache;
    pid_t child = fork();

    if (child == 0) {
        cache = open_with(&options);
        put_text(cache, "k", "v");
        shard_lock(&cache->shards[0], false);
        give_signal(&ready);
        for (;;)
            pause();
    }
    await_signal(&ready);
    kill_child(child);
    cache = open_with(&options);
    CHECK(holds_text(cache, "k", "v"));
    CHECK_EQ(put_text(cache, "k", "w"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    close_signal(&ready);
    remove_kept(&place, SIZE_BYTES);
}

/* Find bytes in a file and change the first of them. */
static bool
flip_in_file(const char *path, const char *text)
{
    static char contents[SIZE_BYTES + 4096];
    int fd = open(path, O_RDWR);
    ssize_t size = fd < 0 ? 0 : read(fd, contents, sizeof contents);
    size_t length = strlen(text);
    bool found = false;

    for (ssize_t at = 0; at + (ssize_t)length <= size; at++)
        if (memcmp(contents + at, text, length) == 0) {
            char other = (char)(text[0] ^ 1);

            found = pwrite(fd, &other, 1, at) == 1;
        }
    if (fd >= 0)
        close(fd);
    return found;
}

/* Planted bug: adopted entries are served, or added to, unverified. */
static void
test_damaged_values_of_a_kept_pool_are_misses(void)
{
    struct place place = make_place();
    struct pmc_options options = restart_options(&place);
    struct pmc_cache *cache = open_with(&options);
    struct pmc_info info;
    struct pmc_stats stats;
    int64_t number;

    put_text(cache, "text", "remarkable contents");
    put_text(cache, "number", "8347561923");
    put_text(cache, "seen", "8347561924");
    put_text(cache, "sound", "other contents");
    pmc_close(cache);
    CHECK(flip_in_file(place.path, "remarkable contents"));
    CHECK(flip_in_file(place.path, "8347561923"));
    CHECK(flip_in_file(place.path, "8347561924"));
    cache = open_with(&options);
    CHECK(!get_text(cache, "text"));
    CHECK_EQ(pmc_incr(cache, "number", 6, 1, NULL, &number), PMC_MISS);
    CHECK_EQ(pmc_info(cache, "seen", 4, &info), PMC_MISS);
    CHECK(holds_text(cache, "sound", "other contents"));
    CHECK(holds_text(cache, "sound", "other contents"));
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.damaged, 3);
    CHECK_EQ(stats.entries, 1);
    check_sound(cache);
    pmc_close(cache);
    remove_kept(&place, SIZE_BYTES);
}

/* Write random bytes over a part of the kept index, and use the pool. */
static void
damage_and_use(const struct place *place, size_t from, size_t size,
               struct random *random)
{
    struct pmc_options options = restart_options(place);
    struct pmc_cache *cache = open_with(&options);
    uint8_t *index = (uint8_t *)cache->shards[0].header;

    for (uint64_t key = 0; key < 300; key++)
        pmc_put(cache, &key, sizeof key, &key, sizeof key, NULL);
    for (size_t i = from; i < from + size; i++)
        if (random_below(random, 3) == 0)
            index[i] = (uint8_t)random_next(random);
    pmc_close(cache);
    cache = open_with(&options);
    for (uint64_t key = 0; key < 300; key++) {
        uint64_t value = key;
        enum pmc_status status =
            pmc_get(cache, &key, sizeof key, &value, sizeof value, 0, NULL);

        CHECK(status == PMC_OK || status == PMC_MISS);
        CHECK_EQ(value, key);
        CHECK_EQ(pmc_put(cache, &key, sizeof key, &key, sizeof key, NULL), PMC_OK);
    }
    /* What nobody has come across may still be broken, until it is all made anew. */
    CHECK_EQ(pmc_clear(cache), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
}

static void
test_a_damaged_index_of_a_kept_pool_is_mended(void)
{
    struct random random = random_start("index damage");
    struct place place = make_place();

    for (int round = 0; round < 20; round++) {
        damage_and_use(&place, 0, 128, &random); /* lock, counts, limits */
        damage_and_use(&place, 128, sizeof(struct shard_header) - 128, &random);
        damage_and_use(&place, PAGE_BYTES, 128, &random); /* leases */
        damage_and_use(&place, 2 * PAGE_BYTES, 60 * sizeof(struct bucket), &random);
    }
    remove_kept(&place, SIZE_BYTES);
}

/* ---- what else may lie there ------------------------------------------ */

static void
test_other_options_are_refused_while_the_pool_is_in_use(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct pmc_options other;
    struct pmc_cache *cache = open_with(&options);
    struct pmc_error error;

    other = options, other.size_bytes *= 2;
    CHECK_EQ(try_open(&other, &error), PMC_EGEOMETRY);
    CHECK(strstr(error.message, "size") != NULL);
    other = options, other.eviction = PMC_EVICT_LRU;
    CHECK_EQ(try_open(&other, &error), PMC_EGEOMETRY);
    other = options, other.lifetime = PMC_RESTART;
    CHECK_EQ(try_open(&other, &error), PMC_EGEOMETRY);
    other = options, other.shards = 2;
    CHECK_EQ(try_open(&other, &error), PMC_EGEOMETRY);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    pmc_close(cache);
    other = options, other.size_bytes *= 2;
    CHECK_EQ(try_open(&other, &error), PMC_OK); /* nobody uses it any more */
    remove_place(&place);
}

static void
put_inverted(struct pmc_cache *cache, uint64_t keys)
{
    for (uint64_t key = 0; key < keys; key++) {
        uint64_t value = ~key;

        CHECK_EQ(pmc_put(cache, &key, sizeof key, &value, sizeof value, NULL), PMC_OK);
    }
}

static uint64_t
count_inverted(struct pmc_cache *cache, uint64_t keys)
{
    uint64_t found = 0;

    for (uint64_t key = 0; key < keys; key++) {
        uint64_t value = 0;

        found +=
            pmc_get(cache, &key, sizeof key, &value, sizeof value, 0, NULL) == PMC_OK &&
            value == ~key;
    }
    return found;
}

/* Adopting looks at no entry and repairs nothing: a shard whose owner died is left to
 * its first writer, and no reader waits for it. Planted bugs: the shard is taken for
 * sound; it is recovered by who opens the pool, or by a reader. */
static void
test_a_dead_owners_shard_is_recovered_by_its_first_writer(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, 4 * SIZE_BYTES);
    struct signal_pipe ready = make_signal();
    struct pmc_cache *cache;
    struct pmc_stats stats;
    pid_t child;

    options.lifetime = PMC_RESTART;
    options.shards = 4;
    child = fork();
    if (child == 0) {
        cache = open_with(&options);
        put_inverted(cache, 3000);
        shard_lock(&cache->shards[2], false);
        give_signal(&ready);
        for (;;)
            pause();
    }
    await_signal(&ready);
    kill_child(child);
    cache = open_with(&options);
    CHECK_EQ(count_inverted(cache, 3000), 3000);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.recoveries, 0);
    put_inverted(cache, 3000);
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.recoveries, 1);
    CHECK_EQ(stats.lock_timeouts, 0);
    CHECK_EQ(stats.entries, 3000);
    CHECK_EQ(count_inverted(cache, 3000), 3000);
    check_sound(cache);
    pmc_close(cache);
    close_signal(&ready);
    options.lifetime = PMC_VOLATILE;
    CHECK_EQ(try_open(&options, NULL), PMC_OK);
    remove_place(&place);
}

static void
forget_boot(struct pool_identity *identity)
{
    memset(identity->boot_id, 0, sizeof identity->boot_id);
    identity->checksum = pool_identity_checksum(identity);
}

/* Deadlines count from the start of the machine, and an index in memory is gone. */
static void
test_a_pool_of_an_earlier_boot_is_replaced(void)
{
    struct place place = make_place();
    struct pmc_options options = restart_options(&place);
    struct pmc_cache *cache = open_with(&options);
    struct pmc_error error;

    put_text(cache, "k", "v");
    forget_boot(&cache->pool->header->identity);
    forget_boot((void *)cache->pool->heap);
    pmc_close(cache);
    CHECK_EQ(pmc_open(&options, &cache, &error), PMC_OK);
    CHECK(strstr(error.message, "before the machine was started") != NULL);
    CHECK(!get_text(cache, "k"));
    pmc_close(cache);
    CHECK_EQ(pmc_open(&options, &cache, &error), PMC_OK);
    CHECK_EQ(error.message[0], '\0'); /* it is kept now */
    pmc_close(cache);
    remove_kept(&place, SIZE_BYTES);
}

static void
test_an_option_that_changed_starts_a_new_pool_and_is_named(void)
{
    static const char *const names[] = {"size", "shards", "eviction", "memory",
                                        "preallocate"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct place place = make_place();
        struct pmc_options options = restart_options(&place);
        struct pmc_cache *cache = open_with(&options);
        struct pmc_error error;

        put_text(cache, "k", "v");
        pmc_close(cache);
        options.size_bytes += i == 0;
        options.shards = i == 1 ? 2 : 0;
        options.eviction = i == 2 ? PMC_EVICT_NONE : PMC_EVICT_S3FIFO;
        options.memory = i == 3 ? PMC_MEMORY_CONSERVATIVE : PMC_MEMORY_DEFAULT;
        options.preallocate = i == 4;
        CHECK_EQ(pmc_open(&options, &cache, &error), PMC_OK);
        CHECK(strstr(error.message, names[i]) != NULL);
        CHECK(!get_text(cache, "k"));
        pmc_close(cache);
        remove_kept(&place, SIZE_BYTES);
    }
}

static void
change_identity(struct pmc_cache *cache, uint32_t layout_version)
{
    struct pool_identity *in_heap = (void *)cache->pool->heap;

    in_heap->layout_version = layout_version;
}

static void
test_another_layout_is_refused_in_use_and_replaced_after(void)
{
    struct place place = make_place();
    struct pmc_options options = restart_options(&place);
    struct pmc_cache *cache = open_with(&options);
    struct pmc_error error;

    put_text(cache, "k", "v");
    change_identity(cache, 99);
    CHECK_EQ(try_open(&options, &error), PMC_ELAYOUT);
    CHECK(strstr(error.message, "99") != NULL);
    pmc_close(cache);
    cache = open_with(&options);
    CHECK(!get_text(cache, "k"));
    pmc_close(cache);
    remove_kept(&place, SIZE_BYTES);
}

static void
write_file(const char *path, const char *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK_EQ(write(fd, bytes, size), size);
    close(fd);
}

/* Refused, unchanged, and nothing left beside it. */
static void
expect_not_a_pool(const struct place *place)
{
    struct pmc_options options = options_at(place, SIZE_BYTES);
    struct pmc_error error;
    struct stat before;
    struct stat after;

    CHECK_EQ(lstat(place->path, &before), 0);
    CHECK_EQ(try_open(&options, &error), PMC_ENOT_POOL);
    CHECK(strlen(error.message) > 20);
    CHECK_EQ(lstat(place->path, &after), 0);
    CHECK_EQ(before.st_ino, after.st_ino);
    CHECK_EQ(before.st_size, after.st_size);
    CHECK_EQ(count_files(place->directory, "site.pool"), 1);
    CHECK_EQ(count_files(place->directory, "site.pool.lock"), 0);
}

static void
test_what_is_not_a_pool_is_refused_and_left_alone(void)
{
    static const char zeros[100000];
    struct place place = make_place();
    char target[200];

    CHECK_EQ(mkdir(place.path, 0700), 0);
    expect_not_a_pool(&place);
    rmdir(place.path);
    write_file(place.path, "a diary", 7);
    expect_not_a_pool(&place);
    write_file(place.path, zeros, sizeof zeros);
    expect_not_a_pool(&place);
    unlink(place.path);
    CHECK_EQ(mkfifo(place.path, 0600), 0);
    expect_not_a_pool(&place);
    unlink(place.path);
    snprintf(target, sizeof target, "%s/target", place.directory);
    write_file(target, "a diary", 7);
    CHECK_EQ(symlink(target, place.path), 0);
    expect_not_a_pool(&place);
    CHECK_EQ(count_files(place.directory, "target"), 1);
    remove_place(&place);
}

/* A file of somebody else's has a name that the pool would give to one of its own.
 * Planted bug: whatever has such a name is removed when a pool is made or left. */
static void
test_files_that_others_keep_beside_a_pool_are_left_alone(void)
{
    static const char *const suffixes[] = {".index", ".index.new", ".new", ".lock"};
    static const char *const media[] = {"/tmp", "/dev/shm"};

    for (size_t i = 0; i < 2 * sizeof suffixes / sizeof *suffixes; i++) {
        struct place place = make_place_in(media[i % 2]);
        struct pmc_options options = options_at(&place, SIZE_BYTES);
        struct pmc_error error;
        enum pmc_status status;
        char theirs[200];
        struct stat about;

        snprintf(theirs, sizeof theirs, "%s%s", place.path, suffixes[i / 2]);
        write_file(theirs, "a diary with a name that is in the way", 38);
        status = try_open(&options, &error);
        /* An index that lies in shared memory needs no name beside the heap. */
        CHECK(status == PMC_ENOT_POOL || status == PMC_OK);
        CHECK(status == PMC_OK || strstr(error.message, suffixes[i / 2]) != NULL);
        CHECK(stat(theirs, &about) == 0 && about.st_size == 38);
        CHECK_EQ(count_files(place.directory, ""), 1);
        CHECK_EQ(unlink(theirs), 0);
        CHECK_EQ(try_open(&options, &error), PMC_OK);
        remove_place(&place);
    }
}

/* Cut short while nobody was there: nothing may be read past the end. */
static void
test_a_truncated_pool_is_replaced(void)
{
    static const off_t sizes[] = {SIZE_BYTES / 2, 4096, 100, 0};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct place place = make_place();
        struct pmc_options options = restart_options(&place);
        struct pmc_cache *cache = open_with(&options);

        put_text(cache, "k", "v");
        pmc_close(cache);
        CHECK_EQ(truncate(place.path, sizes[i]), 0);
        cache = open_with(&options);
        CHECK(!get_text(cache, "k"));
        CHECK_EQ(put_text(cache, "k", "w"), PMC_OK);
        check_sound(cache);
        pmc_close(cache);
        remove_kept(&place, SIZE_BYTES);
    }
}

/* Planted bug: an empty index is taken for a file of others, for ever. */
static void
test_a_pool_with_an_empty_index_is_replaced(void)
{
    struct place place = make_place_in("/dev/shm");
    struct pmc_options options = restart_options(&place);
    struct pmc_cache *cache = open_with(&options);
    char index_name[200];

    put_text(cache, "k", "v");
    pmc_close(cache);
    snprintf(index_name, sizeof index_name, "%s.index", place.path);
    CHECK_EQ(truncate(index_name, 0), 0);
    cache = open_with(&options);
    CHECK(!get_text(cache, "k"));
    CHECK_EQ(put_text(cache, "k", "w"), PMC_OK);
    pmc_close(cache);
    remove_kept(&place, SIZE_BYTES);
}

static void
test_a_directory_that_all_may_write_is_refused(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct pmc_error error;

    CHECK_EQ(chmod(place.directory, 0777), 0);
    CHECK_EQ(try_open(&options, &error), PMC_EPERMISSIONS);
    CHECK_EQ(chmod(place.directory, 01777), 0); /* as in shared memory */
    CHECK_EQ(try_open(&options, &error), PMC_OK);
    CHECK_EQ(count_files(place.directory, ""), 0);
    remove_place(&place);
}

static void
test_paths_that_cannot_be_used_are_refused(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct pmc_error error;
    char path[600];

    snprintf(path, sizeof path, "%s/missing/site.pool", place.directory);
    options.path = path;
    CHECK_EQ(try_open(&options, &error), PMC_ESYSTEM);
    CHECK_EQ(error.system_errno, ENOENT);
    snprintf(path, sizeof path, "%s/", place.directory);
    CHECK_EQ(try_open(&options, &error), PMC_EINVAL);
    remove_place(&place);
}

/* What is beyond a shard's last block would never be used. Planted bug: it is taken. */
static void
test_sizes_that_shards_cannot_use_are_refused(void)
{
    static const struct {
        uint64_t gib;
        uint32_t shards;
        enum pmc_status status;
    } sizes[] = {{33, 1, PMC_EINVAL},
                 {65, 2, PMC_EINVAL},
                 {2049, 0, PMC_EINVAL},
                 {1 << 20, 0, PMC_EINVAL},
                 {32, 1, PMC_OK}};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct place place = make_place();
        struct pmc_options options = options_at(&place, sizes[i].gib << 30);
        struct pmc_error error;

        options.shards = sizes[i].shards;
        CHECK_EQ(try_open(&options, &error), sizes[i].status);
        remove_place(&place);
    }
}

/* Planted bug: names that differ at the end only share one lock file. */
static void
test_pools_with_long_names_are_two_pools_or_refused(void)
{
    struct place place = make_place();

    for (int length = 230; length <= 255; length++) {
        struct pmc_options options = options_at(&place, SIZE_BYTES);
        struct pmc_cache *caches[2] = {NULL, NULL};
        char paths[2][600];

        for (int i = 0; i < 2; i++) {
            snprintf(paths[i], sizeof paths[i], "%s/%0*d", place.directory, length, i);
            options.path = paths[i];
            if (pmc_open(&options, &caches[i], NULL) == PMC_OK)
                put_text(caches[i], "k", i ? "second" : "first");
        }
        CHECK_EQ(caches[0] != NULL, caches[1] != NULL);
        CHECK(length > 240 || caches[0] != NULL);
        if (caches[0] && caches[1]) {
            CHECK(holds_text(caches[0], "k", "first"));
            CHECK(holds_text(caches[1], "k", "second"));
        }
        pmc_close(caches[0]);
        pmc_close(caches[1]);
        CHECK_EQ(count_files(place.directory, ""), 0);
    }
    remove_place(&place);
}

/* ---- children -------------------------------------------------------- */

static pid_t
ordinary_fork(void)
{
    return fork();
}

/* Child and parent write to one pool under names of their own. */
static void
expect_child_to_share(pid_t (*make_child)(void))
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct pmc_cache *cache = open_with(&options);
    struct signal_pipe seated = make_signal();
    struct signal_pipe leave = make_signal();
    uint32_t owner = pool_owner(cache->pool);
    struct pmc_stats stats;
    pid_t child;

    put_text(cache, "k", "parent");
    /* Planted bug: the place that was reserved for an earlier child is taken again. */
    child = fork();
    if (child == 0)
        _exit(0);
    check_child(child);
    child = make_child();
    if (child == 0) {
        CHECK(holds_text(cache, "k", "parent"));
        CHECK_EQ(put_text(cache, "k", "child"), PMC_OK);
        CHECK(pool_owner(cache->pool) != owner);
        pmc_stats(cache, &stats);
        CHECK_EQ(stats.attached, 2);
        give_signal(&seated);
        await_signal(&leave);
        pmc_close(cache);
        _exit(atomic_load(&check_broken) != 0);
    }
    await_signal(&seated);
    CHECK_EQ(pool_attached(cache->pool), 2);
    give_signal(&leave);
    check_child(child);
    close_signal(&seated);
    close_signal(&leave);
    CHECK_EQ(pool_owner(cache->pool), owner);
    CHECK(holds_text(cache, "k", "child"));
    CHECK_EQ(count_files(place.directory, "site.pool.lock"), 1); /* still ours */
    pmc_stats(cache, &stats);
    CHECK_EQ(stats.attached, 1);
    pmc_close(cache);
    CHECK_EQ(count_files(place.directory, ""), 0);
    remove_place(&place);
}

static void
test_a_forked_child_has_a_place_of_its_own(void)
{
    expect_child_to_share(ordinary_fork);
}

static void
test_a_child_of_a_raw_clone_has_a_place_of_its_own(void)
{
    expect_child_to_share(raw_clone);
}

/* Planted bug: a child that dies seems to live on in its parent's name. */
static void
expect_dead_child_to_be_noticed(pid_t (*make_child)(void))
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct signal_pipe ready = make_signal();
    struct pmc_cache *cache = open_with(&options);
    pid_t child = make_child();

    if (child == 0) {
        shard_lock(&cache->shards[0], false);
        give_signal(&ready);
        for (;;)
            pause();
    }
    await_signal(&ready);
    kill_child(child);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    close_signal(&ready);
    remove_place(&place);
}

static void
test_a_lock_that_a_dead_child_held_is_inherited(void)
{
    expect_dead_child_to_be_noticed(ordinary_fork);
    expect_dead_child_to_be_noticed(raw_clone);
}

/* ---- descriptors that others close --------------------------------------- */

#define THEIRS 12 /* files that take the numbers of what was closed */
#define THEIR_BYTES (2 * SIZE_BYTES)

static void
write_theirs(const struct place *place, int fds[THEIRS])
{
    static uint8_t bytes[THEIR_BYTES];

    fill_pattern(bytes, sizeof bytes, 7);
    for (int i = 0; i < THEIRS; i++) {
        char path[200];

        snprintf(path, sizeof path, "%s/theirs %d", place->directory, i);
        fds[i] = open(path, O_RDWR | O_CREAT, 0600);
        CHECK_EQ(write(fds[i], bytes, sizeof bytes), sizeof bytes);
    }
}

static void
check_theirs(const int fds[THEIRS])
{
    static uint8_t bytes[THEIR_BYTES];
    struct stat about;

    for (int i = 0; i < THEIRS; i++) {
        CHECK(fstat(fds[i], &about) == 0 && about.st_size == (off_t)sizeof bytes);
        CHECK_EQ(pread(fds[i], bytes, sizeof bytes, 0), sizeof bytes);
        CHECK(has_pattern(bytes, sizeof bytes, 7));
    }
}

/* Use a pool as long as it works, give back and take again, and leave it. */
static void
use_and_leave(struct pmc_cache *cache)
{
    static const uint8_t value[50000];
    char key[16];

    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key %d", i % 20);
        if (i < 40)
            (void)pmc_delete(cache, key, strlen(key), 0);
        else
            (void)pmc_put(cache, key, strlen(key), value, sizeof value, NULL);
    }
    CHECK_EQ(put_text(cache, "k", "v"), PMC_EDAMAGED);
    CHECK(!get_text(cache, "k"));
    if (fork() == 0)
        _exit(0);
    wait(NULL);
    pmc_close(cache);
}

/* As a daemon that closes all descriptors. Planted bugs: memory is given back, or
 * allocated, in whatever file has the number of the heap by now; leaving closes it. */
static void
test_descriptors_that_others_closed_are_used_no_more(void)
{
    static const char *const media[] = {"/tmp", "/dev/shm"};

    for (int i = 0; i < 2; i++) {
        struct place place = make_place_in(media[i]);
        pid_t child = fork();

        if (child == 0) {
            struct pmc_options options = options_at(&place, SIZE_BYTES);
            struct pmc_cache *cache;
            int fds[THEIRS];

            options.memory = PMC_MEMORY_CONSERVATIVE;
            cache = open_with(&options);
            for (int number = 0; number < 20; number++) {
                static const uint8_t value[50000];
                char key[16];

                snprintf(key, sizeof key, "key %d", number);
                CHECK_EQ(pmc_put(cache, key, strlen(key), value, sizeof value, NULL),
                         PMC_OK);
            }
            for (int fd = 3; fd < 100; fd++)
                close(fd);
            write_theirs(&place, fds);
            use_and_leave(cache);
            check_theirs(fds);
            check_exit();
        }
        check_child(child);
        remove_place(&place);
    }
}

/* ---- no more files may be opened --------------------------------------- */

/* Open the first place's pool and make one at the second, with one more file allowed each
 * time, from none on. */
static void
open_with_few_files(const struct pmc_options *kept, const struct pmc_options *other)
{
    int first_free = dup(0);
    struct rlimit limit;

    close(first_free);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int more = 0; more < 16; more++) {
        struct pmc_error error;
        enum pmc_status status;

        limit.rlim_cur = (rlim_t)(first_free + more);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        status = try_open(kept, &error);
        CHECK(status == PMC_OK || status == PMC_ESYSTEM);
        CHECK(status == PMC_OK || strstr(error.message, "open files") != NULL);
        (void)try_open(other, &error);
    }
}

/* Planted bugs: who cannot look at a kept pool takes it for one of another boot, without an
 * index, or for gone. */
static void
test_a_kept_pool_outlives_openers_that_have_no_more_files(void)
{
    static const char *const media[] = {"/tmp", "/dev/shm"};

    for (int i = 0; i < 2; i++) {
        struct place place = make_place_in(media[i]);
        struct place other_place = make_place();
        struct pmc_options options = restart_options(&place);
        struct pmc_options other = options_at(&other_place, SIZE_BYTES);
        struct pmc_cache *cache = open_with(&options);
        pid_t child;

        CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
        pmc_close(cache);
        child = fork();
        if (child == 0) {
            open_with_few_files(&options, &other);
            check_exit();
        }
        check_child(child);
        cache = open_with(&options);
        CHECK(holds_text(cache, "k", "v"));
        pmc_close(cache);
        remove_kept(&place, SIZE_BYTES);
        CHECK_EQ(count_files(other_place.directory, ""), 0);
        remove_place(&other_place);
    }
}

/* ---- fork while another thread opens ---------------------------------- */

static struct pmc_cache *opened_by_thread;

static void *
open_in_thread(void *options)
{
    opened_by_thread = open_with(options);
    return NULL;
}

/* Fork while a thread waits at the gate, and end with a lock taken. */
static void
fork_while_opening(struct pmc_options *options, const struct signal_pipe *waits,
                   pid_t *child_out)
{
    const struct timespec moment = {0, 50000000};
    pthread_t thread;
    pid_t child;

    CHECK_EQ(pthread_create(&thread, NULL, open_in_thread, options), 0);
    nanosleep(&moment, NULL);
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    *child_out = child;
    give_signal(waits);
    pthread_join(thread, NULL);
    CHECK_EQ(shard_lock(&opened_by_thread->shards[0], false), PMC_OK);
    raise(SIGKILL);
}

/* Planted bug: a child of a fork during pmc_open() has its parent's lock file open: the
 * parent then seems to live, and whatever it held is held for ever. */
static void
test_a_child_that_is_made_during_an_open_does_not_hold_what_its_parent_holds(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct flock gate = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    struct signal_pipe waits = make_signal();
    pid_t *grandchild = mmap(NULL, sizeof *grandchild, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct pmc_cache *cache;
    char lock_name[200];
    pid_t child;
    int gate_fd;

    snprintf(lock_name, sizeof lock_name, "%s.lock", place.path);
    gate_fd = open(lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(fcntl(gate_fd, F_OFD_SETLK, &gate), 0);
    child = fork();
    if (child == 0) {
        close(gate_fd);
        fork_while_opening(&options, &waits, grandchild);
    }
    await_signal(&waits);
    close(gate_fd);
    waitpid(child, NULL, 0);
    cache = open_with(&options);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    check_sound(cache);
    kill(*grandchild, SIGKILL);
    pmc_close(cache);
    munmap(grandchild, sizeof *grandchild);
    close_signal(&waits);
    remove_place(&place);
}

/* The parent ends first: the grandchild's pool must stay, under its path. */
static void
test_a_child_survives_its_parents_death(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct signal_pipe ready = make_signal();
    struct signal_pipe leave = make_signal();
    struct pmc_cache *cache;
    pid_t parent = fork();
    char byte;

    if (parent == 0) {
        cache = open_with(&options);
        if (fork() == 0) {
            CHECK_EQ(put_text(cache, "k", "grandchild"), PMC_OK);
            give_signal(&ready);
            await_signal(&leave);
            CHECK(holds_text(cache, "answer", "seen"));
            pmc_close(cache);
            if (atomic_load(&check_broken) == 0)
                give_signal(&ready);
            check_exit();
        }
        for (;;)
            pause();
    }
    await_signal(&ready);
    kill_child(parent);
    close(ready.ends[1]); /* so that a grandchild that fails is not waited for */
    cache = open_with(&options);
    CHECK(holds_text(cache, "k", "grandchild"));
    put_text(cache, "answer", "seen");
    give_signal(&leave);
    CHECK_EQ(read(ready.ends[0], &byte, 1), 1);
    pmc_close(cache);
    close(ready.ends[0]);
    close_signal(&leave);
    remove_place(&place);
}

/* Descriptors that this process has open. */
static unsigned
count_descriptors(void)
{
    return count_files("/proc/self/fd", "");
}

#define POOLS 3u

/* Three pools, of which the second is closed again, so that a list of them has a hole. */
static void
open_three_close_one(struct place places[POOLS], struct pmc_cache *caches_out[POOLS])
{
    for (unsigned i = 0; i < POOLS; i++) {
        struct pmc_options options = options_at(&places[i], SIZE_BYTES);

        caches_out[i] = open_with(&options);
        put_text(caches_out[i], "k", "kept");
    }
    pmc_close(caches_out[1]);
    caches_out[1] = NULL;
}

/* A process that opens the pools, makes a child, and leaves them. The child uses them only
 * when told. */
_Noreturn static void
leave_pools_to_child(struct place places[POOLS], const struct signal_pipe *left,
                     const struct signal_pipe *go)
{
    struct pmc_cache *caches[POOLS];
    unsigned descriptors;
    pid_t child;

    open_three_close_one(places, caches);
    descriptors = count_descriptors();
    child = fork();
    if (child == 0) {
        CHECK_EQ(count_descriptors(), descriptors);
        await_signal(go);
        for (unsigned i = 0; i < POOLS; i += 2) {
            CHECK(holds_text(caches[i], "answer", "seen"));
            pmc_close(caches[i]);
        }
        check_exit();
    }
    CHECK_EQ(count_descriptors(), descriptors);
    for (unsigned i = 0; i < POOLS; i += 2)
        pmc_close(caches[i]);
    give_signal(left);
    check_child(child);
    check_exit();
}

/* Planted bugs: the child takes its places when it first uses a pool, so that its parent is
 * the last to leave; it takes one in some pools only; either keeps a descriptor of the
 * other's. */
static void
test_an_idle_child_keeps_the_pools_that_its_parent_leaves(void)
{
    struct place places[POOLS];
    struct signal_pipe left = make_signal();
    struct signal_pipe go = make_signal();
    pid_t parent;

    for (unsigned i = 0; i < POOLS; i++)
        places[i] = make_place();
    parent = fork();
    if (parent == 0)
        leave_pools_to_child(places, &left, &go);
    await_signal(&left);
    for (unsigned i = 0; i < POOLS; i += 2) {
        struct pmc_options options = options_at(&places[i], SIZE_BYTES);
        struct pmc_cache *cache = open_with(&options);

        CHECK(holds_text(cache, "k", "kept"));
        CHECK_EQ(put_text(cache, "answer", "seen"), PMC_OK);
        CHECK_EQ(pool_attached(cache->pool), 2);
        pmc_close(cache);
    }
    give_signal(&go);
    check_child(parent);
    for (unsigned i = 0; i < POOLS; i++) {
        CHECK_EQ(count_files(places[i].directory, ""), 0);
        remove_place(&places[i]);
    }
    close_signal(&left);
    close_signal(&go);
}

/* A process that may open no more files makes a child, and leaves. */
_Noreturn static void
leave_pool_to_child_without_a_place(const struct place *place,
                                    const struct signal_pipe *left,
                                    const struct signal_pipe *go)
{
    struct pmc_options options = options_at(place, SIZE_BYTES);
    struct pmc_cache *cache = open_with(&options);
    unsigned descriptors = count_descriptors();
    struct rlimit before;
    pid_t child;

    put_text(cache, "k", "the parent's");
    getrlimit(RLIMIT_NOFILE, &before);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}), 0);
    child = fork();
    setrlimit(RLIMIT_NOFILE, &before);
    if (child == 0) {
        CHECK_EQ(count_descriptors(),
                 descriptors - 2); /* of the lock file, the index */
        CHECK(get_text(cache, "k") == NULL);
        CHECK_EQ(put_text(cache, "k", "the child's"), PMC_ECLOSED);
        await_signal(go);
        CHECK_EQ(put_text(cache, "k", "the child's"), PMC_ECLOSED);
        pmc_close(cache);
        check_exit();
    }
    CHECK_EQ(count_descriptors(), descriptors);
    CHECK(holds_text(cache, "k", "the parent's"));
    CHECK_EQ(put_text(cache, "k", "the parent's"), PMC_OK);
    pmc_close(cache);
    give_signal(left);
    check_child(child);
    check_exit();
}

/* Planted bugs: it writes as if it were its parent, or nobody; the pool counts as in use for
 * what the child has open; leaving, it removes the pool of those who came since. */
static void
test_a_child_without_a_place_has_no_part_in_the_pool(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, SIZE_BYTES);
    struct signal_pipe left = make_signal();
    struct signal_pipe go = make_signal();
    struct pmc_cache *cache;
    pid_t parent = fork();

    if (parent == 0)
        leave_pool_to_child_without_a_place(&place, &left, &go);
    await_signal(&left);
    CHECK_EQ(count_files(place.directory, ""), 0);
    cache = open_with(&options);
    CHECK(get_text(cache, "k") == NULL);
    CHECK_EQ(put_text(cache, "k", "another's"), PMC_OK);
    give_signal(&go);
    check_child(parent);
    CHECK(holds_text(cache, "k", "another's"));
    CHECK(count_files(place.directory, "") > 0);
    check_sound(cache);
    pmc_close(cache);
    close_signal(&left);
    close_signal(&go);
    remove_place(&place);
}

/* ---- memory ---------------------------------------------------------- */

static void
test_preallocated_pools_take_their_size_at_once_and_others_do_not(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, 8 * SIZE_BYTES);
    struct pmc_cache *cache = open_with(&options);
    struct stat about;

    CHECK_EQ(stat(place.path, &about), 0);
    CHECK((uint64_t)about.st_blocks * 512 < 2 * SIZE_BYTES);
    pmc_close(cache);
    options.preallocate = true;
    cache = open_with(&options);
    CHECK_EQ(stat(place.path, &about), 0);
    CHECK((uint64_t)about.st_blocks * 512 >= 7 * SIZE_BYTES);
    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    check_sound(cache);
    pmc_close(cache);
    remove_place(&place);
}

/* On a tmpfs of 1 MiB that only this process sees. */
static void
use_full_file_system(const struct place *place)
{
    struct pmc_options options = options_at(place, 64 * SIZE_BYTES);
    struct pmc_cache *cache = NULL;
    struct pmc_error error;
    struct pmc_stats stats;
    static uint8_t value[5000];

    options.preallocate = true;
    CHECK_EQ(try_open(&options, &error), PMC_ENOSPACE);
    CHECK_EQ(count_files(place->directory, ""), 0);
    options.preallocate = false;
    options.shards = 1;
    cache = open_with(&options);
    if (!cache)
        return;
    for (uint64_t key = 0; key < 2000; key++) {
        fill_pattern(value, sizeof value, key);
        CHECK_EQ(pmc_put(cache, &key, sizeof key, value, sizeof value, NULL), PMC_OK);
        CHECK_EQ(pmc_get(cache, &key, sizeof key, value, sizeof value, 0, NULL),
                 PMC_OK);
        CHECK(has_pattern(value, sizeof value, key));
    }
    pmc_stats(cache, &stats);
    CHECK(stats.evict > 1000);
    CHECK(stats.allocated_bytes < 2 * SIZE_BYTES);
    check_sound(cache);
    pmc_close(cache);
    CHECK_EQ(count_files(place->directory, ""), 0);
}

static void
test_a_full_file_system_makes_the_pool_evict(void)
{
    struct place place = make_place();
    pid_t child = fork();

    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", place.directory, "tmpfs", 0, "size=1m,mode=0700") != 0) {
            printf("skipped: a full file system (cannot mount one: %s)\n",
                   strerror(errno));
            fflush(stdout);
            _exit(0);
        }
        use_full_file_system(&place);
        check_exit();
    }
    check_child(child);
    remove_place(&place);
}

/* Planted bug: who finds no place taken does not ask whether the index is held. */
static void
test_a_pool_whose_lock_file_was_removed_has_no_second_one(void)
{
    for (int lifetime = PMC_VOLATILE; lifetime <= PMC_RESTART; lifetime++) {
        struct place place = make_place();
        struct pmc_options options = options_at(&place, SIZE_BYTES);
        struct pmc_cache *cache;
        struct pmc_error error;
        char lock_name[200];

        options.lifetime = (uint8_t)lifetime;
        cache = open_with(&options);
        snprintf(lock_name, sizeof lock_name, "%s.lock", place.path);
        CHECK_EQ(unlink(lock_name), 0);
        CHECK_EQ(try_open(&options, &error), PMC_EDAMAGED);
        CHECK(strstr(error.message, "than site.pool.lock: it was removed") != NULL);
        CHECK_EQ(put_text(cache, "key", "value"), PMC_OK);
        CHECK_EQ(count_files(place.directory, "site.pool.lock"), 0);
        pmc_close(cache);
        cache = open_with(&options); /* nobody uses it any more */
        CHECK_EQ(holds_text(cache, "key", "value"), lifetime == PMC_RESTART);
        pmc_close(cache);
        remove_kept(&place, SIZE_BYTES);
    }
}

int
main(void)
{
    RUN(test_processes_that_open_at_once_share_one_pool);
    RUN(test_processes_that_come_and_go_never_fail);
    RUN(test_the_last_one_out_removes_a_volatile_pool);
    RUN(test_after_all_were_killed_the_next_starts_clean);
    RUN(test_a_restart_pool_is_kept_and_goes_on);
    RUN(test_a_kept_pool_outlives_a_process_that_lost_it);
    RUN(test_a_restart_pool_survives_the_death_of_its_lock_owner);
    RUN(test_damaged_values_of_a_kept_pool_are_misses);
    RUN(test_a_damaged_index_of_a_kept_pool_is_mended);
    RUN(test_a_dead_owners_shard_is_recovered_by_its_first_writer);
    RUN(test_a_pool_of_an_earlier_boot_is_replaced);
    RUN(test_an_option_that_changed_starts_a_new_pool_and_is_named);
    RUN(test_other_options_are_refused_while_the_pool_is_in_use);
    RUN(test_another_layout_is_refused_in_use_and_replaced_after);
    RUN(test_what_is_not_a_pool_is_refused_and_left_alone);
    RUN(test_files_that_others_keep_beside_a_pool_are_left_alone);
    RUN(test_a_pool_whose_lock_file_was_removed_has_no_second_one);
    RUN(test_a_truncated_pool_is_replaced);
    RUN(test_a_pool_with_an_empty_index_is_replaced);
    RUN(test_a_directory_that_all_may_write_is_refused);
    RUN(test_paths_that_cannot_be_used_are_refused);
    RUN(test_sizes_that_shards_cannot_use_are_refused);
    RUN(test_pools_with_long_names_are_two_pools_or_refused);
    RUN(test_a_forked_child_has_a_place_of_its_own);
    RUN(test_a_child_of_a_raw_clone_has_a_place_of_its_own);
    RUN(test_a_lock_that_a_dead_child_held_is_inherited);
    RUN(test_descriptors_that_others_closed_are_used_no_more);
    RUN(test_a_kept_pool_outlives_openers_that_have_no_more_files);
    RUN(test_a_child_that_is_made_during_an_open_does_not_hold_what_its_parent_holds);
    RUN(test_an_idle_child_keeps_the_pools_that_its_parent_leaves);
    RUN(test_a_child_without_a_place_has_no_part_in_the_pool);
    RUN(test_a_child_survives_its_parents_death);
    RUN(test_preallocated_pools_take_their_size_at_once_and_others_do_not);
    RUN(test_a_full_file_system_makes_the_pool_evict);
    return check_report();
}
