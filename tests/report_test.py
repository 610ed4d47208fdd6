#!/usr/bin/env python3
"""Tests bench/report: from canned runs (report_canned.json), what the report says, and what is in its pictures; and how it
measures, with steps that do nothing.

    report_test.py [--build DIR [--run PREFIX]]     with DIR also the workloads that the report alone uses, in small

What is canned: weft behind Go in `mutex hold=0`, behind Tokio in `echo conns=64` (a rate), ahead in `fib`, level in
`yield tasks=1000`; `pingpong` too uneven to tell; `skynet`, which failed. """

import argparse
import contextlib
import copy
import io
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

HERE = pathlib.Path(__file__).resolve().parent
BENCH = HERE.parent / "bench"
sys.dont_write_bytecode = True
sys.path.insert(0, str(BENCH))

import report_page
import report_plot
import report_read
import report_run
import report_svg

CANNED = HERE / "report_canned.json"
OPTIONS = None


def canned():
    return json.loads(CANNED.read_text())


def scaled(results, case, who, key, by):
    """The same results, but for that figure."""
    results = copy.deepcopy(results)
    for run in results["runs"]:
        if run["case"] == case and run["who"] == who and key in run:
            run[key] *= by
    return results


def section_of(text, heading):
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def behind_in(results):
    """The cases and measures of the table that comes first."""
    text = section_of(report_page.write(results, {}), "Where weft is behind")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    return {(row[0].strip("| "), row[1]) for row in rows if not row[0].startswith("| ---")}


def verdict_in(results, case, key):
    return next(one.verdict for one in report_read.comparisons(results) if (one.case.name, one.key) == (case, key))


