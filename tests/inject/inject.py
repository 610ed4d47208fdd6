#!/usr/bin/env python3
"""inject.py SCENARIOS [options] - makes the system calls of the library fail, one after the other, and judges what comes of it.

SCENARIOS is the program of scenarios.c. One run of each scenario tells which calls it makes; then it is run once for each
call, each errno that the table below has for it (and SLOW: it takes 30 ms), and the first, second, ... time the call is made
("2"; "2+": that time and from then on). strace makes it fail (-e inject), attached to a process that has said it is ready: so
what the dynamic linker does is not hit. strace counts the times for each thread by itself: "the second time" may be one call
in each of two threads. What was hit is read from its log.

  --seed N            which of all the runs are taken, and in what order (1)
  --runs N            at most so many (900)
  --seconds N         none begins later than that (40)
  --all               all of them, without these limits
  --only WORD         those in whose words ("store openat EMFILE 2") WORD is
  --jobs N            at the same time (as many as there are processors)
  --verbose           a line for each run
  --table             only shows the table: which errno for which call, what is to come of it, and whose word that is
  --check-the-check   scenarios that misbehave on purpose have to be found, each for what it does

A run is good if the call's error was told to the caller (same errno), or taken care of, whichever the table says, within LIMIT
seconds, and nothing was wrong or left behind.
Exit: 0 good; 1 faults; 77 strace, or the right to trace, is missing."""
import argparse
import collections
import concurrent.futures
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

LIMIT = 10      # seconds for a scenario; without a fault it takes a tenth of one
SLOW_US = 30000 # what a call takes that is made slow
TIMES_MOST = 25 # of a call that a scenario makes often
SKIPPED = 77

# ---- the table: what may fail how
#
# TOLD      the caller gets this errno
# ABSORBED  the caller does not see it: retried, or done in another way
# EITHER    both are right
#
# What is not here is not injected, since the kernel does not say it there, and strace would be lying:
#   EINTR     of calls that cannot wait (socket, pipe2, fcntl, stat, rename, ...), and of connect on a non-blocking socket:
#             strace does not make the call, so nothing would go on connecting
#   EAGAIN    of recv and send on sockets in an edge-triggered set. The kernel says it when there is nothing, or no room, and an
#             edge follows; strace says it in front of bytes that are there, and no edge ever comes
#   close     of pipes and sockets: strace does not close it, so the other side would wait for an end that Linux, which closes
#             the number whatever it returns, would have sent
#   EPIPE     (ECONNRESET) of a write in a dialogue, ENOTCONN of a shutdown in a copy: the other side would be gone, and
#             reading be over
#   ECHILD    of waitid: the child would be there all the same
#   fcntl     F_GETFD, F_GETFL, F_GETPIPE_SZ: only EBADF is said
#   rt_sigaction, rt_sigprocmask: only EINVAL and EFAULT, of arguments that are no signal's, no action's or nobody's memory
#   ioctl     TIOCGPTN: ENOTTY is the answer for what is no master's side; of a master, it would be the answer for another file
TOLD, ABSORBED, EITHER = "told", "absorbed", "either"

Row = collections.namedtuple("Row", "call errnos expect source where fits")
ROWS = []


def row(call, errnos, expect, source, where=None, fits=None):
    """where: a pattern for scenarios; fits: a pattern for the call's arguments as strace shows them."""
    for c in call.split():
        ROWS.append(Row(c, errnos.split(), expect, source, re.compile(where) if where else None,
                        re.compile(fits) if fits else None))


# The resolver is libc's: it may go on without a file or a server, or say so in its own words.
LIBC = r"/etc/|NETLINK|nscd|/run/systemd|UDP:\[|SOCK_DGRAM|sin_port=htons\(53\)"
NAMES = r"resolve|serve_name|race"
for call, errnos in (("openat", "EMFILE ENFILE ENOMEM EACCES EIO"), ("read", "EIO EINTR"), ("newfstatat", "ENOMEM"),
                     ("fstat", "ENOMEM"), ("socket", "EMFILE ENFILE ENOBUFS ENOMEM"), ("bind", "ENOMEM"),
                     ("getsockname", "ENOBUFS"), ("sendto", "ENOBUFS ENOMEM"), ("recvmsg", "ENOMEM ENOBUFS"),
                     ("connect", "ENOENT ECONNREFUSED EACCES EPERM ENETUNREACH ETIMEDOUT EADDRNOTAVAIL"), ("lseek", "ESPIPE")):
    row(call, errnos, EITHER, "getaddrinfo(3): EAI_SYSTEM, EAI_AGAIN, EAI_MEMORY, EAI_NONAME, or it goes on", NAMES, LIBC)

