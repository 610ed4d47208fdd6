/* idle.pml - who sleeps, who searches, who polls, who ticks: weft's idle protocol (Spin 6.5).
 *
 * Owns      the protocol of sched/idle, of the hand-over of the epoll set, and of the I/O thread's sleep.
 *           The names S1.. F1.. P1.. U T1.. are those of the code.
 * Callers   tests/models/run.sh, which knows the configurations and which seeded bug each must find.
 * Holds     H1  whoever parks last, or parks while all others are absent, leaves the set armed.
 *           H2  whoever takes a worker off the parked stack while the I/O thread is BLOCKED kicks it,
 *               the worker that takes itself off included.
 *           H3  some worker awake: the I/O thread is TICKING, or a kick is under way.
 *           H4  all parked and quiescent: armed, BLOCKED, and its timeout <= the earliest timer.
 *           J1  at quiescence every job, event and due timer was run, the long job excepted.
 *           J2  inject never waits for a tick.
 *
 * Each step below is one access to shared memory; steps interleave in every order. That is sequential
 * consistency, so a full fence is a comment here. What a fence forbids is a store passed by the load
 * after it, and for each of them a BUG_ that swaps the two is seeded (S2, P2, S6, T1, T5).
 *
 *   submit:  S1 publish                        park:  P1 {parked+1, searching-1}
 *            S2 -- full fence --                      P2 -- full fence --
 *            S3 parked > 0, nobody searches?          P3 inject, every queue, due timers?
 *   Forbidden: S3 sees nobody parked and P3 sees no job. Then the job waits and nobody comes.
 *
 *   submit:  S1 publish                        search:  F1 searching-1, was it the last?
 *            S2 -- full fence --                        F2 -- full fence --
 *            S3 searching > 0?                          F3 inject?
 *   Forbidden: S3 trusts the searcher and F3 sees no job. Then it waits behind the searcher's own job,
 *   which may be long.
 *
 *   arm:     P1 parked+1                       disarm:  T4 armed = 0, harvest
 *            P2 -- full fence --                        T5 -- full fence --
 *            P4 xchg(armed, 1) was 0?                   T5 all parked, or all awake absent?
 *   Forbidden: P4 finds the armed of a firing that is over and T5 sees somebody awake. Then all sleep, the
 *   set is disarmed, and no event is ever seen.
 *
 *   wake:    S4 (or U) parked-1                block:  T1 io.state = BLOCKED(earliest timer)
 *            S6 -- full fence --                       T1 -- full fence --
 *            S6 io.state == BLOCKED? kick              T2 still all parked? still that timer?
 *   Forbidden: S6 sees TICKING and T2 sees all parked with the old timer. Then a worker is awake with nobody
 *   to tick for it, or parks again behind a timer that fires late.
 *
 * With TRIM the I/O thread may once, instead of blocking, or after it has blocked for a time, claim every worker that is
 * parked, until it finds one that is not, and wake those it has claimed (engine/trim.c, G3 to G5).
 *
 *   submit:  S1 publish                        trim:  G3 parked-1, searching+1, for each
 *            S2 -- full fence --                      G5 wake them: they search
 *            S3 searching > 0?
 *   Forbidden: S3 trusts a worker that is claimed, and it is put back without a search.
 *
 * The worst job is in the model: it holds its worker until all other work is done (LONG), so whatever
 * waits for its worker is found out. There is no periodic tick: the I/O thread may tick only when its state
 * is TICKING, with the effect of T6 and T7 and no other.
 *
 * Not here: rings and deques are one counter per worker; the wakes of the rule in time are not modelled
 * (they only add wakes); the spare worker that is started when all are held is not modelled (one LONG). */

#ifndef W
#define W 2          /* workers */
#endif
#ifndef FOREIGN
#define FOREIGN 0    /* jobs that foreign threads submit, one thread each */
#endif
#ifndef EVENTS
#define EVENTS 0     /* events that appear in the real set */
#endif
#ifndef TIMERS
#define TIMERS 0     /* timers that jobs arm */
#endif
#ifndef PUSHES
#define PUSHES 0     /* jobs that jobs push to their own queue */
#endif
#ifndef LONG
#define LONG 0       /* 1: one job is long */
#endif
#ifndef SPURIOUS
#define SPURIOUS 0   /* futex waits that return for no reason */
#endif
#ifndef TRIM
#define TRIM 0       /* trims */
#endif
#define LIM   1      /* searchers that may count themselves: max(1, W/2) */
#define NONE  W      /* no worker */
#define NEVER 7      /* no timer */

