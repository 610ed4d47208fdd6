"""Measures for bench/report: what is run, in which order, within which time, and how the runs are kept.

Owns      the list of steps, the time that they may take, the file of results. Not what the results mean.
Callers   bench/report.
Holds     M1  a step is one case run once by everybody, one right after the other; a turn is every step once. So what is compared
              was measured within the same minute, and each case's runs are spread over the whole time. A section with
              fewer turns than another has them in the last ones.
          M2  the file is whole after each step, and a step that is in it is not run again.
          M3  no step is begun that would end beyond the time, by what it took the last time; and each run has a limit.
Source    the peers' own `run` for the heart, world.py for the world; the rest is run from here, by the peers' contract. """

import argparse
import collections
import contextlib
import hashlib
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

import world

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 60  # seconds that one run from here may take
STEP_LIMIT = 400  # and one step by another program
MINUTES = {False: 56, True: 8.5}  # for all steps together, by `quick`: the rest is for the start and the pictures
PEERS = ["go", "tokio", "boost-fiber", "tbb", "asyncio"]
# These are given less to do than the others, so that they do not take most of the time: SMALLER of what a quick look gives those.
SLOW = ["boost-fiber", "asyncio"]
SMALLER = {False: 10, True: 40}  # by `quick`
NOT_QUICK = ["timers n=100000", "idle_memory n=100000"]  # for these, whose size is in the name
FORMAT = 1

# What the peers' `run` is asked for, and more words for a quick look (None: not in that). A workload's bare name asks for all
# of its cases, there as with world.py.
HEART = [
    ("spawn_join", "n=400000"), ("spawn_many", "n=300000"), ("fib", "n=27"),
    ("fib threads=1", "n=27"), ("skynet", "leaves=100000"),
    ("yield tasks=2", "n=4000000"), ("yield tasks=3", "n=4000000"), ("yield tasks=1000", "n=4000000"),
    ("pingpong pairs=1", "n=1000000"), ("pingpong pairs=1000", "n=1000000"), ("chan_mpmc", "n=4000000"),
    ("mutex hold=0", "n=4000000"), ("mutex hold=1", "n=1000000"), ("timers n=100000", ""), ("timers n=1000000", None),
    ("timers n=1000000 rounds=2", None), ("timer_churn pending=0", "n=1000000"), ("timer_churn pending=1", "n=400000"),
    ("idle_memory n=100000", ""), ("idle_memory n=1000000", None), ("echo conns=1", None), ("echo conns=64", ""),
    ("echo conns=1000", ""), ("echo conns=64 work_us=20", None), ("echo conns=64 work_us=100", None),
    ("echo conns=1 hogs=1", None), ("echo conns=64 hogs=1", None),
]
# Cases that the peers' `run` does not have by name: which of its own, and the words for it.
OWN_CASES = {"fib threads=1": ("fib", "threads=1")}
WORLD_QUICK = ["proxy conns=8", "run_blocking tasks=64", "tls_echo conns=64", "process_spawn tasks=8", "file_read tasks=64"]

# The curves over the number of workers: a workload with its words, and the sizes for weft and for the others.
WORKERS = {False: [1, 2, 4, 8, 16, 32, 64], True: [1, 2, 8, 64]}  # by `quick`
SCALING = [("fib", "n=29", "n=26"), ("yield", "n=4000000", "n=2000000"), ("pingpong pairs=1000", "n=400000", "n=400000"),
           ("pingpong pairs=1", "n=400000", "n=400000"), ("chan_mpmc", "n=2000000", "n=2000000"),
           ("mutex", "n=4000000", "n=4000000"), ("mutex hold=1", "n=400000", "n=400000"),
           ("timers", "n=100000", "n=100000"), ("echo conns=64", "", "")]