# What the runtime reads of the machine, and can do without.
MACHINE = r"/proc/|/sys/"
row("openat read", "EMFILE ENFILE EACCES EIO", ABSORBED, "base/cpus.c: as if it were not there", None, MACHINE)

START = "^(tcp|crowd|theft|plain_tcp)$" # a runtime starts as in all others
row("sched_getaffinity", "ENOMEM EINVAL", ABSORBED,
    "sched_setaffinity(2), kernel/sched/syscalls.c: more processors than there is room for; base/cpus.c asks with more", START)
row("membarrier", "ENOSYS EPERM", ABSORBED, "membarrier(2): an older kernel, a filter; base/fence.c: both sides pay", START,
    "QUERY")
row("membarrier", "ENOMEM EPERM", ABSORBED, "kernel/sched/membarrier.c, a filter; base/fence.c: both sides pay", START,
    "REGISTER")
row("membarrier", "ENOMEM", ABSORBED, "kernel/sched/membarrier.c; whom it was to hear is asked in another way, or later", None,
    r"CMD_PRIVATE")
row("process_madvise", "ENOSYS EINVAL EBADF EPERM ENOMEM EAGAIN EINTR", ABSORBED,
    "process_madvise(2), madvise(2): an older kernel, a filter; machine/stack.c: each stack by itself", "crowd")
row("ioctl", "EIO", ABSORBED, "ioctl_tty(2), a terminal that was hung up: as any other file", "terminal",
    r"/dev/pts/.*(TCGETS|TIOCGPTN)")

# Streams of bytes.
SOCKET = r"^\d+<(TCP|TCPv6|UNIX|UNIX-STREAM|UNIX-DGRAM|UDP|socket)[^>]*>"
row("recvfrom", "ECONNRESET", EITHER, "recv(2); that a client has gone is no failure of weft_serve", "serve", SOCKET)
row("recvfrom recvmsg", "ECONNRESET ETIMEDOUT EHOSTUNREACH ENOMEM", TOLD, "recv(2), ip(7), tcp(7)", None, SOCKET)
row("read readv", "ECONNRESET ETIMEDOUT EHOSTUNREACH", TOLD, "read(2): what recv(2) says of a socket", None, SOCKET)
row("sendto sendmsg", "ENOBUFS ENOMEM EHOSTUNREACH EPERM", TOLD, "send(2), ip(7)", None, SOCKET)
row("sendto sendmsg", "EPIPE ECONNRESET", TOLD, "send(2)", "datagrams|pass_fds|send_file", SOCKET)
row("recvmmsg", "ENOMEM ECONNREFUSED", TOLD, "recvmmsg(2), udp(7)")
row("sendmmsg", "ENOBUFS ENOMEM ENETUNREACH EPERM", TOLD, "sendmmsg(2), ip(7)")
row("recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg", "EINTR", ABSORBED, "recv(2), send(2), signal(7)", None, SOCKET)
row("read readv write writev", "EINTR", ABSORBED, "read(2), write(2), signal(7)", None, r"^\d+<(?!anon_inode:\[event)")
row("sendmsg", "EAGAIN", TOLD, "unix(7): the receiver's queue is full; nobody waits for it", "inherited", r"READY=1")
row("splice", "ENOMEM", TOLD, "splice(2)")
row("splice", "ECONNRESET ETIMEDOUT", TOLD, "recv(2)", None, r"^\d+<UNIX")
row("splice", "EINVAL", ABSORBED, "splice(2): not for this kind of file; copy.c then reads and writes")
row("sendfile", "EIO ENOMEM EPIPE ECONNRESET", TOLD, "sendfile(2), and what send(2) says")
row("sendfile", "EINVAL ENOSYS", ABSORBED, "sendfile(2): not for this kind of file; copy.c then reads and writes")
row("pipe2", "EMFILE ENFILE ENOMEM", ABSORBED, "pipe(2); copy.c then reads and writes", "copy")
row("pipe2", "EMFILE ENFILE ENOMEM", TOLD, "pipe(2)", "process")

# Sockets from their beginning to their end. Of several addresses one that fails is passed over.
row("socket connect bind getsockopt",
    "EMFILE ENFILE ENOBUFS ENOMEM ECONNREFUSED ETIMEDOUT ENETUNREACH EADDRNOTAVAIL EACCES EPERM", EITHER,
    "connect(2); the next address is tried, and of all the first's error told", "race", r"AF_INET|SO_ERROR")
