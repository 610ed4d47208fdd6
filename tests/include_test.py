#!/usr/bin/env python3
"""include_test.py [--check-the-check | PROJECT_DIR] - draws the include graph of runtime/ and keeps its rows.

A file includes from its own row or from a row above it. Only base/atomic.h includes libatomic_ops, only
base/mem.c includes jemalloc. Only base/errno.c names errno: elsewhere its address might outlive a suspension.
Public headers include public headers and the system's alone.
"""
import os
import re
import sys
import tempfile

ROWS = ["base", "machine", "sched", "event", "engine", "coord", "sync", "os", "tls", "proto", "report"]
OWNERS = {"atomic_ops": "base/atomic.h", "jemalloc": "base/mem.c"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
ERRNO = re.compile(r"(?<![\w.<])errno(?![\w.])")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def files_of(root):
    for folder, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            if name.endswith((".c", ".h", ".S", ".inc")):
                yield os.path.relpath(os.path.join(folder, name), root)


def code_of(path):
    with open(path, encoding="utf-8") as f:
        return COMMENT.sub(lambda m: "\n" * m.group().count("\n"), f.read())


def errnos_of(path):
    for number, line in enumerate(code_of(path).split("\n"), 1):
        if ERRNO.search(line):
            yield number


def includes_of(path):
    text = code_of(path)
    for m in INCLUDE.finditer(text):
        yield text.count("\n", 0, m.start()) + 1, m.group(1) == '"', m.group(2)


def look(project):
    """Returns the faults, and the edges as {(row, row): number of includes}."""
    runtime, public = os.path.join(project, "runtime"), os.path.join(project, "include")
    ours = set(files_of(runtime))
    faults, edges = [], {}
    for name in sorted(ours):
        row = name.split("/")[0]
        if row not in ROWS or "/" not in name:
            faults.append("runtime/%s: is in no row" % name)
            continue
        if name != "base/errno.c":
            for line in errnos_of(os.path.join(runtime, name)):
                faults.append("runtime/%s:%d: names errno, which is for base/errno.c alone" % (name, line))
        for line, quoted, target in includes_of(os.path.join(runtime, name)):
            at = "runtime/%s:%d" % (name, line)
            for word, owner in OWNERS.items():
                if word in target and name != owner:
                    faults.append("%s: includes %s, which is for %s alone" % (at, target, owner))
            beside = os.path.normpath(os.path.join(os.path.dirname(name), target))
            if quoted and target not in ours and beside in ours:
                faults.append('%s: "%s" is to be written from the root, "%s"' % (at, target, beside))
                target = beside
            if target not in ours:
                if quoted:
                    faults.append('%s: "%s" is not there' % (at, target))
                elif target.startswith("weft") and not os.path.exists(os.path.join(public, target)):
                    faults.append("%s: <%s> is not there" % (at, target))
                continue
            if not quoted:
                faults.append("%s: <%s> is ours, it takes quotes" % (at, target))
            to = target.split("/")[0]
            edges[row, to] = edges.get((row, to), 0) + 1
            if to in ROWS and ROWS.index(to) > ROWS.index(row):
                faults.append("%s: upward include of %s: %s is below %s in the table" % (at, target, to, row))
    for name in files_of(public) if os.path.isdir(public) else []:
        for line, quoted, target in includes_of(os.path.join(public, name)):
            if quoted or target in ours:
                faults.append("include/%s:%d: a public header includes %s" % (name, line, target))
    return faults, edges, ours


def draw(edges, ours):
    here = [r for r in ROWS if any(n.startswith(r + "/") for n in ours)]
    print("%-8s %5s   includes from" % ("row", "files"))
    for row in here:
        n = sum(name.startswith(row + "/") for name in ours)
        to = ["%s %d" % (r, edges[row, r]) for r in ROWS if (row, r) in edges]
        print("%-8s %5d   %s" % (row, n, ", ".join(to)))


def check_the_check():
    """Seeds one fault of each kind and sees it found, and nothing in a tree without."""
    good = {
        "runtime/base/atomic.h": "#include <atomic_ops.h>\n",
        "runtime/base/mem.c": '#include "base/mem.h"\n#include <jemalloc/jemalloc.h>\n',
        "runtime/base/mem.h": '/* #include "sched/task.h" */\n#include <stddef.h>\n',
        "runtime/sched/task.h": '#include "base/mem.h"\n#include "sched/wait.h"\n#include <weft/task.h>\n',
        "runtime/sched/wait.h": "",
        "runtime/base/errno.c": "#include <errno.h>\nint e = errno;\n",
        "runtime/os/io.c": '#include "sched/task.h"\n#include <errno.h>\nint e = weft__errno(); /* errno */\n',
        "include/weft/task.h": "#include <weft/base.h>\n",
        "include/weft/base.h": "#include <stdint.h>\n",
    }
    seeds = {
        "upward include": ("runtime/base/mem.h", '#include "sched/task.h"\n'),
        "upward include of os": ("runtime/sched/wait.h", '  #  include "os/net.h"\n'),
        "includes atomic_ops": ("runtime/sched/wait.h", "#include <atomic_ops.h>\n"),
        "includes jemalloc": ("runtime/base/mem.h", "#include <jemalloc/jemalloc.h>\n"),
        "is in no row": ("runtime/extra.c", ""),
        "is to be written from the root": ("runtime/sched/task.h", '#include "wait.h"\n'),
        "takes quotes": ("runtime/os/io.c", "#include <sched/task.h>\n"),
        "names errno": ("runtime/os/io.c", "int e = errno;\n"),
        "is not there": ("runtime/os/io.c", '#include "sched/gone.h"\n'),
        "a public header includes": ("include/weft/task.h", '#include "base/mem.h"\n'),
    }
    bad = 0
    for what, seed in [(None, None)] + sorted(seeds.items()):
        with tempfile.TemporaryDirectory() as tmp:
            tree = dict(good, **{"runtime/os/net.h": ""})
            if seed:
                tree[seed[0]] = seed[1]
            for name, text in tree.items():
                path = os.path.join(tmp, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            faults = look(tmp)[0]
            seen = any(what in f for f in faults) if what else not faults
            print("%-4s %s" % ("ok" if seen else "BAD", what or "nothing in a good tree"))
            if not seen:
                bad += 1
                print("     ", faults)
    return 1 if bad else 0


def main():
    if sys.argv[1:] == ["--check-the-check"]:
        return check_the_check()
    project = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    faults, edges, ours = look(project)
    draw(edges, ours)
    for fault in faults:
        print(fault)
    print("%d files, %d includes among them, %d faults" % (len(ours), sum(edges.values()), len(faults)))
    return 1 if faults or not ours else 0


sys.exit(main())
