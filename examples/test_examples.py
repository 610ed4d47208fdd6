#!/usr/bin/env python3
"""Runs every example and checks what it does; examples/CMakeLists.txt registers it as the test `examples`.

    test_examples.py BIN [NAME ...]      BIN: the folder with the programs; NAME: only these checks

Everything stays on 127.0.0.1, on ports that the programs choose themselves. Whatever is started is ended by
its pid, also when a check fails. EXAMPLES_RUN is put before each program (an emulator).
"""
import hashlib
import os
import pty
import random
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds that no step needs, on any machine, under any sanitizer
BIN = Path()


def command(name, *args):
    return shlex.split(os.environ.get("EXAMPLES_RUN", "")) + [str(BIN / name), *map(str, args)]


def run(name, *args, expect=0):
    done = subprocess.run(command(name, *args), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == expect, f"{name} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Program:
    """A running program that prints where it listens."""

    def __init__(self, name, *args):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # a pipe could fill up
        self.process = subprocess.Popen(command(name, *args), stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)

    def __enter__(self):
        try:
            line = self.process.stdout.readline()
            assert line.startswith("listening on "), f"{self.name} said {line!r}"
            host, _, port = line.split()[-1].rpartition(":")
            self.where = (host, int(port))
            return self
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def end(self, signo=None, expect=0):
        """Waits for its end; returns what it printed to stdout and stderr."""
        if signo is not None:
            self.process.send_signal(signo)
        out, _ = self.process.communicate(timeout=PATIENCE)
        err = self.complaints()
        assert self.process.returncode == expect, \
            f"{self.name} ended with {self.process.returncode}\n{out}{err}"
        return out, err

    def complaints(self):
        self.errors.seek(0)
        return self.errors.read()

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        if not self.process.stdout.closed:
            out, _ = self.process.communicate()
            if kind is not None:
                sys.stderr.write(out + self.complaints())
        self.errors.close()

    def connect(self):
        s = socket.create_connection(self.where, timeout=PATIENCE)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s


def read_all(s):
    data = bytearray()
    while chunk := s.recv(65536):
        data += chunk
    return bytes(data)


def reset(s):
    """Closes with a reset instead of an end."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def all_at_once(n, work):
    """Runs work(0) to work(n - 1) in threads; raises what any of them raised."""
    failed = []

    def guarded(i):
        try:
            work(i)
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=guarded, args=(i,), daemon=True) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive(), "hangs"
    if failed:
        raise failed[0]


# --- the small programs ---------------------------------------------------------------------


def check_hello():
    readme = (ROOT / "README.md").read_text()
    source = re.sub(r"\A/\*.*?\*/\n", "", (ROOT / "examples/hello.c").read_text(), flags=re.S)
    program = re.search(r"^```c\n(.*?)^```", readme, re.S | re.M)
    printed = re.search(r"^```text\n(.*?)^```", readme[program.end():], re.S | re.M)
    assert program[1] == source, "the program in README.md is not examples/hello.c"
    # Its second task ends 200 ms before the deadline: on a machine that stood still for longer, only once it has to be so.
    said = [run("hello")]
    while said[-1] != printed[1] and len(said) < 5:
        said.append(run("hello"))
    assert said[-1] == printed[1], "README.md shows other lines than hello prints"


def check_fib():
    out = run("fib", 20)
    assert re.fullmatch(r"fib\(20\) = 6765\n10945 tasks in [\d.]+ ms\n", out), out
    run("fib", 41, expect=2)


def check_timers():
    out = run("timers", 5000)
    assert re.fullmatch(r"5000 tasks slept, none woke early\n"
                        r"late by: p50 \d+ us, p99 \d+ us, most \d+ us\n", out), out
    run("timers", 0, expect=2)


def check_frame_loop():
    out = run("frame_loop", 2)
    frames, late, answers = map(int, re.search(r"(\d+) frames, (\d+) of them late; (\d+) answers", out).groups())
    assert frames == 125 and late <= frames, out
    assert answers > 50, out  # each client had at least one
    assert f"frame  125   " in out, out
    run("frame_loop", 0, expect=2)


def check_echo_server():
    with Program("echo_server", 0, "--once", 12) as server:

        def talk(i):
            data = random.Random(i).randbytes(1 + i * 30000)
            with server.connect() as s:
                if i == 5:
                    s.sendall(b"half a word")
                    return reset(s)
                sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
                sender.start()
                back = read_all(s)
                sender.join(PATIENCE)
                assert back == data, f"{len(data)} bytes went, others came back"

        all_at_once(12, talk)
        server.end()
    run("echo_server", "--once", "x", expect=2)


# --- the proxy ------------------------------------------------------------------------------


class Target:
    """A server in a thread; each connection is handed to `behave`."""

    def __init__(self, behave):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = "%s:%d" % self.listener.getsockname()
        self.behave = behave
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.settimeout(PATIENCE)
            threading.Thread(target=self.behave, args=(s,), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # close alone leaves it open while accept waits
        self.listener.close()


BIG = random.Random(7).randbytes(1 << 20)


def answer_after_the_end(s):
    with s:
        data = read_all(s)  # returns only if the client's end of stream comes through
        s.sendall(hashlib.sha256(data).digest() + BIG)


def end_first_then_listen(s):
    with s:
        s.sendall(BIG)
        s.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256(read_all(s)).hexdigest()
        end_first_then_listen.heard.append(digest)


def check_tcp_proxy():
    target = Target(answer_after_the_end)
    with Program("tcp_proxy", "127.0.0.1:0", target.where, "--conns", 20) as proxy:

        def ask(i):
            data = random.Random(i).randbytes(i * 50000)
            with proxy.connect() as s:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)  # the way back has to stay open
                answer = read_all(s)
            assert answer == hashlib.sha256(data).digest() + BIG, "the answer is not whole"

        all_at_once(20, ask)
        out, _ = proxy.end()
        assert out.count("bytes down, ok") == 20, out
    target.close()


def check_tcp_proxy_other_half():
    end_first_then_listen.heard = []
    target = Target(end_first_then_listen)
    with Program("tcp_proxy", "127.0.0.1:0", target.where, "--conns", 1) as proxy:
        with proxy.connect() as s:
            assert read_all(s) == BIG
            time.sleep(0.1)  # the other direction is at its end for good
            s.sendall(BIG)
            s.shutdown(socket.SHUT_WR)
            proxy.end()
    deadline = time.monotonic() + PATIENCE
    while not end_first_then_listen.heard and time.monotonic() < deadline:
        time.sleep(0.01)
    assert end_first_then_listen.heard == [hashlib.sha256(BIG).hexdigest()]
    target.close()


def check_tcp_proxy_errors():
    calls = []

    def reset_the_first(s):
        calls.append(s)
        if len(calls) > 1:
            return answer_after_the_end(s)
        s.recv(1)
        reset(s)

    target = Target(reset_the_first)
    with Program("tcp_proxy", "127.0.0.1:0", target.where, "--conns", 3) as proxy:
        with proxy.connect() as s:  # an error in one direction ends the other, which waits for us
            s.sendall(b"x")
            try:
                assert read_all(s) == b""
            except ConnectionResetError:
                pass
        with proxy.connect() as s:  # and is nobody else's
            s.shutdown(socket.SHUT_WR)
            assert read_all(s) == hashlib.sha256(b"").digest() + BIG
        target.close()
        with proxy.connect() as s:  # nobody listens there any more
            try:
                assert read_all(s) == b""
            except ConnectionResetError:
                pass
        _, err = proxy.end()
        assert "ECONNREFUSED" in err, err
    run("tcp_proxy", "127.0.0.1:0", "no address", expect=2)


# --- the service ----------------------------------------------------------------------------


class Client:
    def __init__(self, service):
        self.s = service.connect()
        self.lines = self.s.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.s.close()

    def say(self, data):
        self.s.sendall(data)

    def hear(self):
        return self.lines.readline().rstrip(b"\n")

    def ask(self, line):
        self.say(line + b"\n")
        return self.hear()


def check_service():
    with Program("service", "--keys", 100) as service, Client(service) as c:
        assert c.ask(b"GET a") == b"NONE"
        assert c.ask(b"SET a some words") == b"OK"
        assert c.ask(b"GET a") == b"VALUE some words"
        assert c.ask(b"GET a\r") == b"VALUE some words"
        assert c.ask(b"SET a") == b"OK" and c.ask(b"GET a") == b"VALUE "
        assert c.ask(b"INCR n") == b"VALUE 1" and c.ask(b"INCR n") == b"VALUE 2"
        assert c.ask(b"SET n 99") == b"OK" and c.ask(b"INCR n") == b"VALUE 100"
        assert c.ask(b"SET n 9223372036854775807") == b"OK"
        assert c.ask(b"INCR n") == b"ERR the number is too large"
        assert c.ask(b"SET n 1x") == b"OK"
        assert c.ask(b"INCR n") == b"ERR the value is not a number"
        assert c.ask(b"SET") == b"ERR a key is missing"
        assert c.ask(b"GET " + b"k" * 64) == b"NONE"
        assert c.ask(b"GET " + b"k" * 65) == b"ERR a key has at most 64 bytes"
        for nonsense in b"", b"get a", b"GETA", b"\0\xff", b"REPORT":
            assert c.ask(nonsense).startswith(b"ERR "), nonsense
        assert re.fullmatch(rb"STATS keys=2 gets=5 sets=5 incrs=5 connections=1 accepted=1 "
                            rb"refused=0 mistakes=9", c.ask(b"STATS"))
        for i in range(1000):
            if c.ask(b"SET many%d x" % i) == b"ERR the table is full":
                break
        else:
            raise AssertionError("more keys than --keys were taken")
        out, _ = service.end(signal.SIGTERM)
        assert " requests in " in out and "CPU " in out, out


def check_service_lines():
    longest = b"SET k " + b"v" * (1024 - 6)
    with Program("service") as service, Client(service) as c:
        assert c.ask(longest) == b"OK"
        assert c.ask(b"GET k") == b"VALUE " + b"v" * (1024 - 6)
        assert c.ask(longest + b"v") == b"ERR a line has at most 1024 bytes"
        assert c.ask(b"x" * 1000000) == b"ERR a line has at most 1024 bytes"
        assert c.ask(b"INCR n") == b"VALUE 1"
        # Requests may be sent without waiting, and cut anywhere.
        data = b"".join(b"SET p%d %d\nGET p%d\nINCR n\n" % (i, i * i, i) for i in range(5000))
        sender = threading.Thread(target=lambda: [c.say(data[i:i + 777]) for i in range(0, len(data), 777)])
        sender.start()
        for i in range(5000):
            assert c.hear() == b"OK"
            assert c.hear() == b"VALUE %d" % (i * i)
            assert c.hear() == b"VALUE %d" % (i + 2)
        sender.join(PATIENCE)
        # A client that asks and does not read stops itself and nobody else.
        with Client(service) as deaf:
            sender = threading.Thread(target=deaf.say, args=(b"GET k\n" * 20000,))
            sender.start()
            time.sleep(0.3)
            assert c.ask(b"INCR n") == b"VALUE 5002"
            for _ in range(20000):
                assert len(deaf.hear()) == 1024
            sender.join(PATIENCE)
        # The end in the middle of a line is just an end.
        with Client(service) as c2:
            c2.say(b"INCR n")
        with Client(service) as c2:
            c2.say(b"INCR n\nINCR")
            reset(c2.s)
        assert c.ask(b"INCR n") in (b"VALUE 5003", b"VALUE 5004")
        service.end(signal.SIGINT)


def check_service_limits():
    # Both are longer than a machine stands still: who is to be there for the third is not sent away before.
    with Program("service", "--connections", 2, "--idle", 3, "--seconds", 10) as service:
        with Client(service) as a, Client(service) as b:
            assert a.ask(b"INCR n") == b"VALUE 1" and b.ask(b"INCR n") == b"VALUE 2"
            with Client(service) as c:
                assert c.hear() == b"ERR too many connections" and c.hear() == b""
            assert a.hear() == b"ERR nothing was said for too long" and a.hear() == b""
            assert b.hear() == b"ERR nothing was said for too long"
        with Client(service) as c:
            assert c.ask(b"INCR n") == b"VALUE 3"
        service.end()  # by itself: --seconds


def check_service_under_load():
    with Program("service") as service:
        out = run("load", "%s:%d" % service.where, "--connections", 32, "--depth", 4, "--seconds", 4)
        asked = re.match(r"(\d+) requests, \d+ a second, 0 errors\nlatency p50 [\d.]+ us", out)
        assert asked, out
        out, _ = service.end(signal.SIGTERM)
    plain = re.search(r"^ +\d+ s  \d+ requests/s  p50 [\d.]+ \ws  p99 .* \[1\] \d+/\d+/\d+/\d+", out, re.M)
    assert plain, out
    summary = re.search(r"^([\d ]+) requests in .*, 0 errors\nlatency +p50 .*32 connections.*\nCPU .*"
                        r" in the service, .* in the client\nworker .*\n +1 ", out, re.M)
    assert summary, out
    assert summary[1].replace(" ", "") == asked[1], f"load counted {asked[1]}, the service {summary[1]}"


def check_service_view():
    ours, its = pty.openpty()
    env = dict(os.environ, TERM="xterm", LC_ALL="C.UTF-8")
    env.pop("NO_COLOR", None)
    ready, tell = os.pipe()
    process = subprocess.Popen(command("service", "--ready-fd", tell), stdin=its, stdout=its, env=env,
                               pass_fds=[tell])
    os.close(its)
    os.close(tell)
    seen = bytearray()

    def watch():  # a terminal without a reader would stop the view
        while True:
            try:
                seen.extend(os.read(ours, 65536))
            except OSError:
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        assert select.select([ready], [], [], PATIENCE)[0], "the service is never ready"
        where = os.read(ready, 100).decode().strip()
        run("load", where, "--connections", 8, "--seconds", 2, "--quiet")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ready)
    watcher.join(2)
    os.close(ours)
    text = seen.decode()
    pictures = text.split("\033[?25l")[1].split("\033[?25h")[0].split("\r\033[")
    assert len(pictures) >= 3, f"{len(pictures)} pictures in two seconds"
    plain = [re.sub(r"\033\[\??\d*\w", "", p) for p in pictures]
    busy = next((p for p in reversed(plain) if re.search(r"p99 \S+ \ws   8 connections", p)), plain[-2])  # not after the load
    assert re.search(r"weft key-value service, " + re.escape(where), busy), busy
    assert re.search(r"[\d ]+ requests/s  [▁-█]+", busy), busy
    assert re.search(r"latency p50 \S+ \ws  p99 \S+ \ws   8 connections   0 errors", busy), busy
    assert re.search(r"\n +1 +[\d ]+  [█-▏]* *\d+ %", busy), busy
    assert "requests in" in text.split("\033[?25h")[1], "no summary after the view"


def check_load_notices():
    """A service that answers OK to everything, and one that hangs up, are found out."""

    def yes(s):
        with s, s.makefile("rb") as lines:
            for _ in lines:
                s.sendall(b"OK\n")

    def hang_up(s):
        s.recv(100)
        s.close()

    for behave in yes, hang_up:
        target = Target(behave)
        done = subprocess.run(command("load", target.where, "--connections", 4, "--seconds", 1),
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and "load: connection" in done.stderr, done
        target.close()


def check_demo():
    """What `./weft run` starts: both processes end, and nothing of them stays."""
    demo = ROOT / "examples/service/demo"
    process = subprocess.Popen(["bash", str(demo), str(BIN), "2", "16"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                               start_new_session=True)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, out + err
    assert re.search(r"requests in .* 0 errors", out), out + err
    left = [p for p in Path("/proc").glob("[0-9]*/stat")
            if session_of(p) == process.pid]
    assert not left, f"still running: {left}"


def session_of(stat):
    try:
        return int(stat.read_text().rpartition(")")[2].split()[3])
    except (OSError, ValueError, IndexError):
        return 0  # it has just ended


CHECKS = {name[6:]: check for name, check in list(globals().items()) if name.startswith("check_")}


def main():
    global BIN
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(CHECKS):
        sys.exit(__doc__ + "\nchecks: " + " ".join(CHECKS))
    BIN = Path(sys.argv[1]).resolve()
    failed = 0
    for name in sys.argv[2:] or CHECKS:
        start = time.monotonic()
        try:
            CHECKS[name]()
            print(f"ok      {name}  {time.monotonic() - start:.1f} s", flush=True)
        except Exception as e:
            failed += 1
            line = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == __file__][-1]
            print(f"FAILED  {name}  line {line}: {type(e).__name__}: {e}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