row("socket", "EMFILE ENFILE ENOBUFS ENOMEM EACCES", TOLD, "socket(2)", None, r"AF_INET|AF_UNIX, SOCK_DGRAM")
row("socket", "EMFILE ENFILE ENOBUFS ENOMEM", EITHER, "socket(2); the one that looks for a stale file may be missing", "unix")
row("socketpair", "EMFILE ENFILE ENOMEM", TOLD, "socketpair(2)")
row("bind", "EADDRINUSE EACCES ENOMEM ENOBUFS", TOLD, "bind(2), ip(7)", "tcp|serve|plain|datagrams")
row("bind", "EADDRINUSE EACCES ENOMEM EROFS ENOSPC", TOLD, "bind(2), unix(7)", "unix")
row("listen", "EADDRINUSE ENOMEM", TOLD, "listen(2)")
row("accept4", "EMFILE ENFILE ENOBUFS ENOMEM", ABSORBED, "accept(2); it pauses and tries again (net.h)")
row("accept4", "ECONNABORTED EPROTO EINTR ENETDOWN EHOSTUNREACH", ABSORBED, "accept(2): that connection died")
row("accept4", "EPERM", TOLD, "accept(2): a firewall")
row("connect", "ECONNREFUSED ETIMEDOUT ENETUNREACH EADDRNOTAVAIL EACCES EPERM", TOLD, "connect(2), ip(7)", None, r"AF_INET")
row("connect", "EACCES ECONNREFUSED EPERM EAGAIN", EITHER,
    "connect(2), tried again if the queue is full; the one that looks for a stale file may fail", "unix")
row("shutdown", "ENOTCONN", EITHER, "shutdown(2); of weft_serve as if the client had gone", "serve")
row("shutdown", "ENOTCONN", TOLD, "shutdown(2)", "^(?!copy)")
row("getsockopt", "ENOBUFS", TOLD, "getsockopt in POSIX", None, "SO_ERROR|SO_ACCEPTCONN")
row("setsockopt", "ENOBUFS ENOMEM", TOLD, "setsockopt in POSIX", None, "SO_REUSEADDR|SO_REUSEPORT|IPV6_V6ONLY")
row("setsockopt", "ENOBUFS ENOMEM", ABSORBED, "setsockopt in POSIX; without TCP_NODELAY it only is slower", None, "TCP_NODELAY")
row("getsockname getpeername", "ENOBUFS", TOLD, "getsockname(2), getpeername(2)")
row("getpeername", "ENOTCONN", TOLD, "getpeername(2): it has gone meanwhile")
row("chmod fchmodat", "EPERM EIO EROFS ENOMEM", TOLD, "chmod(2)", "unix")
row("lstat newfstatat", "ENOMEM EACCES", EITHER, "stat(2); the one that looks for a stale file", "unix")

# Files.
CREATES = r"O_CREAT"
row("openat", "EMFILE ENFILE ENOMEM EACCES EIO ELOOP", TOLD, "open(2); EIO of the disk", None, r"inject-|/dev/null|\.weft-")
row("openat", "ENOSPC EDQUOT EROFS", TOLD, "open(2)", None, CREATES)
row("openat", "EEXIST", ABSORBED, "open(2): the name is taken, another is tried", "store|files", r"O_EXCL")
row("openat", "EINTR", ABSORBED, "open(2): a slow device, NFS, FUSE", None, r"inject-|\.weft-")
row("fstat newfstatat", "ENOMEM EOVERFLOW EIO", TOLD, "stat(2); EIO of the disk", "load|files")
FILE = r"^\d+</[^>]*inject-[^>]*>"
row("read readv pread64", "EIO EISDIR", TOLD, "read(2)", None, FILE)
row("preadv2 pwritev2", "EAGAIN EOPNOTSUPP", ABSORBED, "preadv2(2), RWF_NOWAIT: not without waiting; done on another thread")
row("preadv2", "EIO", EITHER, "preadv2(2): in front of a read that is made all the same, or that read itself", None, FILE)
row("pwritev2", "EIO ENOSPC", TOLD, "pwritev2(2)", None, FILE)
row("write writev pwrite64", "EIO ENOSPC EDQUOT EFBIG", TOLD, "write(2)", None, FILE)
row("pread64 pwrite64", "EINTR", ABSORBED, "pread(2), read(2)")
row("fsync", "EIO ENOSPC EDQUOT", TOLD, "fsync(2)")
row("fsync", "EINVAL", EITHER, "fsync(2): cannot be synced; of a directory that is no error", "store", r"inject-[^/>]*>")
row("fsync", "EINTR", ABSORBED, "fsync(2)")
row("close", "EIO ENOSPC EDQUOT", EITHER, "close(2): told by weft_fs_store, which has written; not by weft_close",
    "store|load|files|directory", FILE)
