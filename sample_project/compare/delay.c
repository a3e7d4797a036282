/*
 * A proxy between Unix sockets that makes every byte late, as a network would: delay LISTEN CONNECT MICROSECONDS.
 *
 * Each direction of each connection has a thread: it reads, sleeps for half of the delay, and writes. What arrived
 * while it slept has travelled meanwhile and is passed on at once, so a long answer is late once and not
 * once per piece. It copies each byte once and never holds a lock; what it costs beyond the delay is measured
 * before it is used (compare/proxy.py).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 18 };

struct direction {
    int from;
    int to;
};

static long half_delay_ns;

static void
fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_un
address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        fputs("the path of the socket is too long\n", stderr);
        exit(1);
    }
    strcpy(address.sun_path, path);
    return address;
}

static int
write_all(int to, const char *bytes, ssize_t size)
{
    while (size > 0) {
        ssize_t written = send(to, bytes, (size_t)size, MSG_NOSIGNAL);

        if (written <= 0) {
            return -1;
        }
        bytes += written;
        size -= written;
    }
    return 0;
}

static void *
forward(void *argument)
{
    struct direction direction = *(struct direction *)argument;
    char *piece = malloc(PIECE_BYTES);

    free(argument);
    prctl(PR_SET_TIMERSLACK, 1UL);
    while (piece != NULL) {
        ssize_t size = recv(direction.from, piece, PIECE_BYTES, MSG_DONTWAIT);

        if (size < 0) {
            struct timespec due;

            size = recv(direction.from, piece, PIECE_BYTES, 0);
            if (size > 0) {
                clock_gettime(CLOCK_MONOTONIC, &due);
                due.tv_nsec += half_delay_ns;
                due.tv_sec += due.tv_nsec / 1000000000L;
                due.tv_nsec %= 1000000000L;
                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
            }
        }
        if (size <= 0 || write_all(direction.to, piece, size) != 0) {
            break;
        }
    }
    free(piece);
    /* The other direction's read ends too; descriptors are few, and given back when the proxy ends. */
    shutdown(direction.from, SHUT_RDWR);
    shutdown(direction.to, SHUT_RDWR);
    return NULL;
}

static void
start(int from, int to)
{
    struct direction *direction = malloc(sizeof(*direction));
    pthread_t thread;

    if (direction == NULL) {
        fail("malloc");
    }
    *direction = (struct direction){from, to};
    if (pthread_create(&thread, NULL, forward, direction) != 0) {
        fail("pthread_create");
    }
    pthread_detach(thread);
}

int
main(int argc, char **argv)
{
    struct sockaddr_un here, there;
    int listener;

    if (argc != 4) {
        fputs("usage: delay LISTEN CONNECT MICROSECONDS\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    half_delay_ns = atol(argv[3]) * 1000L / 2;
    here = address_of(argv[1]);
    there = address_of(argv[2]);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        listen(listener, 128) != 0) {
        fail(argv[1]);
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        int server = socket(AF_UNIX, SOCK_STREAM, 0);

        if (client < 0 || server < 0) {
            fail("accept");
        }
        if (connect(server, (struct sockaddr *)&there, sizeof(there)) != 0) {
            fail(argv[2]);
        }
        start(client, server);
        start(server, client);
    }
}
