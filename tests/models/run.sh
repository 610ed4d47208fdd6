#!/bin/sh
# run.sh - checks idle.pml: the protocol must hold in every configuration, and each seeded bug must be found.
#
# One line per run, then `N passed, M failed`; the exit status says the same (77: no spin or no compiler).
# One checker at a time, at most 6 GB, some three minutes of one core.
#
#   run.sh           all of it
#   run.sh good      the protocol only
#   run.sh bugs      the seeded bugs only
#   run.sh long      the configurations too large for every day (about half an hour)
#
# The configurations. All but `spurious` and those of the trim may have the long job.
a="-DFOREIGN=1 -DTIMERS=1 -DLONG=1"                      # foreign submitter, timer: block/kick
b="-DEVENTS=2 -DPUSHES=1 -DLONG=1"                       # events, a push: arm/disarm
e="-DEVENTS=1 -DTIMERS=1 -DLONG=1"                       # event and timer
c="-DFOREIGN=1 -DPUSHES=2 -DLONG=1"                      # owed pushes, pushes that wake
d="-DFOREIGN=1 -DEVENTS=1 -DLONG=1 -DKICK_IN_ONE_STEP"   # submit and events at once
free_tick="-DFOREIGN=1 -DPUSHES=1 -DLONG=1 -DFREE_TICK"  # ticks at any time, not only those that matter
spurious="-DFOREIGN=1 -DSPURIOUS=1"
three="-DW=3 -DEVENTS=1 -DLONG=1"
trim="-DFOREIGN=1 -DPUSHES=1 -DTRIM=1"                   # the I/O thread claims and wakes all that are parked
trim_events="-DEVENTS=1 -DTIMERS=1 -DTRIM=1"

# The smallest configuration that shows a bug, so that its run is short.
events="-DEVENTS=2"
events_long="-DEVENTS=2 -DLONG=1"
timer="-DFOREIGN=1 -DTIMERS=1"
owed="-DFOREIGN=1 -DPUSHES=1 -DLONG=1"
two_jobs="-DFOREIGN=1 -DEVENTS=1 -DLONG=1"

here=$(cd "$(dirname "$0")" && pwd)
command -v spin >/dev/null && command -v "${CC:-cc}" >/dev/null || {
    echo "run.sh: spin and a C compiler are needed"
    exit 77
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work" || exit 1
passed=0
failed=0

# verdict ok|FAIL text...
verdict()
{
    case $1 in
    ok) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)) ;;
    esac
    printf '%-4s %s\n' "$@"
}

# build "model defines" "checker defines": leaves ./pan
build()
{
    rm -f pan pan.* ./*.trail
    spin -a $1 "$here/idle.pml" >log 2>&1 && "${CC:-cc}" -w -DMEMLIM=6000 $2 -o pan pan.c >>log 2>&1
}

# good name "model defines" ["checker defines" ["checker options"]]
good()
{
    if ! build "$2" "-O2 -DSAFETY $3"; then
        verdict FAIL "good $1: does not build: $(head -n 1 log)"
        return
    fi
    started=$(date +%s)
    ./pan -m100000 ${4:--w25} >log 2>&1
    took=$(($(date +%s) - started))
    states=$(sed -n 's/^ *\([0-9][0-9]*\) states, stored.*/\1/p' log)
    how=exhaustive
    case $3 in *BITSTATE*) how=bitstate ;; esac
    if grep -q 'errors: 0' log && ! grep -qE 'not completed|too small|out of memory' log; then
        verdict ok "good $1: $how, $states states, $took s"
    else
        verdict FAIL "good $1: $(grep -E '^pan' log | head -n 1) ($states states, $took s)"
    fi
}

# livelock name "model defines": nothing in the model may go on for ever, so any fair cycle is one
livelock()
{
    if ! build "$2 -DLIVELOCK" "-O2 -DNP -DNFAIR=3"; then
        verdict FAIL "livelock $1: does not build: $(head -n 1 log)"
        return
    fi
    started=$(date +%s)
    ./pan -l -f -m1000000 -w24 >log 2>&1
    took=$(($(date +%s) - started))
    if grep -q 'errors: 0' log && ! grep -qE 'not completed|too small|out of memory' log; then
        verdict ok "livelock $1: none, $took s"
    else
        verdict FAIL "livelock $1: $(grep -E '^pan' log | head -n 1) ($took s)"
    fi
}

# bug name "model defines": only an assertion counts as found
bug()
{
    if ! build "$2 -DBUG_$1" "-O1 -DSAFETY"; then
        verdict FAIL "BUG_$1: does not build: $(head -n 1 log)"
        return
    fi
    ./pan -m100000 -w24 >log 2>&1
    found=$(sed -n 's/^pan:1: assertion violated *\(.*\)/\1/p' log | head -n 1)
    if [ -n "$found" ]; then
        verdict ok "BUG_$1: found, $found"
    else
        verdict FAIL "BUG_$1: not found in $2"
    fi
}

if [ "${1:-good}" = good ]; then
    good a "$a"
    good b "$b"
    good c "$c"
    good d "$d" "" -w26
    good e "$e"
    good free_tick "$free_tick"
    good spurious "$spurious"
    good three "$three"
    good trim "$trim"
    good trim_events "$trim_events"
    livelock events "-DEVENTS=1 -DPUSHES=1 -DLONG=1"
fi
if [ "${1:-bugs}" = bugs ]; then
    bug NO_RECHECK "$owed"
    bug CHECK_BEFORE_ANNOUNCE "$owed"
    bug NO_LAST_SEARCHER "$two_jobs"
    bug NO_SECOND_LOOK "$events"
    bug NO_KICK "$owed"
    bug NO_KICK_U "$owed"
    bug NO_IO_RECHECK "$owed"
    bug STALE_TIMER "$timer"
    bug NO_ARM_LAST "$events"
    bug NO_ARM_ABSENT "$events_long"
    bug NO_OWED "$owed"
    bug NO_WAKE_AFTER_INJECT "$events"
    bug TRUST_FUTEX "$spurious"
    bug NO_FENCE_S2 "$owed"
    bug NO_FENCE_S6 "$owed"
    bug NO_FENCE_T1 "$owed"
    bug NO_FENCE_T5 "$events"
    bug NO_WAKE_CLAIMED "-DFOREIGN=1 -DTRIM=1"
fi
if [ "$1" = long ]; then
    livelock two_events "$events_long"
    livelock owed "$owed"
    good b_timer "-DEVENTS=2 -DTIMERS=1 -DLONG=1"
    good d_two_steps "$two_jobs" -DCOLLAPSE -w26
    good three_owed "-DW=3 -DFOREIGN=1 -DPUSHES=1 -DLONG=1 -DKICK_IN_ONE_STEP" "-DBITSTATE" "-w34 -k3"
    good three_events "-DW=3 -DEVENTS=2 -DLONG=1" "-DBITSTATE" "-w34 -k3"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