row("close", "EINTR", ABSORBED, "close(2): it is closed all the same", "store|load|files|directory", FILE)
row("getrandom", "EINTR", ABSORBED, "getrandom(2)")
row("rename renameat renameat2", "ENOSPC EDQUOT EIO EACCES EROFS ENOMEM EBUSY", TOLD, "rename(2)")
row("unlink unlinkat", "EIO EACCES EROFS ENOMEM EBUSY", TOLD, "unlink(2)", "files")
row("unlink", "EIO EACCES EROFS EBUSY", EITHER, "unlink(2): a stale file is in the way of bind; a closed one's stays", "unix")
row("mkdir mkdirat", "ENOSPC EDQUOT EACCES ENOMEM EROFS EIO", TOLD, "mkdir(2)")
row("getdents64", "EIO ENOENT ENOMEM", TOLD, "getdents(2); EIO of the disk")
row("inotify_init1", "EMFILE ENFILE ENOMEM", TOLD, "inotify_init(2)")
row("inotify_add_watch", "ENOSPC ENOMEM EACCES ENOENT", TOLD, "inotify_add_watch(2)")
row("read", "EINTR EAGAIN", ABSORBED, "inotify(7), whose set is level-triggered", "watch", r"^\d+<anon_inode:inotify>")
# Those of a runtime's start, and of descriptors that tasks wait for, are made to fail in tests/fault_calls_test.c.
OWN_SETS = "watch|process_run|process_pool|plain_process|^files"
row("epoll_create1", "EMFILE ENFILE ENOMEM", EITHER, "epoll_create(2); or a worker that leaves is not waited for",
    "plain_process_pool")
row("epoll_ctl", "ENOSPC ENOMEM", EITHER, "epoll_ctl(2); or a worker that leaves is not waited for", "plain_process_pool",
    "EPOLL_CTL_ADD")
row("epoll_ctl", "ENOSPC ENOMEM", EITHER, "a worker that leaves is not waited for, by a task", "process_pool",
    r"EPOLL_CTL_ADD, \d+<pid:")
row("epoll_create1", "EMFILE ENFILE ENOMEM", TOLD, "epoll_create(2)", OWN_SETS)
row("eventfd2", "EMFILE ENFILE ENOMEM", TOLD, "eventfd(2)", OWN_SETS)
row("epoll_ctl", "ENOSPC ENOMEM", TOLD, "epoll_ctl(2)", OWN_SETS, "EPOLL_CTL_ADD")

# Programs.
row("clone3", "EAGAIN ENOMEM", TOLD, "clone(2)", "process", "CLONE_VFORK")
row("clone3", "ENOSYS EINVAL EPERM", ABSORBED, "clone(2): an older kernel, a filter; clone is called instead", "process",
    "CLONE_VFORK")
row("clone", "EAGAIN ENOMEM", TOLD, "clone(2)", "process")
row("clone3", "EAGAIN", TOLD, "clone(2): no thread", "watch|signals|offload|store|resolve|process")
row("execve", "E2BIG EIO EMFILE ENOEXEC ENOMEM ETXTBSY ELOOP", TOLD, "execve(2)")
row("execve", "EACCES ENOENT ENOTDIR", ABSORBED, "execve(2); the next folder of PATH has it", None, "/nonexistent")
row("execve", "EACCES ENOENT ENOTDIR", TOLD, "execve(2)")
row("chdir", "EACCES EIO ENOENT ENOMEM", TOLD, "chdir(2)")
row("setpgid", "EACCES EPERM", TOLD, "setpgid(2)")
row("prlimit64", "EPERM", TOLD, "getrlimit(2)", "^process", "RLIMIT_CORE, \\{")
row("dup3", "EMFILE EBUSY", TOLD, "dup(2)")
row("fcntl", "EMFILE", TOLD, "fcntl(2)", "process", "F_DUPFD")
row("fcntl", "EPERM", TOLD, "fcntl(2): the append-only attribute", "process", r"F_SETFL")
row("close_range", "ENOSYS ENOMEM", ABSORBED, "close_range(2): an older kernel; closed one by one")
row("waitid", "EINTR", ABSORBED, "wait(2)")
row("pidfd_send_signal", "EPERM", ABSORBED, "pidfd_send_signal(2); to workers that have ended", "process_pool")
row("pidfd_send_signal", "EPERM", TOLD, "pidfd_send_signal(2): it runs as somebody else")
row("read write writev", "EAGAIN", ABSORBED, "pipe(7), whose set is level-triggered", "process_run|process_pool|plain_process",
    r"^\d+<pipe")