mtype:io = { TICKING, BLOCKED };
mtype:is = { ACTIVE, SLEEPS, HELD };   /* what a worker does; only the checks below read it */

byte parked, searching;               /* the word: read and changed in one step */
byte stk[W];                          /* the parked stack; changed under its lock, with the word */
bit wake[W];                          /* the futex word */
byte q[W];                            /* ring and deque of a worker */
byte inj;                             /* inject */
bit absent[W];
bit away[W];                          /* since == 0: it searches or sleeps */
byte poller = NONE;                   /* the role */
byte pend;                            /* the real set: events not harvested yet */
bit armed;                            /* what weft believes of the outer set's member ... */
bit kset;                             /* ... and what the kernel knows */
bit kick;                             /* the eventfd, level triggered */
mtype:io iost = TICKING;              /* io.state, and the timeout stored with it */
byte tmo = NEVER;
byte tmin[W];                         /* the published earliest timer of a worker; all times count down to 0 */
byte m;                               /* what the I/O thread read in T1: a local, but it is a time */

/* the budget, and what the checks look at */
byte sub, done;                       /* jobs, events and timers that exist / that were run */
byte foreign_left = FOREIGN, events_left = EVENTS, timers_left = TIMERS, pushes_left = PUSHES;
byte spurious_left = SPURIOUS, foreign_busy;
bit long_left = LONG;
byte trims_left = TRIM;
mtype:is st[W] = ACTIVE;
bit iowaits;                          /* the I/O thread is in the outer wait */

#if W == 2
#define NABSENT (absent[0] + absent[1])
#define EARLIEST ((tmin[0] < tmin[1]) -> tmin[0] : tmin[1])
#define QUEUED (q[0] + q[1])
#define NPENDING (PENDING(0) + PENDING(1))
#define ALL(x) (x(0) && x(1))
#define ANY(x) (x(0) || x(1))
#elif W == 3
#define NABSENT (absent[0] + absent[1] + absent[2])
#define EARLIEST ((tmin[0] < tmin[1]) -> ((tmin[0] < tmin[2]) -> tmin[0] : tmin[2]) : ((tmin[1] < tmin[2]) -> tmin[1] : tmin[2]))
#define QUEUED (q[0] + q[1] + q[2])
#define NPENDING (PENDING(0) + PENDING(1) + PENDING(2))
#define ALL(x) (x(0) && x(1) && x(2))
#define ANY(x) (x(0) || x(1) || x(2))
#endif
#define DUE(w)      (tmin[w] == 0)
#define PENDING(w)  (tmin[w] != NEVER)
#define LEFT_ALONE(w) (DUE(w) && (away[w] || absent[w]))
#define OWED(w)     (absent[w] && q[w] > 0)
#define IS_HELD(w)  (st[w] == HELD)

/* the long job ends when it alone is left */
#define LONG_ENDS   (foreign_left + events_left == 0 && done + 1 == sub)
#define STILL(w)    ((st[w] == SLEEPS && !wake[w]) || (st[w] == HELD && !LONG_ENDS))
#define REST_STILL  (ALL(STILL) && !foreign_busy)

#ifdef BUG_NO_OWED
#define T7_OWED 0
#else
#define T7_OWED ANY(OWED)
#endif
#ifdef BUG_NO_ARM_ABSENT
#define ARM_ABSENT 0
#else
#define ARM_ABSENT 1
#endif
#if TIMERS
#define ANY_DUE ANY(DUE)
#define ANY_LEFT_ALONE ANY(LEFT_ALONE)
#else
#define ANY_DUE 0
#define ANY_LEFT_ALONE 0
#endif
#define ALL_AWAKE_ABSENT (parked < W && parked + NABSENT == W)

/* Would a tick change anything? If not, and nobody else can move, ticking on is waiting. */
#define TICK_MATTERS (parked == W || \
        (parked > 0 && searching == 0 && (inj > 0 || ANY_LEFT_ALONE || T7_OWED || \
        (ALL_AWAKE_ABSENT && (pend > 0 || (ARM_ABSENT && !armed))))))
#define SET_FIRES    (kset && pend > 0)
#define TIME_IS_UP   (tmo == 0)
#define BUT_TICK     (REST_STILL && iowaits && !SET_FIRES && !kick && !TIME_IS_UP)
#define QUIET        (BUT_TICK && !(iost == TICKING && TICK_MATTERS))

