/*
 * Statuses in words.
 */
#include "pmemcache.h"

const char *
pmc_status_text(enum pmc_status status)
{
    switch (status) {
    case PMC_OK:
        return "done";
    case PMC_MISS:
        return "no such entry";
    case PMC_UNMET:
        return "the condition did not hold";
    case PMC_BUSY:
        return "the lock is not free";
    case PMC_DROPPED:
        return "not stored";
    case PMC_EINVAL:
        return "an argument is out of its range";
    case PMC_EKEY_SIZE:
        return "the key is too long";
    case PMC_EVALUE_SIZE:
        return "the value can never fit in this pool";
    case PMC_EFULL:
        return "the pool is full and eviction is off";
    case PMC_ETIMEDOUT:
        return "a lock was not had in time";
    case PMC_ENOT_INTEGER:
        return "the value is not a decimal 64-bit integer";
    case PMC_EOVERFLOW:
        return "the sum leaves the signed 64-bit range";
    case PMC_ECLOSED:
        return "the cache is closed";
    case PMC_EDAMAGED:
        return "the pool is damaged";
    case PMC_ELAYOUT:
        return "the pool has another layout version";
    case PMC_ENOT_POOL:
        return "the path is not a pool";
    case PMC_EOWNER:
        return "the pool belongs to another user";
    case PMC_EPERMISSIONS:
        return "others may write in the pool's directory";
    case PMC_EGEOMETRY:
        return "the pool is in use with other options";
    case PMC_ENOSPACE:
        return "the file system has no room";
    case PMC_ESYSTEM:
        return "a system call failed";
    case PMC_EATTACH_LIMIT:
        return "too many processes are attached";
    case PMC_EWOULD_WAIT:
        return "the call would have to wait";
    }
    return "unknown status";
}
