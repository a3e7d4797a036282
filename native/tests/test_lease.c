/*
 * Leases, versions and puts on condition of them: who may load a key, what makes a
 * loaded value outdated, and what a copy is good under.
 */
#include <pthread.h>

#include "cache.h"
#include "support.h"

#define POOL_BYTES (1024u * 1024u)
#define LONG_MS 600000u
#define PATIENCE_MS 60000u
#define KEYS_MAX 100000u /* looked through for two with something in common */

static struct pmc_cache *
open_pool(void)
{
    return open_private(POOL_BYTES, PMC_EVICT_S3FIFO);
}

static struct pmc_lease
take(struct pmc_cache *cache, const char *key, uint32_t duration_ms,
     enum pmc_status expected)
{
    struct pmc_lease lease = {0};

    CHECK_EQ(pmc_lease_take(cache, key, strlen(key), duration_ms, &lease), expected);
    return lease;
}

static enum pmc_status
release(struct pmc_cache *cache, const char *key, uint64_t token)
{
    return pmc_lease_release(cache, key, strlen(key), token);
}

static enum pmc_status
await_end(struct pmc_cache *cache, const char *key, uint64_t token, uint32_t timeout_ms)
{
    return pmc_lease_wait(cache, key, strlen(key), token, timeout_ms);
}

/* ---- one leader ------------------------------------------------------- */

static void
test_one_has_the_lease_and_others_are_told_which(void)
{
    struct pmc_cache *cache = open_pool();
    struct pmc_lease first = take(cache, "k", LONG_MS, PMC_OK);
    struct pmc_lease second = take(cache, "k", LONG_MS, PMC_BUSY);

    CHECK(first.token != 0);
    CHECK_EQ(second.token, first.token);
    CHECK_EQ(release(cache, "k", first.token + 1), PMC_MISS);
    CHECK_EQ(release(cache, "l", first.token), PMC_MISS);
    take(cache, "k", LONG_MS, PMC_BUSY);
    CHECK_EQ(release(cache, "k", first.token), PMC_OK);
    CHECK_EQ(release(cache, "k", first.token), PMC_MISS);
    second = take(cache, "k", LONG_MS, PMC_OK);
    CHECK(second.token != first.token);
    CHECK_EQ(release(cache, "k", first.token), PMC_MISS);
    pmc_close(cache);
}

static void
test_a_lease_whose_time_is_up_is_anothers(void)
{
    struct pmc_cache *cache = open_pool();
    struct pmc_lease first = take(cache, "k", 0, PMC_OK);
    struct pmc_lease second;

    CHECK_EQ(await_end(cache, "k", first.token, 0), PMC_OK);
    second = take(cache, "k", LONG_MS, PMC_OK);
    CHECK(second.token != first.token);
    CHECK_EQ(await_end(cache, "k", first.token, 0), PMC_OK);
    CHECK_EQ(await_end(cache, "k", second.token, 0), PMC_BUSY);
    CHECK_EQ(release(cache, "k", first.token), PMC_MISS);
    take(cache, "k", LONG_MS, PMC_BUSY);
    pmc_close(cache);
}

/* ---- places ------------------------------------------------------------ */

/* Names of keys whose leases compete for the same places. */
static void
find_competitors(struct pmc_cache *cache, char names_out[LEASE_WAYS + 1][16])
{
    uint64_t set = UINT64_MAX;
    uint32_t found = 0;

    for (uint32_t number = 0; found <= LEASE_WAYS; number++) {
        uint64_t hash;

        snprintf(names_out[found], 16, "key %u", number);
        hash = cache_hash(cache, names_out[found], strlen(names_out[found]));
        if (set == UINT64_MAX)
            set = hash % LEASE_SETS;
        found += hash % LEASE_SETS == set;
    }
}

