#!/bin/sh
# expect.sh race|silence program [argument...]: whether ThreadSanitizer says about the program what it should.
# A race is there in every run, but both sides have to come close enough: a few tries. Silence has to be kept.
what=$1
shift
TSAN_OPTIONS="exitcode=66 $TSAN_OPTIONS"
export TSAN_OPTIONS
for try in 1 2 3 4 5; do
    out=$("$@" 2>&1)
    status=$?
    case "$out" in
    *"ThreadSanitizer: data race"*) found=race ;;
    *) found=silence ;;
    esac
    if [ $what = race ] && [ $found = race ] && [ $status -eq 66 ]; then
        echo "found at try $try"
        exit 0
    fi
    if [ $what = silence ]; then
        if [ $found = silence ] && [ $status -eq 0 ]; then
            exit 0
        fi
        break
    fi
    if [ $status -ne 0 ]; then
        break
    fi
done
echo "$out"
echo "expected $what, got $found, exit status $status"
exit 1
