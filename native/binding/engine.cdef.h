/*
 * What Python sees of the engine, in cffi's dialect of C: pmemcache.h behind
 * the handle of engine.prelude.h. An ellipsis is filled in by the compiler.
 */
#define PMC_KEY_MAX_BYTES ...
#define PMC_POOL_MIN_BYTES ...
#define PMC_TTL_NONE ...
#define PMC_SIZE_GROW ...
#define STAT_COUNT ...

enum pmc_status {
    PMC_OK, PMC_MISS, PMC_UNMET, PMC_BUSY, PMC_DROPPED,
    PMC_EINVAL, PMC_EKEY_SIZE, PMC_EVALUE_SIZE, PMC_EFULL, PMC_ETIMEDOUT,
    PMC_ENOT_INTEGER, PMC_EOVERFLOW, PMC_ECLOSED, PMC_EDAMAGED, PMC_ELAYOUT,
    PMC_ENOT_POOL, PMC_EOWNER, PMC_EPERMISSIONS, PMC_EGEOMETRY, PMC_ENOSPACE,
    PMC_ESYSTEM, PMC_EATTACH_LIMIT, PMC_EWOULD_WAIT, ...
};
enum pmc_lifetime { PMC_VOLATILE, PMC_RESTART, ... };
enum pmc_eviction { PMC_EVICT_S3FIFO, PMC_EVICT_LRU, PMC_EVICT_NONE, ... };
enum pmc_memory { PMC_MEMORY_DEFAULT, PMC_MEMORY_CONSERVATIVE, ... };
enum pmc_cause {
    PMC_CAUSE_EVICTED, PMC_CAUSE_EXPIRED, PMC_CAUSE_REQUESTED, ...
};
enum pmc_condition {
    PMC_ALWAYS, PMC_IF_ABSENT, PMC_IF_PRESENT, PMC_IF_GENERATION,
    PMC_IF_VERSION, ...
};

struct pmc_options {
    const char *path;
    uint64_t size_bytes;
    uint32_t shards;
    uint32_t lock_timeout_ms;
    uint8_t lifetime;
    uint8_t eviction;
    uint8_t memory;
    bool preallocate;
    bool verify;
    ...;
};
struct pmc_error {
    int system_errno;
    char message[...];
    ...;
};
struct pmc_written {
    size_t version_index;
    uint64_t version;
    uint64_t generation;
    ...;
};
struct pmc_put_options {
    int64_t ttl_ms;
    uint64_t generation;
    uint64_t lease;
    uint8_t condition;
    uint8_t tag;
    uint32_t flags;
    struct pmc_written *written_out;
    ...;
};
struct pmc_incr_options {
    bool create;
    int64_t initial;
    int64_t ttl_ms;
    uint8_t tag;
    uint32_t flags;
    ...;
};
struct pmc_found {
    uint64_t generation;
    size_t value_size;
    uint8_t tag;
    ...;
};
struct pmc_versioned {
    struct pmc_found found;
    size_t version_index;
    uint64_t version;
    int64_t ttl_ms;
    ...;
};
struct pmc_lease {
    uint64_t token;
    uint64_t version;
    ...;
};
struct pmc_item {
    const void *key;
    size_t key_size;
    const void *value;
    size_t value_size;
    uint8_t tag;
    struct pmc_found found;
    enum pmc_status status;
    ...;
};
struct pmc_cursor { ...; };
struct pmc_info {
    size_t value_size;
    size_t stored_bytes;
    int64_t ttl_ms;
    uint64_t generation;
    uint8_t heat;
    uint8_t tag;
    ...;
};
struct pmc_geometry {
    uint64_t size_bytes;
    uint64_t shard_bytes;
    uint64_t value_max_bytes;
    uint64_t pool_id;
    uint32_t shards;
    uint32_t layout_version;
    uint8_t lifetime;
    uint8_t eviction;
    uint8_t memory;
    bool created;
    ...;
};
struct stat_row {
    const char *name;
    const char *unit;
    const char *sentence;
};

struct pmc_cache;
struct pmc_handle { ...; };
typedef void (*pmc_on_evict_fn)(struct pmc_cache *cache, const void *key,
                                size_t key_size, enum pmc_cause cause,
                                void *context);
