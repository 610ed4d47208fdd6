"""What the runs of bench/report say: medians, spreads, comparisons and their verdicts.

Owns      the rules by which a report calls weft behind, ahead or level, or says that it cannot tell; and the floors.
Callers   report_page.py and report_plot.py. It measures nothing.
Holds     R1  a comparison is made turn by turn: what two programs did in the same turn, one right after the other, makes one
              ratio. So a slow hour of the machine is in both.
          R2  the spread is what is left of the runs (or ratios) without the lowest and the highest fifth.
          R3  a verdict needs all of that spread on one side, three turns, and the medians of the runs on the same side.
Tested    tests/report_test.py. """

import collections
import statistics

TURNS_LEAST = 3
LEVEL = 0.05  # a spread within 1 ± that is level
SLIGHT = 0.02  # a difference that nobody is told of
QUIET = 0.05  # share of the machine that others may take in half of the runs before the reader is warned
HIGHER_IS_BETTER = ("req_per_s", "ops_per_s")
BEHIND, AHEAD, EQUAL, UNKNOWN = "behind", "ahead", "level", "cannot tell"
REACHED, MISSED = "reached", "missed"

# What weft's cost may be at most, as a part of another's; or as such (`who` is None).
Floor = collections.namedtuple("Floor", "who most")
BEST = "the best"
_ECHO = {"req_per_s": [Floor(BEST, 1.0)], "cpu_us_per_op": [Floor(BEST, 1.0)], "p99_us": [Floor(BEST, 1.0)]}
_HOGS = {"req_per_s": [Floor("go", 1.0), Floor("tokio", 1.0)], "p99_us": [Floor("go", 1.0), Floor("tokio", 1.0)]}
_WORK = {"req_per_s": [Floor(BEST, 1.0)], "p99_us": [Floor(BEST, 1.1)]}
_TLS = {"ops_per_s": [Floor("Go", 1.0), Floor("epoll, same OpenSSL", 1 / 0.9)]}
_PROXY = {"cpu_us_per_op": [Floor("HAProxy, splice", 1.0), Floor("HAProxy", 1.0)]}
_TAILS = {"p99_us": [Floor(BEST, 1.0)]}
FLOORS = {
    "spawn_join": {"ns_per_op": [Floor("tbb", 1 / 3), Floor("tokio", 1 / 6)]},
    "spawn_join park=1": {"ns_per_op": [Floor("go", 1 / 2), Floor("tokio", 1 / 2)]},
    "spawn_many": {"ns_per_op": [Floor("tokio", 1 / 3)], "rss_mib": [Floor("tokio", 1.0)]},
    "fib": {"ns_per_op": [Floor("tbb", 0.40), Floor("tokio", 1 / 10)]},
    "fib threads=1": {"ns_per_op": [Floor("tbb", 0.33), Floor("tokio", 1 / 10)]},
    "skynet": {"ns_per_op": [Floor("tbb", 1.0), Floor("tokio", 1 / 12)]},
    "yield tasks=3": {"ns_per_op": [Floor(BEST, 1 / 2)]},
    "yield tasks=1000": {"ns_per_op": [Floor(BEST, 1 / 2)]},
    "timers n=1000000": {"cpu_s": [Floor("tokio", 1.0)], "over_s": [Floor("tokio", 1.0)]},
    "timers n=1000000 rounds=2": {"cpu_s": [Floor("tokio", 1 / 2)], "over_s": [Floor("tokio", 1.0)]},
    "timer_churn pending=1": {"ns_per_op": [Floor("tokio", 1 / 5)]},
    "idle_memory n=1000000": {"bytes_per_task": [Floor(None, 4.6 * 1024)], "ns_per_op": [Floor("go", 1.0)]},
    "pingpong pairs=1": {"ns_per_op": [Floor(BEST, 1 / 2.5)]},
    "pingpong pairs=1000": {"ns_per_op": [Floor(BEST, 1 / 2.5)]},
    "chan_mpmc": {"ns_per_op": [Floor("go", 1.0), Floor("tokio", 1.0)]},
    "mutex hold=0": {"ns_per_op": [Floor("go", 1.0)]},
    "mutex hold=1": {"ns_per_op": [Floor(BEST, 1.0)]},
    "echo conns=1": {"req_per_s": [Floor(BEST, 1 / 1.8)]},
    "echo conns=64": _ECHO,
    "echo conns=1000": _ECHO,
    "echo conns=64 work_us=20": _WORK,
    "echo conns=64 work_us=100": _WORK,
    "echo conns=1 hogs=1": _HOGS,
    "echo conns=64 hogs=1": _HOGS,
    "proxy": _PROXY,
    "proxy conns=8": _PROXY,
    "run_blocking tasks=1": {"ops_per_s": [Floor("tokio", 1.0), Floor("libuv", 1.0)]},
    "run_blocking tasks=64": {"ops_per_s": [Floor("tokio", 1.0), Floor("libuv", 1.0)]},
    "udp_echo window=64": {"ops_per_s": [Floor("Go", 1.0)]},
    "tls_echo conns=64": _TLS,
    "tls_echo conns=64 size=4096": _TLS,
    "tls_echo conns=16 handshakes=1": _TLS,
    "process_spawn tasks=1": {"ops_per_s": [Floor("Go", 1.0), Floor("asyncio", 1.0)]},
    "process_spawn tasks=8": {"ops_per_s": [Floor("Go", 1.0), Floor("asyncio", 1.0)]},
    "file_read tasks=64": {"ops_per_s": [Floor("Tokio, fs", 1.0)]},
}

