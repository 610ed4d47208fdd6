#!/usr/bin/env python3
"""Peer "asyncio" of bench/world.py: programs, by Python's standard library; and of bench/micro.py: its semaphore. It keeps the
contract of the other peers. The child of process_spawn is the program that BENCH_CHILD names."""

import asyncio
import json
import os
import platform
import resource
import statistics
import sys
import time


def cpu_seconds(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def spawn_often(program, each):
    for _ in range(each):
        child = await asyncio.create_subprocess_exec(program)
        status = await child.wait()
        if status != 0:
            raise RuntimeError(f"{program} ended with {status}")


async def process_spawn(n=2000, tasks=1, **_):
    program = os.environ.get("BENCH_CHILD", "/bin/true")
    cpu, children = cpu_seconds(resource.RUSAGE_SELF), cpu_seconds(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    await asyncio.gather(*(spawn_often(program, n // tasks) for _ in range(tasks)))
    seconds, ops = time.perf_counter() - start, n // tasks * tasks
    return {"ops": ops, "seconds": seconds, "ns_per_op": seconds * 1e9 / ops,
            "cpu_s": cpu_seconds(resource.RUSAGE_SELF) - cpu,
            "children_cpu_s": cpu_seconds(resource.RUSAGE_CHILDREN) - children}


async def sem_rounds(n):
    permits = asyncio.Semaphore(1)
    start = time.perf_counter()
    for _ in range(n):
        await permits.acquire()
        permits.release()
    return (time.perf_counter() - start) * 1e9 / n


async def micro(ops=2000000, reps=7, **_):
    """As micro_sync does, with a tenth of the rounds."""
    ops = max(ops // 10, 1)
    ns = sorted([await sem_rounds(ops) for _ in range(reps)])
    return {"workers": 1, "ops": ops, "reps": reps, "ns_min": round(ns[0], 2), "ns_med": round(statistics.median(ns), 2)}


def main():
    name, words = (sys.argv + [""])[1], sys.argv[2:]
    numbers = {key: int(value) for key, _, value in (word.partition("=") for word in words)}
    if name == "list":
        print("micro process_spawn")
    elif name == "version":
        print("Python", platform.python_version())
    elif name == "process_spawn":
        print(json.dumps({"peer": "asyncio", "workload": name, **asyncio.run(process_spawn(**numbers))}))
    elif name == "micro":
        print(json.dumps({"bench": "sync_sem", "peer": "asyncio", **asyncio.run(micro(**numbers))}))
    else:
        sys.exit("usage: peer.py list | version | micro | process_spawn [key=value...]")


main()
