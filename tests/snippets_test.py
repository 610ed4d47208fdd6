#!/usr/bin/env python3
"""snippets_test.py LIBRARY [--check-the-check] - every program in these pages does what they say:

    docs/guide.md, docs/cookbook.md, docs/cancellation.md

Compiles each ```c block, links all with the static LIBRARY into one program, runs each for a minute at most, and
compares what it prints with the ```text block, if that is the next one. A block is a whole program with a main, or its
first line says what it is put into:

    /* in: file */                 functions, among them `static int app(void *arg)`
    /* in: app */                  the body of that function
    /* in: file, virtual clock */  the same on one worker and WEFT_CLOCK_VIRTUAL (runtime.h), so that times are exact
    /* in: app, virtual clock */

A main that this adds prints what app returned, if that is negative: "app: EPIPE: Broken pipe". Functions have to be
static, as all blocks are linked together. The environment says which of them runs, SNIPPET=number: so a program may start
itself once more, with arguments. A ```python block has to be readable as Python, await at the top allowed.
CC is the compiler, SNIPPETS_KEEP a folder in which to leave what was made.
"""
import ast
import os
import re
import subprocess
import sys
import tempfile
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGES = ("docs/guide.md", "docs/cookbook.md", "docs/cancellation.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
MAIN = re.compile(r"^int main\((void|int argc, char \*\*argv)\)$", re.M)
MARK = re.compile(r"/\* in: (file|app)(, virtual clock)? \*/\n")
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wno-unused-parameter", "-Werror"]
PATIENCE = 60
HEADERS = "errno.h pthread.h signal.h stdatomic.h stdio.h stdlib.h string.h unistd.h weft.h".split()


class Snippet:
    def __init__(self, number, page, line, text, expected):
        self.number, self.where, self.expected = number, "%s:%d" % (page, line), expected
        self.framed = MARK.match(text)
        main = MAIN.search(text)
        self.arguments = "argc, argv" if main and main.group(1) != "void" else ""
        if self.framed is None and not main:
            raise SystemExit("%s: neither a main nor a first line that says what it is in" % self.where)
        at = '#line %d "%s"\n' % (line, page)
        self.source = "#define main snippet_%d\n" % number
        if not self.framed:
            self.source += at + text
            return
        self.source += "".join("#include <%s>\n" % h for h in HEADERS)
        if self.framed.group(1) == "app":
            self.source += "static int app(void *arg)\n{\n" + at + text + "return 0;\n}\n"
        else:
            self.source += at + text
        options = "&(weft_options){ .workers = 1, .clock = WEFT_CLOCK_VIRTUAL }" if self.framed.group(2) else "NULL"
        self.source += textwrap.dedent("""\
            int main(void)
            {
                int rc = weft_run(app, NULL, %s);
                if (rc < 0)
                    printf("app: %%s\\n", weft_strerror(rc));
                return rc < 0;
            }
            """) % options

    def run(self, program):
        """What is wrong with it; None if nothing is."""
        try:
            done = subprocess.run([program], env=dict(os.environ, SNIPPET=str(self.number)), stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return "runs for more than %d s" % PATIENCE
        if self.expected is not None and done.stdout != self.expected:
            return "prints\n%s%sinstead of\n%s" % (done.stdout, done.stderr, self.expected)
        may_fail = self.framed and "app: " in (self.expected or "")
        if done.returncode != (1 if may_fail else 0):
            return "ends with %d\n%s%s" % (done.returncode, done.stdout, done.stderr)
        return None


def extract(page, text):
    """The C programs of a page, and what is wrong with its Python."""
    blocks, snippets, faults = list(FENCE.finditer(text)), [], []
    for block, after in zip(blocks, blocks[1:] + [None]):
        line = text.count("\n", 0, block.start()) + 2
        if block.group(1) == "python":
            try:
                compile(block.group(2), page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            except SyntaxError as e:
                faults.append("%s:%d: %s" % (page, line + (e.lineno or 1) - 1, e.msg))
        elif block.group(1) == "c":
            expected = after.group(2) if after and after.group(1) == "text" else None
            snippets.append((page, line, block.group(2), expected))
    return snippets, faults


def build(snippets, library, folder):
    """Two calls of the compiler. Returns the program, and what the compiler has to say if there is none."""
    with open(os.path.join(folder, "all.c"), "w", encoding="utf-8") as f:
        f.write("#include <stdlib.h>\n" + "".join("int snippet_%d();\n" % s.number for s in snippets))
        f.write("int main(int argc, char **argv)\n{\n    const char *which = getenv(\"SNIPPET\");\n")
        f.write("    switch (which ? atoi(which) : 0) {\n")
        f.write("".join("    case %d: return snippet_%d(%s);\n" % (s.number, s.number, s.arguments) for s in snippets))
        f.write("    }\n    return 2;\n}\n")
    for s in snippets:
        with open(os.path.join(folder, "snippet_%d.c" % s.number), "w", encoding="utf-8") as f:
            f.write(s.source)
    compiler = os.environ.get("CC", "cc")
    names = ["snippet_%d" % s.number for s in snippets]
    for command in (
            [compiler, *FLAGS, "-I", os.path.join(ROOT, "include"), "-c"] + [n + ".c" for n in names],
            [compiler, "-w", "-o", "all", "all.c"] + [n + ".o" for n in names] + [library, "-pthread"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr
    return os.path.join(folder, "all"), ""


def look(pages, library, folder):
    """pages: their names and texts. Returns how many programs there are, and all faults."""
    found, faults = [], []
    for page, text in pages:
        more, wrong = extract(page, text)
        found += more
        faults += wrong
    snippets = [Snippet(number, *rest) for number, rest in enumerate(found, 1)]
    program, said = build(snippets, library, folder)
    if not program:
        return len(snippets), faults + [said]
    for s in snippets:
        wrong = s.run(program)
        if wrong:
            faults.append("%s: %s" % (s.where, wrong))
    return len(snippets), faults


# A page, and the fault that is to be found in it; None: there is none.
SEEDS = (
    (None, '```c\n/* in: app */\nputs("a");\n```\n\nprints\n\n```text\na\n```\n'),
    (None, '```c\n#include <weft.h>\nint main(void)\n{\n    return 0;\n}\n```\n\n```python\nawait f()\n```\n'),
    (None, '```c\n/* in: app */\nreturn -EPIPE;\n```\n\n```text\napp: EPIPE: Broken pipe\n```\n'),
    ("instead of\nb", '```c\n/* in: app */\nputs("a");\n```\n\nprints\n\n```text\nb\n```\n'),
    ("page.md:3:1: error", '```c\n/* in: app */\nno_such_call();\n```\n'),
    ("ends with 1", '```c\n/* in: app */\nreturn -EPIPE;\n```\n'),
    ("ends with -6", '```c\n/* in: app */\nputs("a"), fflush(stdout), abort();\n```\n\n```text\na\n```\n'),
    ("page.md:3: ", '```python\na = 1\nb = = 2\n```\n\n```c\n/* in: app */\nputs("a");\n```\n'),
)


def check_the_check(library):
    bad = 0
    for what, text in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            faults = look([("page.md", text)], library, folder)[1]
        seen = any(what in f for f in faults) if what else not faults
        print("%-4s %r" % ("ok" if seen else "BAD", what or "nothing in a good page"))
        if not seen:
            bad += 1
            print("     ", faults)
    return 1 if bad else 0


def main():
    library = os.path.abspath(sys.argv[1])
    if sys.argv[2:] == ["--check-the-check"]:
        return check_the_check(library)
    pages = []
    for page in PAGES:
        with open(os.path.join(ROOT, page), encoding="utf-8") as f:
            pages.append((page, f.read()))
    with tempfile.TemporaryDirectory() as folder:
        keep = os.environ.get("SNIPPETS_KEEP")
        if keep:
            os.makedirs(keep, exist_ok=True)
        count, faults = look(pages, library, keep or folder)
    for fault in faults:
        print(fault)
    print("%d programs, %d faults" % (count, len(faults)))
    return 1 if faults or not count else 0


sys.exit(main())
