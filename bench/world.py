#!/usr/bin/env python3
"""Measures what weft does with the world beside those that a user would take instead, in one run and in turns.

    bench/world.py [-n TURNS] [-w CASE,...] [--build DIR] [--peers DIR] [-o FILE]
    bench/world.py --smoke [--run PREFIX]     each of our programs once, with next to nothing to do; nothing is built

Builds what is missing: weft's programs (into DIR, default build/), the peers of bench/peers/ (into DIR/peers/), and of the
peers in --peers (default $PEERS, see README.md) those that are used here. What cannot be had is passed over, and said so.

A case is run n times by everybody in turns (A B C A B C), so that a slow moment of the machine hits all alike. Prints a
table of the medians, in Markdown; the first of a case is the one that the others are compared with. Every run is in the
JSON file, with the share of the machine that other programs took meanwhile. Fails if any run did.

CPU time is the user's and the system's, of all threads of the process that is measured (with process_spawn, that of its
children, too), not of the load.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import platform
import random
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 120  # seconds that one run may take

# `load`: who loads a server: tcp, udp, proxy, tls; None, it measures itself. `runs`: whose program, and its words.
Case = collections.namedtuple("Case", "name load words runs")
CASES = [
    *(Case(f"echo conns={conns}", "tcp", [f"conns={conns}"],
           [("weft, read and write", "weft", "echo"), ("weft, stream", "weft", "echo stream=1")])
      for conns in (1, 64, 1000)),
    Case("proxy", "proxy", ["conns=1"],
         [("weft", "weft", "proxy"), ("HAProxy, splice", "haproxy", "splice"), ("HAProxy", "haproxy", "")]),
    Case("proxy conns=8", "proxy", ["conns=8"],
         [("weft", "weft", "proxy"), ("HAProxy, splice", "haproxy", "splice"), ("HAProxy", "haproxy", "")]),
    *(Case(f"run_blocking tasks={tasks}", None, [f"tasks={tasks}"],
           [*((name, name, "run_blocking") for name in ("weft", "tokio", "libuv")),
            ("asyncio on uvloop", "asyncio", "run_blocking n=20000")])
      for tasks in (1, 64)),
    *(Case(f"udp_echo window={window}", "udp", [f"window={window}"],
           [("weft, batch=32", "weft", "udp_echo batch=32"), ("weft, batch=1", "weft", "udp_echo batch=1"),
            ("Go", "world-go", "udp_echo"), ("Go, tasks=1", "world-go", "udp_echo tasks=1")])
      for window in (1, 64)),
    *(Case(f"tls_echo {words}", "tls", words.split(),
           [("weft", "tls_peer", "tls_echo"), ("epoll, same OpenSSL", "tls_epoll", "tls_echo"),
            ("Go", "world-go", "tls_echo")])
      for words in ("conns=64", "conns=64 size=4096", "conns=16 handshakes=1")),
    *(Case(f"process_spawn tasks={tasks}", None, [f"tasks={tasks}"],
           [("weft", "weft", "process_spawn"), ("Go", "world-go", "process_spawn"),
            ("asyncio", "world-asyncio", "process_spawn")])
      for tasks in (1, 8)),
    Case("file_read tasks=64", None, ["tasks=64"],
         [("weft", "weft", "file_read"), ("weft, lane=1", "weft", "file_read lane=1"),
          ("Tokio, fs", "world-tokio", "file_read"), ("Tokio, spawn_blocking", "world-tokio", "file_read pread=1")]),
]
SIZES = {  # of a case, a workload, or a load: to measure, and to see that it runs
    "run_blocking tasks=1": (["n=100000"], ["n=640"]),
    "run_blocking tasks=64": (["n=1000000"], ["n=640"]),
    "process_spawn": (["n=2000"], ["n=16"]),
    "file_read": (["n=200000"], ["n=640"]),
    "tcp": (["seconds=3", "warmup=0.5"], []),
    "udp": (["seconds=3", "warmup=0.5"], ["seconds=0.1", "warmup=0.02"]),
    "proxy": (["mib=1024"], ["mib=4"]),
    "tls": (["seconds=3", "warmup=0.5"], ["seconds=0.1", "warmup=0.02"]),
    "tails": (["seconds=2", "warmup=0.3"], ["seconds=0.1", "warmup=0.02", "patience=1"]),
    "tails_pair": (["ms=2000"], ["ms=50"]),
    "tails_ready": (["ms=2000"], ["ms=50"]),
}
HEADS = ["case", "who", "op/s", "least to most", "of the first", "CPU µs/op", "of the first", "p50 µs", "p99 µs"]


class Missing(Exception):
    """What is needed for a run is not there."""


# --- the programs ----------------------------------------------------------------------------

def stale(into, sources):
    """Whether a program has to be made: it is not there, or one of its sources is newer."""
    return not into.exists() or into.stat().st_mtime < max(source.stat().st_mtime for source in sources)


class Programs:
    """Where they are, and how they are made."""

    def __init__(self, options):
        self.build, self.peers, self.smoke = options.build.resolve(), options.peers, options.smoke
        self.prefix = shlex.split(options.run)
        self.known = {}

    def ours(self, name):
        path = self.build / "bench" / name
        if not path.exists() and not self.smoke:
            print(f"building {name}", file=sys.stderr)
            subprocess.run(["cmake", "-S", HERE.parent, "-B", self.build, "-DCMAKE_BUILD_TYPE=Release"],
                           check=True, stdout=sys.stderr)
            subprocess.run(["cmake", "--build", self.build, "--target", name], check=True, stdout=sys.stderr)
        if not path.exists():
            raise Missing(f"{path} is not built")
        return path

    def tool(self, name):
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if not path:
            raise Missing(f"{name} is not installed")
        return path

    def installed(self, name):
        """A peer that others have made: its own failures are no failures of the smoke test."""
        if self.smoke:
            raise Missing(f"{name} is not ours")
        return self.tool(name)

    def peer(self, folder, program):
        """One of --peers."""
        if not self.peers or not (self.peers / folder).is_dir():
            raise Missing(f"there is no {folder} in --peers")
        path = self.peers / folder / program
        if not path.exists() and not self.smoke:
            print(f"building {path}", file=sys.stderr)
            subprocess.run(["make", "-C", self.peers / folder], stdout=sys.stderr)
        if not path.exists():
            raise Missing(f"{path} is not built")
        return path

    def started(self, path):
        """One that is not compiled: whether all that it needs is there."""
        if subprocess.run([path, "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            raise Missing(f"{path} does not run")
        return path

    def go(self):
        into, sources = self.build / "peers/go", sorted((HERE / "peers/go").glob("*.go"))
        if not self.smoke and stale(into, sources):
            print("building bench/peers/go", file=sys.stderr)
            subprocess.run([self.tool("go"), "build", "-o", into, *sources],
                           env={**os.environ, "GOWORK": "off"}, stdout=sys.stderr)
        if stale(into, sources):
            raise Missing(f"{into} is not built, or older than its sources")
        return into

    def cargo(self):
        """Outside of the sources, which get no lock file so. Debian's crates where they are installed."""
        folder = self.build / "peers/tokio"
        into = folder / "target/release/peer"
        sources = [HERE / "peers/tokio/Cargo.toml", *(HERE / "peers/tokio/src").glob("*.rs")]
        if not self.smoke and stale(into, sources):
            print("building bench/peers/tokio", file=sys.stderr)
            shutil.copytree(HERE / "peers/tokio", folder, dirs_exist_ok=True)
            words = []
            if list(pathlib.Path("/usr/share/cargo/registry").glob("tokio-1*")):
                words = ["--offline", "--config", 'source.crates-io.replace-with="debian"',
                         "--config", 'source.debian.directory="/usr/share/cargo/registry"']
            subprocess.run([self.tool("cargo"), "build", "--release", *words], cwd=folder, stdout=sys.stderr)
        if stale(into, sources):
            raise Missing(f"{into} is not built, or older than its sources")
        return into

    def find(self, name):
        makers = {
            "weft": lambda: [*self.prefix, self.ours("weft-peer")],
            "go": lambda: [self.peer("go", "peer")],
            "tokio": lambda: [self.peer("tokio", "peer")],
            "libuv": lambda: [self.peer("libuv", "peer")],
            "asyncio": lambda: [self.started(self.peer("asyncio", "peer"))],
            "haproxy": lambda: [self.installed("haproxy")],
            "world-go": lambda: [self.go()],
            "world-tokio": lambda: [self.cargo()],
            "world-asyncio": lambda: [sys.executable, HERE / "peers/asyncio/peer.py"],
            "tcp_load": lambda: [self.peer("load", "echo_load")],
            "udp_load": lambda: [self.ours("udp_load")],
            "proxy_load": lambda: [self.ours("proxy_load")],
            "tls_load": lambda: [self.ours("tls_load")],
            "tails_load": lambda: [self.ours("tails_load")],
            "tls_peer": lambda: [*self.prefix, self.ours("tls_peer")],
            "tls_epoll": lambda: [self.ours("tls_epoll")],
        }
        if name not in self.known:
            self.known[name] = makers[name]()
        return self.known[name]

    def version(self, name):
        if name == "haproxy":
            return subprocess.check_output([*self.find(name), "-v"], text=True).splitlines()[0]
        return subprocess.check_output([*self.find(name), "version"], text=True).strip()


