"""libweft-gdb.py - gdb commands for the tasks of weft: on a live process and on a core, x86-64 and AArch64, gdb 13 and newer.

    weft ps                 all tasks: state, function, where it waits, scope
    weft bt ID              the stack of one task; -v with the library's own frames
    weft bt all [-group]    of all; -group folds equal ones
    weft workers            what each worker runs, and its queues
    weft apply ID COMMAND   any command of gdb's, as if the task ran: weft apply 16777218 bt full

Owns      nothing of the process: it reads memory, and never writes it, sets a register or calls a function.
Layout    everything it knows of the library comes from the table weft__gdb (coord/gdb.c), which is found by its symbol or by
          its section's name. Debug information is needed for names and lines alone.
Stacks    of a parked task: for `bt` by gdb's own unwinder. While it is asked, Parked (below) says that the thread's innermost
          frame was called from where the task was left, whose registers lie on its stack (machine/context_*.S). So stacks
          are as good as gdb's of threads, also in code without frame pointers, with inlined functions and locals. For
          `ps`, which wants one frame of each, a walk by frame pointers, up to where the library ends: it has them.
Damage    what cannot be read, or contradicts itself, is said for that task; the others follow.
"""
import bisect
import re
import struct

import gdb
import gdb.unwinder

FRAMES_MOST = 256   # of one stack
GROUP_IDS_MOST = 8  # named of one group
CHUNK = 16384       # control blocks read at once

# How a context that was left lies on its stack: the offset of each register from the saved stack pointer, and the
# stack pointer after the return. Both frame pointers point at {caller's frame pointer, return address}.
ARCHES = {
    "i386:x86-64": {
        "pc": "rip", "sp": "rsp", "fp": "rbp", "bytes": 56,
        "at": {"r15": 0, "r14": 8, "r13": 16, "r12": 24, "rbx": 32, "rbp": 40, "rip": 48},
    },
    "aarch64": {
        "pc": "pc", "sp": "sp", "fp": "x29", "bytes": 160,
        "at": dict([("x%d" % (19 + i), 8 * i) for i in range(12)] + [("pc", 88)]),
    },
}


class Trouble(Exception):
    """What is said instead of an answer."""


FAULTS = (Trouble, gdb.error, struct.error, UnicodeDecodeError, OverflowError, ValueError)


def say(line=""):
    gdb.write(line + "\n")


# ---- memory


def read(address, size):
    if address == 0:
        raise Trouble("a pointer is NULL")
    try:
        return bytes(gdb.selected_inferior().read_memory(address, size))
    except (gdb.MemoryError, OverflowError):
        raise Trouble("cannot read %d bytes at %#x" % (size, address)) from None


def word(data, offset):
    return struct.unpack_from("<Q", data, offset)[0]


def half(data, offset):
    return struct.unpack_from("<I", data, offset)[0]


def text(data):
    return data.split(b"\0")[0].decode("utf-8", "replace")


def string_at(address, most=64):
    """As much of it as can be read."""
    out = b""
    while len(out) < most and b"\0" not in out:
        try:
            out += read(address + len(out), 8 - (address + len(out)) % 8)
        except Trouble:
            break
    return text(out[:most])


def printable(name):
    return "".join(c if c.isprintable() else "?" for c in name)


# ---- the table in the library


class Layout(dict):
    HEAD = struct.Struct("<8sII")
    ENTRY = struct.Struct("<24sQ")

    def __init__(self, address):
        super().__init__()
        magic, version, size = self.HEAD.unpack(read(address, self.HEAD.size))
        if magic != b"weftgdb\0":
            raise Trouble("weft__gdb at %#x is not what was expected: is the core of another program?" % address)
        if version != 1:
            raise Trouble("this script is too old for the library: its table has version %d" % version)
        data = read(address, min(size, 65536))
        for name, value in self.ENTRY.iter_unpack(data[self.HEAD.size:]):
            if name[0]:
                self[text(name)] = value

    def __missing__(self, name):
        raise Trouble("the library's table has no %r: script and library are of different versions" % name)