/* Every state in which nothing but the outside can move. The outside looks before each step it takes, so
 * that it does not rescue what was stuck. */
inline check()
{
    if
    :: QUIET ->
        assert(inj == 0 && QUEUED == 0);                                         /* J1 no job left */
        assert(pend == 0);                                                       /* J1 no event lost */
        assert(!ANY_DUE);                                                        /* J1 no timer late */
        assert(searching == 0);
        assert(sub == done + ANY(IS_HELD) + NPENDING);                       /* J1 none vanished */
        assert(parked < W || iost == BLOCKED);                                   /* H4 idle never ticks */
        assert(parked < W || tmo <= EARLIEST);                                   /* H4 */
        assert(parked == W || iost == TICKING);                                  /* H3 */
        assert(armed && kset);                                                   /* H1, H4 */
    :: BUT_TICK && !QUIET ->
        assert(inj == 0);                                                        /* J2 */
    :: else
    fi
}

/* S3, S4: the compare-and-swap of the word fails when S3 is no longer so, hence one step. */
inline claim(w)
{
    atomic {
        if
        :: parked > 0 && searching == 0 ->
            parked--;
            searching++;
            w = stk[parked];
            stk[parked] = 0
        :: else ->
            w = NONE
        fi
    }
}

/* S5 */
inline wake_up(w)
{
    atomic {
        assert(!wake[w]);
        wake[w] = 1;
        w = NONE
    }
}

/* S6, for any thread but the I/O thread. In one step the late kick is lost that finds the I/O thread TICKING
 * again, and returns one of its waits early. */
inline kick_if_blocked()
{
#ifdef BUG_NO_KICK
    skip
#elif defined(KICK_IN_ONE_STEP)
    if
    :: atomic { iost == BLOCKED -> kick = 1 }
    :: iost != BLOCKED
    fi
#else
    if
    :: atomic { iost == BLOCKED -> mod = 1 }
    :: iost != BLOCKED
    fi;
    if
    :: atomic {
        mod ->
        mod = 0;
        kick = 1
       }
    :: else
    fi
#endif
}

/* S3 to S6 */
inline wake_one(w)
{
#ifdef BUG_NO_FENCE_S6
    mod = (iost == BLOCKED);
#endif
    claim(w);
    if
    :: w != NONE ->
        wake_up(w);
#ifdef BUG_NO_FENCE_S6
        if
        :: mod -> kick = 1
        :: else
        fi
#else
        kick_if_blocked()
#endif
    :: else
    fi;
#ifdef BUG_NO_FENCE_S6
    mod = 0
#endif
}

/* ARM: who finds it disarmed tells the kernel. */
inline arm()
{
    atomic {
        mod = !armed;
        armed = 1
    }
    if
    :: atomic {
        mod ->
        mod = 0;
        kset = 1
       }
    :: else
    fi
}

/* One job on worker `me`; what it does is chosen here. */
inline run_job()
{
#if LONG
    if
    :: atomic {                       /* known to be slow: the set is armed first if nobody else would look at it */
        long_left ->
        long_left = 0;
        kind = 1;
        if
        :: q[me] == 0 && parked > 0 && searching == 0 &&
                (poller == NONE || poller == me || absent[poller % W]) ->
            poller = NONE;
            kind = 3
        :: else
        fi
       }
    :: atomic {                       /* found out later */
        long_left ->
        long_left = 0;
        kind = 2
       }
    :: true
    fi;
    if
    :: kind == 3 ->
        arm();
        kind = 1
    :: else
    fi;
    if
    :: kind == 1 -> absent[me] = 1
    :: else
    fi;
#endif
#if TIMERS
    if
    :: atomic {
        timers_left > 0 && tmin[me] == NEVER ->
        timers_left--;
        sub++;
        if
        :: tmin[me] = 1
#if TIMERS > 1
        :: tmin[me] = 2
#endif
        fi
       }
    :: true
    fi;
#endif
#if PUSHES
    do
    :: atomic {                       /* S1 of an owed push: a first element, nobody is told */
        pushes_left > 0 && q[me] == 0 ->
        pushes_left--;
        sub++;
        q[me]++
       }
    :: atomic {                       /* S1 of a push that wakes at once */
        pushes_left > 0 && q[me] > 0 ->
        pushes_left--;
        sub++;
        q[me]++
       };
       wake_one(v)
    :: break
    od;
#endif
#if LONG
    if
    :: kind == 2 -> absent[me] = 1
    :: else
    fi;
    if
    :: kind != 0 ->
        atomic {
            kind = 0;
            st[me] = HELD
        }
        atomic {
            LONG_ENDS ->
            st[me] = ACTIVE;
            absent[me] = 0;
            done++
        }
    :: else ->
        done++
    fi
#else
    done++
#endif
}