# Hit, but of no account: what the scenario itself does for nothing; and the reading of an eventfd, which is tried again.
NOTHING = re.compile(r"^-1\b|^NULL, 0$|0xfff7")
EVENTFD = re.compile(r"^\d+<anon_inode:\[eventfd\]>")
# Beside errors: a call that takes its time.
SLOW = "SLOW"

CALLS = sorted({r.call for r in ROWS})
# Beside these the first run looks at waits, of which none may be by the time of day.
WAITS = ["futex", "clock_nanosleep", "timerfd_settime", "timerfd_create", "setitimer", "timer_create", "timer_settime"]

# An error that another side of the same scenario met because of the one that was injected.
CONSEQUENCES = {errno.ENODATA, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN}
# Told with another errno, for a reason.
INSTEAD = {
    ("unix", "unlink"): {errno.EADDRINUSE},
    ("unix", "socket"): {errno.EADDRINUSE},
    ("unix", "connect"): {errno.EADDRINUSE},
    ("unix", "lstat"): {errno.EADDRINUSE},
    ("unix", "newfstatat"): {errno.EADDRINUSE},
    ("*", "execve"): {errno.ENOENT, errno.EACCES},
    ("race", "socket"): {errno.ECONNREFUSED},
    ("race", "connect"): {errno.ECONNREFUSED},
    ("race", "getsockopt"): {errno.ECONNREFUSED},
}

# Misbehaves on purpose: what has to be found, by which call and errno.
SEEDED = {
    "leaks_on_error": ("openat", "EMFILE", "2", "left fd"),
    "swallows_on_error": ("fsync", "EIO", "1", "swallowed"),
    "hangs_on_error": ("openat", "EMFILE", "1", "hangs"),
    "loses_child_on_error": ("openat", "EIO", "1", "left"),
    "corrupts_on_error": ("openat", "EIO", "1", "wrong: the file"),
    "aborts_on_error": ("openat", "EMFILE", "1", "died of signal 6"),
    "confuses_on_error": ("openat", "EMFILE", "1", "another error"),
}


def is_neutral(call, args):
    return bool(NOTHING.search(args) or call == "read" and EVENTFD.search(args))


def row_for(scenario, call, error, args):
    for r in ROWS:
        if r.call == call and error in r.errnos and (not r.where or r.where.search(scenario)) and \
                (not r.fits or r.fits.search(args)):
            return r
    return None


# ---- one run under strace

Call = collections.namedtuple("Call", "pid name args result injected")
LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (.*)$")
BEGUN = re.compile(r"^(\d+) +(\w+)\((.*?),? ?<unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (.*)$")


def marked(result):
    return "(INJECTED)" in result or "(DELAYED)" in result


def read_log(path):
    """The calls in the order of their beginnings."""
    calls, open_calls = [], {}
    with open(path, errors="replace") as f:
        for line in f:
            line = line.rstrip("\n")
            begun, resumed, whole = BEGUN.match(line), RESUMED.match(line), LINE.match(line)
            if begun:
                open_calls[begun.group(1)] = len(calls)
                calls.append(Call(begun.group(1), begun.group(2), begun.group(3), "?", False))
            elif resumed and resumed.group(1) in open_calls:
                i = open_calls.pop(resumed.group(1))
                result = resumed.group(4)
                calls[i] = calls[i]._replace(args=calls[i].args + resumed.group(3), result=result,
                                             injected=marked(result))
            elif whole:
                result = whole.group(4)
                calls.append(Call(whole.group(1), whole.group(2), whole.group(3), result, marked(result)))
    return calls


class Outcome:
    def __init__(self):
        self.status = None  # of `scenarios`; None: it hung
        self.said = []      # its lines
        self.errors = ""    # what it, and strace, wrote to standard error
        self.calls = []
        self.stacks = ""
        self.attached = False

    def told(self):
        """The errno that the caller got, positive; None: none."""
        for line in self.said:
            if line.startswith("error -"):
                return int(line.split()[1][1:])
        return None

    def bad(self):
        return [line for line in self.said if line.startswith(("wrong", "left"))]


