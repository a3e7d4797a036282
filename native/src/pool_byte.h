/*
 * Bytes of a file that an open file description holds: a lock which the kernel drops
 * when the last reference to the description is closed, however its processes end.
 */
#ifndef PMC_POOL_BYTE_H
#define PMC_POOL_BYTE_H

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

/* Take (F_RDLCK, F_WRLCK) or drop (F_UNLCK) one byte. False: somebody else has it. */
static inline bool
byte_lock(int fd, short type, off_t byte)
{
    struct flock range = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

/* Does another open file description hold a byte of [first, first + count)?
 * On an error the answer is yes: nothing of a live process is taken away. */
static inline bool
bytes_held_elsewhere(int fd, off_t first, off_t count)
{
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};

    return fcntl(fd, F_OFD_GETLK, &range) != 0 || range.l_type != F_UNLCK;
}

#endif