static void
test_without_a_place_there_is_no_lease(void)
{
    struct pmc_cache *cache = open_pool();
    char names[LEASE_WAYS + 1][16];
    struct pmc_lease leases[LEASE_WAYS];

    find_competitors(cache, names);
    for (uint32_t i = 0; i < LEASE_WAYS; i++)
        leases[i] = take(cache, names[i], i == 3 ? 0 : LONG_MS, PMC_OK);
    /* The one whose time is up gives way, and no other. */
    take(cache, names[LEASE_WAYS], LONG_MS, PMC_OK);
    take(cache, names[3], LONG_MS, PMC_DROPPED);
    for (uint32_t i = 0; i < LEASE_WAYS; i++)
        if (i != 3)
            take(cache, names[i], LONG_MS, PMC_BUSY);
    CHECK_EQ(release(cache, names[5], leases[5].token), PMC_OK);
    take(cache, names[3], LONG_MS, PMC_OK);
    take(cache, names[5], LONG_MS, PMC_DROPPED);
    pmc_close(cache);
}

/* ---- waiting ----------------------------------------------------------- */

struct waiter {
    struct pmc_cache *cache;
    uint64_t token;
    _Atomic bool waits;
};

static void *
wait_for_end(void *context)
{
    struct waiter *waiter = context;

    atomic_store(&waiter->waits, true);
    CHECK_EQ(await_end(waiter->cache, "k", waiter->token, PATIENCE_MS), PMC_OK);
    return NULL;
}

static void
test_who_waits_goes_on_when_the_lease_ends(void)
{
    struct pmc_cache *cache = open_pool();
    struct waiter waiter = {.cache = cache};
    uint64_t began_ms = milliseconds();
    pthread_t thread;

    CHECK_EQ(await_end(cache, "k", 7, PATIENCE_MS), PMC_OK); /* there is none */
    waiter.token = take(cache, "k", LONG_MS, PMC_OK).token;
    CHECK_EQ(await_end(cache, "k", waiter.token + 1, PATIENCE_MS), PMC_OK);
    CHECK_EQ(await_end(cache, "k", waiter.token, 30), PMC_BUSY);
    CHECK(milliseconds() - began_ms >= 30);
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_end, &waiter), 0);
    while (!atomic_load(&waiter.waits))
        clock_sleep_ns(100000);
    CHECK_EQ(release(cache, "k", waiter.token), PMC_OK);
    pthread_join(thread, NULL);
    CHECK(milliseconds() - began_ms < PATIENCE_MS);
    pmc_close(cache);
}

static void
take_for_long(struct pmc_cache *cache)
{
    take(cache, "k", LONG_MS, PMC_OK);
}

/* Planted bugs: the owner's life is not asked about; those who sleep do not ask. */
static void
test_a_lease_ends_with_its_owner(void)
{
    struct place place = make_place();
    struct pmc_options options = options_at(&place, POOL_BYTES);
    struct pmc_cache *cache = open_with(&options);
    pid_t child = start_child(fork, cache, take_for_long);
    struct waiter waiter = {.cache = cache,
                            .token = take(cache, "k", LONG_MS, PMC_BUSY).token};
    uint64_t began_ms = milliseconds();
    pthread_t thread;

    CHECK_EQ(await_end(cache, "k", waiter.token, 0), PMC_BUSY);
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_end, &waiter), 0);
    while (!atomic_load(&waiter.waits))
        clock_sleep_ns(100000);
    kill_child(child);
    pthread_join(thread, NULL);
    CHECK(milliseconds() - began_ms < PATIENCE_MS);
    take(cache, "k", LONG_MS, PMC_OK);
    pmc_close(cache);
    remove_place(&place);
}

/* ---- errors ------------------------------------------------------------ */

/* Planted bug: what needs the lock goes on without it. */
static void
test_without_the_lock_no_lease_is_taken_or_released(void)
{
    struct pmc_options options;
    struct pmc_cache *cache;
    struct pmc_lease lease;

    pmc_options_default(&options);
    options.size_bytes = POOL_BYTES;
    options.lock_timeout_ms = 20;
    cache = open_with(&options);
    lease = take(cache, "k", LONG_MS, PMC_OK);
    CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
    take(cache, "l", LONG_MS, PMC_ETIMEDOUT);
    CHECK_EQ(release(cache, "k", lease.token), PMC_ETIMEDOUT);
    shard_unlock(&cache->shards[0]);
    take(cache, "l", LONG_MS, PMC_OK);
    take(cache, "k", LONG_MS, PMC_BUSY);
    pmc_close(cache);
}

