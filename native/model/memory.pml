/*
 * Memory that is given back to the file system and taken again; docs/locking.md.
 *
 * One span of a shard's heap: whether it is away, who gives it back, whether the file
 * system has given it memory, and whether an entry lies in it. Processes put and delete,
 * give the span back when it is free, and take it again when it is away, in any
 * order; each may be killed before any step. That a lock has one owner, and outlives
 * its owners, is what bucket.pml is about: here taking it is one step. Recovery leaves
 * what a span's byte says as it is, so the next owner of the lock has nothing to do.
 *
 * Configuration (pass it):
 *   -DGIVING    three processes of three operations each
 *
 * Promises
 *   - Where an entry is put there is memory, as long as the entry is there.
 *   - Nothing is released but what is away.
 *   - Nobody waits for ever (no invalid end state).
 *
 * Planted bugs (pass one; see tests/model): grep -n "BUG:"
 */

#ifndef DEATHS
#define DEATHS 2 /* kills in a run */
#endif
#define PROCESSES 3
#define OPERATIONS 3
#define NOBODY 9

/* ---- shared memory ------------------------------------------------------ */

bool away;
byte giver = NOBODY; /* shard_header.giving_owner */
byte givings;
bool entry;

byte owner = NOBODY; /* of the lock */
bool alive[PROCESSES] = true;

/* ---- the file system ---------------------------------------------------- */

bool memory = true;

/* ---- what the promises are about ---------------------------------------- */

byte deaths;

/* A call of the kernel is over before the death of who made it shows. */
#define DIE                                                                            \
    atomic {                                                                           \
        deaths < DEATHS -> deaths++;                                                   \
        alive[me] = false;                                                             \
        goto dead;                                                                     \
    }

#define STEP(what)                                                                     \
    if                                                                                 \
    :: atomic { what }                                                                 \
    :: DIE                                                                             \
    fi

#define LOCK                                                                           \
    atomic {                                                                           \
        owner == NOBODY || !alive[owner] -> owner = me;                                \
    }

#define UNLOCK STEP(owner = NOBODY)

/* Is a living process about to release the span? A dead one's word is removed. */
#ifdef NO_GIVER_CHECK /* BUG: refilling does not ask who is giving */
#define IS_BEING_GIVEN false
#else
#define IS_BEING_GIVEN (giver != NOBODY && alive[giver])
#endif

#ifdef RELEASE_FIRST /* BUG: the memory goes before the span is away */
#define TAKE_OUT(what) skip
#define TAKE_OUT_LATE(what) STEP(what)
#else
#define TAKE_OUT(what) STEP(what)
#define TAKE_OUT_LATE(what) skip
#endif

inline give()
{
    LOCK;
    if
    :: !away && !entry && !(giver != NOBODY && alive[giver]) ->
#ifndef GIVER_LATE
        STEP(giver = me);
#endif
#ifndef SAME_GIVINGS /* BUG: a giving that began meanwhile does not show */
        STEP(givings = (givings + 1) % 8);
#endif
        TAKE_OUT(away = true);
        UNLOCK;
#ifdef GIVER_LATE /* BUG: who is giving is noted after the lock was given back */
        STEP(giver = me);
#endif
        STEP(memory = false; assert(!entry));
        TAKE_OUT_LATE(away = true);
        STEP(giver = NOBODY);
    :: else ->
        UNLOCK;
    fi
}

inline refill()
{
    LOCK;
    if
    :: away && !IS_BEING_GIVEN ->
        STEP(seen = givings);
        UNLOCK;
        STEP(memory = true);
        LOCK;
        if
#ifdef SKIP_GIVINGS_CHECK /* BUG: what was allocated may be released again by now */
        :: away ->
#else
        :: away && seen == givings ->
#endif
            STEP(away = false);
        :: else
        fi;
        UNLOCK;
    :: else ->
        UNLOCK;
    fi
}

inline put()
{
    LOCK;
    if
    :: !away ->
        STEP(assert(memory); entry = true);
    :: else
    fi;
    UNLOCK;
}

inline delete()
{
    LOCK;
    STEP(assert(!entry || memory); entry = false);
    UNLOCK;
}

proctype process(byte me)
{
    byte turn;
    byte seen;

    do
    :: turn < OPERATIONS ->
        turn++;
        if
        :: give()
        :: refill()
        :: put()
        :: delete()
        fi
    :: else ->
        break;
    od;
    goto dead; /* whoever ends is not alive any more */
dead:
    atomic {
        alive[me] = false;
        seen = 0;
        turn = 0;
    }
}

init
{
    byte number;

    atomic {
        number = 0;
        do
        :: number < PROCESSES ->
            run process(number);
            number++;
        :: else ->
            break;
        od
    }
}