def stacks_of(pid):
    if not shutil.which("gdb"):
        return "(gdb is not there)"
    try:
        return subprocess.run(["gdb", "-q", "-batch", "-nx", "-ex", "thread apply all bt 12", "-p", str(pid)],
                              capture_output=True, text=True, timeout=30, errors="replace").stdout
    except subprocess.TimeoutExpired:
        return "(gdb had no answer)"


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end(process):
    if process and process.poll() is None:
        process.kill()
    if process:
        process.wait()


class Bench:
    """Where runs are made: the program, a folder for what they leave."""

    def __init__(self, program):
        self.program = os.path.abspath(program)
        self.folder = tempfile.mkdtemp(prefix="inject-")
        self.numbers = iter(range(1 << 30))
        self.lock = threading.Lock()

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, scenario, options, limit=LIMIT):
        """Runs the scenario with strace attached; options are strace's."""
        out = Outcome()
        with self.lock:
            log = os.path.join(self.folder, "log%d" % next(self.numbers))
        subject = strace = None
        with open(log + ".err", "w+", errors="replace") as errors:
            examiner = subprocess.Popen([self.program, scenario, "--wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=errors, text=True, env=dict(os.environ, TMPDIR=self.folder))
            try:
                line = examiner.stdout.readline()
                if not line.startswith("subject "):
                    examiner.communicate()
                    out.status = examiner.returncode
                    out.said = [line.strip()]
                    return out
                subject = int(line.split()[1])
                command = ["strace", "-f", "-yy", "-s", "40", "-b", "execve", "-e", "signal=none", "-o", log]
                strace = subprocess.Popen(command + options + ["-p", str(subject)], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                out.attached = "attached" in strace.stderr.readline()
                try:
                    out.said = examiner.communicate("\n", timeout=limit)[0].splitlines()
                    out.status = examiner.returncode
                    strace.communicate(timeout=limit)
                except subprocess.TimeoutExpired:
                    strace.terminate()
                    try:
                        strace.communicate(timeout=5)
                    except subprocess.TimeoutExpired:
                        strace.kill()
                    out.status = None
                    try:
                        out.said = examiner.communicate(timeout=1)[0].splitlines()
                        out.stacks = "it went on when strace had let go\n"
                    except subprocess.TimeoutExpired:
                        out.stacks = stacks_of(subject)
                        kill(subject)
            finally:
                end(strace)
                end(examiner)
            errors.seek(0)
            out.errors = errors.read()
        if os.path.exists(log):
            out.calls = read_log(log)
            os.unlink(log)
        os.unlink(log + ".err")
        return out


# ---- which runs there are

Run = collections.namedtuple("Run", "scenario call error nth")


def words(run):
    return "%s %s %s %s" % run


def counted(calls):
    """For each call: of each thread, its arguments in turn."""
    per = collections.defaultdict(lambda: collections.defaultdict(list))
    for c in calls:
        per[c.name][c.pid].append(c.args)
    return per


def runs_of(scenario, calls):
    """Every errno of every call that may say so, for each time it is made by some thread."""
    runs, per = [], counted(calls)
    for name, threads in per.items():
        errors = sorted({e for r in ROWS if r.call == name for e in r.errnos})
        most = min(TIMES_MOST, max(len(args) for args in threads.values()))
        for nth in range(1, most + 1):
            at = [args[nth - 1] for args in threads.values() if len(args) >= nth and not is_neutral(name, args[nth - 1])]
            for error in errors:
                rows = [row_for(scenario, name, error, args) for args in at]
                if any(rows):
                    runs.append(Run(scenario, name, error, str(nth)))
                if rows and nth <= 3 and all(r and r.expect == TOLD for r in rows) and not name.startswith("pidfd"):
                    runs.append(Run(scenario, name, error, "%d+" % nth))
            if at and name in {r.call for r in ROWS}:
                runs.append(Run(scenario, name, SLOW, str(nth)))
    return runs


def waits_by_day(calls):
    """A wait until a point in the time of day moves with it. Without a timeout, or by a span, it does not matter."""
    bad = []
    for c in calls:
        if c.name == "futex" and "CLOCK_REALTIME" in c.args and not re.search(r"CLOCK_REALTIME, \d+, NULL", c.args):
            bad.append(c)
        elif c.name == "clock_nanosleep" and re.search(r"CLOCK_REALTIME, TIMER_ABSTIME", c.args):
            bad.append(c)
        elif c.name.startswith("timer") and "CLOCK_REALTIME" in c.args:
            bad.append(c)
    return bad


# ---- the verdict

def expectation(run, hits):
    """What is to come of it; None: something was hit that the table does not have."""
    if run.error == SLOW:
        return ABSORBED
    found = [row_for(run.scenario, run.call, run.error, c.args) for c in hits if not is_neutral(c.name, c.args)]
    if not found:
        return None
    if None in found:
        return None
    expects = {r.expect for r in found}
    return TOLD if TOLD in expects else EITHER if EITHER in expects else ABSORBED


def forgiven(line, run, hits):
    """What is left because strace did not make the call."""
    number = re.match(r"left fd (\d+)", line)
    if number and run.call == "close":
        return any(re.match(number.group(1) + r"\b", c.args) for c in hits)
    return line.startswith("left file") and run.call.startswith("unlink")


def closed_twice(out):
    """A number whose close has failed is not to be closed again: it may be another's by then."""
    failed = set()
    for c in out.calls:
        number = c.args.split("<")[0]
        if NOTHING.search(number):
            continue
        if c.name == "close" and "(INJECTED)" in c.result:
            failed.add(number)
        elif c.name == "close" and number in failed:
            return number
    return None


def told_right(run, code):
    if code == getattr(errno, run.error, None) or code in CONSEQUENCES:
        return True
    return any(code in INSTEAD.get((s, run.call), ()) for s in (run.scenario, "*"))


def judge(run, out):
    """(what became of it, what was wrong with that or None)."""
    hits = [c for c in out.calls if c.injected and c.name == run.call]
    if not out.attached:
        return "beside", None
    code, expect = out.told(), expectation(run, hits)
    if hits and expect is None:
        return "beside", None # the kernel would not say that there
    if out.status is None:
        return "hung", "hangs"
    bad = [line for line in out.bad() if not forgiven(line, run, hits)]
    if bad:
        return "wrong", "; ".join(bad)
    if out.status not in (0, 1, 3):
        return "wrong", "exit status %s" % out.status
    if not hits:
        return "missed", None if code is None else "an error %d without any fault" % code
    if run.call == "close" and closed_twice(out):
        return "wrong", "descriptor %s is closed twice" % closed_twice(out)
    if code is None:
        return ABSORBED, "swallowed: nobody was told" if expect == TOLD else None
    libc = any(re.search(LIBC, c.args) for c in hits) and re.search(NAMES, run.scenario)
    if not libc and not told_right(run, code):
        return TOLD, "another error was told: %s" % errno.errorcode.get(code, code)
    return TOLD, "it should have been taken care of" if expect == ABSORBED else None


def show(run, out, what):
    lines = ["FAULT: %s: %s" % (words(run), what)]
    lines += ["    " + line for line in out.said]
    for c in [c for c in out.calls if c.injected][:8]:
        lines.append("    hit: %s %s(%s) = %s" % (c.pid, c.name, c.args, c.result))
    if out.errors.strip():
        lines += ["    | " + line for line in out.errors.strip().splitlines()[:30]]
    if out.stacks:
        lines += ["    # " + line for line in out.stacks.splitlines() if not line.startswith("[New LWP")]
    return "\n".join(lines)


def injecting(run):
    what = "delay_exit=%d" % SLOW_US if run.error == SLOW else "error=" + run.error
    return ["-e", "trace=" + run.call, "-e", "inject=%s:%s:when=%s" % (run.call, what, run.nth)]


# ---- all of it

def may_trace(bench):
    """Why not, or None."""
    if not shutil.which("strace"):
        return "strace is not there"
    out = bench.run("offload", ["-e", "trace=openat"])
    if not out.attached:
        return "a process cannot be traced here"
    return None if out.status == 0 else "the first scenario failed: %s" % "; ".join(out.said)


def learn(bench, names, pool, faults):
    """The runs that there are."""
    known = subprocess.run(["strace", "-e", "trace=" + ",".join("?" + c for c in CALLS + WAITS), "true"], capture_output=True)
    if known.returncode != 0:
        sys.exit("strace: %s" % known.stderr.decode(errors="replace"))
    look = ["-e", "trace=" + ",".join("?" + c for c in CALLS + WAITS)]
    runs = []
    for name, out in zip(names, pool.map(lambda n: bench.run(n, look), names)):
        if out.status == SKIPPED:
            print("%-18s left out: it cannot be had here" % name)
            continue
        if out.status != 0:
            faults.append(show(Run(name, "no", "fault", "0"), out, "it fails, though no call does"))
            continue
        for c in waits_by_day(out.calls):
            faults.append("FAULT: %s waits by the time of day: %s(%s)" % (name, c.name, c.args))
        if not name.startswith("storm_"): # whose calls are interrupted as it is
            runs += runs_of(name, out.calls)
    return runs


def inject_all(bench, runs, pool, seconds, verbose, faults):
    """Makes the runs; how each call fared, and how many were left out for want of time."""
    tally, until = collections.defaultdict(collections.Counter), time.monotonic() + seconds
    left_out = 0

    def one(run):
        return None if time.monotonic() > until else bench.run(run.scenario, injecting(run))

    for run, out in zip(runs, pool.map(one, runs)):
        if out is None:
            left_out += 1
            continue
        became, what = judge(run, out)
        tally[run.call]["runs"] += 1
        tally[run.call][became] += 1
        if verbose:
            print("%-45s %s%s" % (words(run), became, " - " + what if what else ""), flush=True)
        if what:
            tally[run.call]["faults"] += 1
            faults.append(show(run, out, what))
            print(faults[-1], flush=True)
    return tally, left_out


def print_tally(tally):
    columns = ["runs", TOLD, ABSORBED, "missed", "beside", "faults"]
    print("%-18s" % "call" + "".join("%10s" % c for c in columns))
    total = collections.Counter()
    for call in sorted(tally):
        print("%-18s" % call + "".join("%10d" % tally[call][c] for c in columns))
        total.update(tally[call])
    print("%-18s" % "all" + "".join("%10d" % total[c] for c in columns))


def print_table():
    for r in ROWS:
        print("%-18s %-9s %-44s %s%s" % (r.call, r.expect, " ".join(r.errnos), r.source,
                                          " [%s]" % r.where.pattern if r.where else ""))


def check_the_check(bench, pool):
    """Each that misbehaves has to be found, for what it does."""
    def one(item):
        name, (call, error, nth, what) = item
        run = Run(name, call, error, nth)
        for _ in range(10): # a second call may be made on another thread, and is not its second then
            out = bench.run(name, injecting(run), limit=4 if what == "hangs" else LIMIT)
            if judge(run, out)[0] != "missed":
                break
        return name, what, judge(run, out)[1], out
    missed = 0
    for name, what, found, out in pool.map(one, SEEDED.items()):
        good = found is not None and what in found
        missed += not good
        print("%-22s %s: %s" % (name, "found" if good else "NOT FOUND", found))
        if not good:
            print("    " + "\n    ".join(out.said))
    print("%d passed, %d failed" % (len(SEEDED) - missed, missed))
    return 1 if missed else 0


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("program", nargs="?")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--runs", type=int, default=900)
    p.add_argument("--seconds", type=float, default=40)
    p.add_argument("--all", action="store_true")
    p.add_argument("--only", default="")
    p.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--table", action="store_true")
    p.add_argument("--check-the-check", action="store_true")
    o = p.parse_args()
    if o.table:
        print_table()
        return 0
    bench = Bench(o.program)
    try:
        why = may_trace(bench)
        if why:
            print("left out: " + why)
            return SKIPPED if "first scenario" not in why else 1
        with concurrent.futures.ThreadPoolExecutor(o.jobs) as pool:
            return check_the_check(bench, pool) if o.check_the_check else inject(bench, pool, o)
    finally:
        bench.close()


def in_turn(runs, seed):
    """In an order that the seed says, but first one run of each call of each scenario, then a second one, and so on; what is
    only slow comes later."""
    random.Random(seed).shuffle(runs)
    seen = collections.Counter()
    turn = {}
    for r in runs:
        kind = r.scenario, r.call, r.error == SLOW
        seen[kind] += 1
        turn[r] = seen[kind] + (3 if r.error == SLOW else 0)
    runs.sort(key=turn.get)


def inject(bench, pool, o):
    faults = []
    names = [n for n in subprocess.run([bench.program, "list"], capture_output=True, text=True).stdout.split()
             if not n.endswith("_on_error")]
    runs = [r for r in learn(bench, names, pool, faults) if o.only in words(r)]
    for f in faults:
        print(f)
    in_turn(runs, o.seed)
    taken = runs if o.all else runs[:o.runs]
    print("%d scenarios; %d of %d runs, seed %d" % (len(names), len(taken), len(runs), o.seed), flush=True)
    tally, left_out = inject_all(bench, taken, pool, 1e9 if o.all else o.seconds, o.verbose, faults)
    print_tally(tally)
    if left_out:
        print("%d runs left out for want of time" % left_out)
    done = len(taken) - left_out
    print("%d passed, %d failed" % (max(done - len(faults), 0), len(faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
