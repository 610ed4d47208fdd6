#!/bin/sh
# Builds migration_test together with the library's sources in the ways in which compilers have kept the address of a
# thread-local across a switch (-O2, -O2 -fPIC, -O2 -flto; gcc and clang), and runs each.
#
#     migration_build.sh [SOURCE_FOLDER]
#
# A compiler that is not there, or cannot link with -flto, is said and left out; at least one build has to have been run.
set -u
root=$(cd "${1:-$(dirname "$0")/..}" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT INT TERM

case $(uname -m) in
aarch64 | arm64) processor=aarch64 ;;
*) processor=x86_64 ;;
esac
sources="$root/tests/migration_test.c $(echo "$root/runtime/machine"/*_$processor.S)"
for room in base machine sched event engine coord sync os report; do
    sources="$sources $(echo "$root/runtime/$room"/*.c)"
done
flags="-std=c11 -g -D_GNU_SOURCE -DWEFT_VERSION=\"0\" -fno-omit-frame-pointer -fstack-clash-protection
    -I$root/tests -I$root/include -I$root/runtime $(pkg-config --cflags check atomic_ops)"
libraries="$(pkg-config --libs check atomic_ops) -pthread"

ran=0 failed=0
for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null; then
        echo "skipped: no $compiler"
        continue
    fi
    for how in "-O2 -fno-pie -no-pie" "-O2 -fPIC -pie" "-O2 -flto"; do
        more=
        case $how in
        *-flto)
            echo 'int main(void) { return 0; }' >"$work/empty.c"
            for linker in "" -fuse-ld=lld -fuse-ld=gold none; do
                more=$linker
                [ "$linker" = none ] && break
                "$compiler" $how $linker "$work/empty.c" -o "$work/empty" 2>/dev/null && break
            done
            if [ "$more" = none ]; then
                echo "skipped: $compiler $how (it cannot link)"
                continue
            fi
            [ "$compiler" = gcc ] && more="$more -flto=auto"
            ;;
        esac
        name=$compiler$(echo "$how" | tr -d ' ')
        if ! "$compiler" $flags $how $more -w $sources -o "$work/$name" $libraries; then
            echo "FAILED to build: $compiler $how"
            failed=1
            continue
        fi
        if CK_VERBOSITY=normal timeout 300 "$work/$name" >"$work/out" 2>&1; then
            echo "passed: $compiler $how"
        else
            echo "FAILED: $compiler $how"
            cat "$work/out"
            failed=1
        fi
        ran=$((ran + 1))
    done
done
[ "$ran" -gt 0 ] || exit 77
exit $failed
