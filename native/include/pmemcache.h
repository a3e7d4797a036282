/*
 * pmemcache: a cache in memory-mapped files, shared by all processes of a host.
 *
 * Words
 *   pool     one cache: an index in DRAM and a heap on the pool's path.
 *   heap     the mapped file that holds keys and values, cut into shards.
 *   index    the mapped file that says where each entry is; the only truth.
 *   entry    one key with its value, deadline and generation.
 *   shard    a self-contained part of the pool with a lock of its own.
 *   cache    this process's attachment to a pool (struct pmc_cache).
 *
 * Threads and processes
 *   Every function may be called by any number of threads and processes at
 *   once, except pmc_close(), which must be the last call on its cache. After
 *   fork() the child goes on using the cache it inherited: it is attached anew
 *   under its own name before the first lock it takes. Readers take no lock.
 *   Writers of one shard take turns; they wait at most lock_timeout_ms.
 *
 * Results
 *   Outcomes are >= 0, failures are < 0. Outputs are untouched unless the
 *   description says otherwise. No function aborts, prints or raises a signal
 *   on account of what it finds in a pool: damaged bytes are input.
 *
 * Damage
 *   Bytes that somebody else wrote into a pool's files lead to a miss, to a
 *   status, or to a recovery of the shard. Values found by attaching are checked
 *   by checksum before they are served; in use that is pmc_options.verify.
 *   A file that is cut short while it is mapped is noticed by a handler of
 *   SIGBUS, which the first pmc_open() of a process installs: from then on the
 *   process sees an empty pool and changes are refused with PMC_EDAMAGED, until
 *   it closes the cache and opens it anew. The same becomes of a pool whose descriptors
 *   were closed by other hands, which is noticed before anything is done with files
 *   that have their numbers by then. A SIGBUS that is not about a pool goes
 *   to the handler that was there before; one that is installed later must pass
 *   on what it does not know.
 *
 * Caveats
 *   - Linux only; the files must be on a file system that supports shared
 *     mappings and open-file-description locks (not on NFS).
 *   - The pool trusts processes of the same user: they can write its files.
 *   - Deadlines are times of CLOCK_MONOTONIC: processes in time namespaces with other
 *     offsets (unshare --time) must not share a pool.
 *   - A child made by a raw clone(2) that shares its parent's memory
 *     (CLONE_VM) counts as a thread of the parent.
 */
#ifndef PMEMCACHE_H
#define PMEMCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PMC_API __attribute__((visibility("default")))
#else
#define PMC_API
#endif

/* Longest key, in bytes. The empty key is a key. */
#define PMC_KEY_MAX_BYTES 65535u
/* Smallest pool, in bytes. */
#define PMC_POOL_MIN_BYTES (256u * 1024u)
/* A time to live that never ends. Others are counted by the kernel's tick, and may end
 * one tick (1-10 ms) too soon or too late. */
#define PMC_TTL_NONE INT64_MAX
/* pmc_options.size_bytes: grow until the file system has no more. One of memory without a
 * bound, as private pools lie in, is taken for half of the machine's memory. */
#define PMC_SIZE_GROW UINT64_MAX

enum pmc_status {
    PMC_OK = 0,      /* done */
    PMC_MISS = 1,    /* no such entry */
    PMC_UNMET = 2,   /* the condition of a put did not hold; nothing changed */
    PMC_BUSY = 3,    /* PMC_NOWAIT was asked for and the lock is not free */
    PMC_DROPPED = 4, /* not stored, as no room could be made; of leases: none is free */