def find_table():
    """Its address and whether the library's symbols are there, too."""
    try:
        return int(gdb.parse_and_eval("(unsigned long)&weft__gdb")), True
    except gdb.error:
        pass
    found = re.search(r"0x([0-9a-f]+) - 0x[0-9a-f]+ is \.weft_gdb", gdb.execute("info files", to_string=True))
    if found:
        return int(found.group(1), 16), False
    raise Trouble("no weft in this program: neither the symbol weft__gdb nor the section .weft_gdb is there "
                  "(a core needs its program: gdb PROGRAM CORE)")


# ---- code: which function, which line, and whose


class Code:
    def __init__(self, layout, table):
        self.solib = gdb.solib_name(table)
        self.ours, self.names = {}, {}
        self.body = (layout["code.body"], layout["code.own"], layout["code.join"], layout["code.entry"])
        self.source = None
        file = self.file(layout["code.suspend"])
        if file:
            self.source = file.rsplit("/", 2)[0] + "/"

    def known(self):
        """Whether each address is known to be the library's or not."""
        return self.source is not None or self.solib is not None

    def minimal(self, pc):
        """(name, offset) without debug information."""
        said = gdb.execute("info symbol %#x" % pc, to_string=True)
        found = re.match(r"(\S+)(?: \+ (\d+))? in section", said)
        if not found:
            return None, 0
        # gdb takes two underscores for Ada's.
        name = re.sub(r"^weft\.", "weft__", found.group(1))
        return name, int(found.group(2) or 0)

    def name(self, pc):
        """Of the innermost function, inlined ones included."""
        if pc not in self.names:
            name = None
            try:
                block = gdb.block_for_pc(pc)
                while block and not block.function:
                    block = block.superblock
                if block:
                    name = block.function.print_name
            except (gdb.error, RuntimeError):
                pass
            self.names[pc] = name or self.minimal(pc)[0]
        return self.names[pc]

    @staticmethod
    def file(pc):
        """That of the function there, whatever is inlined into it: headers may be known under another path."""
        function = None
        try:
            block = gdb.block_for_pc(pc)
            while block and not block.is_static and not block.is_global:
                function = block.function or function
                block = block.superblock
        except (gdb.error, RuntimeError):
            pass
        return function.symtab.fullname() if function else None

    def entry(self, address):
        name = self.name(address)
        return name if name else "%#x" % address

    def is_ours(self, pc):
        if pc not in self.ours:
            self.ours[pc] = self.look_whose(pc)
        return self.ours[pc]

    def look_whose(self, pc):
        if self.solib or gdb.solib_name(pc):
            return gdb.solib_name(pc) == self.solib
        file = self.file(pc) if self.source else None
        if file:
            return file.startswith(self.source)
        name = self.name(pc)
        return bool(name) and name.startswith("weft_")

    def is_end(self, pc):
        """Whether the library calls a task's function from here, or this is the end of a stack."""
        name, offset = self.minimal(pc)
        if name:
            return name in ("weft__child_body", "weft__run_own", "weft__join_inline", "weft__context_entry")
        return any(0 <= pc - start < 2048 for start in self.body)

    def line(self, pc):
        at = gdb.find_pc_line(pc)
        if at.symtab and at.line:
            return "%s:%d" % (at.symtab.filename.rsplit("/", 1)[-1], at.line)
        return None

    def where(self, pc):
        """'function (file:line)', as far as it is known."""
        name, line = self.name(pc), self.line(pc)
        if not name:
            lib = gdb.solib_name(pc)
            return "%#x%s" % (pc, " of " + lib.rsplit("/", 1)[-1] if lib else "")
        return "%s (%s)" % (name, line) if line else name


# ---- tasks


class Frame:
    """struct weft__frame: the running part of a task."""

    def __init__(self, layout, address):
        data = read(address, layout["frame.size"])
        self.address = address
        self.sp = word(data, layout["frame.sp"])
        self.task = word(data, layout["frame.task"])
        self.id = word(data, layout["frame.id"])
        self.below = word(data, layout["frame.below"])
        self.side = word(data, layout["frame.side"])
        self.stack = word(data, layout["frame.stack"])
        self.low = self.high = 0

    def find_stack(self, layout):
        if self.high == 0:
            ends = read(self.stack + layout["stack.low"], 8), read(self.stack + layout["stack.high"], 8)
            self.low, self.high = word(ends[0], 0), word(ends[1], 0)
            if not 0 < self.high - self.low < 1 << 32:
                raise Trouble("the stack at %#x has no sensible ends" % self.stack)
        return self


