#!/usr/bin/env python3
"""header_test.py INCLUDE_DIR - each public header compiles alone, as C11 and C23 and as C++17, with every
compiler that is there, without a warning; and twice in one file."""
import os
import shutil
import subprocess
import sys
import tempfile

WARN = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-fsyntax-only"]
COMPILERS = [
    ("gcc", "c", ["-std=c11"]),
    ("gcc", "c", ["-std=c2x"]),
    ("clang", "c", ["-std=c11"]),
    ("clang", "c", ["-std=c2x"]),
    ("g++", "c++", ["-std=c++17"]),
    ("clang++", "c++", ["-std=c++17"]),
]
# What a user writes in C++, too: names that only a definition would give away, and the macros.
USE = """
static int body(void *arg) { (void)arg; return 0; }
static int user(void)
{
    WEFT_SCOPE(s, weft_ms(5));
    weft_spawn(&s, body, 0);
    weft_scope_options o = {};
    o.name = "inner";
    weft_scope inner;
    weft_scope_begin_with(&inner, WEFT_NEVER, &o);
    return weft_scope_end(&inner, 0);
}
int main(void) { return weft_run(body, 0, 0) + user(); }
"""


def main():
    root = os.path.abspath(sys.argv[1])
    headers = []
    for folder, _, names in sorted(os.walk(root)):
        headers += [os.path.relpath(os.path.join(folder, n), root) for n in sorted(names) if n.endswith(".h")]
    runs = failures = 0
    with tempfile.TemporaryDirectory() as tmp:
        for compiler, language, flags in COMPILERS:
            if not shutil.which(compiler):
                print("no", compiler)
                continue
            for header in headers + [""]:
                path = os.path.join(tmp, "one." + ("c" if language == "c" else "cc"))
                with open(path, "w") as f:
                    if header:
                        f.write("#include <%s>\n" % header * 2)
                        f.write("extern int a_file_needs_a_declaration;\n")
                    else:
                        f.write("#include <weft.h>\n" + USE)
                # An empty initialiser is C23 and a GNU extension before that.
                pedantic = [w for w in WARN if header or w != "-Wpedantic"]
                run = subprocess.run([compiler, "-x", language] + flags + pedantic + ["-I", root, path],
                                     capture_output=True, text=True)
                runs += 1
                if run.returncode != 0:
                    failures += 1
                    print("%s %s: %s\n%s" % (compiler, flags[0], header or "a program", run.stderr))
    print("%d headers, %d compilations, %d failures" % (len(headers), runs, failures))
    return 1 if failures or not headers or not runs else 0


sys.exit(main())