# The measures of a workload's runs that are shown, the one that says most first.
MEASURES = {
    "spawn_many": ["ns_per_op", "rss_mib"], "fib": ["ns_per_op", "rss_mib"], "skynet": ["ns_per_op", "rss_mib"],
    "timers": ["cpu_s", "over_s", "rss_mib"], "idle_memory": ["bytes_per_task", "ns_per_op"],
    "echo": ["req_per_s", "cpu_us_per_op", "p50_us", "p99_us", "p999_us"],
}
TAILS_MEASURES = ["p50_us", "p99_us", "p999_us"]
WORLD_MEASURES = ["ops_per_s", "cpu_us_per_op", "p99_us"]


class Spread(collections.namedtuple("Spread", "median low high n")):
    """R2."""

    @classmethod
    def of(cls, values):
        values = sorted(values)
        if not values:
            return None
        cut = len(values) // 5
        return cls(statistics.median(values), values[cut], values[-1 - cut], len(values))

    def wide(self):
        """The spread as a part of the median."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


def value_of(run, key):
    return run["rss_kib"] / 1024 if key == "rss_mib" and "rss_kib" in run else run.get(key)


def ours(who):
    return who == "weft" or who.startswith("weft,")


class Case:
    """The runs of one case: for each who, a run for each turn."""

    def __init__(self, section, name):
        self.section, self.name = section, name
        self.runs, self.errors, self.shares = collections.OrderedDict(), [], []

    def add(self, run):
        if "error" in run:
            self.errors.append(run)
            return
        self.runs.setdefault(run["who"], {})[run["turn"]] = run
        self.shares += [run["others_share"]] if "others_share" in run else []

    def first(self):
        """The name of weft's own runs with which the others are compared."""
        return next((who for who in self.runs if ours(who)), None)

    def same_size(self, turn, run):
        """What a whole run takes says something beside another's only if it has done as much: the slow are given less."""
        mine = self.runs.get(self.first(), {}).get(turn, run)
        return run.get("ops") == mine.get("ops")

    def values(self, who, key):
        pairs = ((turn, value_of(run, key)) for turn, run in self.runs.get(who, {}).items()
                 if key != "rss_mib" or self.same_size(turn, run))
        return {turn: value for turn, value in pairs if value is not None}

    def spread(self, who, key):
        return Spread.of(self.values(who, key).values())

    def ratios(self, who, other, key):
        """R1: what who costs as a part of what the other does; nothing where a cost is not positive."""
        mine, theirs = self.values(who, key), self.values(other, key)
        pairs = [(mine[turn], theirs[turn]) for turn in mine if turn in theirs]
        pairs = [(a, b) for a, b in pairs if a > 0 and b > 0]
        return [b / a if key in HIGHER_IS_BETTER else a / b for a, b in pairs]

    def measures(self):
        if self.section == "world":
            keys = WORLD_MEASURES
        elif self.section == "tails":
            keys = TAILS_MEASURES
        else:
            keys = MEASURES.get(self.name.split()[0], ["ns_per_op"])
        return [key for key in keys if any(self.values(who, key) for who in self.runs)]