    PMC_EINVAL = -1,         /* an argument or option is out of its range */
    PMC_EKEY_SIZE = -2,      /* the key is longer than PMC_KEY_MAX_BYTES */
    PMC_EVALUE_SIZE = -3,    /* the entry can never fit in this pool */
    PMC_EFULL = -4,          /* eviction is off and there is no room */
    PMC_ETIMEDOUT = -5,      /* a lock was not had in time; nothing changed */
    PMC_ENOT_INTEGER = -6,   /* incr: the value is not a decimal 64-bit integer */
    PMC_EOVERFLOW = -7,      /* incr: the sum leaves the 64-bit range */
    PMC_ECLOSED = -8,        /* the cache is closed, or a child could not attach */
    PMC_EDAMAGED = -9,       /* the file is a pool, but its bytes make no sense, or it
                                was cut short while in use */
    PMC_ELAYOUT = -10,       /* the pool was made by another layout version or ABI */
    PMC_ENOT_POOL = -11,     /* the path is a directory or a file of something else */
    PMC_EOWNER = -12,        /* the file is another user's */
    PMC_EPERMISSIONS = -13,  /* others may write in the directory */
    PMC_EGEOMETRY = -14,     /* the pool is in use with other options */
    PMC_ENOSPACE = -15,      /* the file system has no room for the smallest pool */
    PMC_ESYSTEM = -16,       /* a system call failed: pmc_error.system_errno */
    PMC_EATTACH_LIMIT = -17, /* too many processes are attached */
    PMC_EWOULD_WAIT = -18,   /* see pmc_thread_waits(); nothing changed */
};

enum pmc_lifetime {
    PMC_VOLATILE = 0, /* removed by the last process that detaches */
    PMC_RESTART = 1,  /* kept; the next process to attach finds it */
};

enum pmc_eviction {
    PMC_EVICT_S3FIFO = 0, /* adaptive S3-FIFO: the default */
    PMC_EVICT_LRU = 1,    /* least recently used */
    PMC_EVICT_NONE = 2,   /* refuse when full */
};

/*
 * When freed memory goes back to the file system. A write gives back what has been
 * free for as long as this says, 1 MiB at most, in spans of 64 KiB; pmc_clear() gives
 * back all. A pool that is not written to, or was preallocated, gives nothing back;
 * one that evicts to make room keeps what it has, and so does a part of it of which
 * less than an eighth is free. The index keeps its memory.
 */
enum pmc_memory {
    PMC_MEMORY_DEFAULT = 0,      /* after 10 seconds */
    PMC_MEMORY_CONSERVATIVE = 1, /* at once; and growing takes little at a time */
};

/* Why an entry left, for the on-evict callback. */
enum pmc_cause {
    PMC_CAUSE_EVICTED = 0,   /* to make room */
    PMC_CAUSE_EXPIRED = 1,   /* its deadline had passed when room was made */
    PMC_CAUSE_REQUESTED = 2, /* pmc_evict() */
};

struct pmc_options {
    const char *path;         /* the pool's file; NULL: private and unlinked */
    uint64_t size_bytes;      /* most the heap may take, at most 32 GiB for each of
                                 its shards; or PMC_SIZE_GROW */
    uint32_t shards;          /* a power of two; 0: as there are, or by the size */
    uint32_t lock_timeout_ms; /* longest wait for a lock; 0: 1000 */
    uint8_t lifetime;         /* enum pmc_lifetime */
    uint8_t eviction;         /* enum pmc_eviction */
    uint8_t memory;           /* enum pmc_memory */
    bool preallocate;         /* take the whole size at creation */
    bool verify;              /* check every value's checksum on every read */
};

/* Filled in by pmc_open() when it fails, or has something to say. */
struct pmc_error {
    int system_errno;  /* 0, or the errno of the call that failed */
    char message[512]; /* one sentence: what is wrong and what to do */
};

struct pmc_cache;

/*
 * The defaults: a private volatile pool of 64 MiB with s3fifo.
 */
PMC_API void pmc_options_default(struct pmc_options *options_out);

/*
 * Attach to the pool at options->path, creating it when nobody is attached and
 * it does not exist (or is volatile, or was left by another layout or ABI, with
 * other options, before the last start of the machine, or damaged).
 *
 * A pool that was kept (PMC_RESTART) has every entry that was complete when its
 * last process ended, however it ended. Each is served only after its checksum has
 * been found right, by the first get.
 *
 * Several processes may call this at the same instant: one creates, the others
 * see the finished pool. Files are made 0600. Each call makes a mapping of its
 * own; share one struct pmc_cache between the threads of a process.
 *
 * Sets *cache_out on PMC_OK. On failure fills *error_out (may be NULL) and
 * leaves no file behind that it made. When a pool that was to be kept has been
 * replaced by an empty one, error_out->message says why; else it is empty on PMC_OK.
 *
 * Errors: EINVAL, ENOT_POOL, EOWNER, EPERMISSIONS, EGEOMETRY, ELAYOUT,
 * EDAMAGED, ENOSPACE, ETIMEDOUT (a process stopped while creating it),
 * EATTACH_LIMIT, ESYSTEM.
 */
