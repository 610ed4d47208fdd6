#!/usr/bin/env python3
"""Measures select, locks and semaphores where nobody has to wait: micro_sync and micro_chan beside Go and asyncio, in turns.

    bench/micro.py [-n TURNS] [--build DIR] [-o FILE]
    bench/micro.py --smoke [--run PREFIX]     each once, with next to nothing to do; nothing is built

Builds what is missing, as world.py does; what cannot be had is passed over, and said so. Prints a table of the least ns for one
round of all turns, which others disturb least, and what part weft's is of the least of the peers'. Every line of every turn is
in the JSON file. Go's semaphore is a channel with a place for each permit, as its standard library has none; asyncio, which has
one thread and neither locks for readers nor a select, takes part with its semaphore. """

import collections
import json
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True

import world

# What is compared, and how often it is done: to measure, and to see that it runs.
LINES = ["select_ready_4", "sync_rwlock_read", "sync_rwlock_write", "sync_sem"]
SIZES = (["ops=2000000", "reps=5"], ["ops=1000", "reps=1"])
PROGRAMS = [("weft", "micro_sync", []), ("weft", "micro_chan", []), ("Go", "world-go", ["micro"]),
            ("asyncio", "world-asyncio", ["micro"])]
HEADS = ["line", "weft", "Go", "asyncio", "weft / the best"]


def find(programs, name):
    return [*programs.prefix, programs.ours(name)] if name.startswith("micro_") else programs.find(name)


def run_all(programs, turns, sizes):
    """Every line of every turn, and how many runs failed."""
    lines, failed, there = [], 0, []
    for who, name, words in PROGRAMS:
        try:
            there.append((who, name, [*find(programs, name), *words, *sizes]))
        except world.Missing as reason:
            print(f"{who}, {name} skipped: {reason}")
    for turn in range(turns):
        for who, name, command in there:
            print(f"{who}, {name}, {turn + 1} of {turns}", file=sys.stderr)
            try:
                out = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=world.LIMIT, check=True).stdout
                lines += [{"who": who, "turn": turn, **json.loads(line)} for line in out.splitlines()]
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                print(f"{who}, {name} failed: {error}")
                failed += 1
    return [line for line in lines if line["bench"] in LINES], failed


def rows_of(lines):
    least = collections.defaultdict(dict)
    for line in lines:
        known = least[line["bench"]].get(line["who"], line["ns_min"])
        least[line["bench"]][line["who"]] = min(known, line["ns_min"])
    for name in LINES:
        mine, best = least[name].get("weft"), min((ns for who, ns in least[name].items() if who != "weft"), default=None)
        part = mine / best if mine and best else None
        yield [name, *(world.show(least[name].get(who)) for who in HEADS[1:4]), world.show(part)]


def main():
    options = world.arguments("Measures select, locks and semaphores beside Go and asyncio.", "micro.json")
    lines, failed = run_all(world.Programs(options), 1 if options.smoke else options.n, SIZES[options.smoke])
    if options.smoke:
        print(f"{len(lines)} lines, {failed} failed")
        return 1 if failed or {line["bench"] for line in lines if line["who"] == "weft"} != set(LINES) else 0
    pathlib.Path(options.o).write_text(json.dumps({"machine": world.machine(), "lines": lines}))
    print(f"\nMachine: {world.machine()}; ns, the least of {options.n} turns.\n")
    print("|", " | ".join(HEADS), "|")
    print("|", " | ".join(["---", *["---:"] * (len(HEADS) - 1)]), "|")
    for row in rows_of(lines):
        print("|", " | ".join(row), "|")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
