#!/usr/bin/env python3
"""golden_test.py LIBWEFT [LIBWEFT_TLS] [--update] - what programs that were linked with the libraries rely on is as written
down. Without the second, its symbols are not looked at.

tests/golden/symbols.txt   what the libraries export, each with its version
tests/golden/structs.txt   the structs of the headers: size, and fields in their order

A difference is shown as a diff. One that only adds symbols is no danger. A symbol that is gone or a struct that has
changed breaks programs which were linked before: that needs another minor version (before 1.0; SONAME stays 0) and a
line in docs/CHANGELOG.md. Then --update writes the files anew.
"""
import ctypes
import difflib
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "runtime", "package"))
import symbols  # noqa: E402


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = [line.split()[1:] for line in out.splitlines()]
    return sorted(name.replace("@@", " ") for kind, name in names if kind != "A" or not name.startswith("WEFT_"))


def structs(interface, library):
    size = ctypes.CDLL(library).weft_sizeof
    size.restype, size.argtypes = ctypes.c_size_t, [ctypes.c_char_p]
    for s in interface["structs"]:
        yield "%s, %d bytes" % (s["name"], size(s["name"].encode()))
        for field in s["fields"]:
            yield "    %s: %s" % (field["name"], field["type"])


def main():
    libraries = [os.path.abspath(a) for a in sys.argv[1:] if a != "--update"]
    interface = symbols.read(os.path.join(ROOT, "include"))
    faults = 0
    now = {"symbols.txt": sorted(name for library in libraries for name in exported(library)),
           "structs.txt": list(structs(interface, libraries[0]))}

    def looked_at(name):
        return len(libraries) == 2 or not name.startswith("weft_tls_")

    declared = {f["name"] for f in interface["functions"] if looked_at(f["name"])}
    there = {line.split()[0] for line in now["symbols.txt"]}
    for name in sorted(declared ^ there):
        faults += 1
        print("%s: %s" % (name, "no header declares it" if name in there else "declared, but not exported"))
    for line in now["structs.txt"]:
        if line.endswith(", 0 bytes"):
            faults += 1
            print("%s: weft_sizeof does not know it" % line.split(",")[0])

    for name, lines in now.items():
        path = os.path.join(ROOT, "tests", "golden", name)
        if "--update" in sys.argv:
            with open(path, "w", encoding="utf-8") as f:
                f.write("\n".join(lines) + "\n")
            continue
        with open(path, encoding="utf-8") as f:
            golden = [line for line in f.read().splitlines() if name != "symbols.txt" or looked_at(line)]
        diff = list(difflib.unified_diff(golden, lines, "tests/golden/" + name, "the libraries now", lineterm="", n=1))
        if diff:
            faults += 1
            print("\n".join(diff))
            print("If that is meant (tests/golden_test.py says what it costs): tests/golden_test.py %s --update"
                  % " ".join(os.path.relpath(library, ROOT) for library in libraries))
    print("%d symbols, %d structs, %d faults" % (len(there), len(interface["structs"]), faults))
    return 1 if faults else 0


sys.exit(main())
