"""Writes the text of a report of bench/report: REPORT.md.

Callers   bench/report. What is said of who is ahead comes from report_read.py, never from here.
Holds     P1  where weft is behind comes first, and what cannot be told is said to be so.
          P2  each case that was measured is in a table, also one that failed.
Tested    tests/report_test.py. """

import statistics
import time

import report_plot as plot
import report_read as read

UNMEASURED = """\
- Other machines. With two processors, the curves over more workers than that show what surplus workers cost, not how far
  the work spreads.
- Networks, disks and many hosts: servers, loads and files share one machine, and the processors with each other.
- How long one operation takes where `ns/op` is given: with several workers that is throughput.
- Programs of a user. Each workload does one thing over and over, and its data stays in the caches.
- Tuning: each peer is written as its manual would have it, weft too.
- The start and the end of a runtime: they are outside of the times.
- Kernel memory, such as the buffers of sockets: memory is what is resident in the process.
"""

METHOD = """\
A *turn* runs each case once by every program, one right after the other; the turns are spread over the whole time. Weft and
another are compared turn by turn: *weft / best* is the median of the ratios of their costs, above 1 where weft is dearer (of
rates it is the inverse that is a cost). The *spread* is what is left without the lowest and the highest fifth of the runs, or
of the ratios. *behind* and *ahead* mean that all of the spread is on that side, and by two percent or more its median and the
ratio of the medians of the runs; *level*, that all of the spread is within five percent; everything else, or fewer than three
turns, is *cannot tell*. The best is the other program with the best median; weft's own variants are no others. *others* is the
largest share of the machine that other programs took in a run.
"""


