#!/usr/bin/env python3
"""gdb_test.py SUBJECT SCRIPT - gdb's weft commands on a live process, on its core, and on memory that is damaged.

SUBJECT is gdb_subject, SCRIPT is libweft-gdb.py. A half that cannot be had here (ptrace refused, no core written) is said and
left out; ends with 77 if neither can."""
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

LIMIT = 60   # seconds for one run of gdb
SKIPPED = 77

# name: (state, function, what it waits in and where)
TASKS = {
    "main": ("waiting", "main_task", "weft_read in app"),
    "sleeper": ("waiting", "be_sleeper", "weft_sleep in rest_a_while"),
    "reader": ("waiting", "be_reader", "weft_read in read_the_pipe"),
    "receiver": ("waiting", "be_receiver", "weft_chan_recv in be_receiver"),
    "locker": ("waiting", "be_locker", "weft_mutex_lock in be_locker"),
    "joiner": ("waiting", "be_joiner", "weft_task_join in be_joiner"),
    "ender": ("waiting", "be_ender", "weft_scope_end in end_the_scope"),
    "held-child": ("waiting", "be_sleeper", "weft_sleep in rest_a_while"),
    "chain": ("waiting", "be_chain", "weft_task_join in join_one"),
    "first-link": ("waiting", "be_first_link", "weft_task_join in join_one"),
    "last-link": ("waiting", "be_last_link", "weft_sleep in rest_a_while"),
    "ready-one": ("ready", "be_ready", "weft_read in be_ready"),
    "spinner": ("running on worker 2", "be_spinner", "spin_until_told"),
    "unborn": ("new", "be_unborn", "-"),
}
MORE = 60 # unnamed ones, in three different stacks

faults = []


def check(right, what, said=""):
    if not right:
        faults.append(what)
        print("WRONG: %s%s" % (what, "\n--- gdb said\n%s\n---" % said if said else ""))


class Subject:
    def __init__(self, command, more=0, folder=None):
        self.process = subprocess.Popen([command, str(more)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder,
                                        preexec_fn=self.allow_core)
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        check(line == b"ready\n", "the subject said %r" % line)
        self.settle()

    @staticmethod
    def allow_core():
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    def settle(self):
        """Until all of its threads sleep but the one that spins."""
        end, quiet = time.monotonic() + 10, 0
        while quiet < 3 and time.monotonic() < end:
            time.sleep(0.02)
            states = []
            for thread in os.listdir("/proc/%d/task" % self.pid):
                with open("/proc/%d/task/%s/stat" % (self.pid, thread), encoding="utf-8") as f:
                    states.append(f.read().rsplit(") ", 1)[1][0])
            quiet = quiet + 1 if states.count("R") == 1 else 0

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def gdb(script, target, commands):
    command = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set width 0", "-iex", "set height 0"]
    command += target + ["-x", script]
    for i, c in enumerate(commands):
        command += ["-ex", "echo \\n@@ %d\\n" % i, "-ex", c]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=LIMIT)
    return re.sub(r"\n@@ (\d+)\n", lambda m: "\n@@ %s\n" % commands[int(m.group(1))], run.stdout.decode("utf-8", "replace"))


def part(said, command):
    """What one command said."""
    after = said.split("\n@@ %s\n" % command, 1)
    return after[1].split("\n@@ ", 1)[0] if len(after) == 2 else ""


def rows(said):
    """{name: its lines} of weft ps."""
    found = {}
    for line in said.splitlines():
        words = re.split(r"\s{2,}", line.strip())
        if len(words) >= 5 and words[0].isdigit():
            found.setdefault(words[1], []).append(words)
    return found


def stacks(said):
    """{name, or function if it has none: text} of weft bt all."""
    found = {}
    for block in re.split(r"\n(?=task \d+)", said):
        m = re.match(r'\n*task \d+(?: "([^"]*)")?, .*, in (\S+)', block)
        if m:
            found[m.group(1) or m.group(2)] = block
    return found


def of(name, command):
    """`command`, with the id of the task of that name in it."""
    return 'python gdb.execute("%s" %% next(t.id for t in Process().tasks().values() if t.name == "%s"))' % (command, name)


COMMANDS = ["weft ps", "weft bt all", "weft bt all -group", "weft workers"]
APPLY = [of("last-link", "weft bt %d -v"), of("last-link", "weft apply %d bt"),
         of("last-link", "weft apply %d frame function be_chain"), of("spinner", "weft apply %d bt"),
         "weft bt 1", "weft bt nothing", "weft nothing", "info threads"]