# And over the number of tasks: what is to be counted, and the words for so many.
COUNTS = {False: [10, 1000, 100000, 1000000], True: [10, 1000, 100000]}
COUNTED = {
    "yield tasks": lambda n: f"yield tasks={n} n={max(2000000, 2 * n)}",
    "idle_memory n": lambda n: f"idle_memory n={n}",
    "timers n": lambda n: f"timers n={n}",
    "waiters n": lambda n: f"waiters n={n}",
}
CONNECTIONS = [1, 10, 100, 1000, 10000]
MICRO = ["micro_switch", "micro_wake", "micro_chan", "micro_sync", "micro_deque", "micro_mutex"]
SECTIONS = ["heart", "world", "scaling", "counts", "memory", "micro", "tails"]
TURNS = {"heart": None, "world": 3, "scaling": 3, "counts": 3, "memory": 3, "micro": 2, "tails": 3}  # None: -n
TURNS_QUICK = {"heart": 3, "world": 3, "scaling": 1, "counts": 1, "memory": 1, "micro": 1, "tails": 1}

Step = collections.namedtuple("Step", "section case do")


# --- programs --------------------------------------------------------------------------------

def quit_quietly(process):
    """As a user would by the keyboard: so the program ends what it has started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def call(command, limit, **more):
    """Its standard output. Fails by RuntimeError, in bounded time; leaves nothing running when it is interrupted."""
    name = pathlib.Path(command[0]).name
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=said, text=True,
                              process_group=0, **more) as process:
            try:
                out, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{name} took more than {limit} s") from None
            finally:
                quit_quietly(process)
        said.seek(0)
        if process.returncode:
            last = said.read().strip().splitlines()[-1:] or [""]
            raise RuntimeError(f"{name}: exit status {process.returncode}: {last[0]}")
        return out


class Programs:
    """What there is to measure, and what is missing, and why."""

    def __init__(self, options):
        self.build, self.peers, self.missing = options.build.resolve(), options.peers, []
        self.known, self.of_world = {}, {}

    def prepare(self, sections):
        """Builds weft and installs and builds the peers, where that was not done."""
        wanted = ["weft-peer", *MICRO]
        if not all((self.build / "bench" / name).exists() for name in wanted):
            self.make_weft(wanted)
        self.known["weft"] = self.build / "bench/weft-peer"
        self.prepare_peers()
        if "world" in sections:
            self.make_world()

    def prepare_peers(self):
        if not self.peers:
            self.missing.append("every peer of the heart: no --peers was given")
            return
        self.peers = self.peers.resolve()
        self.make_peers([name for name in [*PEERS, "libuv", "load"] if not self.runs(name)])
        for name in PEERS:
            if self.runs(name):
                self.known[name] = self.peer(name)
            else:
                self.missing.append(f"{name}: {self.peer(name)} could not be built, or does not run")

    def runs(self, name):
        """Whether it is there with all that it needs, which for one that is not compiled only its start tells."""
        if name == "load" or not self.peer(name).exists():
            return self.peer(name).exists()
        with contextlib.suppress(OSError, RuntimeError):
            return bool(call([self.peer(name), "version"], LIMIT).strip())
        return False

    def peer(self, name):
        return self.peers / name / ("echo_load" if name == "load" else "peer")

    def make_weft(self, names):
        print("building weft", file=sys.stderr)
        subprocess.run(["cmake", "-S", HERE.parent, "-B", self.build, "-DCMAKE_BUILD_TYPE=Release"], check=True,
                       stdout=sys.stderr)
        subprocess.run(["cmake", "--build", self.build, "--parallel", str(os.cpu_count()), "--target", *names],
                       check=True, stdout=sys.stderr)

    def make_peers(self, names):
        """A peer that cannot be had is one that the report says is missing."""
        if not names:
            return
        print(f"installing and building {', '.join(names)}: this takes a while, once", file=sys.stderr)
        subprocess.run([self.peers / "install"], stdout=sys.stderr)
        for name in names:
            subprocess.run([self.peers / "build", name], stdout=sys.stderr)

    def make_world(self):
        """What world.py would build in its first turn."""
        theirs = world.Programs(argparse.Namespace(build=self.build, peers=self.peers, smoke=False, run=""))
        loads = [f"{case.load}_load" for case in world.CASES if case.load]
        for name in dict.fromkeys([program for case in world.CASES for _, program, _ in case.runs] + loads):
            try:
                theirs.find(name)
                if not name.endswith("_load"):
                    self.of_world[name] = theirs.version(name)
            except (world.Missing, OSError, subprocess.SubprocessError) as reason:
                self.missing.append(f"{name} of the world: {reason}")

    def versions(self):
        heart = {name: call([program, "version"], LIMIT).strip() for name, program in self.known.items()}
        heart["weft"] += f" ({self.how_built()})"
        return {**self.of_world, **heart}

    def how_built(self):
        """Of weft: the commit, if it is known, and the kind of build."""
        words = []
        with contextlib.suppress(OSError, RuntimeError):
            words.append(call(["git", "-C", HERE, "describe", "--always", "--dirty"], LIMIT).strip())
        with contextlib.suppress(OSError):
            lines = (self.build / "CMakeCache.txt").read_text().splitlines()
            words += [line.partition("=")[2] for line in lines if line.startswith(("CMAKE_BUILD_TYPE:", "CMAKE_C_COMPILER:"))]
        return ", ".join(words)

    def fingerprint(self):
        """Runs of another weft do not belong to these."""
        return hashlib.sha256((self.build / "bench/weft-peer").read_bytes()).hexdigest()[:16]


# --- one run from here -----------------------------------------------------------------------

@contextlib.contextmanager
def serving(command, port):
    server = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              process_group=0)
    try:
        world.connect(server, port).close()
        yield server
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def run_workload(programs, who, words):
    return json.loads(call([programs.known[who], *words], LIMIT).splitlines()[-1])


def run_echo(programs, who, words, seconds):
    """The server by its words, under the load of `conns=`."""
    load = programs.peer("load") if programs.peers else None
    if not load or not load.exists():
        raise RuntimeError("the load of echo is one of --peers")
    conns = [word for word in words if word.startswith("conns=")]
    [port] = world.free_ports(1)
    command = [programs.known[who], "echo", f"port={port}", *(word for word in words if word not in conns)]
    with serving(command, port) as server:
        before = world.cpu_seconds(server.pid)
        out = call([load, f"port={port}", *conns, f"seconds={seconds}", "warmup=0.3"], LIMIT)
        result = json.loads(out.splitlines()[-1])
        cpu = world.cpu_seconds(server.pid) - before
    return {**result, "cpu_s": cpu, "cpu_us_per_op": cpu * 1e6 / result["ops_with_warmup"]}


def run_idle_clients(programs, who, n):
    """n connections from here to an echo server, each used once. What they occupy there, and what is left of it three seconds
    after they have gone, or later while it still falls."""
    [port] = world.free_ports(1)
    with serving([programs.known[who], "echo", f"port={port}"], port) as server, contextlib.ExitStack() as clients:
        time.sleep(0.3)
        before = resident_bytes(server.pid)
        for _ in range(n):
            one = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            one.sendall(b"?")
            if one.recv(1) != b"?":
                raise RuntimeError("what came back is not what was sent")
        time.sleep(0.3)
        waiting = resident_bytes(server.pid)
        clients.close()
        gone = since = time.monotonic()
        least = waiting
        while time.monotonic() < min(max(since + 0.5, gone + 3), gone + 10):
            time.sleep(0.05)
            if resident_bytes(server.pid) < least:
                least, since = resident_bytes(server.pid), time.monotonic()
    return {"ops": n, "bytes_per_task": (waiting - before) / n, "left_per_task": (least - before) / n}


def measured(do, *words):
    """A run, with the share of the machine that others took meanwhile."""
    start, (busy, own) = time.monotonic(), world.busy_seconds()
    result = do(*words)
    capacity = (time.monotonic() - start) * os.cpu_count()
    busy_end, own_end = world.busy_seconds()
    others = (busy_end - busy - (own_end - own)) / capacity
    return {**result, "others_share": round(max(others, 0), 3)}


def each_who(whos, do):
    """The runs of a step: one by each, in turn. `do` gives a run's figures."""
    runs = []
    for who in whos:
        try:
            runs.append({"who": who, **measured(do, who)})
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            runs.append({"who": who, "error": str(error)})
    return runs


