#!/bin/sh
# stall_test.sh STALL - a stress program that stands still says what each task waits for, and aborts.
ulimit -c 0
out=$(STRESS_PATIENCE=10 "$1" --seed 1 --seconds 1 --workers 2 2>&1)
status=$?
rc=0
expect() {
    printf '%s\n' "$out" | grep -q -e "$1" || {
        echo "nothing says \"$1\""
        rc=1
    }
}
[ "$status" -eq 134 ] || { # 128 + SIGABRT
    echo "it ended with status $status"
    rc=1
}
expect '^stall: stall: nothing has moved for 10 s, .*stress/stall --seed 1'
expect '^  worker 1 '
expect '^task [0-9]* "reader" waiting .* to read from descriptor [0-9]*'
expect '^task [0-9]* "joiner" waiting .* for the end of task [0-9]*'
expect 'in scope 0x[0-9a-f]* "stalled" of task [0-9]*$'
expect '^3 tasks$'
[ "$rc" -eq 0 ] || printf '%s\n' "$out"
exit $rc