# --- one run ---------------------------------------------------------------------------------

def free_ports(n):
    """Below those that the kernel hands out, so that nobody gets one in between who asked for any."""
    with contextlib.ExitStack() as all_probes:
        ports = []
        while len(ports) < n:
            port = random.randrange(10000, 32000)
            probes = [all_probes.enter_context(socket.socket(type=kind))
                      for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
            with contextlib.suppress(OSError):
                for probe in probes:
                    probe.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(command, env=None):
    server = subprocess.Popen(command, stdout=sys.stderr, env=env)
    try:
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


def last_json(command, env=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT, env=env)
    if done.returncode:
        raise RuntimeError(f"{pathlib.Path(command[0]).name}: exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def connect(server, port):
    """A connection, once the server is there."""
    end = time.monotonic() + 60  # that of tails_timers first spawns a million tasks
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError("there is no server") from None
        time.sleep(0.02)


def converse(server, port, conns):
    """A few messages on each of some connections, all of which have to come back: what the smoke test has for a load."""
    start = time.monotonic()
    sockets = [connect(server, port) for _ in range(min(conns, 20))]
    ops = 0
    for turn in range(10):
        for one in sockets:
            sent, got = random.randbytes(1 + turn * 777), b""
            one.sendall(sent)
            while len(got) < len(sent):
                got += one.recv(65536) or b"?" * len(sent)
            if got != sent:
                raise RuntimeError("what came back is not what was sent")
            ops += 1
    for one in sockets:
        one.close()
    seconds = time.monotonic() - start
    return {"ops": ops, "seconds": seconds, "ns_per_op": seconds * 1e9 / ops}


def haproxy_file(folder, words, port, to):
    path = pathlib.Path(folder) / "haproxy.cfg"
    splice = "option splice-auto" if "splice" in words else ""
    path.write_text(f"""
global
    nbthread 2
    maxconn 1000
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    {splice}
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server one 127.0.0.1:{to}
""")
    return path


def certificate(programs, folder):
    """Of a server, with its key: for BENCH_CERT."""
    path = pathlib.Path(folder) / "cert.pem"
    subprocess.run([programs.tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", path, "-out", f"{path}.1"],
                   check=True, stderr=subprocess.DEVNULL)
    path.write_text(path.read_text() + pathlib.Path(f"{path}.1").read_text())
    return str(path)


def run_server(programs, case, program, words, sizes):
    port, to = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:
        command = [*programs.find(program), *words, f"port={port}"]
        if program == "haproxy":
            command = [*programs.find(program), "-db", "-f", haproxy_file(folder, words, port, to)]
        elif case.load == "proxy":
            command.append(f"to={to}")
        load = None
        if case.load != "tcp" or not programs.smoke:
            load = [*programs.find(f"{case.load}_load"), *case.words, *sizes, f"port={port}", f"to={to}"]
        env = {**os.environ, "BENCH_CERT": certificate(programs, folder)} if case.load == "tls" else None
        with serving(command, env) as server:
            if case.load in ("tcp", "tails"):
                connect(server, port).close()
            before = cpu_seconds(server.pid)
            result = last_json(load) if load else converse(server, port, int(case.words[0].partition("=")[2]))
            result["cpu_s"] = cpu_seconds(server.pid) - before
    return result


def run_once(programs, case, program, words):
    sizes = SIZES.get(case.name) or SIZES[case.load or words[0]]
    sizes = sizes[programs.smoke]
    if case.load:
        return run_server(programs, case, program, words, sizes)
    env = {**os.environ, "BENCH_CHILD": str(programs.ours("nothing"))} if words[0] == "process_spawn" else None
    return last_json([*programs.find(program), words[0], *case.words, *sizes, *words[1:]], env)


def busy_seconds():
    """What the whole machine has worked, and what finished children have."""
    fields = pathlib.Path("/proc/stat").read_text().split()
    ticks = sum(map(int, fields[1:9])) - int(fields[4]) - int(fields[5])  # idle, iowait
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ticks / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def measure(programs, case, program, words):
    start, (busy, own) = time.monotonic(), busy_seconds()
    result = run_once(programs, case, program, words)
    capacity = (time.monotonic() - start) * os.cpu_count()
    busy_end, own_end = busy_seconds()
    others = (busy_end - busy - (own_end - own)) / capacity
    cpu = result["cpu_s"] + result.get("children_cpu_s", 0)
    return {**result, "ops_per_s": result["ops"] / result["seconds"], "others_share": round(max(others, 0), 3),
            "cpu_us_per_op": cpu * 1e6 / result.get("ops_with_warmup", result["ops"])}


# --- all of them -----------------------------------------------------------------------------

def run_case(programs, case, turns, report):
    """The runs of each; appends them to the report. Returns them by label, and how many failed."""
    runs, failed, labels = collections.defaultdict(list), 0, []
    for label, program, words in case.runs:
        try:
            programs.find(program)
            if case.load and not (case.load == "tcp" and programs.smoke):
                programs.find(f"{case.load}_load")
            labels.append((label, program, words))
        except Missing as reason:
            print(f"{case.name}: {label} skipped: {reason}")
    for turn in range(turns):
        for label, program, words in labels:
            print(f"{case.name}: {label}, {turn + 1} of {turns}", file=sys.stderr)
            try:
                run = measure(programs, case, program, words.split())
                runs[label].append(run)
                report.append({"case": case.name, "who": label, **run})
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{case.name}: {label} failed: {error}")
                report.append({"case": case.name, "who": label, "error": str(error)})
                failed += 1
    return runs, failed


def show(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"


def median(runs, key):
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if values else None


def rows_of(case, runs):
    """A line of the table for each; rates and CPU times also as parts of those of the first."""
    rows, first = [], None
    for label, mine in runs.items():
        rate, cpu = median(mine, "ops_per_s"), median(mine, "cpu_us_per_op")
        rates = [run["ops_per_s"] for run in mine]
        first = first or (rate, cpu)
        rows.append([case.name, label, show(rate), f"{show(min(rates))} to {show(max(rates))}", show(rate / first[0]),
                     show(cpu), show(cpu / first[1] if first[1] else None), show(median(mine, "p50_us")),
                     show(median(mine, "p99_us"))])
    return rows


def machine():
    cpus = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in cpus if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 2**30
    return f"{os.cpu_count()} × {model}, {gib:.0f} GiB, Linux {platform.release()}"


def print_table(report, heads, rows, turns, note):
    shares = [run["others_share"] for run in report["runs"] if "others_share" in run] or [0]
    print(f"\nMachine: {report['machine']}; medians of {turns}. Meanwhile other programs took"
          f" {statistics.median(shares):.0%} of it (median; at most {max(shares):.0%}).\n")
    for version in report["versions"].values():
        print(f"- {version}")
    print(f"\n{note}\n")
    print("|", " | ".join(heads), "|")
    print("|", " | ".join(["---", "---", *["---:"] * (len(heads) - 2)]), "|")
    for row in rows:
        print("|", " | ".join(row), "|")


def arguments(description, out):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-n", type=int, default=5, help="runs of each case (5)")
    parser.add_argument("-w", metavar="CASES", help="comma-separated: workloads, or whole cases")
    parser.add_argument("-o", metavar="FILE", default=out, help=out)
    parser.add_argument("--build", metavar="DIR", type=pathlib.Path, default=HERE.parent / "build", help="build/")
    peers = os.environ.get("PEERS")
    parser.add_argument("--peers", metavar="DIR", type=pathlib.Path, default=pathlib.Path(peers) if peers else None)
    parser.add_argument("--smoke", action="store_true", help="see that each program runs; nothing is built or written")
    parser.add_argument("--run", metavar="PREFIX", default="", help="put before weft's programs (an emulator)")
    return parser.parse_args()


def run_all(options, cases, heads, rows_of, note):
    """What main() does, here and in tails.py: runs what was asked for, writes the file, prints the table."""
    turns = 1 if options.smoke else options.n
    asked = options.w and options.w.split(",")
    cases = [case for case in cases if not asked or case.name in asked or case.name.split()[0] in asked]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended
    programs, rows, failed = Programs(options), [], 0
    report = {"machine": machine(), "versions": {}, "runs": []}
    for case in cases:
        runs, wrong = run_case(programs, case, turns, report["runs"])
        rows += rows_of(case, runs)
        failed += wrong
        if not options.smoke:
            named = {program for _, program, _ in case.runs if program in programs.known}
            report["versions"].update({name: programs.version(name) for name in named})
            pathlib.Path(options.o).write_text(json.dumps(report, indent=1))
    if options.smoke:
        print(f"{len(report['runs']) - failed} ran, {failed} failed")
    else:
        print_table(report, heads, rows, turns, note)
    return 1 if failed else 0


def main():
    options = arguments("Measures weft and the world beside its peers.", "world.json")
    return run_all(options, CASES, HEADS, rows_of, "An op of `proxy` is a MiB that has arrived.")


if __name__ == "__main__":
    sys.exit(main())
