/*
 * A deadline that changes in place, in the head of its entry; docs/locking.md.
 *
 * One entry. Its deadline is two words, and its checksum a third that says the same.
 * Writers note what it was, give it a new one under the lock and between an odd and an
 * even number, and may be killed before any step; so may whoever recovers what a dead
 * writer left. A reader takes the number, copies the words, and looks at the number
 * again. That a lock has one owner is what bucket.pml is about: here taking it is one
 * step.
 *
 * Configuration (pass it):
 *   -DTOUCH     two writers of two touches each, a reader who looks twice
 *
 * Promises
 *   - What a reader serves is one deadline, whole, and not older than one that was
 *     served or whose touch returned before it began.
 *   - When all is over, and the last dead owner is buried: the number is even and the
 *     words are of one deadline.
 *   - Nobody waits for ever (no invalid end state).
 *
 * Planted bugs (pass one; see tests/model): grep -n "BUG:"
 */

#ifndef DEATHS
#define DEATHS 2 /* kills in a run */
#endif
#define WRITERS 2
#define UNDERTAKER WRITERS /* who takes the lock when all is over */
#define TOUCHES 2
#define LOOKS 2
#define NOBODY 9

/* ---- shared memory ------------------------------------------------------ */

byte low = 1; /* the words of the deadline: which one they are of */
byte high = 1;
byte sum = 1;
byte seq;
bool intent;
byte intent_deadline;
byte intent_sum;

byte owner = NOBODY; /* of the lock */
bool alive[WRITERS + 1] = true;

/* ---- what the promises are about ---------------------------------------- */

byte deaths;
byte given = 1; /* the deadline that was thought of last */
byte floor = 1; /* no older one may be served */
byte finished;

#define DIE                                                                            \
    atomic {                                                                           \
        me != UNDERTAKER && deaths < DEATHS -> deaths++;                               \
        alive[me] = false;                                                             \
        goto dead;                                                                     \
    }

#define STEP(what)                                                                     \
    if                                                                                 \
    :: atomic { what }                                                                 \
    :: DIE                                                                             \
    fi

/* Stores between two fences come in any order. */
#define THREE_STORES(first, second, third)                                             \
    todo = 7;                                                                          \
    do                                                                                 \
    :: todo == 0 -> break;                                                             \
    :: todo & 1 -> STEP(first; todo = todo & 6);                                       \
    :: todo & 2 -> STEP(second; todo = todo & 5);                                      \
    :: todo & 4 -> STEP(third; todo = todo & 3);                                       \
    od

inline set_floor(deadline)
{
    floor = (deadline > floor -> deadline : floor);
}

/* What the dead owner left half done is settled before the number is even again. */
#ifdef MEND_EVEN /* BUG: what readers have seen already is taken back */
#define IS_TORN intent
#else
#define IS_TORN (intent && seq % 2 == 1)
#endif

inline recover()
{
#ifdef FORGET_FIRST /* BUG: whoever comes after a second death knows nothing */
    was_torn = IS_TORN;
    STEP(intent = false);
#else
    was_torn = IS_TORN;
#endif
#ifndef KEEP_TORN /* BUG: recovery leaves the words as they are */
    if
    :: was_torn ->
        THREE_STORES(low = intent_deadline, high = intent_deadline, sum = intent_sum);
    :: else
    fi;
#endif
    STEP(intent = false);
    STEP(seq = seq + seq % 2);
}

inline lock()
{
    atomic {
        owner == NOBODY || !alive[owner] ->
        was_left = owner != NOBODY;
        owner = me;
    };
    if
    :: was_left -> recover();
    :: else
    fi
}

inline touch()
{
    lock();
    atomic {
        given++;
        new = given;
    };
#ifndef INTENT_LATE
    STEP(intent_deadline = low; intent_sum = sum);
    STEP(intent = true);
#endif
    STEP(seq++);
#ifdef INTENT_LATE /* BUG: what it was is noted when one word is new already */
    STEP(low = new);
    STEP(intent_deadline = low; intent_sum = sum);
    STEP(intent = true);
#endif
    THREE_STORES(low = new, high = new, sum = new);
    STEP(seq++);
    STEP(intent = false);
    STEP(owner = NOBODY);
    atomic {
        set_floor(new);
        new = 0;
    }
}

proctype writer(byte me)
{
    byte turn;
    byte new;
    byte todo;
    bool was_left;
    bool was_torn;

    do
    :: turn < TOUCHES ->
        turn++;
        touch();
    :: else -> break;
    od;
    goto dead; /* whoever ends is not alive any more */
dead:
    atomic {
        alive[me] = false;
        finished++;
        turn = 0;
        new = 0;
        todo = 0;
        was_left = false;
        was_torn = false;
    }
}

proctype reader()
{
    byte turn;
    byte before;
    byte least;
    byte seen_low;
    byte seen_high;
    byte seen_sum;

    do
    :: turn < LOOKS ->
        turn++;
        atomic {
            least = floor;
            before = seq;
        };
        if
        :: before % 2 == 0 ->
            seen_low = low;
            seen_high = high;
            seen_sum = sum;
            atomic {
                if
#ifdef SKIP_RECHECK /* BUG: a change meanwhile goes unnoticed */
                :: true ->
#else
                :: seq == before ->
#endif
                    assert(seen_low == seen_high && seen_low == seen_sum);
                    assert(seen_low >= least);
                    set_floor(seen_low);
                :: else
                fi
            }
        :: else
        fi;
    :: else -> break;
    od;
    atomic {
        finished++;
        turn = 0;
        before = 0;
        least = 0;
        seen_low = 0;
        seen_high = 0;
        seen_sum = 0;
    }
}

/* Takes the lock when all have ended, and looks. */
proctype undertaker(byte me)
{
    byte todo;
    bool was_left;
    bool was_torn;

    finished == WRITERS + 1;
    lock();
    assert(seq % 2 == 0);
    assert(low == high && low == sum);
    assert(low >= floor);
dead:
    skip;
}

init
{
    atomic {
        run writer(0);
        run writer(1);
        run reader();
        run undertaker(UNDERTAKER);
    }
}