/* P3, in as many steps as there are places; a miss goes to nothing_found */
inline look_again()
{
    atomic {
        v = 0;
        found = (inj > 0)
    }
    do
    :: atomic {
        !found ->
        if
        :: q[v] > 0 -> found = 1
#if TIMERS
        :: q[v] == 0 && DUE(v) -> found = 1
#endif
        :: else
        fi;
        v++;
        if
        :: v == W && !found ->
            v = NONE;
            goto nothing_found
        :: else
        fi
       }
    :: found -> break
    od;
    v = NONE
}

proctype worker(byte me)
{
    byte v = NONE, n;
    bit counted, found, mod;
    byte kind;

next:
    atomic {                          /* dispatch: own queue, own timers */
        if
        :: q[me] > 0 ->
            q[me]--;
            goto found_work
        :: else
        fi
    }
#if TIMERS
    atomic {
        if
        :: DUE(me) ->
            tmin[me] = NEVER;
            goto found_work
        :: else
        fi
    }
    away[me] = 1;
#endif
    atomic {                          /* search */
        if
        :: counted
        :: !counted && searching < LIM ->
            searching++;
            counted = 1
        :: else -> goto park
        fi
    }
#if EVENTS
    atomic {                          /* the role is free, or mine, or its holder is absent */
        if
        :: poller == NONE || poller == me || absent[poller % W] -> poller = me
        :: else -> goto take
        fi
    }
    atomic {
        n = pend;
        pend = 0;
        if
        :: n == 0 -> goto take
        :: else
        fi
    }
    atomic {
        q[me] = q[me] + n - 1;        /* one of them is run at once */
        n = 0;
        goto found_work
    }
take:
#endif
    atomic {
        if
        :: inj > 0 ->
            inj--;
            goto found_work
        :: else ->
            v = (me == 0 -> 1 : 0)
        fi
    }
steal:
    atomic {
        if
        :: q[v] > 0 ->
            q[v]--;
            v = NONE;
            goto found_work
#if TIMERS
        :: q[v] == 0 && DUE(v) ->
            tmin[v] = NEVER;
            v = NONE;
            goto found_work
#endif
        :: else ->
            v = (v + 1 == me -> v + 2 : v + 1)
        fi;
        if
        :: v < W -> goto steal
        :: else ->
            v = NONE;
            goto park
        fi
    }

found_work:
    atomic {                          /* F1 */
        if
        :: counted ->
            assert(searching > 0);
            searching--;
            counted = 0;
            if
            :: searching > 0 -> goto execute
            :: else
            fi
        :: else -> goto execute
        fi
    }
#ifndef BUG_NO_LAST_SEARCHER
    if                                /* F2, F3 */
    :: inj > 0 -> wake_one(v)
    :: inj == 0
    fi;
#endif
execute:
#if TIMERS
    away[me] = 0;
#endif
    run_job();
    goto next;

park:
#ifdef BUG_CHECK_BEFORE_ANNOUNCE
    look_again();
    found = 0;
    goto next;
nothing_found:
#endif
#if EVENTS
    if                                /* P1 */
    :: poller == me -> poller = NONE
    :: poller != me
    fi;
#endif
    atomic {
        stk[parked] = me;
        parked++;
        if
        :: counted ->
            assert(searching > 0);
            searching--;
            counted = 0
        :: else
        fi
    }
#if !defined(BUG_NO_RECHECK) && !defined(BUG_CHECK_BEFORE_ANNOUNCE)
    look_again();                     /* P2, P3 */
    atomic {                          /* U */
        found = 0;
        v = 0;
        do
        :: v < parked && stk[v] != me -> v++
        :: else -> break
        od;
        if
        :: v < parked ->
            do
            :: v + 1 < parked ->
                stk[v] = stk[v + 1];
                v++
            :: else -> break
            od;
            parked--;
            stk[parked] = 0;
            searching++;
            counted = 1;
            v = NONE
        :: else ->
            v = NONE;
            goto sleep                /* the token is due */
        fi
    }
#ifndef BUG_NO_KICK_U
    kick_if_blocked();                /* S6 */
#endif
    goto next;
nothing_found:
#endif
    n = parked;                       /* P4 */
    atomic {
        if
#ifndef BUG_NO_ARM_LAST
        :: n == W ->
            n = 0
#endif
        :: n < W && ARM_ABSENT && n + NABSENT == W ->
            n = 0
        :: else ->
            n = 0;
            goto sleep
        fi
    }
    arm();
sleep:
    st[me] = SLEEPS;
end_sleep:                            /* P5 */
    if
    :: atomic {
        wake[me] ->
        wake[me] = 0;
        st[me] = ACTIVE;
        counted = 1;
        goto next
       }
#if SPURIOUS
    :: atomic {
        spurious_left > 0 ->
        spurious_left--;
#ifdef BUG_TRUST_FUTEX
        wake[me] = 0;
        st[me] = ACTIVE;
        counted = 1;
        goto next
#else
        goto end_sleep
#endif
       }
#endif
    fi
}

