/*
 * Indexes that nobody needs; see pool_sweep.h.
 */
#include "pool_sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "pool_byte.h"

#define HOLD_BYTE 0
#define HOLD_PATIENCE_NS UINT64_C(1000000000)
#define HOLD_POLL_NS UINT64_C(1000000)

bool
pool_hold_index(int index_fd)
{
    uint64_t began_ns = clock_now_ns();

    while (!byte_lock(index_fd, F_RDLCK, HOLD_BYTE)) {
        if (clock_now_ns() - began_ns >= HOLD_PATIENCE_NS)
            return false;
        clock_sleep_ns(HOLD_POLL_NS);
    }
    return true;
}

bool
pool_index_is_held(int index_fd)
{
    uint64_t began_ns = clock_now_ns();

    while (bytes_held_elsewhere(index_fd, HOLD_BYTE, 1)) {
        if (clock_now_ns() - began_ns >= HOLD_PATIENCE_NS)
            return true;
        clock_sleep_ns(HOLD_POLL_NS);
    }
    return false;
}

enum index_heap
pool_index_heap(const struct pool_header *header, struct stat *about_out)
{
    struct pool_identity identity;
    bool same;
    int fd;

    if (header->heap_path[0] != '/' ||
        !memchr(header->heap_path, '\0', sizeof header->heap_path))
        return INDEX_HEAP_GONE;
    fd = open(header->heap_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                   ? INDEX_HEAP_GONE
                   : INDEX_HEAP_UNKNOWN;
    same = pread(fd, &identity, sizeof identity, 0) == sizeof identity &&
           memcmp(&identity, &header->identity, sizeof identity) == 0 &&
           fstat(fd, about_out) == 0;
    close(fd);
    return same ? INDEX_HEAP_THERE : INDEX_HEAP_GONE;
}

static bool
is_index_name(const char *name)
{
    char prefix[64];
    size_t size = strlen(name);
    const char *suffix = ".index";

    snprintf(prefix, sizeof prefix, "pmemcache.%u.", (unsigned)geteuid());
    return strncmp(name, prefix, strlen(prefix)) == 0 && size > strlen(suffix) &&
           strcmp(name + size - strlen(suffix), suffix) == 0;
}

static void
sweep_one(int directory_fd, const char *name)
{
    struct pool_header header;
    struct stat heap;
    int fd = openat(directory_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return;
    if (byte_lock(fd, F_WRLCK, HOLD_BYTE) &&
        (pread(fd, &header, sizeof header, 0) != sizeof header ||
         pool_index_heap(&header, &heap) == INDEX_HEAP_GONE))
        unlinkat(directory_fd, name, 0);
    close(fd);
}

void
pool_sweep_indexes(int directory_fd)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *file;

    if (!directory) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((file = readdir(directory)) != NULL)
        if (is_index_name(file->d_name))
            sweep_one(directory_fd, file->d_name);
    closedir(directory);
}