PMC_API enum pmc_status pmc_open(const struct pmc_options *options,
                                 struct pmc_cache **cache_out,
                                 struct pmc_error *error_out);

/*
 * Detach. The last process out removes a volatile pool. NULL is allowed. No
 * other thread may be inside any function of this cache.
 */
PMC_API void pmc_close(struct pmc_cache *cache);

/* The bits of flags arguments. */
#define PMC_NOWAIT 1u /* return PMC_BUSY instead of sleeping for a lock */

/*
 * Whether calls of this thread may wait: for a lock, or for memory that has to be
 * allocated. false: any call that would have to returns PMC_EWOULD_WAIT, so that an
 * event loop can repeat it in another thread. true at first. For the whole process's
 * caches, until the thread says otherwise.
 */
PMC_API void pmc_thread_waits(bool waits);

enum pmc_condition {
    PMC_ALWAYS = 0,
    PMC_IF_ABSENT = 1,
    PMC_IF_PRESENT = 2,
    PMC_IF_GENERATION = 3, /* present, and written as pmc_put_options.generation */
    PMC_IF_VERSION = 4,    /* nothing happened to the key since its version was
                              pmc_put_options.generation; see pmc_versions() */
};

/* What a copy of a value that was just stored is good under; see pmc_versions(). */
struct pmc_written {
    size_t version_index;
    uint64_t version; /* after this write and before any later one */
    uint64_t generation;
};

struct pmc_put_options {
    int64_t ttl_ms;      /* PMC_TTL_NONE: for ever; <= 0: already expired */
    uint64_t generation; /* for PMC_IF_GENERATION and PMC_IF_VERSION */
    uint64_t lease;      /* PMC_IF_VERSION holds too if this key was not changed since
                            the lease of this token was taken, by pmc_put(),
                            pmc_delete(), pmc_touch(), pmc_incr(), pmc_clear() or
                            recovery; 0: none */
    uint8_t condition;   /* enum pmc_condition */
    uint8_t tag;         /* the caller's own byte, given back by every read */
    uint32_t flags;      /* PMC_NOWAIT */
    struct pmc_written *written_out; /* NULL, or set by a pmc_put() that stored; of a
                                        pmc_put_many(), by the last that did */
};

/*
 * Store a value under a key, replacing what it held. options NULL: no deadline,
 * unconditional, tag 0.
 *
 * PMC_OK: stored, and every read that begins after this returns sees it.
 * PMC_UNMET: the condition did not hold; nothing changed.
 * PMC_DROPPED: not stored, no room; the key holds nothing now.
 * PMC_ETIMEDOUT: not stored, the lock was not had; the key is as it was.
 * PMC_EVALUE_SIZE: can never fit; the key is as it was.
 * PMC_EFULL: eviction is off; the key is as it was.
 * A put with a ttl_ms <= 0 deletes the key and returns PMC_OK.
 */
PMC_API enum pmc_status pmc_put(struct pmc_cache *cache, const void *key,
                                size_t key_size, const void *value, size_t value_size,
                                const struct pmc_put_options *options);

/* What a read found. */
struct pmc_found {
    uint64_t generation; /* changes with every write of the key; never 0 */
    size_t value_size;   /* of the whole value, whatever was copied */
    uint8_t tag;
};

/*
 * Copy the value from offset on into buffer, at most capacity bytes; copies
 * nothing when offset is at or past the end. buffer may be NULL when capacity
 * is 0. Runs the on-miss callback once on a miss and then looks again.
 *
 * PMC_OK fills *found_out (may be NULL). PMC_MISS leaves the buffer's bytes
 * undefined. Takes no lock unless a writer keeps the bucket busy.
 */