static void
test_keys_that_cannot_be_have_no_lease(void)
{
    static char key[PMC_KEY_MAX_BYTES + 1];
    struct pmc_cache *cache = open_pool();
    struct pmc_lease lease;

    CHECK_EQ(pmc_lease_take(cache, key, sizeof key, LONG_MS, &lease), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_lease_release(cache, key, sizeof key, 1), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_lease_wait(cache, key, sizeof key, 1, 0), PMC_EKEY_SIZE);
    CHECK_EQ(pmc_lease_take(cache, NULL, 1, LONG_MS, &lease), PMC_EINVAL);
    CHECK_EQ(pmc_lease_release(cache, NULL, 1, 1), PMC_EINVAL);
    CHECK_EQ(pmc_lease_wait(cache, NULL, 1, 1, 0), PMC_EINVAL);
    pmc_close(cache);
}

/* ---- what is loaded meanwhile ------------------------------------------ */

/* A key with the same version as "k". */
static void
find_neighbour(struct pmc_cache *cache, char name_out[16])
{
    size_t version = pmc_version_index(cache, "k", 1);
    uint32_t number = 0;

    do
        snprintf(name_out, 16, "%u", number++);
    while (pmc_version_index(cache, name_out, strlen(name_out)) != version &&
           number < KEYS_MAX);
    CHECK(number < KEYS_MAX);
}

static enum pmc_status
put_loaded(struct pmc_cache *cache, const char *key, uint64_t version, uint64_t lease)
{
    struct pmc_put_options options = {.ttl_ms = PMC_TTL_NONE,
                                      .condition = PMC_IF_VERSION,
                                      .generation = version,
                                      .lease = lease};

    return pmc_put(cache, key, strlen(key), "loaded", 6, &options);
}

static uint64_t
version_of(struct pmc_cache *cache, const char *key)
{
    size_t count;
    const volatile uint64_t *versions = pmc_versions(cache, &count);

    return versions[pmc_version_index(cache, key, strlen(key))];
}

static void
test_a_loaded_value_is_stored_if_its_key_did_not_change(void)
{
    struct pmc_cache *cache = open_pool();
    struct pmc_lease lease;
    uint64_t version;
    char neighbour[16];

    CHECK_EQ(put_text(cache, "k", "old"), PMC_OK);
    lease = take(cache, "k", LONG_MS, PMC_OK);
    version = version_of(cache, "k");
    CHECK(version != 0);
    CHECK_EQ(lease.version, version);
    CHECK_EQ(put_loaded(cache, "k", version + 2, 0), PMC_UNMET);
    CHECK_EQ(put_loaded(cache, "k", version, 0), PMC_OK);
    CHECK(holds_text(cache, "k", "loaded"));
    CHECK_EQ(release(cache, "k", lease.token), PMC_OK);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_OK);
    /* Another key's change makes the version another, and the lease stands. */
    lease = take(cache, "k", LONG_MS, PMC_OK);
    find_neighbour(cache, neighbour);
    CHECK_EQ(put_text(cache, neighbour, "v"), PMC_OK);
    CHECK_EQ(put_loaded(cache, "k", lease.version, 0), PMC_UNMET);
    CHECK_EQ(put_loaded(cache, "k", lease.version, lease.token + 1), PMC_UNMET);
    CHECK_EQ(put_loaded(cache, neighbour, lease.version, lease.token), PMC_UNMET);
    CHECK(get_text(cache, "k") == NULL);
    CHECK_EQ(put_loaded(cache, "k", lease.version, lease.token), PMC_OK);
    CHECK(holds_text(cache, "k", "loaded"));
    pmc_close(cache);
}

