/*
 * A pool's files: made, found, mapped, grown, and removed by the last process
 * that leaves. Knows nothing of what shards hold.
 *
 *   site.pool            the heap
 *   site.pool.index      the index; in /dev/shm when the pool's own file system
 *                        is not DRAM
 *   site.pool.lock       the lock file: byte 0 is the gate, byte 1 + p says
 *                        that the process at place p lives
 *
 * Law: files are made, judged, adopted and removed only while holding the gate,
 * and only when no place is taken. So nobody ever sees a half-made pool, and a
 * gate whose owner died is free at once. All locks are open-file-description
 * locks, which the kernel drops with the process.
 */
#ifndef PMC_POOL_H
#define PMC_POOL_H

#include <sys/stat.h>

#include "base.h"
#include "layout.h"

enum pool_origin {
    POOL_CREATED, /* new files: shards must be formatted */
    POOL_ADOPTED, /* kept from earlier processes: entries are unverified */
    POOL_JOINED,  /* others are attached */
};

struct fork_page;

/* A place that has been taken: the description of the lock file that holds its
 * byte (-1: none), and what its process writes into locks. */
struct seat {
    int lock_fd;
    uint32_t place;
    uint32_t owner;
};

/* Which file a descriptor was opened for. */
struct file_mark {
    dev_t device;
    ino_t inode;
};

struct pool {
    struct pool_header *header; /* the index mapping */
    uint8_t *heap;              /* the heap mapping */
    struct attachment *attachments;
    size_t index_bytes;
    size_t heap_bytes;
    enum pool_origin origin;
    _Atomic uint32_t owner;         /* what this process writes into locks; 0: none */
    struct attachment *_Atomic own; /* of attachments: this process's */
    _Atomic bool lost; /* a file was cut short under its mapping; see pool_guard.h */
    _Atomic bool keeps_memory; /* the file system takes nothing back */
    _Atomic uint32_t patches;  /* see pool_guard.h */
    _Atomic size_t fault_off;  /* of the heap: where the last fault was */
    _Atomic uint32_t faults;   /* ... and how often in a row */
    struct fork_page *fork_page;
    struct seat child; /* reserved, while a fork is under way */
    int heap_fd;
    int index_fd;
    int lock_fd;
    struct file_mark heap_mark;
    struct file_mark index_mark;
    struct file_mark lock_mark;
    int directory_fd;
    int index_directory_fd;
    char heap_name[256];
    char index_name[256];
    char lock_name[256];
    bool named;
    bool kept; /* by PMC_RESTART; what the header says may be damaged, or lost */
    bool made_lock_file;
    bool published;
    struct pool *next_in_process;
};

/*
 * Find or make the files of options->path and map them. On PMC_OK the gate is
 * held, and fork() kept out: the caller puts the shards in order according to
 * pool->origin and then calls pool_publish() or pool_abandon().
 */
enum pmc_status pool_prepare(const struct pmc_options *options, struct pool **pool_out,
                             struct pmc_error *error_out);

/* Link new files into place, take a place, open the gate. */
enum pmc_status pool_publish(struct pool *pool, struct pmc_error *error_out);

/* Undo pool_prepare(): remove what was made, unmap. */
void pool_abandon(struct pool *pool);

/* Leave; the last one out removes a volatile pool. */
void pool_close(struct pool *pool);

/*
 * The word to write into locks. In a child of fork() this first attaches the
 * child under a place of its own. 0 when that failed.
 */
uint32_t pool_owner(struct pool *pool);

/* lock_owner_lives_fn; context is the pool. */
bool pool_owner_lives(void *context, uint32_t owner);

/* Was one of the files cut short? Then this process sees an empty pool, and what
 * it would write, nobody would see. */
static inline bool
pool_is_lost(const struct pool *pool)
{
    return UNLIKELY(load_acquire(&pool->lost));
}

static inline bool
file_mark_of(int fd, struct file_mark *mark_out)
{
    struct stat about;

    if (fstat(fd, &about) != 0)
        return false;
    *mark_out = (struct file_mark){about.st_dev, about.st_ino};
    return true;
}

static inline bool
file_is_marked(int fd, struct file_mark mark)
{
    struct file_mark now;

    return file_mark_of(fd, &now) && now.device == mark.device &&
           now.inode == mark.inode;
}

/*
 * Are the descriptors still those of the pool's files? Others may have closed them, as
 * daemons begin by closing all there are, and the numbers then become those of other
 * files: nothing may be allocated, released, mapped or locked there, and the pool is to
 * be given up. Asked before each system call that would do so. Async-signal-safe.
 */
static inline bool
pool_has_its_files(const struct pool *pool)
{
    return file_is_marked(pool->lock_fd, pool->lock_mark) &&
           file_is_marked(pool->index_fd, pool->index_mark) &&
           file_is_marked(pool->heap_fd, pool->heap_mark);
}

/* Where this process counts. */
static inline struct attachment *
pool_own_attachment(const struct pool *pool)
{
    return load_relaxed(&pool->own);
}

/* Places taken now. */
uint64_t pool_attached(struct pool *pool);

/* Allocate bytes of the heap or the index file. Takes no lock. PMC_OK, or
 * PMC_ENOSPACE when the file system has no more. */
enum pmc_status pool_allocate_heap(struct pool *pool, uint64_t offset_bytes,
                                   uint64_t size_bytes);
enum pmc_status pool_allocate_index(struct pool *pool, const void *from,
                                    uint64_t size_bytes);
/* Growing failed, and it is no use to try again at once: for a second
 * pool_growth_refused() says so. */
void pool_refuse_growth(struct pool *pool);
bool pool_growth_refused(const struct pool *pool);

/* Give bytes of the heap back to the file system. False: it does not take them. */
bool pool_release_heap(struct pool *pool, uint64_t offset_bytes, uint64_t size_bytes);

/* The versions of all shards, SHARD_VERSIONS each. */
_Atomic uint64_t *pool_versions(const struct pool *pool);
/* Where shard number begins, in the index mapping. */
struct shard_header *pool_shard_header(const struct pool *pool, uint32_t number);
uint8_t *pool_shard_heap(const struct pool *pool, uint32_t number);

/* Write *error_out (may be NULL): errno says that `what name` failed. */
enum pmc_status pool_fail_system(struct pmc_error *error_out, const char *what,
                                 const char *name);
/* Write *error_out (may be NULL) and return status. */
enum pmc_status pool_fail(struct pmc_error *error_out, enum pmc_status status,
                          int system_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
