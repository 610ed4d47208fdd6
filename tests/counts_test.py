#!/usr/bin/env python3
"""counts_test.py COUNTS - bench/counts, on files as callgrind writes them: what passes, what fails, and what is skipped."""
import pathlib
import subprocess
import sys
import tempfile

KEY = "gcc 12.2.0, x86-64, glibc 2.36"


def dump(name, operations, total):
    return (f"# callgrind format\nversion: 1\npart: 1\n\ndesc: Trigger: Client Request: {name} {operations}\n\n"
            f"events: Ir\nsummary: {total + 99}\n\nfn=(1) one\n10 {total - 5}\ncfn=(2) two\ncalls=1 20\n10 5\n\n"
            f"fn=(2)\n20 5\n\ntotals: {total}\n")


class Bench:
    def __init__(self, counts, folder):
        self.counts, self.folder, self.bad = counts, pathlib.Path(folder), 0
        self.record = self.folder / "record.txt"

    def canned(self, key=KEY, lost=None, **paths):
        for old in self.folder.glob("out.*"):
            old.unlink()
        (self.folder / "key").write_text(key + "\n")
        (self.folder / "out.0").write_text("# callgrind format\ntotals: 12345\n")  # the last one, of the end of the process
        for name, each in paths.items():
            for operations in (1000, 2000):
                if (name, operations) != lost:
                    text = dump(name, operations, 5000 + int(each * operations))
                    (self.folder / f"out.{name}{operations}").write_text(text)

    def expect(self, what, rc, *texts, args=()):
        p = subprocess.run([sys.executable, str(self.counts), "--canned", str(self.folder), "--record", str(self.record), *args],
                           capture_output=True, text=True)
        out = p.stdout + p.stderr
        if p.returncode != rc or not all(text in out for text in texts):
            self.bad += 1
            print(f"FAILED: {what}: status {p.returncode} instead of {rc}, or not {texts} in:\n{out}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(pathlib.Path(sys.argv[1]), folder)
        b.canned(yields=300, sends=500, small=40)
        b.expect("records", 0, "3 paths recorded", args=["--update"])
        b.expect("the same", 0, "3 passed, 0 failed")
        b.canned(yields=300, sends=515, small=40)
        b.expect("3 % dearer", 1, "sends                     515.0  recorded    500.0  FAILED: +3.0 %", "2 passed, 1 failed")
        b.canned(yields=300, sends=505, small=41.5)
        b.expect("less than what repeated runs differ by", 0, "3 passed, 0 failed")
        b.canned(yields=300, sends=500, small=43)
        b.expect("three instructions of forty", 1, "small", "FAILED: +7.5 %", "2 passed, 1 failed")
        b.canned(yields=270, sends=500, small=40)
        b.expect("cheaper", 0, "to be recorded", "yields", "3 passed, 0 failed")
        b.canned(yields=300, sends=500)
        b.expect("one is missing", 1, "small", "it was not counted", "2 passed, 1 failed")
        b.canned(yields=300, sends=500, small=40, more=7)
        b.expect("one is new", 1, "it is not recorded", "3 passed, 1 failed")
        b.canned(key="clang 14, x86-64, glibc 2.36", yields=900)
        b.expect("another compiler", 77, "skipped: the record is for " + KEY, "0 passed, 0 failed")
        b.canned(yields=300, lost=("yields", 2000))
        b.expect("half of it", 1, "1 runs instead of two")
        b.canned()
        b.expect("nothing", 1, "no such path")
        b.canned(yields=300)
        b.expect("functions", 0, "yields: 300.0", "300.0  one", args=["--functions"])
    print("counts_test: " + ("FAILED" if b.bad else "passed"))
    return b.bad > 0


if __name__ == "__main__":
    sys.exit(main())