class Task:
    def __init__(self, process, address, data):
        layout = process.layout
        state, life = word(data, layout["task.state"]), word(data, layout["task.life"])
        bits = half(data, layout["task.bits"])
        side = word(data, layout["task.side"])
        self.address = address
        self.id = life & layout["life.id"]
        self.cancelled = bool(life & layout["life.cancelled"])
        self.phase = state & layout["phase.mask"]
        self.scope = word(data, layout["task.scope"])
        self.fn = word(data, layout["task.fn"])
        self.name, self.frame, self.over, self.trouble = "", None, None, None
        try:
            options = 0
            if bits & layout["bits.started"]:
                frame = Frame(layout, side)
                if frame.task != address or frame.id != self.id:
                    raise Trouble("its frame at %#x is %s" % (side, "damaged" if frame.task or frame.id else
                                  "not there; a core made by gdb's gcore may lack stacks"))
                self.frame = frame
                options = frame.side
            elif bits & layout["bits.side"]:
                options = side
            if options:
                self.name = printable(text(read(options + layout["side.name"], layout["side.name.size"])))
        except FAULTS as e:
            self.trouble = str(e)

    def title(self):
        return 'task %d%s' % (self.id, ' "%s"' % self.name if self.name else "")


class Worker:
    def __init__(self, layout, address, number):
        data = read(address, layout["worker.size"])

        def field(name):
            return word(data, layout["worker." + name])

        self.number, self.address = number, address
        self.frame, self.thread = field("frame"), field("thread")
        self.asleep = half(data, layout["worker.asleep"]) != 0
        self.searching = data[layout["worker.searching"]] != 0
        self.next, self.pinned, self.ran = field("next"), field("pinned"), field("ran")
        self.ring = self.length(field("ring.tail"), field("ring.head"))
        self.deque = self.length(field("deque.bottom"), field("deque.top")) + (field("newest") != 0)
        self.timers = half(data, layout["worker.timers"])

    @staticmethod
    def length(end, start):
        n = (end - start) & (1 << 64) - 1
        return n if n < 1 << 32 else 0


class Runtime:
    def __init__(self, layout, address):
        def at(name, size=8):
            data = read(address + layout["runtime." + name], size)
            return word(data, 0) if size == 8 else half(data, 0)

        self.address = address
        self.inject, self.errands, self.next = at("inject"), at("errands"), at("next")
        n, self.workers = min(at("n", 4), 1024), []
        array = read(at("all"), 8 * n)
        for i in range(n):
            try:
                self.workers.append(Worker(layout, word(array, 8 * i), i + 1))
            except FAULTS as e:
                say("worker %d: %s" % (i + 1, e))


