/*
 * Who is attached: a process's place, which is one byte of the lock file that it
 * holds; the gate, which is byte 0; and what becomes of both in a fork. See
 * docs/locking.md.
 */
#ifndef PMC_POOL_SEAT_H
#define PMC_POOL_SEAT_H

#include "pool.h"

/*
 * Between these two no fork() is under way, and no other thread attaches or detaches: a
 * child finds each pool either attached, and then attaches itself, or not at all. With a
 * description of the lock file from half-way between it would hold the gate, and its
 * parent's place, for as long as it lives.
 */
void seat_change_begin(void);
void seat_change_end(void);
/* In between, give way for a moment. */
void seat_change_pause(void);

/* Close the gate behind us: from here on nobody attaches or removes. False when
 * another process keeps it closed for longer than patience_ns. */
bool seat_gate_close(int lock_fd, uint64_t patience_ns);
void seat_gate_open(int lock_fd);

/* With the gate closed: does nobody but this description hold a place? */
bool seat_nobody_else(int lock_fd);

/* Within a change: take a place for this process, and have its children take one each.
 * False: all are taken. */
bool seat_attach(struct pool *pool);
/* Within a change: children know nothing of the pool any more. */
void seat_detach(const struct pool *pool);

/* Give back this description's place and gate, in one step: while the gate is open,
 * whoever leaves must find no place held by one who has left. */
void seat_leave(int lock_fd);

/* A page that tells a child of fork() that it is one. NULL: no memory. */
struct fork_page *seat_fork_page(void);
void seat_fork_page_free(struct fork_page *page);

#endif