# --- the steps -------------------------------------------------------------------------------

def offers(programs):
    return {name: call([program, "list"], LIMIT).split() for name, program in programs.known.items()}


def by_file(command):
    """What a program writes to the file that `-o` names."""
    with tempfile.TemporaryDirectory() as folder:
        into = pathlib.Path(folder) / "out.json"
        call([*command, "-o", into], STEP_LIMIT)
        return json.loads(into.read_text())


def smaller(words, quick):
    """A part of that size; of skynet's, a power of ten, a tenth or a hundredth; of fib's, which is an exponent, some less."""
    if not words:
        return ""
    key, _, size = words.partition("=")
    part = SMALLER[quick] if key != "leaves" else 100 if quick else 10
    return f"{key}={int(size) - 5 - 2 * quick if int(size) < 100 else int(size) // part}"


def heart_step(programs, quick, case, more):
    name, words = OWN_CASES.get(case, (case, ""))
    fast = {who: program for who, program in programs.known.items() if who not in SLOW}
    slow = {who: program for who, program in programs.known.items() if who in SLOW and not (quick and case in NOT_QUICK)}
    groups = [(fast, f"{words} {more}" if quick else words), (slow, f"{words} {smaller(more, quick)}")]

    def do():
        runs = []
        for known, words in groups:
            whos = ",".join(f"{who}={program}" for who, program in known.items())
            command = [programs.peers / "run", "-n", 1, "-w", name, "-a", words.strip(), "-p", whos]
            runs += by_file(command)["runs"] if known else []
        return [{**run, "case": case, "who": run["peer"]} for run in runs]
    return Step("heart", case, do)


