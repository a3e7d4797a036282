/*
 * Copies that processes keep, and values that are loaded; docs/locking.md.
 *
 * One key of a shard: its version, which writers raise around every change; what is
 * stored; and the copies that two processes keep under the version that they read
 * before the value. Writers put, delete and clear under the shard's lock (an eviction
 * is a delete here), and may be killed before any step there, as may recovery. That a
 * look at a bucket is whole, and that a lock has one owner, is what bucket.pml is
 * about: here a look at a bucket that is not being changed is one step, and so is
 * taking the lock.
 *
 * Configurations (pass one):
 *   -DCOPIES    two writers, two processes that keep copies and get the key twice
 *   -DLOADS     two processes miss the key and load it; another changes what they
 *               load from and deletes the key; one process keeps a copy
 *
 * Promises
 *   - COPIES: all states that the key has had are numbered. A get that begins after a
 *     change was reported done, or after another process's get had returned a
 *     state, from its copy or not, returns that state or a later one.
 *   - LOADS: what was loaded before a change is not stored after the delete that
 *     followed the change has returned, and no get that begins then returns it.
 *   - Nobody waits for ever (no invalid end state).
 *
 * Memory order: a step is one store or load that others can see, and steps are
 * sequentially consistent. The orders that fences and acquire loads give are
 * shown by the bugs that reverse them (NO_BEGIN_FENCE, VERSION_AFTER_VALUE).
 *
 * Planted bugs (pass one; see tests/model): grep -n "BUG:"
 */

#ifndef DEATHS
#define DEATHS 2 /* kills in a run */
#endif

#ifdef LOADS
#define HITTERS 1
#else
#define HITTERS 2
#endif
#define OTHERS 3 /* writers, or loaders and who changes what they load */
#define NOBODY 9
#define NEVER 255 /* no version */

/* ---- shared memory ------------------------------------------------------ */

byte version; /* of the key; odd while it changes */
bool busy;    /* its bucket's sequence number is odd */
bool there;
byte state = 1; /* the number of what is stored, or of there being nothing */
byte stored;    /* the edition of the source that was stored */

#define INTENT_NONE 0
#define INTENT_SLOT 1
#define INTENT_UPDATE 2
byte intent;
byte old_state;
byte old_stored;

byte owner = NOBODY; /* of the lock */
bool alive[HITTERS + OTHERS];

byte lease = NOBODY;
bool outdated; /* the key was changed since the lease was taken */

/* What values are loaded from. */
byte source;

/* ---- what the promises are about: no process looks at these --------------- */

byte deaths;
byte states = 1;  /* the last number given */
byte known;       /* the latest state that a get or a change returned */
byte deleted;     /* the edition that the last delete returned after */

#define MAX(a, b) ((a) > (b) -> (a) : (b))

#define DIE                                                                            \
    atomic {                                                                           \
        deaths < DEATHS -> deaths++;                                                   \
        alive[me] = false;                                                             \
        goto dead                                                                      \
    }

/* One step under the lock, before which the process may die. */
#define STEP(what)                                                                     \
    if                                                                                 \
    :: atomic { what }                                                                 \
    :: DIE                                                                             \
    fi

/* ---- changing: index.c ---------------------------------------------------- */

inline version_odd()
{
#ifndef SKIP_FIRST_BUMP /* BUG: the version stays even while the key changes */
    STEP(version = version | 1)
#else
    skip
#endif
}

inline version_even()
{
#ifdef SAME_VERSION /* BUG: the second bump goes back */
    STEP(version = version & 254)
#else
    STEP(version = (version | 1) + 1)
#endif
}

/* From change_begin() to change_end(); the slot is written in between. */
inline change(kind, is_there, edition)
{
    STEP(old_state = state; old_stored = stored; intent = kind);
#ifndef NO_BEGIN_FENCE
    version_odd();
#endif
    STEP(busy = true);
    STEP(states++; state = states; there = is_there; stored = edition);
    STEP(busy = false);
#ifdef NO_BEGIN_FENCE /* BUG: the change may be seen before the version is odd */
    version_odd();
#endif
    version_even();
    STEP(intent = INTENT_NONE; old_state = 0; old_stored = 0)
}

/* What is loaded under a lease of now is outdated: lease_void_locked(). */
inline void_lease()
{
#ifdef LOADS
    STEP(outdated = true)
#else
    skip
#endif
}

inline put(edition)
{
    void_lease();
    if
    :: there -> change(INTENT_UPDATE, true, edition)
    :: !there -> change(INTENT_SLOT, true, edition)
    fi
}

inline delete()
{
#ifndef DELETE_KEEPS_LEASE /* BUG: a delete leaves the lease as it is */
    void_lease();
#endif
    if
    :: there -> change(INTENT_SLOT, false, 0)
#ifdef ABSENT_KEEPS_VERSION /* BUG: deleting what is not there changes nothing */
    :: !there
#else
    :: !there -> version_even()
#endif
    fi
}