enum change {
    PUT,
    DELETE,
    DELETE_NOTHING,
    TOUCH,
    ADD,
    CLEAR,
    RECOVER,
    RELEASE,
    CHANGES
};

static void
change(struct pmc_cache *cache, enum change what, uint64_t token)
{
    int64_t sum;

    switch (what) {
    case PUT:
        CHECK_EQ(put_text(cache, "k", "2"), PMC_OK);
        break;
    case DELETE:
        CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_OK);
        break;
    case DELETE_NOTHING:
        CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_MISS);
        break;
    case TOUCH:
        CHECK_EQ(pmc_touch(cache, "k", 1, LONG_MS, 0), PMC_OK);
        break;
    case ADD:
        CHECK_EQ(pmc_incr(cache, "k", 1, 1, NULL, &sum), PMC_OK);
        break;
    case CLEAR:
        CHECK_EQ(pmc_clear(cache), PMC_OK);
        break;
    case RECOVER:
        CHECK_EQ(shard_lock(&cache->shards[0], false), PMC_OK);
        shard_recover_locked(&cache->shards[0]);
        shard_unlock(&cache->shards[0]);
        break;
    case RELEASE:
        CHECK_EQ(release(cache, "k", token), PMC_OK);
        /* The version is what it was, so it must be another's doing. */
        CHECK_EQ(put_text(cache, "k", "2"), PMC_OK);
        break;
    case CHANGES:
    default:
        abort();
    }
}

/* Planted bugs: one of these leaves the version as it was, or odd. */
static void
test_any_change_of_the_key_gives_it_another_version(void)
{
    for (enum change what = 0; what < RELEASE; what++) {
        struct pmc_cache *cache = open_pool();
        uint64_t before;

        if (what != DELETE_NOTHING)
            CHECK_EQ(put_text(cache, "k", "1"), PMC_OK);
        before = version_of(cache, "k");
        change(cache, what, 0);
        if (!CHECK(version_of(cache, "k") > before && version_of(cache, "k") % 2 == 0))
            fprintf(stderr, "    after change %d\n", (int)what);
        before = version_of(cache, "k");
        CHECK(get_text(cache, "none") == NULL);
        CHECK_EQ(pmc_exists(cache, "k", 1),
                 what == PUT || what == TOUCH || what == ADD || what == RECOVER
                     ? PMC_OK
                     : PMC_MISS);
        CHECK_EQ(version_of(cache, "k"), before); /* reading changes nothing */
        pmc_close(cache);
    }
}

/* Planted bugs: one of these leaves the lease as it is. */
static void
test_any_change_of_the_key_makes_a_lease_void(void)
{
    for (enum change what = 0; what < CHANGES; what++) {
        struct pmc_cache *cache = open_pool();
        struct pmc_lease lease;

        if (what != DELETE_NOTHING)
            CHECK_EQ(put_text(cache, "k", "1"), PMC_OK);
        lease = take(cache, "k", LONG_MS, PMC_OK);
        CHECK_EQ(put_text(cache, "other", "v"), PMC_OK);
        change(cache, what, lease.token);
        if (!CHECK_EQ(put_loaded(cache, "k", lease.version, lease.token), PMC_UNMET))
            fprintf(stderr, "    after change %d\n", (int)what);
        if (what != RELEASE) /* it is still the right to load */
            take(cache, "k", LONG_MS, PMC_BUSY);
        pmc_close(cache);
    }
}

/* Planted bug: the mark of a void lease is taken for a part of its deadline. */
static void
test_a_void_lease_ends_in_its_time(void)
{
    struct pmc_cache *cache = open_pool();
    struct pmc_lease lease = take(cache, "k", 0, PMC_OK);

    CHECK_EQ(put_text(cache, "k", "v"), PMC_OK);
    CHECK_EQ(await_end(cache, "k", lease.token, 0), PMC_OK);
    take(cache, "k", LONG_MS, PMC_OK);
    pmc_close(cache);
}

