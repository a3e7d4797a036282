/*
 * Leases: which process may load a missing key.
 *
 * Sixteen sets of eight places in each shard. Taking and releasing need the
 * shard lock; waiting does not. A lease ends by release, by its deadline, or by
 * its owner's death; whoever looks next finds it ended. It does not guard the
 * value: a change of the key makes it void, and what was loaded is then not stored.
 */
#ifndef PMC_LEASE_H
#define PMC_LEASE_H

#include "layout.h"

struct lease_request {
    uint64_t hash;
    uint64_t now_ms;
    uint64_t deadline;
    uint64_t token; /* of a new lease; to be released */
    uint32_t owner;
};

/* PMC_OK: taken under request->token. PMC_BUSY: *holder_out is the token that
 * has it. PMC_DROPPED: no place is free. */
enum pmc_status lease_take_locked(struct shard *shard,
                                  const struct lease_request *request,
                                  uint64_t *holder_out);

/* PMC_OK, or PMC_MISS when the lease had ended. */
enum pmc_status lease_release_locked(struct shard *shard,
                                     const struct lease_request *request);

/* Note that the key of this hash is being changed, or all keys are: what is loaded
 * under a lease of now is outdated. */
void lease_void_locked(struct shard *shard, uint64_t hash);
void lease_void_all_locked(struct shard *shard);

/* Whether the key of this hash was not changed since the lease of this token was
 * taken, nor another lease given. */
bool lease_stands_locked(const struct shard *shard, uint64_t hash, uint64_t token);

/* PMC_OK: the lease of this token has ended. PMC_BUSY: not within timeout_ns. */
enum pmc_status lease_wait(struct shard *shard, const struct lease_request *request,
                           uint64_t timeout_ns);

#endif
