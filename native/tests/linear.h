/*
 * Is a recorded history of one key linearizable: is there one order of its
 * operations, each at an instant between its call and its return, in which a plain
 * variable would have given the same answers?
 *
 * The search is Wing and Gong's (1993) with Lowe's memory of configurations that
 * led nowhere (Testing for linearizability, 2017). Linearizability is local
 * (Herlihy and Wing, 1990): keys are checked one by one.
 *
 * What a cache may do besides:
 *   - an operation whose process was killed happened once, at any time since, or never;
 *   - a write that was killed may instead have lost the key (but for increments,
 *     which promise to lose no counter);
 *   - where eviction is on, the key may be forgotten at any time - for good.
 */
#ifndef PMC_TESTS_LINEAR_H
#define PMC_TESTS_LINEAR_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LINEAR_OPERATIONS_MAX 64u
#define LINEAR_PENDING UINT64_MAX
#define LINEAR_ABSENT 0u
/* Configurations that are remembered; a power of two. */
#define LINEAR_MEMORY (1u << 16)

enum linear_kind {
    LINEAR_GET,         /* result: the value, if there */
    LINEAR_EXISTS,      /* or touch: tells and changes nothing */
    LINEAR_PUT,         /* argument: the value */
    LINEAR_ADD,         /* ... if absent */
    LINEAR_REPLACE,     /* ... if present */
    LINEAR_SWAP,        /* ... if it holds what was expected */
    LINEAR_DELETE,      /* or evict */
    LINEAR_ADVANCE,     /* argument: what is added; result: the sum */
    LINEAR_ADVANCE_NEW, /* ... to nothing too */
};

enum linear_outcome {
    LINEAR_NO,      /* a miss, or the condition did not hold */
    LINEAR_YES,     /* found, stored, removed */
    LINEAR_DROPPED, /* there was no room: the key holds nothing now */
};

/* Values are numbers; no two writes of a history store the same one. */
struct linear_operation {
    uint64_t called;
    uint64_t returned; /* LINEAR_PENDING: the process died in it */
    uint32_t argument;
    uint32_t expected;
    uint32_t result;
    uint16_t process;
    uint8_t kind;
    uint8_t outcome;
};

struct linear_history {
    struct linear_operation operations[LINEAR_OPERATIONS_MAX];
    uint32_t count;
    bool may_forget;
};

enum linear_verdict {
    LINEAR_HOLDS,
    LINEAR_BROKEN,
    LINEAR_UNDECIDED, /* more configurations than there is memory for */
};

/* ---- a plain variable ------------------------------------------------ */

static inline bool
linear_is_write(const struct linear_operation *operation)
{
    return operation->kind != LINEAR_GET && operation->kind != LINEAR_EXISTS;
}

/* Would the operation's condition hold? */
static inline bool
linear_condition(const struct linear_operation *operation, uint32_t state)
{
    switch ((enum linear_kind)operation->kind) {
    case LINEAR_PUT:
    case LINEAR_ADVANCE_NEW:
        return true;
    case LINEAR_ADD:
        return state == LINEAR_ABSENT;
    case LINEAR_SWAP:
        return state == operation->expected && state != LINEAR_ABSENT;
    case LINEAR_GET:
    case LINEAR_EXISTS:
    case LINEAR_REPLACE:
    case LINEAR_DELETE:
    case LINEAR_ADVANCE:
    default:
        return state != LINEAR_ABSENT;
    }
}

/* What the variable holds after the operation, whose condition holds. */
static inline uint32_t
linear_effect(const struct linear_operation *operation, uint32_t state)
{
    switch ((enum linear_kind)operation->kind) {
    case LINEAR_PUT:
    case LINEAR_ADD:
    case LINEAR_REPLACE:
    case LINEAR_SWAP:
        return operation->argument;
    case LINEAR_DELETE:
        return LINEAR_ABSENT;
    case LINEAR_ADVANCE:
    case LINEAR_ADVANCE_NEW:
        return state + operation->argument;
    case LINEAR_GET:
    case LINEAR_EXISTS:
    default:
        return state;
    }
}

/* Does a plain variable in this state answer as the operation was answered? */
static inline bool
linear_answers(const struct linear_operation *operation, uint32_t state,
               uint32_t *state_out)
{
    bool holds = linear_condition(operation, state);

    *state_out = state;
    if (operation->outcome == LINEAR_NO)
        return !holds;
    if (!holds)
        return false;
    *state_out = linear_effect(operation, state);
    if (operation->outcome == LINEAR_DROPPED) {
        *state_out = LINEAR_ABSENT;
        return true;
    }
    if (operation->kind == LINEAR_GET)
        return operation->result == state;
    if (operation->kind == LINEAR_ADVANCE || operation->kind == LINEAR_ADVANCE_NEW)
        return operation->result == *state_out;
    return true;
}