PMC_API enum pmc_status pmc_get(struct pmc_cache *cache, const void *key,
                                size_t key_size, void *buffer, size_t capacity,
                                size_t offset, struct pmc_found *found_out);

/*
 * Give room for a value of value_size bytes, or NULL to give up. May be called
 * more than once by one read, when the value changed meanwhile: the last
 * answer counts. Called without any lock.
 */
typedef void *(*pmc_reserve_fn)(void *context, size_t value_size);

/*
 * As pmc_get() of the whole value, into memory that reserve() provides once
 * the size is known. PMC_EINVAL when reserve() gave up.
 */
PMC_API enum pmc_status pmc_get_reserve(struct pmc_cache *cache, const void *key,
                                        size_t key_size, pmc_reserve_fn reserve,
                                        void *context, struct pmc_found *found_out);

/*
 * Versions: how a process knows that its own copy of a value is still good.
 *
 * Every key has a version, a word of shared memory (which other keys may share).
 * Any change of the key - put, delete (also of a key that is not there), touch,
 * incr, eviction, expiry, clear, recovery - makes it odd before and another even
 * number after. So: read the version; get the value; keep a copy only if the
 * version was even and has not changed; and use the copy as long as it has not.
 * A put or delete that has returned is thus seen by every process's next look.
 *
 * Returns the array of all versions, in the pool's mapping, valid until
 * pmc_close(), and sets *count_out. Read its words with acquire semantics.
 */
PMC_API const volatile uint64_t *pmc_versions(struct pmc_cache *cache,
                                              size_t *count_out);

/* Which of pmc_versions() is this key's. The same in every process. */
PMC_API size_t pmc_version_index(struct pmc_cache *cache, const void *key,
                                 size_t key_size);

/* What a versioned read found. */
struct pmc_versioned {
    struct pmc_found found;
    size_t version_index;
    uint64_t version; /* read before the value; odd: do not keep a copy */
    int64_t ttl_ms;   /* left; PMC_TTL_NONE: no deadline */
};

/*
 * As pmc_get_reserve(), and the version to keep a copy under. On PMC_MISS
 * version_index and version are set too.
 *
 * known is the generation of a copy that the caller has, or 0. If the entry still has
 * it, the copy is as good as the value: reserve() may not be called, nothing is
 * copied, and found.generation is known. So a copy outlives the changes of other keys
 * that share its version.
 */
PMC_API enum pmc_status pmc_get_versioned(struct pmc_cache *cache, const void *key,
                                          size_t key_size, uint64_t known,
                                          pmc_reserve_fn reserve, void *context,
                                          struct pmc_versioned *versioned_out);

/* Mark the entry as used now, for a hit on a process's own copy. */
PMC_API enum pmc_status pmc_bump(struct pmc_cache *cache, const void *key,
                                 size_t key_size);

/*
 * Leases: one process at a time has the right to load a missing key.
 *
 * pmc_lease_take() sets *lease_out. PMC_OK: this caller is the leader until
 * duration_ms have passed or it calls pmc_lease_release(); lease_out->version is
 * the key's version then, for a put with PMC_IF_VERSION and this lease, which stores
 * only if nobody changed the key during the load. PMC_BUSY: another has it;
 * lease_out->token names that lease. PMC_DROPPED: no lease is to be had (too
 * many at once); load without. A lease whose owner died, or whose time is up,
 * is free. Leases are in shared memory and cost no entry.
 */
struct pmc_lease {
    uint64_t token; /* never 0 */
    uint64_t version;
};
PMC_API enum pmc_status pmc_lease_take(struct pmc_cache *cache, const void *key,
                                       size_t key_size, uint32_t duration_ms,
                                       struct pmc_lease *lease_out);

/* End one's lease and wake the waiters. PMC_OK; PMC_MISS when it had ended. */
PMC_API enum pmc_status pmc_lease_release(struct pmc_cache *cache, const void *key,
                                          size_t key_size, uint64_t token);

/*
 * Wait until the lease of this token has ended: PMC_OK (released, timed out, or
 * its owner died, which is noticed within 20 ms). PMC_BUSY: it has not ended
 * within timeout_ms. Sleeps; 0 only looks.
 */