/* Two leases in one set: the end of one must not hide the other from who changes keys. */
static void
test_a_lease_is_made_void_after_others_of_its_set_ended(void)
{
    struct pmc_cache *cache = open_pool();
    char names[LEASE_WAYS + 1][16];
    struct pmc_lease first;
    struct pmc_lease second;

    find_competitors(cache, names);
    first = take(cache, names[0], LONG_MS, PMC_OK);
    second = take(cache, names[1], LONG_MS, PMC_OK);
    CHECK_EQ(release(cache, names[0], first.token), PMC_OK);
    CHECK_EQ(put_text(cache, names[1], "v"), PMC_OK);
    CHECK_EQ(put_loaded(cache, names[1], second.version, second.token), PMC_UNMET);
    CHECK_EQ(release(cache, names[1], second.token), PMC_OK);
    CHECK_EQ(cache->shards[0].header->lease_sets, 0);
    pmc_close(cache);
}

/* ---- copies ------------------------------------------------------------ */

struct room {
    char bytes[64];
    unsigned asked;
};

static void *
give_room(void *context, size_t value_size)
{
    struct room *room = context;

    CHECK(value_size <= sizeof room->bytes);
    room->asked++;
    return room->bytes;
}

/* Planted bugs: a copy is confirmed whatever its generation; it is never confirmed. */
static void
test_a_copy_is_confirmed_by_its_generation_alone(void)
{
    struct pmc_cache *cache = open_pool();
    struct pmc_versioned versioned = {0};
    struct room room = {.asked = 0};
    uint64_t generation;

    CHECK_EQ(put_text(cache, "k", "first"), PMC_OK);
    CHECK_EQ(pmc_get_versioned(cache, "k", 1, 0, give_room, &room, &versioned), PMC_OK);
    generation = versioned.found.generation;
    CHECK(room.asked == 1 && memcmp(room.bytes, "first", 5) == 0);
    CHECK_EQ(pmc_get_versioned(cache, "k", 1, generation, give_room, &room, &versioned),
             PMC_OK);
    CHECK_EQ(room.asked, 1);
    CHECK_EQ(versioned.found.generation, generation);
    CHECK_EQ(versioned.version_index, pmc_version_index(cache, "k", 1));
    CHECK_EQ(versioned.version, version_of(cache, "k"));
    CHECK_EQ(versioned.version % 2, 0);
    CHECK_EQ(put_text(cache, "k", "other"), PMC_OK);
    CHECK_EQ(pmc_get_versioned(cache, "k", 1, generation, give_room, &room, &versioned),
             PMC_OK);
    CHECK(room.asked == 2 && memcmp(room.bytes, "other", 5) == 0);
    CHECK(versioned.found.generation != generation);
    CHECK_EQ(pmc_delete(cache, "k", 1, 0), PMC_OK);
    CHECK_EQ(pmc_get_versioned(cache, "k", 1, generation, give_room, &room, &versioned),
             PMC_MISS);
    CHECK_EQ(room.asked, 2);
    pmc_close(cache);
}

int
main(void)
{
    RUN(test_one_has_the_lease_and_others_are_told_which);
    RUN(test_a_lease_whose_time_is_up_is_anothers);
    RUN(test_without_a_place_there_is_no_lease);
    RUN(test_who_waits_goes_on_when_the_lease_ends);
    RUN(test_a_lease_ends_with_its_owner);
    RUN(test_without_the_lock_no_lease_is_taken_or_released);
    RUN(test_keys_that_cannot_be_have_no_lease);
    RUN(test_a_loaded_value_is_stored_if_its_key_did_not_change);
    RUN(test_any_change_of_the_key_gives_it_another_version);
    RUN(test_any_change_of_the_key_makes_a_lease_void);
    RUN(test_a_void_lease_ends_in_its_time);
    RUN(test_a_lease_is_made_void_after_others_of_its_set_ended);
    RUN(test_a_copy_is_confirmed_by_its_generation_alone);
    return check_report();
}