/* ---- the search ------------------------------------------------------ */

struct linear_search {
    const struct linear_history *history;
    uint64_t must; /* operations that returned */
    struct {
        uint64_t done;
        uint32_t state;
        uint32_t used;
    } memory[LINEAR_MEMORY];
    uint32_t remembered;
    bool overflowed;
};

/* Have we been here before? Remembers it if not. */
static inline bool
linear_been_here(struct linear_search *search, uint64_t done, uint32_t state)
{
    uint64_t hash =
        (done ^ (uint64_t)state << 32 ^ state) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t at = (uint32_t)(hash >> 40) % LINEAR_MEMORY;

    if (search->remembered >= LINEAR_MEMORY / 2) {
        search->overflowed = true;
        return true;
    }
    for (; search->memory[at].used; at = (at + 1) % LINEAR_MEMORY)
        if (search->memory[at].done == done && search->memory[at].state == state)
            return true;
    search->memory[at].done = done;
    search->memory[at].state = state;
    search->memory[at].used = 1;
    search->remembered++;
    return false;
}

/* The earliest return of an operation that is not done: what was called later
 * cannot come before it. */
static inline uint64_t
linear_horizon(const struct linear_search *search, uint64_t done)
{
    uint64_t horizon = LINEAR_PENDING;

    for (uint32_t i = 0; i < search->history->count; i++)
        if (!(done >> i & 1) && search->history->operations[i].returned < horizon)
            horizon = search->history->operations[i].returned;
    return horizon;
}

static inline bool linear_go_on(struct linear_search *search, uint64_t done,
                                uint32_t state);

/* Try one operation next. */
static inline bool
linear_try(struct linear_search *search, uint64_t done, uint32_t number, uint32_t state)
{
    const struct linear_operation *operation = &search->history->operations[number];
    uint64_t now_done = done | UINT64_C(1) << number;
    uint32_t after;

    if (operation->returned != LINEAR_PENDING)
        return linear_answers(operation, state, &after) &&
               linear_go_on(search, now_done, after);
    if (!linear_is_write(operation))
        return false;
    if (linear_condition(operation, state) &&
        linear_go_on(search, now_done, linear_effect(operation, state)))
        return true;
    return operation->kind < LINEAR_ADVANCE &&
           linear_go_on(search, now_done, LINEAR_ABSENT);
}

static inline bool
linear_go_on(struct linear_search *search, uint64_t done, uint32_t state)
{
    uint64_t horizon;

    if ((done & search->must) == search->must)
        return true;
    if (linear_been_here(search, done, state))
        return false;
    horizon = linear_horizon(search, done);
    for (uint32_t i = 0; i < search->history->count; i++)
        if (!(done >> i & 1) && search->history->operations[i].called <= horizon &&
            linear_try(search, done, i, state))
            return true;
    return search->history->may_forget && state != LINEAR_ABSENT &&
           linear_go_on(search, done, LINEAR_ABSENT);
}

static inline enum linear_verdict
linear_check(const struct linear_history *history)
{
    static struct linear_search search;
    bool found;

    memset(&search, 0, sizeof search);
    search.history = history;
    for (uint32_t i = 0; i < history->count; i++)
        if (history->operations[i].returned != LINEAR_PENDING)
            search.must |= UINT64_C(1) << i;
    found = linear_go_on(&search, 0, LINEAR_ABSENT);
    if (found)
        return LINEAR_HOLDS;
    return search.overflowed ? LINEAR_UNDECIDED : LINEAR_BROKEN;
}

/* ---- for people ------------------------------------------------------ */

static inline void
linear_print(const struct linear_history *history, FILE *to)
{
    static const char *const kinds[] = {"get",    "exists",  "put",
                                        "add",    "replace", "swap",
                                        "delete", "advance", "advance-or-make"};
    static const char *const outcomes[] = {"no", "yes", "dropped"};
    uint64_t began = LINEAR_PENDING;

    for (uint32_t i = 0; i < history->count; i++)
        if (history->operations[i].called < began)
            began = history->operations[i].called;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct linear_operation *operation = &history->operations[i];
        bool pending = operation->returned == LINEAR_PENDING;

        fprintf(to, "  process %u: %8" PRIu64 " ", operation->process,
                operation->called - began);
        if (pending)
            fprintf(to, "  (killed)");
        else
            fprintf(to, "- %8" PRIu64, operation->returned - began);
        fprintf(to, "  %s(%u) expected %u: %s, %u\n", kinds[operation->kind],
                operation->argument, operation->expected,
                pending ? "?" : outcomes[operation->outcome], operation->result);
    }
}

#endif
