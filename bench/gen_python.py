#!/usr/bin/env python3
"""gen_python.py [ITEMS] [REPS] - what an item from a generator costs in CPython, for the same loop as micro_switch's gen_next.

Prints a line as the other benchmarks do. Does not measure an asynchronous generator, which costs more.
"""
import json
import statistics
import sys
import time


def count_up(n):
    for i in range(n):
        yield i


def measure(items):
    g, n = count_up(items), 0
    start = time.perf_counter()
    for i in g:
        n += i == n
    ns = (time.perf_counter() - start) * 1e9 / items
    if n != items:
        sys.exit("items were lost")
    return ns


def main():
    items = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    ns = sorted(measure(items) for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 7))
    print(json.dumps({"bench": "gen_next_python", "workers": 1, "ops": items, "reps": len(ns), "ns_min": round(ns[0], 2),
                      "ns_med": round(statistics.median(ns), 2)}, separators=(",", ":")))


main()