class Comparison:
    """One measure of a case: weft beside the best of the others, and what can be said of it."""

    def __init__(self, case, key):
        self.case, self.key, self.weft = case, key, case.first()
        self.others = [who for who in case.runs if not ours(who) and case.values(who, key)]
        self.best = self.find_best()
        self.ratio = Spread.of(case.ratios(self.weft, self.best, key)) if self.weft and self.best else None
        self.verdict, self.reason = judge(self.ratio, self.of_medians()) if self.best else (None, "")

    def find_best(self):
        medians = {who: self.case.spread(who, self.key).median for who in self.others}
        if not medians:
            return None
        return (max if self.key in HIGHER_IS_BETTER else min)(medians, key=medians.get)

    def of_medians(self):
        """What weft's median cost is of the best's; None where that means nothing."""
        if not self.ratio:
            return None
        mine, theirs = (self.case.spread(who, self.key).median for who in (self.weft, self.best))
        if mine <= 0 or theirs <= 0:
            return None
        return theirs / mine if self.key in HIGHER_IS_BETTER else mine / theirs

    def floors(self):
        """Each as (its text, whether it is reached, what it is judged by)."""
        if not self.weft:
            return
        floors = _TAILS if self.case.section == "tails" else FLOORS.get(self.case.name, {})
        for floor in floors.get(self.key, []):
            who = self.best if floor.who == BEST else floor.who
            if floor.who is None:
                part = self.case.spread(self.weft, self.key)
            else:
                part = Spread.of(self.case.ratios(self.weft, who, self.key)) if who in self.case.runs else None
            if part:
                yield floor_text(floor, self.key), judge_floor(part, floor.most), part


def judge(ratio, of_medians):
    """R3: of weft's cost as a part of another's."""
    if not ratio or not of_medians:
        return UNKNOWN, "no turn in which both have a cost above zero"
    if ratio.n < TURNS_LEAST:
        return UNKNOWN, "too few runs"
    if ratio.low > 1 and min(ratio.median, of_medians) >= 1 + SLIGHT:
        return BEHIND, ""
    if ratio.high < 1 and max(ratio.median, of_medians) <= 1 - SLIGHT:
        return AHEAD, ""
    if 1 - LEVEL <= ratio.low and ratio.high <= 1 + LEVEL:
        return EQUAL, ""
    one_side = ratio.low > 1 or ratio.high < 1
    return UNKNOWN, "the turns and the medians disagree" if one_side else "the spread is too wide"


def judge_floor(part, most):
    if part.n >= TURNS_LEAST and part.high <= most:
        return REACHED
    if part.n >= TURNS_LEAST and part.low > most:
        return MISSED
    return UNKNOWN


def floor_text(floor, key):
    if floor.who is None:
        return f"at most {floor.most:,.0f}"
    if key in HIGHER_IS_BETTER:
        return f"{1 / floor.most:.3g} × {floor.who}"
    part = round(1 / floor.most, 1)
    simple = floor.most < 1 and abs(part * floor.most - 1) < 0.001
    return f"1/{part:g} of {floor.who}" if simple else f"{floor.most:.2g} × {floor.who}"


def cases_of(results, section):
    cases = collections.OrderedDict()
    for run in results["runs"]:
        if run["section"] == section:
            cases.setdefault(run["case"], Case(section, run["case"])).add(run)
    return list(cases.values())


def comparisons(results):
    """Of heart, world and tails, those that there is something beside."""
    found = [Comparison(case, key) for section in ("heart", "world", "tails") for case in cases_of(results, section)
             for key in case.measures()]
    return [one for one in found if one.weft and one.best]


def share_of_others(results):
    """(the median of all runs, the most)"""
    shares = [run["others_share"] for run in results["runs"] if "others_share" in run] or [0.0]
    return statistics.median(shares), max(shares)


def lines_of(results, section):
    """Curves: {series: {who: {x: runs}}}; each run has the processor time of an operation, too."""
    series = collections.OrderedDict()
    for run in results["runs"]:
        if run["section"] == section and "error" not in run:
            at = series.setdefault(run["series"], collections.OrderedDict()).setdefault(run["who"], {})
            each = {"cpu_us_each": run["cpu_s"] * 1e6 / run["ops"]} if run.get("ops") and "cpu_s" in run else {}
            at.setdefault(run["x"], []).append({**run, **each})
    return series


def points_of(at, key):
    """[(x, median, low, high)] of one curve."""
    points = []
    for x, runs in sorted(at.items()):
        spread = Spread.of([run[key] for run in runs if run.get(key) is not None])
        if spread:
            points.append((x, spread.median, spread.low, spread.high))
    return points


def lines_of_micro(results):
    """[(what, its program, Spread of the least ns)], in the order in which they ran."""
    found = collections.OrderedDict()
    for run in results["runs"]:
        if run["section"] == "micro" and "ns_min" in run:
            found.setdefault((run["series"], run["case"]), []).append(run["ns_min"])
    return [(series, case, Spread.of(values)) for (series, case), values in found.items()]