def world_step(programs, case):
    def do():
        command = [sys.executable, HERE / "world.py", "-n", 1, "-w", case, "--build", programs.build]
        return by_file([*command, "--peers", programs.peers] if programs.peers else command)["runs"]
    return Step("world", case, do)


def curve_step(section, series, x, whos, do):
    def all_of_them():
        return [{**run, "series": series, "x": x} for run in each_who(whos, do)]
    return Step(section, f"{series} {x}", all_of_them)


def scaling_steps(programs, offered, quick):
    for words, size, size_others in SCALING:
        name, *more = words.split()
        whos = [who for who in ("weft", "go", "tokio") if name in offered.get(who, [])]
        for workers in WORKERS[quick]:
            def do(who, name=name, more=more, workers=workers, sizes=(size, size_others)):
                if name == "echo":
                    return run_echo(programs, who, [*more, f"threads={workers}"], 0.5 if quick else 1.5)
                size = sizes[who != "weft"]
                return run_workload(programs, who, [name, *more, size, f"threads={workers}"])
            yield curve_step("scaling", words, workers, whos, do)


def counts_steps(programs, offered, quick):
    for series, words_for in COUNTED.items():
        whos = [who for who in ("weft", "go", "tokio") if series.split()[0] in offered.get(who, [])]
        for n in COUNTS[quick]:
            yield curve_step("counts", series, n, whos,
                             lambda who, words=words_for(n): run_workload(programs, who, words.split()))
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200
    for conns in sorted({min(conns, room) for conns in CONNECTIONS}):
        whos = [who for who in ("weft", "go", "tokio") if "echo" in offered.get(who, [])]
        yield curve_step("counts", "echo conns", conns, whos,
                         lambda who, conns=conns: run_echo(programs, who, [f"conns={conns}"], 0.5 if quick else 1.5))


def memory_steps(programs, offered):
    for words in ("idle_memory n=100000", "waiters n=100000", "idle_connections n=5000"):
        whos = [who for who in ("weft", "go", "tokio") if words.split()[0] in offered.get(who, [])]
        yield Step("memory", words, lambda whos=whos, words=words: each_who(
            whos, lambda who: run_workload(programs, who, words.split())))
    whos = [who for who in ("weft", "go", "tokio") if "echo" in offered.get(who, [])]
    yield Step("memory", "echo, 2000 clients", lambda: each_who(whos, lambda who: run_idle_clients(programs, who, 2000)))


def micro_step(programs, name):
    def do():
        run = measured(lambda: {"lines": call([programs.build / "bench" / name], LIMIT).splitlines()})
        return [{"who": "weft", "series": result["bench"], "others_share": run["others_share"], **result}
                for result in map(json.loads, run["lines"])]
    return Step("micro", name, do)


def tails_steps(programs):
    """Of tails.py, if it is there: it takes the words of world.py, writes the same file, and says what cases() it has."""
    with contextlib.suppress(ImportError):
        import tails
        for case in tails.cases(False):
            def do(case=case.name):
                command = [sys.executable, HERE / "tails.py", "-n", 1, "-w", case, "--build", programs.build]
                return by_file([*command, "--peers", programs.peers] if programs.peers else command)["runs"]
            yield Step("tails", case.name, do)


