#!/usr/bin/env python3
"""Measures what a short request, a timer or a turn waits for beside greedy tasks: weft beside Go and Tokio, in turns.

    bench/tails.py [-n TURNS] [-w CASE,...] [--build DIR] [-o FILE]
    bench/tails.py --smoke [--run PREFIX]     each once, with next to nothing to do; nothing is built

Programs, runs in turns, the JSON file and the share that others took are those of world.py. Every figure is the median of
the runs' percentiles; `of the best peer` is the figure as a part of the lower one of Go's and Tokio's medians.

Coordinated omission: requests and timers are due on a grid that does not wait for the last one, and a latency is counted
from when its request or timer was due. What was not answered 10 s after the end of the load counts with what it has waited.
"""

import sys

import world

HEADS = ["case", "who", "p50 µs", "p99 µs", "p99.9 µs", "most µs", "p99 of the best peer", "p99.9 of the best peer",
         "beside/s", "unanswered"]
PEERS = [("weft", "weft"), ("Go", "world-go"), ("Tokio", "world-tokio")]


def cases(smoke):
    timers, blocked = (1000, 10) if smoke else (1_000_000, 1000)
    servers = [
        ("hogs_1ms", "tails_hogs us=1000"),
        ("hogs_10ms", "tails_hogs us=10000"),
        ("hogs_100ms", "tails_hogs us=100000"),
        ("hogs_10ms_yield", "tails_hogs us=10000 yields=1"),
        ("blocked_syscall", f"tails_blocked ms={blocked}"),
        ("timers_1m_sockets", f"tails_timers n={timers}"),
        ("spawn_storm", "tails_storm"),
    ]
    inside = [("pair_and_third", "tails_pair threads=1"), ("ready_socket_timers", "tails_ready")]
    return [world.Case(name, load, [], [(who, program, words) for who, program in PEERS])
            for load, some in (("tails", servers), (None, inside)) for name, words in some]


def part(mine, best):
    return None if mine is None or not best else mine / best


def rows_of(case, runs):
    """A line of the table for each. `beside` is what was done beside the requests, or beside what was timed."""
    peers = [mine for who, mine in runs.items() if who != "weft"]
    best = {key: min((world.median(mine, key) for mine in peers), default=None) for key in ("p99_us", "p999_us")}
    rows = []
    for who, mine in runs.items():
        figures = {key: world.median(mine, key) for key in ("p50_us", "p99_us", "p999_us", "max_us")}
        beside = world.median(mine, "beside_per_s") if case.load else world.median(mine, "ops_per_s")
        parts = [part(figures[key], best[key]) for key in best]
        rows.append([case.name, who, *map(world.show, [*figures.values(), *parts, beside]),
                     world.show(world.median(mine, "unanswered"))])
    return rows


def main():
    options = world.arguments("Measures tails and fairness beside Go and Tokio.", "tails.json")
    note = "Of two percentiles the lower one is better. `beside/s`: bench/README.md says what is counted in each case."
    return world.run_all(options, cases(options.smoke), HEADS, rows_of, note)


if __name__ == "__main__":
    sys.exit(main())