typedef void (*pmc_on_miss_fn)(struct pmc_cache *cache, const void *key,
                               size_t key_size, void *context);

extern "Python" void door_on_evict(struct pmc_cache *cache, const void *key,
                                   size_t key_size, enum pmc_cause cause,
                                   void *context);
extern "Python" void door_on_miss(struct pmc_cache *cache, const void *key,
                                  size_t key_size, void *context);

static const struct stat_row stat_table[...];
uintptr_t door_table_address(void);
void door_release(void **copies, size_t count);

void pmc_options_default(struct pmc_options *options_out);
const char *pmc_status_text(enum pmc_status status);
void pmc_thread_waits(bool waits);

int door_peek(const char *path, struct pmc_options *options_out);

int handle_open(struct pmc_handle *handle, const struct pmc_options *options,
                struct pmc_error *error_out);
void handle_close(struct pmc_handle *handle);
void handle_forked(struct pmc_handle *handle, uint32_t calls_inside);

int handle_put(struct pmc_handle *handle, const void *key, size_t key_size,
               const void *value, size_t value_size,
               const struct pmc_put_options *options);
int handle_get_into(struct pmc_handle *handle, const void *key,
                    size_t key_size, void *buffer, size_t capacity,
                    size_t offset, struct pmc_found *found_out);
int handle_get_copy(struct pmc_handle *handle, const void *key,
                    size_t key_size, void **copy_out,
                    struct pmc_found *found_out);
int handle_get_versioned(struct pmc_handle *handle, const void *key,
                         size_t key_size, uint64_t known, void **copy_out,
                         struct pmc_versioned *versioned_out);
int handle_versions(struct pmc_handle *handle, const uint64_t **versions_out,
                    size_t *count_out);
void handle_versions_done(struct pmc_handle *handle);
int handle_bump(struct pmc_handle *handle, const void *key, size_t key_size);
int handle_lease_take(struct pmc_handle *handle, const void *key,
                      size_t key_size, uint32_t duration_ms,
                      struct pmc_lease *lease_out);
int handle_lease_release(struct pmc_handle *handle, const void *key,
                         size_t key_size, uint64_t token);
int handle_lease_wait(struct pmc_handle *handle, const void *key,
                      size_t key_size, uint64_t token, uint32_t timeout_ms);
int handle_exists(struct pmc_handle *handle, const void *key, size_t key_size);
int handle_delete(struct pmc_handle *handle, const void *key, size_t key_size);
int handle_touch(struct pmc_handle *handle, const void *key, size_t key_size,
                 int64_t ttl_ms);
int handle_incr(struct pmc_handle *handle, const void *key, size_t key_size,
                int64_t delta, const struct pmc_incr_options *options,
                int64_t *result_out);
int handle_get_many(struct pmc_handle *handle, struct pmc_item *items,
                    size_t count, void **copies_out);
int handle_put_many(struct pmc_handle *handle, struct pmc_item *items,
                    size_t count, const struct pmc_put_options *options);
int handle_delete_many(struct pmc_handle *handle, struct pmc_item *items,
                       size_t count);
int handle_evict(struct pmc_handle *handle, const void *key, size_t key_size,
                 void *key_out, size_t *key_size_out);
int handle_clear(struct pmc_handle *handle);
int handle_keys(struct pmc_handle *handle, struct pmc_cursor *cursor,
                const void *prefix, size_t prefix_size, void *buffer,
                size_t capacity, size_t *used_out);
int handle_info(struct pmc_handle *handle, const void *key, size_t key_size,
                struct pmc_info *info_out);
int handle_on_evict(struct pmc_handle *handle, pmc_on_evict_fn callback,
                    void *context);
int handle_on_miss(struct pmc_handle *handle, pmc_on_miss_fn callback,
                   void *context);
int handle_stats(struct pmc_handle *handle, uint64_t *values_out);
int handle_check(struct pmc_handle *handle, char *report, size_t capacity);
int handle_geometry(struct pmc_handle *handle,
                    struct pmc_geometry *geometry_out);
int handle_advance_clock(struct pmc_handle *handle, int64_t delta_ms);