def show(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"


def spread(one):
    """A median with what is left of the runs."""
    if not one:
        return "–"
    return show(one.median) if one.n == 1 else f"{show(one.median)} ({show(one.low)} to {show(one.high)})"


def table(heads, rows, right_from=2):
    """Markdown. Columns from `right_from` on are numbers."""
    lines = ["| " + " | ".join(heads) + " |",
             "| " + " | ".join(["---"] * right_from + ["---:"] * (len(heads) - right_from)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def times(ratio):
    if ratio.n == 1:
        return f"{ratio.median:.2f}"
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def unit(key):
    return plot.UNITS.get(key, key)


def picture(plots, name):
    return f"![{plots[name]}](plots/{name}.svg)\n\n" if name in plots else ""


# --- what comes first ------------------------------------------------------------------------

def behind(results):
    """P1."""
    found = read.comparisons(results)
    late = sorted((one for one in found if one.verdict == read.BEHIND), key=lambda one: -one.ratio.median)
    counts = {verdict: sum(one.verdict == verdict for one in found)
              for verdict in (read.BEHIND, read.EQUAL, read.AHEAD, read.UNKNOWN)}
    usual, _ = read.share_of_others(results)
    lines = []
    if usual > read.QUIET:
        lines.append(f"**The machine was not quiet: in half of the runs other programs took {usual:.0%} of it or more. Take no "
                     "figure from this report.**\n")
    lines += [f"Of {len(found)} comparisons with the best of the others weft is behind in {counts[read.BEHIND]}, level in "
             f"{counts[read.EQUAL]}, ahead in {counts[read.AHEAD]}; {counts[read.UNKNOWN]} cannot be told.\n"]
    if late:
        lines.append(table(["case", "measure", "best", "weft's cost / the best's", "weft", "the best"],
                           [[one.case.name, unit(one.key), one.best, times(one.ratio),
                             show(one.case.spread(one.weft, one.key).median),
                             show(one.case.spread(one.best, one.key).median)] for one in late], 3))
    elif counts[read.EQUAL] + counts[read.AHEAD]:
        lines.append("Nowhere, as far as can be told.\n")
    else:
        lines.append("Nothing can be told.\n")
    return "\n".join(lines)


def floors_missed(results):
    rows = {read.REACHED: [], read.MISSED: [], read.UNKNOWN: []}
    for one in read.comparisons(results):
        for text, verdict, part in one.floors():
            rows[verdict].append([one.case.name, unit(one.key), text, spread(part)])
    total = sum(map(len, rows.values()))
    text = [f"A floor is what weft has set itself. Of {total}, {len(rows[read.REACHED])} are reached, "
            f"{len(rows[read.MISSED])} missed, {len(rows[read.UNKNOWN])} cannot be told.\n"]
    if rows[read.MISSED]:
        text.append(table(["case", "measure", "floor: weft is to have", "weft's cost, as a part of that program's"],
                          rows[read.MISSED], 3))
    return "\n".join(text)


def untold(results):
    rows = [[one.case.name, unit(one.key), one.best, times(one.ratio) if one.ratio else "–", one.reason]
            for one in read.comparisons(results) if one.verdict == read.UNKNOWN]
    return table(["case", "measure", "best", "weft / best", "why"], rows, 3) if rows else "Nothing of the kind.\n"


def failures(results):
    """Each once, with how often."""
    count = {}
    for run in results["runs"]:
        if "error" in run:
            key = (run["section"], run["case"], run.get("who") or run.get("peer", ""), run["error"])
            count[key] = count.get(key, 0) + 1
    if not count:
        return ""
    return "\n## What failed\n\n" + table(["section", "case", "who", "why", "runs"],
                                          [[*(str(word) for word in key), str(n)] for key, n in count.items()], 4)


# --- the machine -----------------------------------------------------------------------------

def machine(results):
    usual, most = read.share_of_others(results)
    lines = [f"- {results['machine']}",
             f"- {time.strftime('%Y-%m-%d', time.gmtime(results['began']))}, {len(results['runs'])} runs in "
             f"{results['spent_s'] / 60:.0f} minutes" + (", a quick look: smaller sizes" if results["plan"]["quick"] else ""),
             f"- other programs took {usual:.0%} of the machine (median of the runs; at most {most:.0%})"]
    wide = [one.case.spread(one.weft, one.key).wide() for one in read.comparisons(results)]
    if wide:
        lines.append(f"- the spread of weft's own runs of a case is {statistics.median(wide):.0%} of their median (median of the "
                     f"cases; at most {max(wide):.0%})")
    lines += [f"- {text}" for text in dict.fromkeys(results.get("versions", {}).values())]
    lines += [f"- missing: {text}" for text in results.get("missing", [])]
    if not results["finished"]:
        lines.append("- not finished: these are the runs so far")
    if results.get("left_out"):
        lines.append(f"- {results['left_out']} steps were left out for want of time")
    return "\n".join(lines) + "\n"


# --- the sections ----------------------------------------------------------------------------

def verdict_of(one):
    floors = "; ".join(f"{text}: {verdict}" for text, verdict, _ in one.floors())
    return [times(one.ratio) if one.ratio else "–", one.verdict or "–", floors]


def worst_share(case):
    return f"{max(case.shares):.0%}" if case.shares else "–"


def heart(results):
    cases = read.cases_of(results, "heart")
    names = plot.in_order(["weft", *(who for case in cases for who in case.runs)])
    rows = []
    for case in cases:
        for key in case.measures():
            one = read.Comparison(case, key)
            turns = max(len(case.values(who, key)) for who in case.runs)
            ratio, verdict, floors = verdict_of(one)
            rows.append([case.name, unit(key), *(spread(case.spread(who, key)) for who in names), ratio, verdict, floors,
                         str(turns), worst_share(case)])
        if not case.measures():
            rows.append([case.name, "–", *(["–"] * len(names)), "–", "failed", "", "0", "–"])
    heads = ["case", "measure", *names, "weft / best", "verdict", "floors", "turns", "others"]
    return table(heads, rows)


def world(results):
    rows = []
    for case in read.cases_of(results, "world"):
        of_key = {key: read.Comparison(case, key) for key in case.measures()}
        for who in case.runs:
            cells = [spread(case.spread(who, key)) for key in read.WORLD_MEASURES]
            ratios = []
            for key in ("ops_per_s", "cpu_us_per_op"):
                ratio = read.Spread.of(case.ratios(case.first(), who, key)) if case.first() and who != case.first() else None
                ratios.append(times(ratio) if ratio else "–")
            verdicts = [f"{unit(key)} {one.verdict}" for key, one in of_key.items() if one.verdict and who == one.best]
            floors = [f"{text}: {verdict}" for one in of_key.values() for text, verdict, _ in one.floors() if who == one.weft]
            rows.append([case.name, who, *cells, *ratios, "; ".join(verdicts + floors), worst_share(case)])
        if not case.runs:
            rows.append([case.name, "–", *(["–"] * 5), "failed", "–"])
    return table(["case", "who", "op/s", "CPU µs/op", "p99 µs", "weft / it, time", "weft / it, CPU time",
                  "weft beside the best; floors", "others"], rows)


def curve_table(lines, keys):
    """A row for each who and measure, a column for each x."""
    xs = sorted({x for at in lines.values() for x in at})
    rows = []
    for key in keys:
        for who in plot.in_order(lines):
            points = {x: middle for x, middle, _, _ in read.points_of(lines[who], key)}
            if points:
                rows.append([who, unit(key), *(show(points.get(x)) for x in xs)])
    return [f"{x:,}" for x in xs], rows


def curves(results, section, keys_of, what):
    text = []
    for series, lines in read.lines_of(results, section).items():
        xs, rows = curve_table(lines, keys_of(series))
        text.append(table([f"{series}: {what(series)}", "measure", *xs], rows))
    return "\n".join(text)


def scaling(results):
    keys = {"echo": ["cpu_us_per_op", "req_per_s"], "timers": ["cpu_us_each", "over_s"]}
    return curves(results, "scaling", lambda series: keys.get(series.split()[0], ["ns_per_op"]), lambda series: "workers")


COUNT_KEYS = {"idle_memory n": ["bytes_per_task", "ns_per_op"], "timers n": ["cpu_us_each", "over_s"],
              "echo conns": ["req_per_s", "p99_us", "cpu_us_per_op"]}


def counts(results):
    return curves(results, "counts", lambda series: COUNT_KEYS.get(series, ["ns_per_op"]),
                  lambda series: "connections" if "echo" in series else "tasks")


def memory(results):
    rows = [[case.name, who, spread(case.spread(who, "bytes_per_task")), spread(case.spread(who, "left_per_task"))]
            for case in read.cases_of(results, "memory") for who in case.runs]
    return table(["case", "who", "bytes for each while all wait", "left of it when all have gone"], rows)


PERCENTILES = ["p50_us", "p99_us", "p999_us", "max_us"]


def micro(results):
    rows = [[case, series, spread(one), str(one.n)] for series, case, one in read.lines_of_micro(results)]
    waits = {}
    for run in results["runs"]:
        if run["section"] == "micro" and "p50_us" in run:
            waits.setdefault((run["case"], run["series"]), []).append(run)
    text = table(["program", "line", "ns, the least of its repetitions", "runs"], rows)
    if waits:
        cells = [[*names, *(spread(read.Spread.of([run[key] for run in runs if key in run])) for key in PERCENTILES)]
                 for names, runs in waits.items()]
        text += "\n" + table(["program", "line", *map(unit, PERCENTILES)], cells)
    return text


def tails(results):
    rows = []
    for case in read.cases_of(results, "tails"):
        of_key = {key: read.Comparison(case, key) for key in case.measures()}
        for who in case.runs:
            verdicts = [f"{unit(key)} {times(one.ratio)} {one.verdict}" for key, one in of_key.items()
                        if one.ratio and who == one.best]
            rows.append([case.name, who, *(spread(case.spread(who, key)) for key in PERCENTILES), "; ".join(verdicts),
                         worst_share(case)])
        if not case.runs:
            rows.append([case.name, "–", *(["–"] * len(PERCENTILES)), "failed", "–"])
    return table(["case", "who", *map(unit, PERCENTILES), "weft / best, of what this is the best in", "others"], rows)


# Its heading, its pictures, what makes its tables, and a sentence on what it is.
SECTIONS = {
    "heart": ("The heart", ["heart"], heart, "By the peers' own `run`, two workers each. Lower is better but for `req/s`."),
    "world": ("The world", ["world"], world, "By `bench/world.py`. An operation of `proxy` is a MiB that has arrived."),
    "scaling": ("More workers", ["workers"], scaling,
                "Medians. Of the server look at its processor time first, since the load takes the same processors."),
    "counts": ("More tasks, more connections", ["tasks", "connections"], counts,
               "Medians, two workers each. With ten tasks the start of the runtime's own parts is in the figures of each."),
    "memory": ("Memory", ["memory"], memory,
               "`echo` is the server of the heart, seen from outside: what is left there is looked at three seconds after its "
               "clients have gone, or later while it still falls; a garbage collector may give back more at a time of its own. "
               "`idle_memory` ends at once, so nothing is left to be seen. Both ends of `idle_connections` are in the process."),
    "micro": ("Switches, and other single mechanisms", ["micro"], micro,
              "By `micro_*`; what each line is says bench/README.md."),
    "tails": ("Tails", ["tails"], tails, "By `bench/tails.py`."),
}


def write(results, plots):
    """The whole text; `plots` are the pictures that there are, with their titles."""
    there = {run["section"] for run in results["runs"]}
    text = ["# weft beside others\n\nWritten by `bench/report` from the runs it made; no sentence here about who is ahead is "
            "written by hand.\n\n## Where weft is behind\n\n", behind(results), "\n", picture(plots, "heart"),
            "## Floors\n\n", floors_missed(results), "\n## The machine\n\n", machine(results),
            "\n## How to read it\n\n", METHOD, "\n## What is not measured\n\n", UNMEASURED]
    for section, (heading, pictures, tables, sentence) in SECTIONS.items():
        text.append(f"\n## {heading}\n\n")
        if section not in there:
            text.append("Not measured in this run.\n")
            continue
        text += [sentence, "\n\n", *(picture(plots, name) for name in pictures if name != "heart"), tables(results)]
    text += ["\n## What cannot be told\n\n", untold(results), failures(results)]
    return "".join(text)