class Process:
    """What one command needs to know; made anew for each, since the process runs in between."""

    def __init__(self):
        if not gdb.selected_inferior().pid or gdb.selected_thread() is None:
            raise Trouble("there is no process and no core")
        if not gdb.selected_thread().is_stopped():
            raise Trouble("the selected thread runs: stop it first")
        name = gdb.newest_frame().architecture().name().replace(":intel", "")
        if name not in ARCHES:
            raise Trouble("weft does not know the processor %s" % name)
        self.arch = ARCHES[name]
        table, symbols = find_table()
        self.layout = Layout(table)
        self.code = Code(self.layout, table)
        if not symbols:
            say("The library is stripped: all tasks and stacks are there, but few of its functions have names, and yours only "
                "if the program has symbols.")
        elif not self.code.known():
            say("The library has no debug information: which frames are its own is told by their names alone.")
        self.scopes, self.by_id = {}, None
        self.runtimes, self.running = [], {}
        self.find_runtimes()

    def find_runtimes(self):
        address, seen = word(read(self.layout["runtimes"], 8), 0), set()
        while address and address not in seen:
            seen.add(address)
            try:
                runtime = Runtime(self.layout, address)
            except FAULTS as e:
                say("runtime at %#x: %s" % (address, e))
                break
            self.runtimes.append(runtime)
            for w in runtime.workers:
                self.running[w.frame] = w
            address = runtime.next

    def tasks(self):
        """All that live, by their ids."""
        if self.by_id is not None:
            return self.by_id
        layout, self.by_id = self.layout, {}
        size, mask = layout["task.size"], layout["life.id"]
        table, used = word(read(layout["tasks"], 8), 0), half(read(layout["used"], 4), 0)
        if used > 1 << layout["index.bits"]:
            raise Trouble("the table of tasks is damaged: it has %d" % used)
        for first in range(0, used if table else 0, CHUNK):
            n = min(CHUNK, used - first)
            try:
                data = read(table + first * size, n * size)
            except FAULTS as e:
                say("tasks %d to %d of the table: %s" % (first, first + n - 1, e))
                continue
            lives = memoryview(data).cast("Q")[layout["task.life"] // 8::size // 8]
            for i, life in enumerate(lives):
                if life & mask:
                    t = Task(self, table + (first + i) * size, data[i * size:(i + 1) * size])
                    self.by_id[t.id] = t
        by_frame = {t.frame.address: t for t in self.by_id.values() if t.frame}
        for t in by_frame.values():
            if t.frame.below:
                if t.frame.below in by_frame:
                    by_frame[t.frame.below].over = t
                elif not t.trouble:
                    t.trouble = "it runs on the stack of a task that is not there"
        return self.by_id

    def task(self, word_):
        try:
            number = int(word_, 0)
        except ValueError:
            raise Trouble("%r is no task's id: see weft ps" % word_) from None
        if number not in self.tasks():
            raise Trouble("no task lives under the id %d" % number)
        return self.by_id[number]

    def top(self, t):
        """The task on whose behalf the stack of `t` runs or waits: itself, or the innermost child that it joined by a call."""
        for _ in range(len(self.tasks())):
            if not t.over:
                break
            t = t.over
        return t

    def state(self, t):
        layout = self.layout
        top = self.top(t)
        if top.phase == layout["phase.new"]:
            return "new"
        if not top.frame:
            return "damaged" if top.trouble else "starting"
        if top.frame.address in self.running:
            w = self.running[top.frame.address]
            more = "" if len(self.runtimes) == 1 else " of %#x" % next(
                r.address for r in self.runtimes if w in r.workers)
            return "running on worker %d%s" % (w.number, more)
        if top.phase in (layout["phase.waiting"], layout["phase.preparing"]):
            return "waiting"
        return "ready"

    def scope(self, t):
        if t.scope not in self.scopes:
            try:
                self.scopes[t.scope] = self.look_scope(t.scope)
            except FAULTS as e:
                self.scopes[t.scope] = "? (%s)" % e
        return self.scopes[t.scope]

    def look_scope(self, address):
        layout, name, whose = self.layout, "", "a thread"
        owner = word(read(address + layout["scope.owner"], 8), 0)
        extra = word(read(address + layout["scope.extra"], 8), 0)
        if extra:
            at = word(read(extra + layout["extra.name"], 8), 0)
            name = ' "%s"' % printable(string_at(at)) if at else ""
        if owner:
            number = word(read(owner + layout["frame.id"], 8), 0)
            whose = str(number) if number else whose
        return whose + name


# ---- stacks


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class Parked(gdb.unwinder.Unwinder):
    """The innermost frame of the thread is said to have been called from where the task was left."""

    def __init__(self, arch, sp):
        super().__init__("weft")
        self.arch, self.sp = arch, sp
        data = read(sp, arch["bytes"])
        self.registers = {r: word(data, offset) for r, offset in arch["at"].items()}
        self.registers[arch["sp"]] = sp + arch["bytes"]

    def __call__(self, pending):
        if pending.level() != 0:
            return None
        # A frame that is further in has a lower address: gdb minds.
        info = pending.create_unwind_info(FrameId(gdb.Value(self.sp).cast(pending.read_register(self.arch["sp"]).type),
                                                  pending.read_register(self.arch["pc"])))
        for name, value in self.registers.items():
            kind = pending.read_register(name).type
            info.add_saved_register(name, gdb.Value(value.to_bytes(8, "little"), kind))
        return info

    def __enter__(self):
        gdb.unwinder.register_unwinder(None, self, replace=True)
        gdb.invalidate_cached_frames()
        try:
            return gdb.newest_frame().older()
        except gdb.error:
            self.__exit__()
            raise

    def __exit__(self, *what):
        gdb.frame_unwinders.remove(self)
        gdb.invalidate_cached_frames()


class Selection:
    """Thread and frame of the user stay selected."""

    def __enter__(self):
        self.thread, self.level = gdb.selected_thread(), 0
        try:
            self.level = gdb.selected_frame().level()
        except gdb.error:
            pass

    def __exit__(self, *what):
        try:
            self.thread.switch()
            frame = gdb.newest_frame()
            while frame and frame.level() < self.level:
                frame = frame.older()
            if frame:
                frame.select()
        except gdb.error:
            pass


class Stacks:
    def __init__(self, process):
        self.process, self.cache = process, {}
        self.threads = self.find_threads()
        self.lows = [t[0] for t in self.threads]

    def find_threads(self):
        """[(sp, thread)], sorted: a task is on the processor if a thread's stack pointer is in its stack."""
        found = []
        with Selection():
            for thread in gdb.selected_inferior().threads():
                try:
                    if not thread.is_stopped():
                        continue
                    thread.switch()
                    found.append((int(gdb.newest_frame().read_register(self.process.arch["sp"])), thread))
                except gdb.error:
                    pass
        return sorted(found, key=lambda pair: pair[0])

    def thread_on(self, frame):
        i = bisect.bisect_left(self.lows, frame.low)
        return self.threads[i][1] if i < len(self.lows) and self.lows[i] < frame.high else None

    # -- one frame, by frame pointers

    def walk(self, frame):
        """The addresses at which a parked task goes on, innermost first."""
        at = self.process.arch["at"]
        if not frame.low <= frame.sp < frame.high:
            raise Trouble("its stack pointer %#x is not in its stack" % frame.sp)
        base = frame.sp
        data = read(base, min(4096, frame.high - base))
        pc, fp = word(data, at[self.process.arch["pc"]]), word(data, at[self.process.arch["fp"]])
        yield pc
        while fp != 0:
            if not base < fp <= frame.high - 16 or fp % 8:
                raise Trouble("its frame pointer %#x is not in its stack" % fp)
            if fp - base + 16 > len(data):
                base = fp
                data = read(base, min(4096, frame.high - base))
            if frame.below and fp > frame.address:
                return # what follows is its joiner's
            up, pc = word(data, fp - base), word(data, fp - base + 8)
            if pc == 0:
                raise Trouble("a return address in it is 0")
            yield pc
            if up != 0 and up <= fp:
                raise Trouble("its frames go round in a circle")
            fp = up

    def place(self, t):
        """'weft_read in function (file:line)': the innermost frame that is not the library's."""
        top = self.process.top(t)
        if not top.frame:
            return ""
        if not t.over and not self.thread_on(top.frame.find_stack(self.process.layout)):
            return self.pick(pc - 1 for pc in self.walk(top.frame))
        # It runs; or there is a child's code in between, which may have no frame pointers.
        above = t.over.frame.address if t.over else 0
        with self.on(top):
            return self.pick(self.pc_of(f) for f in self.chain(self.first) if f.type() != gdb.INLINE_FRAME
                             and int(f.read_register(self.process.arch["sp"])) > above)

    def pick(self, addresses):
        code, call, user = self.process.code, None, None
        try:
            for pc in addresses:
                ours = code.is_ours(pc)
                if ours:
                    if code.is_end(pc):
                        break
                    call = self.public(pc) or call
                    user = None
                elif user is None:
                    user = pc
                    if code.known():
                        break
        except Trouble: # further out, where code may have no frame pointers
            if user is None:
                raise
        if user is None:
            return ("in " + call) if call else ""
        where = code.where(user)
        return "%s in %s" % (call, where) if call else where

    def public(self, pc):
        name = self.process.code.minimal(pc)[0] if pc not in self.cache else self.cache[pc]
        self.cache[pc] = name
        return name if name and name.startswith("weft_") and not name.startswith("weft__") else None

    # -- whole stacks, by gdb

    @staticmethod
    def pc_of(frame):
        """An address in the call: a return address may be in the next function."""
        newer = frame.newer()
        called = newer is not None and newer.type() in (gdb.NORMAL_FRAME, gdb.INLINE_FRAME)
        return frame.pc() - 1 if called else frame.pc()

    @staticmethod
    def chain(frame):
        n = 0
        while frame is not None and n < FRAMES_MOST:
            yield frame
            frame, n = frame.older(), n + 1

    def unwind(self, frame, with_arguments):
        """[(text, whether it is the library's, stack pointer, whether it is the end)], and why it ended if it did not end well."""
        sp_name = self.process.arch["sp"]
        out, inlined, last, parked = [], 0, None, frame.level() > 0
        try:
            for f in self.chain(frame):
                pc = f.pc() - 1 if parked else self.pc_of(f) # all frames of a parked one were called
                key = (pc, inlined)
                told = self.cache.get(key)
                if told is None:
                    told = self.cache[key] = self.tell(f, pc)
                shown, ours, end = told
                arguments = self.arguments(f) if with_arguments else ""
                out.append((shown.replace("\0", arguments), ours, int(f.read_register(sp_name)), end))
                inlined = inlined + 1 if f.type() == gdb.INLINE_FRAME else 0
                last = f
        except (gdb.error, Trouble) as e:
            return out, str(e)
        if len(out) >= FRAMES_MOST:
            return out, "more than %d frames" % FRAMES_MOST
        reason = last.unwind_stop_reason() if last else 0
        good = (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST)
        return out, None if reason in good else gdb.frame_stop_reason_string(reason)

    def tell(self, frame, pc):
        code = self.process.code
        function = frame.function()
        name = function.print_name if function else code.minimal(pc)[0]
        at = frame.find_sal()
        ours = code.is_ours(pc)
        if at.symtab and at.line:
            place = " at %s:%d" % (at.symtab.filename, at.line)
        else:
            lib = gdb.solib_name(pc)
            place = " from " + lib if lib else ""
        return ("%s\0%s" % (name or "%#x" % frame.pc(), place), ours,
                ours and frame.type() != gdb.INLINE_FRAME and code.is_end(pc))

    @staticmethod
    def arguments(frame):
        shown = []
        try:
            block = frame.block()
            while block and not block.function:
                block = block.superblock
            for symbol in block or ():
                if symbol.is_argument:
                    try:
                        value = frame.read_var(symbol).format_string(max_elements=16, summary=True)
                    except (gdb.error, TypeError):
                        value = "?"
                    shown.append("%s=%s" % (symbol.print_name, value))
        except (gdb.error, RuntimeError):
            return ""
        return " (%s)" % ", ".join(shown)

    def of(self, t, all_frames=False, with_arguments=False):
        """The lines of one stack."""
        top = self.process.top(t)
        if t.trouble or top.trouble:
            raise Trouble(t.trouble or top.trouble)
        if not top.frame:
            return []
        with self.on(top):
            out, trouble = self.unwind(self.first, with_arguments)
        mine = self.part_of(t, out)
        if not all_frames:
            mine = self.trimmed(mine)
        lines = [shown for shown, _, _, _ in mine]
        if t.over:
            lines.insert(0, "(joins by a call: %s)" % t.over.title())
        if t.frame.below:
            lines.append("(called by its joiner: task %d)" % Frame(self.process.layout, t.frame.below).id)
        if trouble:
            lines.append("(gdb stopped: %s)" % trouble)
        return lines

    def on(self, top):
        """A context in which self.first is the innermost frame of the task."""
        frame = top.frame.find_stack(self.process.layout)
        thread = self.thread_on(frame)
        if thread:
            return OnThread(self, thread)
        if not frame.low <= frame.sp <= frame.high - self.process.arch["bytes"]:
            raise Trouble("its stack pointer %#x is not in its stack" % frame.sp)
        return OnStack(self, Parked(self.process.arch, frame.sp))

    @staticmethod
    def part_of(t, out):
        """Between the child that runs on its stack and the joiner on whose stack it runs: their frames lie in C frames of the
        library's."""
        low = t.over.frame.address if t.over else 0
        high = t.frame.address if t.frame.below else 1 << 64
        return [f for f in out if low < f[2] <= high] if low or high < 1 << 64 else out

    @staticmethod
    def trimmed(out):
        """Without the library's frames at both ends, but for the call that the user made."""
        first = 0
        while first + 1 < len(out) and out[first][1] and out[first + 1][1] and not out[first][3]:
            first += 1
        end = len(out)
        for i in range(first + 1, len(out)):
            if out[i][3]:
                end = i
                break
        while end - 1 > first and out[end - 1][1]:
            end -= 1
        return out[first:end]


class OnThread(Selection):
    def __init__(self, stacks, thread):
        self.stacks, self.other = stacks, thread

    def __enter__(self):
        super().__enter__()
        self.other.switch()
        self.stacks.first = gdb.newest_frame()


class OnStack:
    def __init__(self, stacks, parked):
        self.stacks, self.parked = stacks, parked

    def __enter__(self):
        self.stacks.first = self.parked.__enter__()
        if self.stacks.first is None:
            self.parked.__exit__()
            raise Trouble("gdb does not take its registers for a frame")

    def __exit__(self, *what):
        self.parked.__exit__(*what)


# ---- output


def columns(rows):
    """Rows of words; the last column is as wide as it likes."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]) - 1)]
    for r in rows:
        say("  ".join([c.ljust(w) for c, w in zip(r, widths)] + [r[-1]]).rstrip())


class Command(gdb.Command):
    def invoke(self, argument, from_tty):
        try:
            self.run(argument)
        except Trouble as e:
            raise gdb.GdbError("weft: %s" % e) from None


class Weft(gdb.Command):
    """The tasks of a program that uses weft: weft ps, weft bt, weft workers, weft apply."""

    def __init__(self):
        super().__init__("weft", gdb.COMMAND_STACK, prefix=True)


class Ps(Command):
    """List all tasks: id, name, state, function, where it waits, and whose child it is.
Usage: weft ps"""

    def __init__(self):
        super().__init__("weft ps", gdb.COMMAND_STACK)

    def run(self, argument):
        if argument.strip():
            raise Trouble("usage: weft ps")
        process = Process()
        stacks = Stacks(process)
        rows = [("TASK", "NAME", "STATE", "FUNCTION", "WHERE", "CHILD OF")]
        with Selection():
            for t in process.tasks().values():
                try:
                    if t.trouble:
                        raise Trouble(t.trouble)
                    place = stacks.place(t)
                except FAULTS as e:
                    place = "? (%s)" % e
                state = process.state(t) + (", cancelled" if t.cancelled else "")
                rows.append((str(t.id), t.name or "-", state, process.code.entry(t.fn), place or "-", process.scope(t)))
        columns(rows)
        say("%d task%s" % (len(rows) - 1, "" if len(rows) == 2 else "s"))


class Bt(Command):
    """Show the stack of one task, or of all.
Usage: weft bt ID | all [-group] [-v]
-group shows equal stacks once; -v shows the library's own frames, too."""

    def __init__(self):
        super().__init__("weft bt", gdb.COMMAND_STACK)

    def run(self, argument):
        words = argument.split()
        flags, words = {w for w in words if w.startswith("-")}, [w for w in words if not w.startswith("-")]
        if len(words) != 1 or flags - {"-group", "-v"}:
            raise Trouble("usage: weft bt ID | all [-group] [-v]")
        process = Process()
        chosen = list(process.tasks().values()) if words[0] == "all" else [process.task(words[0])]
        stacks = Stacks(process)
        with Selection():
            if "-group" in flags:
                self.grouped(process, stacks, chosen, "-v" in flags)
                return
            for t in chosen:
                say("%s, %s, in %s" % (t.title(), process.state(t), process.code.entry(t.fn)))
                self.show(self.lines(stacks, t, "-v" in flags, True))
                if len(chosen) > 1:
                    say()

    @staticmethod
    def lines(stacks, t, verbose, arguments):
        try:
            return stacks.of(t, verbose, arguments)
        except FAULTS as e:
            return ["(no stack: %s)" % e]

    @staticmethod
    def show(lines):
        n = 0
        for line in lines:
            if line.startswith("("):
                say("    " + line)
            else:
                say("    #%-2d %s" % (n, line.replace("\0", "")))
                n += 1

    def grouped(self, process, stacks, chosen, verbose):
        groups = {}
        for t in chosen:
            lines = self.lines(stacks, t, verbose, False)
            # Who runs it by a call, and whom it runs so, differs from task to task.
            same = tuple(re.sub(r"task \d+( \".*\")?", "a task", line) if line.startswith("(") else line for line in lines)
            groups.setdefault((process.state(t), process.code.entry(t.fn), same), []).append(t)
        for (state, entry, lines), members in sorted(groups.items(), key=lambda g: -len(g[1])):
            who = ", ".join(t.title()[5:] for t in members[:GROUP_IDS_MOST])
            more = ", ..." if len(members) > GROUP_IDS_MOST else ""
            say("%d task%s, %s, in %s: %s%s" % (len(members), "" if len(members) == 1 else "s", state, entry, who, more))
            self.show(lines)
            say()
        say("%d tasks, %d different stacks" % (len(chosen), len(groups)))


class Workers(Command):
    """Show each worker: its thread, how long its queues are, and the task it runs.
Usage: weft workers"""

    def __init__(self):
        super().__init__("weft workers", gdb.COMMAND_STACK)

    def run(self, argument):
        if argument.strip():
            raise Trouble("usage: weft workers")
        process = Process()
        if not process.runtimes:
            say("no runtime runs")
        by_frame = {t.frame.address: t for t in process.tasks().values() if t.frame}
        stacks = Stacks(process)
        for runtime in process.runtimes:
            if len(process.runtimes) > 1:
                say("runtime at %#x" % runtime.address)
            rows = [("WORKER", "THREAD", "RING", "DEQUE", "NEXT", "PINNED", "TIMERS", "TURNS", "RUNS")]
            for w in runtime.workers:
                runs = by_frame.get(w.frame)
                what = runs.title() if runs else "parked" if w.asleep else "looks for work" if w.searching else "its loop"
                rows.append((str(w.number), self.thread(process, stacks, w), str(w.ring), str(w.deque),
                             "1" if w.next else "0", str(w.pinned), str(w.timers), str(w.ran), what))
            columns(rows)
            say("shared queue: %d, errands: %d" % (runtime.inject, runtime.errands))

    @staticmethod
    def thread(process, stacks, worker):
        """gdb's number of its thread: by its pthread_t, or, without libthread_db, by the stack that it is on."""
        for thread in gdb.selected_inferior().threads():
            try:
                if int.from_bytes(thread.handle(), "little") == worker.thread:
                    return str(thread.num)
            except (gdb.error, RuntimeError, NotImplementedError):
                pass
        try:
            thread = stacks.thread_on(Frame(process.layout, worker.frame).find_stack(process.layout))
            return str(thread.num) if thread else "?"
        except FAULTS:
            return "?"


class Apply(Command):
    """Run a command of gdb's as if the task ran just now.
Usage: weft apply ID COMMAND
COMMAND is bt full, frame function NAME, info locals, print EXPRESSION ...
Of a task that does not run, frame 0 stands for nothing; frame 1 is selected, where the task was left."""

    def __init__(self):
        super().__init__("weft apply", gdb.COMMAND_STACK, gdb.COMPLETE_COMMAND)

    def run(self, argument):
        words = argument.split(None, 1)
        if len(words) != 2:
            raise Trouble("usage: weft apply ID COMMAND")
        process = Process()
        top = process.top(process.task(words[0]))
        if not top.frame:
            raise Trouble(top.trouble or "it has not begun")
        stacks = Stacks(process)
        with Selection(), stacks.on(top):
            stacks.first.select()
            gdb.execute(words[1])


Weft()
Ps()
Bt()
Workers()
Apply()