/* All versions, then all buckets, without an intent. */
inline clear()
{
    void_lease();
    version_odd();
    STEP(busy = true);
    STEP(states++; state = states; there = false; stored = 0);
    STEP(busy = false);
    version_even()
}

/* ---- the lock and recovery ------------------------------------------------- */

inline recover()
{
    if
    :: intent == INTENT_NONE || !busy
    :: else ->
       if
       :: intent == INTENT_UPDATE -> STEP(state = old_state; stored = old_stored)
       :: else -> STEP(states++; state = states; there = false; stored = 0)
       fi
    fi;
    STEP(intent = INTENT_NONE; old_state = 0; old_stored = 0);
    void_lease();
    STEP(busy = false);
#ifdef RECOVERY_KEEPS_VERSION /* BUG: an odd version becomes what it was before */
    STEP(version = version & 254)
#else
    STEP(version = (version | 1) + 1)
#endif
}

inline lock()
{
    atomic {
        owner == NOBODY || !alive[owner] -> inherited = (owner != NOBODY);
        owner = me
    };
    if
    :: inherited -> recover()
    :: !inherited
    fi;
    inherited = false
}

inline unlock()
{
    STEP(owner = NOBODY)
}

/* ---- reading ---------------------------------------------------------------- */

/* One look without the lock. */
inline look()
{
    do
    :: atomic {
           !busy -> seen_state = state;
           seen_there = there;
           seen_stored = stored;
           break
       }
    :: busy && owner != NOBODY && !alive[owner] ->
       lock();
       unlock()
    od
}

/* ---- processes ----------------------------------------------------------------- */

/* Keeps a copy: hot.py. */
proctype hitter(byte me)
{
    byte todo = 2, now, seen_state, seen_stored, at_least, edition;
    byte copy_version = NEVER, copy_state, copy_stored;
    bool inherited, seen_there;

    do
    :: atomic {
           todo > 0 -> todo--;
           at_least = known;
           edition = deleted
       };
       if
       :: atomic {
              version == copy_version -> seen_state = copy_state;
              seen_stored = copy_stored;
              seen_there = true
          }
       :: version != copy_version ->
#ifdef VERSION_AFTER_VALUE /* BUG: the version is not older than the value */
          look();
          now = version;
#else
          now = version;
          look();
#endif
          if
#ifdef STORE_UNDER_ODD /* BUG: a copy is kept although the key is changing */
          :: atomic { seen_there ->
#else
          :: atomic { seen_there && (now & 1) == 0 ->
#endif
                 copy_version = now;
                 copy_state = seen_state;
                 copy_stored = seen_stored
             }
          :: else
          fi
       fi;
       atomic {
#ifdef LOADS
           assert(!seen_there || seen_stored >= edition);
#else
           assert(seen_state >= at_least);
#endif
           known = MAX(known, seen_state);
           now = 0;
           seen_state = 0;
           seen_stored = 0;
           seen_there = false
       }
    :: todo == 0 -> break
    od;
dead:
    skip
}

proctype writer(byte me)
{
    bool inherited;
    byte done;

    lock();
    if
    :: put(0)
    :: me == HITTERS -> delete()
    :: me == HITTERS -> clear()
    fi;
    done = states;
    unlock();
    atomic { known = MAX(known, done) };
dead:
    skip
}

/* Misses, loads, and stores if nothing happened meanwhile: loaders.py. */
proctype loader(byte me)
{
    bool inherited, seen_there;
    byte now, loaded, seen_state, seen_stored;

    if
    :: lock();
       /* Its time may be up at any moment. */
       if
       :: atomic { lease = me; outdated = false }
       :: lease != NOBODY && alive[lease] -> skip /* it loads without one */
       fi;
       now = version;
       seen_there = there;
       unlock()
    :: now = version; /* without a lease, after a read */
       look()
    fi;
    if
    :: seen_there
    :: !seen_there ->
       loaded = source;
#ifdef CHECK_BEFORE_LOCK /* BUG: the condition is not checked under the lock */
       seen_there = (version != now);
       lock();
       if
       :: !seen_there ->
#else
       lock();
       if
       :: version == now || (lease == me && !outdated) ->
#endif
          assert(loaded >= deleted);
          put(loaded)
       :: else
       fi;
       if
       :: lease == me -> STEP(lease = NOBODY)
       :: else
       fi;
       unlock()
    fi;
dead:
    skip
}

/* Changes the source, then deletes. */
proctype changer(byte me)
{
    bool inherited;

    source = 1;
    lock();
    delete();
    unlock();
    deleted = 1;
dead:
    skip
}

init
{
    atomic {
        alive[0] = true;
        alive[1] = true;
        alive[2] = true;
        alive[3] = true;
        alive[HITTERS + OTHERS - 1] = true;
        run hitter(0);
#ifdef LOADS
        run loader(1);
        run loader(2);
        run changer(3)
#else
        there = true;
        run hitter(1);
        run writer(2);
        run writer(3)
#endif
    }
}
