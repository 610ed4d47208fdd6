#!/usr/bin/env python3
"""behaviours_test.py [--check-the-check] - tests/behaviours.md names files that are there, and tests that are in them.

A row is `| id | behaviour | shown by |`; the last has "file" or "file: name, name", with "; " between them. Ids are in order,
each once."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROW = re.compile(r"^\| ([A-FL])-(\d+) \| (.+) \| (.+) \|$")
# A line of the page, and a fault that has to be found in it.
SEEDS = [
    ("| A-001 | something | tests/no_such_file.c |", "is not there"),
    ("| A-001 | something | README.md: no_such_name |", "has no no_such_name"),
    ("| A-001 | something |", "is no row"),
    ("| A-002 | something | README.md |\n| A-001 | something | README.md |", "is out of order"),
]


def faults_of(page):
    texts, last = {}, ("A", -1)
    for line in page.splitlines():
        if not re.match(r"\| [A-FL]-", line):
            continue
        row = ROW.match(line)
        if not row:
            yield f"is no row: {line}"
            continue
        name, at = f"{row[1]}-{row[2]}", (row[1], int(row[2]))
        if at <= last:
            yield f"{name} is out of order"
        last = at
        for part in row[4].split("; "):
            path, _, tests = part.partition(": ")
            if path not in texts:
                full = os.path.join(ROOT, path)
                if not os.path.exists(full):
                    yield f"{name}: {path} is not there"
                    continue
                texts[path] = open(full, encoding="utf-8").read() if os.path.isfile(full) else ""
            for test in filter(None, tests.split(", ")):
                if not re.search(r"\b" + re.escape(test) + r"\b", texts[path]):
                    yield f"{name}: {path} has no {test}"


def main():
    if "--check-the-check" in sys.argv:
        blind = [want for seed, want in SEEDS if not any(want in fault for fault in faults_of(seed))]
        for want in blind:
            print(f"not found: {want}")
        print(f"{len(SEEDS) - len(blind)} of {len(SEEDS)} seeded faults found")
        return 1 if blind else 0
    page = open(os.path.join(ROOT, "tests/behaviours.md"), encoding="utf-8").read()
    faults = list(faults_of(page))
    for fault in faults:
        print(fault)
    rows = len(re.findall(r"^\| [A-FL]-", page, re.M))
    print(f"{rows} rows, {len(faults)} faults")
    return 1 if faults or rows == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