def check_all(said, how, many):
    ps = rows(part(said, "weft ps"))
    bt = stacks(part(said, "weft bt all"))
    for name, (state, function, where) in TASKS.items():
        got = ps.get(name, [["?"] * 6])[0]
        check(got[2] == state, "%s: ps: %s is %r, not %r" % (how, name, got[2], state), part(said, "weft ps"))
        check(got[3] == function, "%s: ps: %s is in %r, not %r" % (how, name, got[3], function))
        check(got[4].startswith(where) or where in got[4], "%s: ps: %s is at %r, not %r" % (how, name, got[4], where))
        stack = bt.get(name, "")
        check(state in stack.split("\n")[0], "%s: bt: %s: no %r" % (how, name, state), stack)
        own = "app" if name == "main" else function # the library's main_task is left out
        if state != "new":
            check(re.search(r"#\d+ +%s\b" % own, stack), "%s: bt: %s: no %r" % (how, name, own), stack)
    check(len(ps.get("-", [])) == many, "%s: ps: %d of many" % (how, len(ps.get("-", []))))
    check("%d tasks" % (len(TASKS) + many) in part(said, "weft ps"), how + ": ps: the number of tasks")
    # A joiner and its child have a part of one stack each.
    check("be_last_link" not in bt["chain"].split("\n#", 1)[0].replace("be_last_link>", ""), how + ": bt: chain's is too long")
    check("be_chain" not in bt["last-link"], how + ": bt: last-link's is too long", bt["last-link"])
    check("joins by a call: task" in bt["chain"] and "called by its joiner: task" in bt["last-link"], how + ": bt: the chain")
    check("no stack" not in said and "gdb stopped" not in said, how + ": bt: a stack has no end", said)
    group = part(said, "weft bt all -group")
    for function in ("wait_left", "wait_right"):
        check(re.search(r"%d tasks, waiting, in be_one_of_many.*\n(.*\n)+?.*%s" % (many // 3, function), group),
              "%s: bt -group: %s" % (how, function), group)
    check("%d tasks," % (len(TASKS) + many) in group, how + ": bt -group: the number of tasks")
    workers = part(said, "weft workers")
    check(re.search(r"^1 +\d+ .* (parked|its loop|looks for work)$", workers, re.M), how + ": workers: the first", workers)
    check(re.search(r'^2 +\d+ +0 +0 +0 +2 .* task \d+ "spinner"$', workers, re.M), how + ": workers: the second", workers)


def check_apply(said, how):
    names = ["be_last_link", "weft__join_inline", "be_first_link", "be_chain", "weft__child_body", "resident"]
    for command, there in ((APPLY[0], names[:2]), (APPLY[1], names)):
        text = part(said, command)
        at = [text.find(" " + n + " (") for n in there]
        check(at == sorted(at) and at[0] > 0, "%s: %s" % (how, command), text)
    # gdb's own unwinder ends at the entry, and says nothing of a corrupt stack.
    for command in (APPLY[1], APPLY[3]):
        text = part(said, command)
        check(re.search(r"context_entry \(\)[^\n]*\s*$", text), "%s: %s does not end at the entry" % (how, command), text)
        check("Backtrace stopped" not in text, "%s: %s was stopped" % (how, command), text)
    check(" in be_chain " in part(said, APPLY[2]), "%s: %s" % (how, APPLY[2]), part(said, APPLY[2]))
    check("no task lives under the id 1" in said and "is no task's id" in said, how + ": wrong ids", said)
    check("* 1 " in part(said, "info threads"), how + ": another thread is selected", said)


# Spoils the frame of one task, the stack of another and the scope of a third; they are named, and the others are well.
DAMAGE = """python
p = Process()
by = {t.name: t for t in p.tasks().values()}
def spoil(at, value):
    gdb.selected_inferior().write_memory(at, value.to_bytes(8, "little"))
spoil(by["sleeper"].frame.address + p.layout["frame.task"], 12345)
spoil(by["reader"].frame.address + p.layout["frame.sp"], 8)
spoil(by["joiner"].address + p.layout["task.side"], 0xdead0000dead)
spoil(by["ender"].address + p.layout["task.scope"], 16)
spoil(by["ready-one"].frame.sp + p.arch["at"][p.arch["fp"]], 0x7777)
end
"""


def check_damage(script, subject, folder):
    path = os.path.join(folder, "damage.gdb")
    with open(path, "w", encoding="utf-8") as f:
        f.write(DAMAGE)
    said = gdb(script, ["-p", str(subject.pid)], ["source " + path] + COMMANDS[:2])
    ps, bt = rows(part(said, "weft ps")), stacks(part(said, "weft bt all"))
    for name in ("sleeper", "joiner"): # their names are where the damage is
        ps[name] = [r for r in ps["-"] if r[3] == TASKS[name][1]]
        bt[name] = bt.get(TASKS[name][1], "")
    for name, what in (("sleeper", "frame at .* is damaged"), ("reader", "stack pointer 0x8"), ("joiner", "cannot read"),
                       ("ready-one", "frame pointer 0x7777")):
        check(re.search(what, ps[name][0][4]), "damage: ps: %s: no %r" % (name, what), part(said, "weft ps"))
    check("cannot read" in ps["ender"][0][5], "damage: ps: ender's scope")
    for name in ("sleeper", "reader", "joiner"):
        check("no stack" in bt[name], "damage: bt: " + name, bt[name])
    for name in ("chain", "last-link", "spinner"):
        check(TASKS[name][2] in ps[name][0][4], "damage: ps: " + name)
        check(re.search(r"#\d+ +%s\b" % TASKS[name][1], bt[name]), "damage: bt: " + name, bt[name])
    check("Traceback" not in said, "damage: an exception", said)


def check_stripped(subject_file, script, folder):
    """Without symbols and debug information: said, and all tasks and stacks are still there."""
    if not shutil.which("strip"):
        return
    path = os.path.join(folder, "stripped")
    subprocess.run(["strip", "-o", path, subject_file], check=True)
    with Subject(path) as subject:
        said = gdb(script, ["-p", str(subject.pid)], COMMANDS[:2])
    ps = rows(part(said, "weft ps"))
    check("The library is stripped" in said, "stripped: it is not said", said)
    for name, (state, _, _) in TASKS.items():
        check(ps.get(name, [["?"] * 6])[0][2] == state, "stripped: ps: %s" % name, part(said, "weft ps"))
    bt = stacks(part(said, "weft bt all"))
    check(bt["reader"].count("#") >= 4, "stripped: bt", bt["reader"])
    check("Traceback" not in said, "stripped: an exception", said)


def core_of(subject, folder):
    """Lets the process end with a core. The kernel's: gdb 13's gcore stops at a guard between stacks (Linux 6.13)."""
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as f:
        pattern = f.read().strip()
    if pattern.startswith("|") or "/" in pattern or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        path = os.path.join(folder, "gcore")
        gdb("/dev/null", ["-p", str(subject.pid)], ["generate-core-file " + path])
        return (path, True) if os.path.exists(path) else (None, True)
    os.kill(subject.pid, signal.SIGABRT)
    subject.process.wait(timeout=LIMIT)
    for name in os.listdir(folder):
        if name.startswith(("core", pattern.split("%")[0])):
            return os.path.join(folder, name), False
    return None, False


def live(subject_file, script):
    with Subject(subject_file, MORE) as subject:
        said = gdb(script, ["-p", str(subject.pid)], COMMANDS + APPLY)
        if re.search("ptrace: |Could not attach|not permitted", said):
            print("skipped: a live process, since ptrace is refused here")
            return False
        if "Python scripting is not supported" in said or "No symbol table is loaded" in said:
            print("skipped: gdb without Python")
            return False
        check_all(said, "live", MORE)
        check_apply(said, "live")
        subject.process.stdin.close()
        check(subject.process.wait(timeout=LIMIT) == 0, "the subject does not end well after gdb has left it")
    with tempfile.TemporaryDirectory() as folder:
        with Subject(subject_file) as subject:
            check_damage(script, subject, folder)
        check_stripped(subject_file, script, folder)
    return True


def core(subject_file, script):
    with tempfile.TemporaryDirectory() as folder:
        with Subject(subject_file, MORE, folder) as subject:
            path, by_gdb = core_of(subject, folder)
        if not path:
            print("skipped: a core, since none could be had here")
            return False
        said = gdb(script, [subject_file, path], COMMANDS + APPLY)
        if by_gdb and "not there; a core made by gdb's gcore" in said:
            print("skipped: a core, since gdb's gcore leaves out stacks on this kernel, and the kernel's goes elsewhere")
            return False
        check_all(said, "core", MORE)
        check_apply(said, "core")
    return True


def main():
    subject_file, script = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    if not shutil.which("gdb"):
        print("skipped: gdb is not installed")
        return SKIPPED
    start = time.monotonic()
    done = [half(subject_file, script) for half in (live, core)]
    print("%d of 2 halves, %d faults, %.1f s" % (sum(done), len(faults), time.monotonic() - start))
    return 1 if faults else 0 if any(done) else SKIPPED


sys.exit(main())