def all_steps(programs, sections, quick):
    offered, steps = offers(programs), []
    if "heart" in sections and programs.peers:
        steps += [heart_step(programs, quick, case, more) for case, more in HEART
                  if case.split()[0] in offered["weft"] and not (quick and more is None)]
    if "world" in sections:
        names = [case.name for case in world.CASES]
        steps += [world_step(programs, name) for name in names
                  if (name in WORLD_QUICK if quick else " " not in name or name.split()[0] not in names)]
    if "memory" in sections:
        steps += memory_steps(programs, offered)
    if "micro" in sections:
        steps += [micro_step(programs, name) for name in (MICRO[:2] if quick else MICRO)
                  if (programs.build / "bench" / name).exists()]
    if "scaling" in sections:
        steps += scaling_steps(programs, offered, quick)
    if "counts" in sections:
        steps += counts_steps(programs, offered, quick)
    if "tails" in sections:
        steps += tails_steps(programs)
    return steps


# --- the file of results ---------------------------------------------------------------------

class Results:
    """M2. What is in the file belongs to the same plan, or is put aside."""

    def __init__(self, path, plan):
        self.path, self.data = path, None
        with contextlib.suppress(OSError, ValueError):
            self.data = json.loads(path.read_text())
        if self.data and (self.data.get("plan") != plan or self.data.get("finished")):
            os.replace(path, f"{path}.old")
            print(f"{path} is of another plan, or finished: it is {path}.old now", file=sys.stderr)
            self.data = None
        if self.data:
            print(f"going on with {path}: {len(self.data['done'])} steps are done", file=sys.stderr)
        else:
            self.data = {"format": FORMAT, "plan": plan, "machine": world.machine(), "began": time.time(), "spent_s": 0.0,
                         "finished": False, "done": [], "left_out": 0, "runs": []}
        self.done = {tuple(key) for key in self.data["done"]}

    def save(self):
        beside = self.path.with_name(self.path.name + ".part")
        beside.write_text(json.dumps(self.data))
        os.replace(beside, self.path)

    def keep(self, step, turn, runs, seconds):
        for run in runs:
            self.data["runs"].append({"case": step.case, **run, "section": step.section, "turn": turn})
        self.data["spent_s"] += seconds
        self.data["done"].append([step.section, step.case, turn])
        self.done.add((step.section, step.case, turn))
        self.save()


def run_step(step):
    """Its runs. A step that fails as a whole is a run that failed."""
    try:
        return step.do()
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        return [{"who": "weft", "error": str(error)}]


def measure_all(results, steps, turns, seconds):
    """M1 and M3. A step that does not fit is left out, and counted."""
    took, most = {}, max((turns[step.section] for step in steps), default=0)
    for turn in range(most):
        for step in steps:
            key = (step.section, step.case, turn)
            if turn < most - turns[step.section] or key in results.done:
                continue
            if results.data["spent_s"] + took.get(step[:2], 5) > seconds:
                results.data["left_out"] += 1
                continue
            print(f"{results.data['spent_s'] / 60:5.1f} min  turn {turn + 1}  {step.section}: {step.case}",
                  file=sys.stderr)
            start = time.monotonic()
            runs = run_step(step)
            took[step[:2]] = time.monotonic() - start
            results.keep(step, turn, runs, took[step[:2]])
    results.data["finished"] = True
    results.save()


def measure(options):
    """Everything; returns the results."""
    programs = Programs(options)
    sections = options.only or SECTIONS
    programs.prepare(sections)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    turns = {**(TURNS_QUICK if options.quick else TURNS)}
    if options.runs:
        turns = {section: options.runs if section == "heart" else min(n or 1, options.runs)
                 for section, n in turns.items()}
    turns["heart"] = turns["heart"] or 5
    plan = {"weft": programs.fingerprint(), "quick": options.quick, "turns": turns, "sections": sections,
            "peers": sorted(programs.known)}
    results = Results(options.output, plan)
    results.data.update(versions=programs.versions(), missing=programs.missing, left_out=0)
    seconds = 60 * MINUTES[options.quick]
    measure_all(results, all_steps(programs, sections, options.quick), turns, seconds)
    return results.data