/* S2 to S5 */
inline io_wake_one()
{
    claim(v);
    if
    :: v != NONE -> wake_up(v)
    :: else
    fi
}

/* T4, T7: what the I/O thread does with n found jobs. Who claims a worker owns its ring until it wakes it. */
inline hand_out()
{
    claim(v);
    if
    :: v != NONE ->
        atomic {
            q[v] = q[v] + n;
            n = 0
        }
        wake_up(v)
    :: else ->
        atomic {                      /* S1 */
#ifdef BUG_NO_WAKE_AFTER_INJECT
            b = (searching > 0);
#endif
            inj = inj + n;
            n = 0
        }
#ifdef BUG_NO_WAKE_AFTER_INJECT
        if                            /* taken for done when S4 found nobody parked */
        :: b -> b = 0; io_wake_one()
        :: else
        fi
#else
        io_wake_one()
#endif
    fi
}

inline harvest()
{
    atomic {
        n = pend;
        pend = 0
    }
}

inline stay_awake()
{
    atomic {
        iost = TICKING;
        tmo = NEVER;
        m = 0;
        iowaits = 1;
        goto end_wait
    }
}

#if TRIM
/* G3 to G5 */
inline trim()
{
    do
    :: atomic {
        parked > 0 ->
        parked--;
        searching++;
        v = stk[parked];
        stk[parked] = 0;
        mine[v] = 1;
        v = NONE
       }
    :: break                          /* one is awake, or all are claimed */
    od;
    v = 0;
    do
    :: atomic {
        v < W && mine[v] ->
        mine[v] = 0;
#ifdef BUG_NO_WAKE_CLAIMED
        stk[parked] = v;
        parked++;
        searching--;
#else
        assert(!wake[v]);
        wake[v] = 1;
#endif
        v++
       }
    :: atomic {
        v < W && !mine[v] -> v++
       }
    :: atomic {
        v == W ->
        v = NONE;
        break
       }
    od
}
#endif

#define ALL_ASLEEP (parked == W || (ARM_ABSENT && parked + NABSENT == W))