PMC_API enum pmc_status pmc_lease_wait(struct pmc_cache *cache, const void *key,
                                       size_t key_size, uint64_t token,
                                       uint32_t timeout_ms);

/* PMC_OK or PMC_MISS. No callback, no bump. */
PMC_API enum pmc_status pmc_exists(struct pmc_cache *cache, const void *key,
                                   size_t key_size);

/*
 * PMC_OK: it was there and no read that begins after this returns sees it.
 * PMC_MISS: it was not there. PMC_ETIMEDOUT: it may still be there.
 */
PMC_API enum pmc_status pmc_delete(struct pmc_cache *cache, const void *key,
                                   size_t key_size, uint32_t flags);

/*
 * Give the entry a new time to live, PMC_TTL_NONE for none; <= 0 deletes it.
 * PMC_OK or PMC_MISS. The generation stays.
 */
PMC_API enum pmc_status pmc_touch(struct pmc_cache *cache, const void *key,
                                  size_t key_size, int64_t ttl_ms, uint32_t flags);

struct pmc_incr_options {
    bool create; /* store initial + delta when the key is missing */
    int64_t initial;
    int64_t ttl_ms; /* of a created entry; an existing one keeps its deadline */
    uint8_t tag;    /* of a created entry; an existing one keeps its tag */
    uint32_t flags; /* PMC_NOWAIT */
};

/*
 * Add delta to a value that is a decimal signed 64-bit integer in ASCII.
 * Atomic among all processes. options NULL: do not create.
 *
 * PMC_OK sets *result_out. PMC_MISS when missing and not to be created. PMC_DROPPED as
 * of pmc_put(). Errors: ENOT_INTEGER, EOVERFLOW (the value stays), EFULL, ETIMEDOUT.
 */
PMC_API enum pmc_status pmc_incr(struct pmc_cache *cache, const void *key,
                                 size_t key_size, int64_t delta,
                                 const struct pmc_incr_options *options,
                                 int64_t *result_out);

/* One request of a batch. status is an output, and found for gets. */
struct pmc_item {
    const void *key;
    size_t key_size;
    const void *value;      /* put */
    size_t value_size;      /* put */
    uint8_t tag;            /* put: instead of pmc_put_options.tag */
    struct pmc_found found; /* get */
    enum pmc_status status;
};

/* As pmc_reserve_fn, for item number index of a batch. */
typedef void *(*pmc_reserve_many_fn)(void *context, size_t index, size_t value_size);

/*
 * Get many: as pmc_get_reserve() for each item, with the cache misses of
 * neighbouring items overlapped. Each item's own status and found are set.
 * Returns the number of items found. Waits as pmc_put_many(): what a writer keeps busy
 * after one was waited for in vain is a miss at once.
 */
PMC_API size_t pmc_get_many(struct pmc_cache *cache, struct pmc_item *items,
                            size_t count, pmc_reserve_many_fn reserve, void *context);

/* Put many, under one set of options. Returns the number stored. Where a lock is not had
 * in time, the items that follow do not wait for theirs: all waits together are as long
 * as one. */
PMC_API size_t pmc_put_many(struct pmc_cache *cache, struct pmc_item *items,
                            size_t count, const struct pmc_put_options *options);

/* Delete many, waiting as pmc_put_many(). Returns the number that were there. */
PMC_API size_t pmc_delete_many(struct pmc_cache *cache, struct pmc_item *items,
                               size_t count, uint32_t flags);

/*
 * Evict one victim, as the policy chooses; with key not NULL, that entry.
 * Copies the victim's key into key_out (room for PMC_KEY_MAX_BYTES) and its
 * length into *key_size_out; both may be NULL. PMC_MISS when empty. Works with
 * eviction off too: the oldest entry goes.
 */
PMC_API enum pmc_status pmc_evict(struct pmc_cache *cache, const void *key,
                                  size_t key_size, void *key_out, size_t *key_size_out);

/* Remove everything. Entries stored meanwhile by others may stay. */
PMC_API enum pmc_status pmc_clear(struct pmc_cache *cache);