class Says(unittest.TestCase):
    def test_behind_is_said_of_exactly_what_is(self):
        self.assertEqual(behind_in(canned()),
                         {("mutex hold=0", "ns/op"), ("echo conns=64", "req/s"), ("timers n=1000000", "MiB at most")})

    def test_behind_goes_when_the_figures_change(self):
        self.assertNotIn(("mutex hold=0", "ns/op"), behind_in(scaled(canned(), "mutex hold=0", "weft", "ns_per_op", 0.5)))

    def test_behind_comes_when_the_figures_change(self):
        self.assertIn(("fib", "ns/op"), behind_in(scaled(canned(), "fib", "tbb", "ns_per_op", 0.5)))

    def test_of_a_rate_more_is_better(self):
        self.assertNotIn(("echo conns=64", "req/s"), behind_in(scaled(canned(), "echo conns=64", "weft", "req_per_s", 2)))
        self.assertIn(("proxy", "op/s"), behind_in(scaled(canned(), "proxy", "HAProxy, splice", "ops_per_s", 2)))

    def test_a_variant_of_weft_is_no_other(self):
        self.assertNotIn(("udp_echo window=64", "op/s"),
                         behind_in(scaled(canned(), "udp_echo window=64", "weft, batch=1", "ops_per_s", 9)))

    def test_a_spread_on_both_sides_cannot_tell(self):
        self.assertEqual(verdict_in(canned(), "pingpong pairs=1", "ns_per_op"), "cannot tell")
        self.assertIn("pingpong pairs=1", section_of(report_page.write(canned(), {}), "What cannot be told"))

    def test_two_turns_cannot_tell(self):
        few = canned()
        few["runs"] = [run for run in few["runs"] if run["turn"] < 2]
        self.assertEqual(verdict_in(few, "fib", "ns_per_op"), "cannot tell")
        self.assertEqual(behind_in(few), set())

    def test_turns_and_medians_that_disagree_cannot_tell(self):
        uneven = canned()
        for run in uneven["runs"]:
            if run["case"] == "pingpong pairs=1":
                run["ns_per_op"] = {"weft": (50, 100, 600), "go": (40, 99, 200)}[run["who"]][run["turn"]]
        self.assertEqual(verdict_in(uneven, "pingpong pairs=1", "ns_per_op"), "cannot tell")
        self.assertIn("the turns and the medians disagree", report_page.write(uneven, {}))

    def test_a_machine_that_is_not_quiet_is_said_first(self):
        self.assertNotIn("not quiet", report_page.write(canned(), {}))
        for share, said in ((0.04, False), (0.06, True)):
            loud = canned()
            for run in loud["runs"]:
                run["others_share"] = share
            text = section_of(report_page.write(loud, {}), "Where weft is behind")
            self.assertEqual(text.strip().startswith("**The machine was not quiet"), said)

    def test_tails_are_compared_too(self):
        tails = canned()
        tails["runs"] += [{**run, "who": "Go", "p99_us": 45} for run in tails["runs"] if run["section"] == "tails"]
        self.assertIn(("sleep 1 ms & <more>", "p99 µs"), behind_in(tails))

    def test_memory_is_compared_with_who_has_done_as_much(self):
        for ops, said in ((1000, True), (100, False)):
            results = canned()
            for run in results["runs"]:
                if run["case"] == "fib":
                    run["ops"] = ops if run["who"] == "go" else 1000
                    if run["who"] == "go":
                        run["rss_kib"] = 1
            self.assertEqual(("fib", "MiB at most") in behind_in(results), said)

    def test_level_is_level(self):
        self.assertEqual(verdict_in(canned(), "yield tasks=1000", "ns_per_op"), "level")

    def test_floors_are_reached_and_missed(self):
        missed = section_of(report_page.write(canned(), {}), "Floors")
        self.assertIn("| fib | ns/op | 1/2.5 of tbb |", missed)
        self.assertNotIn("| fib | ns/op | 1/10 of tokio |", missed)
        better = scaled(canned(), "fib", "weft", "ns_per_op", 0.5)
        self.assertNotIn("| fib |", section_of(report_page.write(better, {}), "Floors"))

    def test_floors_of_the_tails_are_the_best_peers(self):
        tails = canned()
        tails["runs"] += [{**run, "who": "Go", "p99_us": 45} for run in tails["runs"] if run["section"] == "tails"]
        self.assertIn("| sleep 1 ms & <more> | p99 µs | 1 × the best |", section_of(report_page.write(tails, {}), "Floors"))

    def test_floors_are_said_as_parts_where_they_are_some(self):
        for most, text in ((1 / 3, "1/3 of go"), (0.4, "1/2.5 of go"), (0.33, "0.33 × go"), (1.0, "1 × go"), (1.3, "1.3 × go")):
            self.assertEqual(report_read.floor_text(report_read.Floor("go", most), "ns_per_op"), text)
        self.assertEqual(report_read.floor_text(report_read.Floor("go", 1 / 1.8), "req_per_s"), "1.8 × go")

    def test_the_lowest_and_the_highest_fifth_are_left_out(self):
        self.assertEqual(report_read.Spread.of([9, 1, 5, 4, 6]), (5, 4, 6, 5))
        self.assertEqual(report_read.Spread.of([3, 1, 2]), (2, 1, 3, 3))

    def test_what_failed_and_what_is_missing_is_said(self):
        text = report_page.write(canned(), {})
        self.assertIn("| heart | skynet | weft | exit status 1 | 3 |", text)
        self.assertIn("missing: tbb: not there", text)
        self.assertIn("1 steps were left out", text)
        self.assertIn("| skynet |", section_of(text, "The heart"))


