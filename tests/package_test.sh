#!/bin/bash
# package_test.sh BUILD_FOLDER [deb] - weft as others get it: installed, packed, or as a part of their project.
#
# Installs what was built, or with "deb" unpacks the packages in BUILD_FOLDER, at a place that nobody named before, and
# looks at it. Then a program outside of the tree is built and run in each way README.md tells: find_package, shared and
# static; add_subdirectory and FetchContent; pkg-config, and with --static; and by dlopen from Python. What CMake
# configures here has no network, where a user may have none (unshare).
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
build=$(readlink -f -- "$1")
compiler=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset DESTDIR

good=0
fail() { echo "FAILED: $*"; echo "$good passed, 1 failed"; exit 1; }
passed() { echo "passed: $*"; good=$((good + 1)); }
# quietly WHAT COMMAND...
quietly() {
    local what=$1
    shift
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; fail "$what: $*"; }
}
offline=()
if unshare -rn true 2>/dev/null; then
    offline=(unshare -rn)
else
    echo "skipped: without network (unshare -rn does not work here)"
fi

# --- what is installed ----------------------------------------------------------------------

if [ "${2-}" = deb ]; then
    shopt -s nullglob
    runtime=("$build"/libweft0_*.deb) dev=("$build"/libweft-dev_*.deb)
    [ "${#runtime[@]} ${#dev[@]}" = "1 1" ] || fail "not one libweft0 and one libweft-dev in $build"
    prefix=$work/stage/usr
    # contents DEB: its files, from below usr; versions, the processor's name and the manual's pages as stars
    contents() {
        dpkg-deb --fsys-tarfile "$1" | tar -t | sed -n 's,^\./usr/\(.*[^/]\)$,\1,p' |
            sed -E 's,(^|/)lib/[a-z0-9_]+-linux-gnu/,\1lib/,; s,[0-9]+\.[0-9]+\.[0-9]+(-gdb\.py)?$,*\1,
                s,^(share/man/man3)/(weft|weft_[a-z_]+|WEFT_[A-Z_]+)\.3$,\1/*.3,' | LC_ALL=C sort -u
    }
    diff - <(contents "${runtime[0]}") <<'LIST' || fail "libweft0 has other files (< expected, > found)"
lib/libweft.so.*
lib/libweft.so.0
share/doc/libweft0/copyright
LIST
    { cat <<'LIST' && (cd "$root" && find include -name '*.h'); } | LC_ALL=C sort |
lib/cmake/weft/weft-config-version.cmake
lib/cmake/weft/weft-config.cmake
lib/cmake/weft/weft-shared-targets-release.cmake
lib/cmake/weft/weft-shared-targets.cmake
lib/cmake/weft/weft-static-targets-release.cmake
lib/cmake/weft/weft-static-targets.cmake
lib/libweft.a
lib/libweft.so
lib/pkgconfig/weft.pc
share/doc/libweft-dev/copyright
share/doc/weft/LICENSE
share/gdb/auto-load/usr/lib/libweft.so.*-gdb.py
share/man/man3/*.3
share/weft/weft.json
LIST
        diff - <(contents "${dev[0]}") || fail "libweft-dev has other files (< expected, > found)"
    field() { dpkg-deb -f "$1" "$2"; }
    [[ $(field "${runtime[0]}" Depends) == libc6\ * ]] || fail "libweft0 depends on $(field "${runtime[0]}" Depends)"
    [ "$(field "${dev[0]}" Depends)" = "libweft0 (= $(field "${runtime[0]}" Version)), libjemalloc-dev" ] ||
        fail "libweft-dev depends on $(field "${dev[0]}" Depends)"
    tls=("$build"/libweft-tls0_*.deb "$build"/libweft-tls-dev_*.deb)
    if [ ${#tls[@]} = 2 ]; then
        diff - <(contents "${tls[0]}" && contents "${tls[1]}") <<'LIST' || fail "libweft-tls has other files (< expected, > found)"
lib/libweft-tls.so.*
lib/libweft-tls.so.0
share/doc/libweft-tls0/copyright
lib/cmake/weft/weft-tls-shared-targets-release.cmake
lib/cmake/weft/weft-tls-shared-targets.cmake
lib/cmake/weft/weft-tls-static-targets-release.cmake
lib/cmake/weft/weft-tls-static-targets.cmake
lib/libweft-tls.a
lib/libweft-tls.so
lib/pkgconfig/weft-tls.pc
share/doc/libweft-tls-dev/copyright
LIST
        [[ $(field "${tls[0]}" Depends) == *libssl3* ]] || fail "libweft-tls0 depends on $(field "${tls[0]}" Depends)"
    fi
    for deb in "${runtime[0]}" "${dev[0]}" "${tls[@]}"; do
        dpkg-deb -x "$deb" "$work/stage"
    done
    passed "libweft0 and libweft-dev have the files and the dependencies they should"
else
    prefix=$work/stage/opt/weft
    quietly install env DESTDIR="$work/stage" cmake --install "$build" --prefix /opt/weft
fi
library=$(find "$prefix" -name libweft.a)
library=${library%/*}

diff -r "$root/include" "$prefix/include" || fail "other headers than those of include/"
passed "the headers are those of include/"
if grep -rlF -e "$root/runtime" -e "$root/include" -e "$build/runtime" "$work/stage"; then
    fail "these name the folder in which they were built"
fi
passed "no file names the folder in which it was built"
shown=$(nm -D --defined-only "$library/libweft.so" | awk '{ print $3 }' | grep -vx WEFT_0)
if grep -vE '^weft_[a-z][a-z0-9_]*@@WEFT_0$' <<<"$shown"; then
    fail "libweft.so shows these"
fi
passed "libweft.so shows weft_* only, $(wc -l <<<"$shown") symbols"
for name in weft $(sed 's/@.*//' <<<"$shown"); do
    [ -s "$prefix/share/man/man3/$name.3" ] || fail "the manual has no $name(3)"
done
passed "each has its page in the manual"
dynamic=$(readelf -d "$library/libweft.so")
[[ $dynamic == *'[libweft.so.0]'* ]] || fail "the name of libweft.so is another: $dynamic"
! grep -E 'NEEDED|RPATH|RUNPATH|TEXTREL' <<<"$dynamic" | grep -vE '\[(libc|ld-linux)[^ ]*\]' || fail "libweft.so needs this"
passed "libweft.so.0 needs libc alone"

# --- a program ------------------------------------------------------------------------------

mkdir "$work/user"
cat >"$work/user/user.c" <<'E'
#include <stdio.h>
#include <weft.h>
extern int mallctl(const char *, void *, size_t *, void *, size_t) __attribute__((weak)); /* jemalloc's */
static int task(void *arg)
{
    int rc = weft_sleep(weft_ms(1));
    return rc < 0 ? rc : *(int *)arg;
}
int main(void)
{
    int n = 42;
    printf("%d by %s\n", weft_run(task, &n, NULL), mallctl ? "jemalloc" : "malloc");
    return 0;
}
E
cat >"$work/user/CMakeLists.txt" <<'E'
cmake_minimum_required(VERSION 3.18)
project(user LANGUAGES C)
if(HOW STREQUAL find_package)
    foreach(wrong "99" "0.1;COMPONENTS;another")
        find_package(weft ${wrong} CONFIG QUIET)
        if(weft_FOUND)
            message(FATAL_ERROR "found, too: ${wrong}")
        endif()
    endforeach()
    find_package(weft 0.1 CONFIG REQUIRED COMPONENTS shared static)
else()
    foreach(name io_test frames weft-peer echo_server tests package) # their names stay free
        add_custom_target(${name})
    endforeach()
    if(HOW STREQUAL FetchContent)
        include(FetchContent)
        FetchContent_Declare(weft SOURCE_DIR ${WEFT})
        FetchContent_MakeAvailable(weft)
    else()
        add_subdirectory(${WEFT} weft)
    endif()
endif()
foreach(kind weft shared static)
    if(TARGET weft::${kind})
        add_executable(user_${kind} user.c)
        target_link_libraries(user_${kind} PRIVATE weft::${kind})
    endif()
endforeach()
E

allocator=malloc
! grep -q '^allocator=.*jemalloc' "$library/pkgconfig/weft.pc" || allocator=jemalloc
# try NAME ALLOCATOR LINKED_WITH PROGRAM: it runs, allocates as it should, and needs libweft.so ("shared") or not
try() {
    local out needs=static
    out=$("$4" 2>&1) || fail "$1: $out"
    [ "$out" = "42 by $2" ] || fail "$1: '42 by $2' expected, and it says '$out'"
    ! readelf -d "$4" | grep -qF '[libweft.so.0]' || needs=shared
    [ "$needs" = "$3" ] || fail "$1: it is linked with the $needs library"
    passed "$1 ($2)"
}
# by_cmake FOLDER OPTION...: configures and builds the program there. Linkers that drop what seems not needed are the
# default of some systems.
by_cmake() {
    local into=$work/$1
    shift
    quietly configure "${offline[@]}" cmake -S "$work/user" -B "$into" -DCMAKE_C_COMPILER="$compiler" \
        -DCMAKE_EXE_LINKER_FLAGS=-Wl,--as-needed "$@"
    ! grep -A9 'Warning' "$work/log" || fail "CMake warns"
    quietly build cmake --build "$into" --parallel 2
}

by_cmake found -DHOW=find_package -DCMAKE_PREFIX_PATH="$prefix"
try "find_package, weft::weft" $allocator shared "$work/found/user_weft"
try "find_package, weft::shared" $allocator shared "$work/found/user_shared"
try "find_package, weft::static" $allocator static "$work/found/user_static"
sed -i 's/ COMPONENTS shared static//' "$work/user/CMakeLists.txt"
by_cmake found -DWEFT_JEMALLOC=OFF
try "find_package, WEFT_JEMALLOC=OFF" malloc static "$work/found/user_static"

if [ "${2-}" != deb ]; then
    jemalloc=ON
    [ $allocator = jemalloc ] || jemalloc=OFF
    by_cmake part -DHOW=add_subdirectory -DWEFT="$root" -DWEFT_JEMALLOC=$jemalloc -DWEFT_WERROR=ON
    try "add_subdirectory, weft::weft" $allocator static "$work/part/user_weft"
    [ ! -e "$work/part/user_shared" ] || fail "add_subdirectory builds the shared library, too"
    ctest --test-dir "$work/part" -N 2>&1 | grep -qx 'Total Tests: 0' || fail "add_subdirectory brings tests along"
    quietly install env DESTDIR="$work/none" cmake --install "$work/part"
    [ ! -e "$work/none" ] || fail "add_subdirectory installs something"
    passed "add_subdirectory brings no tests, and installs nothing"
    quietly configure "${offline[@]}" cmake -S "$work/user" -B "$work/fetched" -DCMAKE_C_COMPILER="$compiler" \
        -DHOW=FetchContent -DWEFT="$root" -DWEFT_JEMALLOC=$jemalloc
    passed "FetchContent with a local folder is configured"
fi

export PKG_CONFIG_PATH=$library/pkgconfig LD_LIBRARY_PATH=$library
# by_pkg_config NAME LINK_OPTION OPTION...
by_pkg_config() {
    local name=$1 link=$2
    shift 2
    # shellcheck disable=SC2046 # a list of words
    quietly "$name" "$compiler" "$link" "$work/user/user.c" $(pkg-config "$@" --cflags --libs weft) -o "$work/by_pkg_config"
}
by_pkg_config "pkg-config" -Wl,--as-needed
try "pkg-config" $allocator shared "$work/by_pkg_config"
by_pkg_config "pkg-config, allocator=" -Wl,--as-needed --define-variable=allocator=
try "pkg-config, allocator=" malloc shared "$work/by_pkg_config"
by_pkg_config "pkg-config --static" -static --static
try "pkg-config --static" $allocator static "$work/by_pkg_config"

# libweft-tls, if it was built.
if [ -e "$library/libweft-tls.a" ]; then
    mkdir "$work/tls"
    cat >"$work/tls/user.c" <<'E'
#include <stdio.h>
#include <weft.h>
#include <weft/tls.h>
static int task(void *arg)
{
    weft_tls *t;
    int rc = weft_tls_create(&t, NULL);
    if (rc == 0)
        weft_tls_destroy(&t);
    return rc < 0 ? rc : *(int *)arg;
}
int main(void)
{
    int n = 42;
    printf("%d by malloc\n", weft_run(task, &n, NULL));
    return 0;
}
E
    cat >"$work/tls/CMakeLists.txt" <<'E'
cmake_minimum_required(VERSION 3.18)
project(user LANGUAGES C)
find_package(weft 0.1 CONFIG REQUIRED COMPONENTS tls)
foreach(kind tls tls_shared tls_static)
    add_executable(user_${kind} user.c)
    target_link_libraries(user_${kind} PRIVATE weft::${kind})
endforeach()
E
    quietly configure "${offline[@]}" cmake -S "$work/tls" -B "$work/by_tls" -DCMAKE_C_COMPILER="$compiler" \
        -DCMAKE_PREFIX_PATH="$prefix"
    quietly build cmake --build "$work/by_tls" --parallel 2
    try "find_package, weft::tls" malloc shared "$work/by_tls/user_tls"
    try "find_package, weft::tls_shared" malloc shared "$work/by_tls/user_tls_shared"
    try "find_package, weft::tls_static" malloc static "$work/by_tls/user_tls_static"
    # shellcheck disable=SC2046 # a list of words
    quietly "pkg-config weft-tls" "$compiler" "$work/tls/user.c" $(pkg-config --cflags --libs weft-tls) -o "$work/by_pkg_config"
    try "pkg-config weft-tls" malloc shared "$work/by_pkg_config"
    if nm -D --defined-only "$library/libweft-tls.so" | awk '{ print $3 }' | grep -vE '^(WEFT_0|weft_tls_[a-z_]+@@WEFT_0)$'; then
        fail "libweft-tls.so shows these"
    fi
    passed "libweft-tls.so shows weft_tls_* only"
fi

# dlopen: nothing in the process has a thread-local of weft's or a jemalloc. The stack is for Python's interpreter.
python3 - "$library/libweft.so.0" <<'E' || fail "dlopen from Python"
import ctypes
import sys
weft = ctypes.CDLL(sys.argv[1])
FN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object)
weft.weft_run.argtypes = [FN, ctypes.py_object, ctypes.c_void_p]
options = (ctypes.c_uint64 * (weft.weft_sizeof(b"weft_options") // 8))()
options[1] = 1 << 20  # stack_bytes
seen = []
weft.weft_task_self.restype = ctypes.c_int64
task = FN(lambda got: got.append(weft.weft_task_self()) or 42)
sys.exit(weft.weft_run(task, seen, options) != 42 or seen[0] <= 0)
E
passed "dlopen from Python"
echo "$good passed, 0 failed"