/* Where a walk over the keys stands. Zero it before the first call. */
struct pmc_cursor {
    uint32_t shard;
    uint32_t bucket;
    uint32_t bucket_count;
    uint32_t reserved;
};

/*
 * The next keys that begin with prefix: {uint32_t size; bytes}... packed into
 * buffer without padding, *used_out bytes of it. PMC_OK, or PMC_MISS when the
 * walk is over (*used_out is 0). buffer must hold at least 512 KiB.
 *
 * A key that is present from the first call to the last is given exactly once.
 * A walk bumps nothing, and takes a lock only where a writer keeps a bucket busy:
 * PMC_ETIMEDOUT when that lock was not had. PMC_EINVAL: the keys of one bucket
 * exceed the buffer.
 */
PMC_API enum pmc_status pmc_keys(struct pmc_cache *cache, struct pmc_cursor *cursor,
                                 const void *prefix, size_t prefix_size, void *buffer,
                                 size_t capacity, size_t *used_out);

struct pmc_info {
    size_t value_size;
    size_t stored_bytes; /* what the entry takes of the heap */
    int64_t ttl_ms;      /* left; PMC_TTL_NONE: no deadline */
    uint64_t generation;
    uint8_t heat; /* the policy's mark of recent use */
    uint8_t tag;
};

/* PMC_OK or PMC_MISS. Does not bump. */
PMC_API enum pmc_status pmc_info(struct pmc_cache *cache, const void *key,
                                 size_t key_size, struct pmc_info *info_out);

/* Called after an entry left to make room, by the process that made room.
 * key is valid during the call only. No lock is held: any function but
 * pmc_close() may be called. */
typedef void (*pmc_on_evict_fn)(struct pmc_cache *cache, const void *key,
                                size_t key_size, enum pmc_cause cause, void *context);
/* Called by a get that missed, which then looks once more: what the callback put is
 * what the get returns. A miss of this cache inside the callback does not call it
 * again; one of another cache calls that one's. */
typedef void (*pmc_on_miss_fn)(struct pmc_cache *cache, const void *key,
                               size_t key_size, void *context);

/* Set or (NULL) remove this process's callbacks. Not while other threads are
 * inside the cache. */
PMC_API void pmc_on_evict(struct pmc_cache *cache, pmc_on_evict_fn callback,
                          void *context);
PMC_API void pmc_on_miss(struct pmc_cache *cache, pmc_on_miss_fn callback,
                         void *context);

/* Totals over all processes since the pool was made; see
 * pmemcache_stats.def. */
struct pmc_stats {
#define PMC_STAT(name, unit, sentence) uint64_t name;
#include "pmemcache_stats.def"
#undef PMC_STAT
};

PMC_API enum pmc_status pmc_stats(struct pmc_cache *cache, struct pmc_stats *stats_out);

/*
 * Check every invariant of the pool, shard by shard under its lock. Writes one
 * line per broken invariant into report (NUL-terminated, truncated to
 * capacity). Returns the number of broken invariants, or a failure (< 0).
 */
PMC_API int pmc_check(struct pmc_cache *cache, char *report, size_t capacity);

/* What this attachment is. */
struct pmc_geometry {
    uint64_t size_bytes; /* most the heap may take */
    uint64_t shard_bytes;
    uint64_t value_max_bytes; /* largest key + value that can be stored */
    uint64_t pool_id;
    uint32_t shards;
    uint32_t layout_version;
    uint8_t lifetime, eviction, memory;
    bool created; /* this call of pmc_open() made the pool */
};
PMC_API enum pmc_status pmc_geometry(struct pmc_cache *cache,
                                     struct pmc_geometry *geometry_out);

/* A short English sentence for a status. Never NULL. */
PMC_API const char *pmc_status_text(enum pmc_status status);

/*
 * Move this process's idea of now for this cache by delta_ms, so that tests of
 * deadlines need not sleep. Added to earlier calls.
 */
PMC_API void pmc_advance_clock(struct pmc_cache *cache, int64_t delta_ms);

#ifdef __cplusplus
}
#endif
#endif