class Shows(unittest.TestCase):
    """By the command itself."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        into = pathlib.Path(cls.folder.name)
        subprocess.run([sys.executable, BENCH / "report", "--from", CANNED, "--into", into], check=True, timeout=60,
                       stderr=subprocess.DEVNULL)
        cls.page = (into / "REPORT.md").read_text()
        cls.plots = {path.name: path.read_text() for path in (into / "plots").iterdir()}

    def test_every_case_is_in_a_table(self):
        for name in {run["case"] for run in canned()["runs"] if "series" not in run}:
            self.assertIn(f"| {name} |", self.page)
        for name in {run["series"] for run in canned()["runs"] if "series" in run}:
            self.assertIn(name, self.page)

    def test_pictures_are_well_formed_and_few(self):
        self.assertLessEqual(len(self.plots), 8)
        for text in self.plots.values():
            root = xml.fromstring(text)
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            self.assertGreater(float(root.get("height")), 100)

    def test_pictures_and_page_name_each_other(self):
        for name in self.plots:
            self.assertIn(f"(plots/{name})", self.page)
        self.assertEqual(self.page.count("(plots/"), len(self.plots))

    def test_every_case_is_in_a_picture(self):
        words = " ".join(text for plot in self.plots.values() for text in xml.fromstring(plot).itertext())
        for run in canned()["runs"]:
            if run["section"] not in ("scaling", "counts", "micro") and "error" not in run:
                self.assertIn(run["case"], words)
        for name in ("fib", "timers", "requests", "switch_bare"):
            self.assertIn(name, words)

    def test_a_picture_has_legend_units_and_a_dark_side(self):
        plot = self.plots["heart.svg"]
        for words in ("prefers-color-scheme: dark", ">weft<", ">go<", ">tokio<", "ns/op", "logarithmic"):
            self.assertIn(words, plot)

    def test_no_two_programs_have_one_mark(self):
        marks = [(index % len(report_svg.SHAPES), report_svg.colour_of(index)) for index in range(16)]
        self.assertEqual(len(set(marks)), 16)

    def test_figures_that_have_no_logarithm_are_drawn_around(self):
        panel = report_svg.Panel("t", "x", "y", True, [[(1, 0.0, 0.0, 0.0), (2, 5.0, -1.0, 6.0)], []])
        xml.fromstring(report_svg.curves("a < b & c", ["\"<&>\""], ["x", "y"], [panel]))


class Interrupted(Exception):
    pass


class Measures(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path, self.ran = pathlib.Path(folder.name) / "results.json", []
        self.steps = [report_run.Step("heart", name, lambda name=name: self.run_one(name)) for name in "abc"]
        self.fail_at = None

    def run_one(self, name):
        if len(self.ran) == self.fail_at:
            self.fail_at = None
            raise Interrupted
        self.ran.append(name)
        return [{"who": "weft", "ns_per_op": 1.0}]

    def measure(self, seconds=100, plan="plan"):
        with contextlib.redirect_stderr(io.StringIO()):
            results = report_run.Results(self.path, plan)
            report_run.measure_all(results, self.steps, {"heart": 2}, seconds)
        return json.loads(self.path.read_text())

    def test_turns_go_round(self):
        data = self.measure()
        self.assertEqual(self.ran, list("abcabc"))
        self.assertEqual([run["turn"] for run in data["runs"]], [0, 0, 0, 1, 1, 1])

    def test_goes_on_after_an_interrupt(self):
        self.fail_at = 4
        self.assertRaises(Interrupted, self.measure)
        data = self.measure()
        self.assertEqual(self.ran, list("abcabc"))
        self.assertTrue(data["finished"])
        self.assertEqual(len(data["runs"]), 6)

    def test_another_plan_begins_anew(self):
        self.fail_at = 2
        self.assertRaises(Interrupted, self.measure)
        self.assertEqual(len(self.measure(plan="another")["runs"]), 6)
        self.assertTrue(pathlib.Path(f"{self.path}.old").exists())

    def test_ends_in_time(self):
        data = self.measure(seconds=1)
        self.assertEqual((len(data["runs"]), data["left_out"]), (0, 6))

    def test_a_step_that_fails_is_a_run_that_failed(self):
        def fail():
            raise RuntimeError("no")
        self.steps = [report_run.Step("heart", "a", fail)]
        self.assertEqual([run["error"] for run in self.measure()["runs"]], ["no", "no"])

    def test_a_program_is_bounded(self):
        self.assertRaisesRegex(RuntimeError, "took more than", report_run.call, ["sleep", "60"], 0.05)
        self.assertRaisesRegex(RuntimeError, "exit status 3: why", report_run.call, ["sh", "-c", "echo why >&2; exit 3"], 20)


PEER = """#!/bin/sh
case $1 in
version) echo "$0 1.0" ;;
list) echo fib ;;
*) exit 1 ;;
esac
"""
# What the peers' `run` does, as far as it is asked: it writes down what it was asked for.
RUN = """#!/usr/bin/env python3
import json, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
names = [word.partition("=")[0] for word in words["-p"].split(",")]
runs = [{"peer": name, "case": words["-w"], "words": words["-a"]} for name in names]
pathlib.Path(words["-o"]).write_text(json.dumps({"runs": runs}))
"""


class Peers(unittest.TestCase):
    """A folder of peers, in which libuv is not built and asyncio lacks what it needs."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("run", "install", "build", "load/echo_load", "weft/peer", *(f"{peer}/peer" for peer in report_run.PEERS)):
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            usual = PEER if name.endswith("/peer") else "#!/bin/sh\n"
            text = {"run": RUN, "asyncio/peer": "#!/bin/sh\nexit 1\n"}.get(name, usual)
            path.write_text(text)
            path.chmod(0o755)
        self.programs = report_run.Programs(argparse.Namespace(build=self.folder, peers=self.folder))
        with contextlib.redirect_stderr(io.StringIO()) as said, open(os.devnull, "w") as nothing:
            said.fileno = nothing.fileno
            self.programs.prepare_peers()

    def runs_of(self, quick, case, more):
        return report_run.heart_step(self.programs, quick, case, more).do()

    def test_one_that_does_not_run_is_left_out_and_named(self):
        self.assertEqual(list(self.programs.known), ["go", "tokio", "boost-fiber", "tbb"])
        [missing] = self.programs.missing
        self.assertTrue(missing.startswith("asyncio: "))

    def test_the_slow_are_given_less(self):
        words = {run["who"]: run["words"] for run in self.runs_of(False, "fib", "n=27")}
        self.assertEqual(words, {"go": "", "tokio": "", "tbb": "", "boost-fiber": "n=22"})
        words = {run["who"]: run["words"] for run in self.runs_of(False, "echo conns=64", "")}
        self.assertEqual(set(words.values()), {""})
        words = {run["who"]: run["words"] for run in self.runs_of(False, "timers n=1000000", None)}
        self.assertEqual(set(words.values()), {""})

    def test_a_quick_look_gives_the_slow_less_still(self):
        words = {run["who"]: run["words"] for run in self.runs_of(True, "fib", "n=27")}
        self.assertEqual(words, {"go": "n=27", "tokio": "n=27", "tbb": "n=27", "boost-fiber": "n=20"})
        words = {run["who"]: run["words"] for run in self.runs_of(True, "mutex hold=0", "n=4000000")}
        self.assertEqual((words["go"], words["boost-fiber"]), ("n=4000000", "n=100000"))
        self.assertNotIn("boost-fiber", {run["who"] for run in self.runs_of(True, "timers n=100000", "")})

    def test_a_case_of_our_own_goes_by_its_name(self):
        self.assertEqual({(run["case"], run["words"]) for run in self.runs_of(False, "fib threads=1", "n=27")},
                         {("fib threads=1", "threads=1"), ("fib threads=1", "threads=1 n=22")})


class Workloads(unittest.TestCase):
    """Of weft-peer, that nothing else uses."""

    def test_they_run_and_give_their_memory(self):
        if not OPTIONS.build:
            self.skipTest("no --build")
        for words in ("waiters n=200", "idle_connections n=20"):
            out = subprocess.run([*shlex.split(OPTIONS.run), OPTIONS.build / "bench/weft-peer", *words.split()], check=True,
                                 timeout=60, stdout=subprocess.PIPE, text=True).stdout
            result = json.loads(out)
            self.assertEqual(result["ops"], int(words.partition("=")[2]))
            self.assertIn("bytes_per_task", result)
            self.assertIn("left_per_task", result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--run", default="")
    OPTIONS = parser.parse_args()
    unittest.main(argv=sys.argv[:1])