proctype io_thread()
{
    byte v = NONE, n;
    bit fired, tick, b, mod;
#if TRIM
    bit mine[W];
#endif

loop:
#if TRIM
    if
    :: atomic {
        trims_left > 0 && parked == W ->
        trims_left--
       };
       trim()
    :: true
    fi;
#endif
    atomic {                          /* T1 */
        if
        :: parked == W
        :: else ->
            iowaits = 1;
            goto end_wait
        fi
    }
    m = EARLIEST;
#ifdef BUG_NO_FENCE_T1
    b = (parked == W && m == EARLIEST);
#endif
    atomic {
        iost = BLOCKED;
        tmo = m
    }
#ifdef BUG_NO_FENCE_T1
    if
    :: b -> b = 0
    :: else -> stay_awake()
    fi;
#elif !defined(BUG_NO_IO_RECHECK)
    if                                /* T2 */
    :: parked == W
    :: parked < W -> stay_awake()
    fi;
#if TIMERS && !defined(BUG_STALE_TIMER)
    if
    :: m == EARLIEST
    :: m != EARLIEST -> stay_awake()
    fi;
#endif
#endif
    atomic {
        m = 0;
        iowaits = 1
    }
end_wait:                             /* T3 */
    if
    :: atomic {
        SET_FIRES ->
        kset = 0;
        fired = 1;
        iowaits = 0
       }
    :: atomic {
        kick || TIME_IS_UP ->
        iowaits = 0
       }
#if TRIM
    :: atomic {                       /* a trim is due */
        iost == BLOCKED && trims_left > 0 ->
        check();
        iowaits = 0
       }
#endif
    :: atomic {
        iost == TICKING && TICK_MATTERS ->
        check();
        iowaits = 0;
        if                            /* the ticks before, which found nothing, may have been on their way */
        :: tick = 1
#ifndef LIVELOCK                      /* run.sh long: no fair cycle; every tick is a whole one there */
        :: goto loop
#if TIMERS
        :: tick = 1;
           goto t7
#endif
#endif
        fi
       }
#ifdef FREE_TICK                      /* the same without that shortcut, larger */
    :: atomic {
        iost == TICKING && !REST_STILL && !TICK_MATTERS ->
        iowaits = 0;
        tick = 1
       }
#endif
    fi;
    atomic {                          /* T4 */
        iost = TICKING;
        tmo = NEVER
    }
    kick = 0;
#if EVENTS
    if
    :: fired ->
        fired = 0;
#ifdef BUG_NO_FENCE_T5
        b = ALL_ASLEEP;
#endif
        armed = 0;
        harvest();
        if
        :: n > 0 -> hand_out()
        :: else
        fi;
#ifndef BUG_NO_SECOND_LOOK
#ifdef BUG_NO_FENCE_T5
        if
        :: b -> b = 0; arm()
        :: else
        fi
#else
        if                            /* T5 */
        :: ALL_ASLEEP -> arm()
        :: !ALL_ASLEEP
        fi
#endif
#endif
    :: else
    fi;
#endif
#if TIMERS
    if                                /* T6: whoever is woken strikes */
    :: parked > 0 && searching == 0 && ANY(LEFT_ALONE) -> io_wake_one()
    :: else
    fi;
#endif
t7:
    if                                /* T7: for certain on a tick, perhaps after another return */
    :: !tick -> goto loop
    :: tick = 0
    fi;
    if
    :: parked > 0 && searching == 0
    :: !(parked > 0 && searching == 0) -> goto loop
    fi;
    if
    :: inj > 0 -> goto t7_wake
    :: inj == 0
    fi;
    if
    :: T7_OWED -> goto t7_wake
    :: !(T7_OWED)
    fi;
    goto t7_set;
t7_wake:
    io_wake_one();
t7_set:
#if LONG
    if
    :: ALL_AWAKE_ABSENT && searching == 0
    :: !(ALL_AWAKE_ABSENT && searching == 0) -> goto loop
    fi;
    harvest();
    if
    :: n > 0 -> hand_out()
    :: else ->
        if
        :: ARM_ABSENT -> arm()
        :: else
        fi
    fi;
#endif
    goto loop
}

#if FOREIGN
proctype foreign()
{
    byte v = NONE;
    bit mod;

#ifdef BUG_NO_FENCE_S2
    atomic {
        check();
        foreign_busy++
    }
    claim(v);
    atomic {
        foreign_left--;
        inj++;
        sub++
    }
    if
    :: v != NONE ->
        wake_up(v);
        kick_if_blocked()
    :: else
    fi;
#else
    atomic {                          /* S1 */
        check();
        foreign_busy++;
        foreign_left--;
        inj++;
        sub++
    }
    wake_one(v);                      /* S2 to S6 */
#endif
    foreign_busy--
}
#endif

#if EVENTS
proctype network()
{
    do
    :: atomic {
        events_left > 0 ->
        check();
        events_left--;
        pend++;
        sub++
       }
    :: events_left == 0 -> break
    od
}
#endif

#if TIMERS
#define PASS(t) if :: t > 0 && t < NEVER -> t-- :: else fi
#define WAITS(w) (PENDING(w) && !DUE(w))
proctype clock()
{
    byte i;

end_clock:
    do
    :: atomic {
        ANY(WAITS) ->
        check();
        for (i : 0 .. W - 1) {
            PASS(tmin[i])
        }
        PASS(tmo);
        PASS(m);
        i = 0
       }
    od
}
#endif

active proctype at_rest()
{
end_rest:
    atomic {
        timeout ->
        assert(QUIET);                /* the macro and Spin agree on what rest is */
        check()
    }
}

init
{
    byte i;
    atomic {
        for (i : 0 .. W - 1) {
            tmin[i] = NEVER
        }
        for (i : 0 .. W - 1) {
            run worker(i)
        }
        run io_thread();
#if FOREIGN
        for (i : 1 .. FOREIGN) {
            run foreign()
        }
#endif
#if EVENTS
        run network();
#endif
#if TIMERS
        run clock();
#endif
        i = 0
    }
}
