#!/usr/bin/env python3
"""reference_test.py [--check-the-check] - every public symbol is explained, and docs/reference.md says the same.

A function, macro or type has a comment right above it, and a field of options has one, too; of each function is said
where it may be called, whether it suspends, whether it is a cancellation point and what is then lost, in the words
that docs/reference.py can read; errors exist. docs/cancellation.md has each such point in its tables. The manual's pages pass groff, where that is installed.
"""
import difflib
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "docs"))
import reference  # noqa: E402


def look(root, docs):
    """The faults of the headers in root/include, and of the pages in `docs` that are made from them."""
    ref = reference.Reference(os.path.join(root, "include"))
    faults = list(ref.faults)
    for name, make in (("reference.md", lambda _: reference.index(ref)),
                       ("cancellation.md", lambda there: reference.cancellation(ref, there))):
        with open(os.path.join(docs, name), encoding="utf-8") as f:
            there = f.read()
        diff = list(difflib.unified_diff(there.splitlines(), make(there).splitlines(), "docs/" + name,
                                         "the headers now", lineterm="", n=0))
        if diff:
            faults.append("docs/%s is not up to date; %s\n%s" % (name, reference.UPDATE, "\n".join(diff)))
        if name == "cancellation.md" and len(reference.TABLE.findall(there)) != 2:
            faults.append("docs/cancellation.md has lost the marks of its two tables")
    return ref, faults


def pages(ref):
    """What groff says to the manual's pages."""
    texts = [text for name, text in sorted(reference.manual(ref).items()) if not text.startswith(".so ")]
    if not shutil.which("groff"):
        print("no groff")
        return len(texts), []
    run = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input="".join(texts).encode(), capture_output=True)
    return len(texts), run.stderr.decode().splitlines()


# What is to be said, and the fault: the header, and what stands there instead of what.
SEEDS = {
    "weft_fd_forget: has no comment": (
        "io.h", "*/\nWEFT_API int weft_fd_forget", "*/\n\nWEFT_API int weft_fd_forget"),
    "weft_us: has no comment": (
        "time.h", "/* A span of n microseconds, milliseconds, seconds. */\n", "\n"),
    "weft_listen_options: has no comment": (
        "net.h", "/* How to listen. All zero, or NULL, are the defaults. */\n", ""),
    "weft_new: has no comment": (
        "task.h", "#ifdef __cplusplus\n}", "WEFT_API int weft_new(void);\n\n#ifdef __cplusplus\n}"),
    "the field `int pin` has no comment": (
        "task.h", "/* k: only worker k runs it, counted from 1; 0: any worker */", ""),
    "weft_sizeof: no `context`": (
        "runtime.h", " if there is none.\n *\n * context    any thread: never suspends */", " if there is none. */"),
    "weft_yield: `context`: cannot read 'tasks: suspends": (
        "task.h", "task: suspends, cancellation point (nothing is lost)",
        "tasks: suspends, cancellation point (nothing is lost)"),
    "weft_connect: `context`: 'may wait' is not one": (
        "net.h", "suspends, cancellation point (the attempt", "may wait, cancellation point (the attempt"),
    "weft_connect: whether it suspends is not said": (
        "net.h", "suspends, cancellation point (the attempt", "cancellation point (the attempt"),
    "weft_scope_drop: whether it is a cancellation point": (
        "scope.h", "reports their failures.\n *\n * context    owner; task: suspends, not a cancellation point;",
        "reports their failures.\n *\n * context    owner; task: suspends;"),
    "not a word in brackets on what is then lost": (
        "net.h", "cancellation point (no connection is lost)", "cancellation point"),
    "weft_sleep: a cancellation point that does not return -ECANCELED": (
        "time.h", "returns    0; -ECANCELED; -ENOMEM", "returns    0; -ENOMEM"),
    "weft_connect: errno.h knows no ENOSUCH": (
        "net.h", "bad options; -ECONNREFUSED", "bad options; -ENOSUCH"),
    "its top comment: errno.h knows no EBADFD1": (
        "io.h", "-EBADF  ", "-EBADFD1"),
    "docs/reference.md is not up to date": (
        "time.h", "Suspends the caller", "Lets the caller sleep"),
    "docs/cancellation.md is not up to date": (
        "chan.h", "cancellation point (no item is lost)", "cancellation point (an item may be lost)"),
}


def check_the_check():
    """Seeds one fault of each kind in a copy, and sees it found; and nothing in a copy without."""
    bad = 0
    for what, seed in [(None, None)] + sorted(SEEDS.items()):
        with tempfile.TemporaryDirectory() as tmp:
            shutil.copytree(os.path.join(ROOT, "include"), os.path.join(tmp, "include"))
            docs = os.path.join(ROOT, "docs")
            if seed:
                path = os.path.join(tmp, "include", "weft", seed[0])
                with open(path, encoding="utf-8") as f:
                    text = f.read()
                if seed[1] not in text:
                    raise SystemExit("%s: %r is not there, to seed a fault" % seed[:2])
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text.replace(seed[1], seed[2], 1))
            faults = look(tmp, docs)[1]
            seen = any(what in f for f in faults) if what else not faults
            print("%-4s %s" % ("ok" if seen else "BAD", what or "nothing in a good copy"))
            if not seen:
                bad += 1
                print("     ", faults)
    return 1 if bad else 0


def main():
    if sys.argv[1:] == ["--check-the-check"]:
        return check_the_check()
    ref, faults = look(ROOT, os.path.join(ROOT, "docs"))
    count = 0
    if not ref.faults:
        count, said = pages(ref)
        faults += said
    for fault in faults:
        print(fault)
    print("%d symbols, %d pages, %d faults" % (len(ref.symbols), count, len(faults)))
    return 1 if faults or not ref.symbols else 0


sys.exit(main())
