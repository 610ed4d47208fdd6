#!/usr/bin/env python3
"""on_stack_test.py LIBRARY | --check-the-check - a function that the user calls stays on the stack while it waits.

A call that is the last step of a function may become a jump, and then `weft ps` and gdb do not find the function that a task
has called and waits in. So no function whose documentation says that it suspends leaves by a jump into another one, as the
compiler has made it here. weft__on_stack (runtime/coord/await.h) keeps it. A jump to where a register says, which may be
a table of a switch, is not looked at. """
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "docs"))
import reference  # noqa: E402

# What may be jumped to: it says at once that there is no memory for a frame; free; the switch into a generator and out of it,
# whose two sides share a task: what waits then is its body, which is on the stack that is running.
NEVER_WAITS = {"weft__no_frame", "weft__mem_free", "weft__context_swap_with"}

ENTRY = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
JUMP = re.compile(r"\s(?:j[a-z]+|b|b\.[a-z]+)\s+(?:0x)?[0-9a-f]+ <([^>+]+)[^>]*>")  # x86-64, AArch64


def plain(name):
    """Of a function's name as the assembler has it: foo.cold, foo.constprop.0, foo@plt."""
    return re.split(r"[.@]", name)[0]


def leaves(disassembly, waits):
    """Whoever of `waits` leaves by a jump, and where to; those whose code was there; and how many jumps there were."""
    found, seen, inside, jumps = set(), set(), None, 0
    for line in disassembly.splitlines():
        entry = ENTRY.match(line)
        if entry:
            inside = plain(entry.group(1)) if "@" not in entry.group(1) else None
            seen.add(inside)
            continue
        jump = JUMP.search(line)
        jumps += jump is not None
        if jump and inside in waits and plain(jump.group(1)) not in NEVER_WAITS | {inside}:
            found.add((inside, plain(jump.group(1))))
    return sorted(found), seen & waits, jumps


SEEDED = """
0000000000001000 <weft_mutex_lock>:
    1000:\tje     1008 <weft_mutex_lock+0x8>
    1004:\tjmp    2000 <lock_slow.constprop.0>
0000000000001100 <weft_sleep>:
    1100:\tb      1200 <weft_yield@plt>
    1104:\tb.eq   1300 <weft__no_frame>
0000000000001200 <weft_now>:
    1200:\tjmp    1400 <weft__now>
0000000000001300 <weft_read>:
    1300:\tcall   1400 <transfer>
    1304:\tjne    1380 <weft_read.cold>
0000000000001380 <weft_read.cold>:
    1380:\tjmp    1304 <weft_read+0x4>
"""


def main():
    ref = reference.Reference(os.path.join(ROOT, "include"))
    waits = {s["name"] for b in ref.blocks for s in b.symbols if s["kind"] == "function" and s.get("context") and
             s["context"]["suspends"]}
    if "--check-the-check" in sys.argv:
        found, seen, _ = leaves(SEEDED, waits)
        right = found == [("weft_mutex_lock", "lock_slow"), ("weft_sleep", "weft_yield")] and len(seen) == 3
        print("the seeded jumps were found" if right else "found %s in %s" % (found, sorted(seen)))
        return not right
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", sys.argv[1]], check=True, capture_output=True, text=True)
    faults, there, jumps = leaves(code.stdout, waits)
    for name, to in faults:
        print("%s suspends, and leaves by a jump to %s: weft__on_stack" % (name, to))
    if len(there) < len(waits) / 2 or jumps < len(there):
        print("only %d of %d functions that suspend have code there, with %d jumps" % (len(there), len(waits), jumps))
        return True
    print("%d functions that suspend were looked at" % len(there))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
