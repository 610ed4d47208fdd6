"""Which pictures a report of bench/report has, and what is in them. How they look is in report_svg.py.

Callers   bench/report. Each picture is left out when there are no runs for it.
Tested    tests/report_test.py. """

import report_read as read
import report_svg as svg

UNITS = {"ns_per_op": "ns/op", "rss_mib": "MiB at most", "cpu_s": "CPU s", "over_s": "s late", "bytes_per_task": "B/task",
         "req_per_s": "req/s", "cpu_us_per_op": "CPU µs/op", "p50_us": "p50 µs", "p99_us": "p99 µs", "p999_us": "p99.9 µs",
         "max_us": "most µs", "ops_per_s": "op/s", "cpu_us_each": "CPU µs each"}
# What stands behind a value, where the measure's name stands elsewhere.
AFTER = {"rss_mib": "MiB", "cpu_s": "s", "over_s": "s", "bytes_per_task": "B", "cpu_us_per_op": "µs", "p50_us": "µs",
         "p99_us": "µs", "p999_us": "µs", "req_per_s": "/s", "ops_per_s": "/s", "ns_per_op": "ns"}
NAMES = ["weft", "go", "tokio", "tbb", "boost-fiber", "asyncio", "libuv"]


def draw_all(results):
    """{file name: (title, the SVG's text)}"""
    plots = {"heart": draw_heart(results), "world": draw_world(results), "workers": draw_workers(results),
             "tasks": draw_tasks(results), "connections": draw_connections(results), "memory": draw_memory(results),
             "micro": draw_micro(results), "tails": draw_tails(results)}
    return {name: plot for name, plot in plots.items() if plot}


def in_order(names):
    """weft first, then those that have a place of their own, then the others as they come."""
    names = list(dict.fromkeys(names))
    return [name for name in NAMES if name in names] + [name for name in names if name not in NAMES]


def show(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- beside others ---------------------------------------------------------------------------

def ratio_rows(cases, names):
    rows = []
    for case in cases:
        for key in case.measures():
            comparison = read.Comparison(case, key)
            if not comparison.weft:
                continue
            marks = [read.Spread.of(case.ratios(who, comparison.weft, key)) if who in case.runs else None for who in names]
            bad = comparison.verdict == read.BEHIND
            note = f"{show(case.spread(comparison.weft, key).median)} {AFTER.get(key, '')}"
            if bad:
                note += f"; {comparison.ratio.median:.2f} ×"
            rows.append(svg.Row(case.name, UNITS.get(key, key), note, bad, [mark and mark[:3] for mark in marks]))
    return rows


SUBTITLE = ["Each mark is one program's cost as a multiple of weft's in the same turn, the line its spread. The figure is "
            "weft's own.",
            "Red text: weft is behind the best of the others, by so many times, and the spread does not reach the other side."]


def draw_beside(title, cases, names):
    rows = [row for row in ratio_rows(cases, names) if any(row.marks)]
    if not rows:
        return None
    text = svg.beside(title, SUBTITLE, names, rows, "cost, as a multiple of weft's (logarithmic)", "cheaper than weft",
                      "dearer than weft")
    return title, text


def draw_heart(results):
    cases = read.cases_of(results, "heart")
    names = in_order(["weft", *(who for case in cases for who in case.runs)])
    return draw_beside("The heart: tasks, channels, timers, sockets", cases, names)


def draw_world(results):
    cases = [renamed(case) for case in read.cases_of(results, "world")]
    names = in_order(["weft", *(who for case in cases for who in case.runs)])
    return draw_beside("The world: sockets, files, programs", cases, names)


def draw_tails(results):
    cases = [renamed(case) for case in read.cases_of(results, "tails")]
    names = in_order(["weft", *(who for case in cases for who in case.runs)])
    return draw_beside("Tails: how long the slowest wait", cases, names)


def renamed(case):
    """In a picture weft's own runs that the others are compared with go by one name in all cases, its variants by another, and
    the same peer by one."""
    same = {case.first(): "weft", "Go": "go", "Tokio": "tokio", "Tokio, fs": "tokio"}
    other = read.Case(case.section, case.name)
    for who, runs in case.runs.items():
        other.runs[same.get(who, "weft, the other way" if read.ours(who) else who)] = runs
    return other


# --- curves ----------------------------------------------------------------------------------

def panel(names, lines, title, x_label, y_label, key, y_log=True):
    series = [read.points_of(lines[name], key) if name in lines else [] for name in names]
    return svg.Panel(title, x_label, y_label, y_log, series) if any(series) else None


def draw_curves(title, subtitle, panels, names, across=3):
    panels = [one for one in panels if one]
    return (title, svg.curves(title, subtitle, names, panels, across)) if panels else None


def draw_workers(results):
    found = read.lines_of(results, "scaling")
    names = in_order(who for lines in found.values() for who in lines)
    kinds = {"echo": ("CPU µs/request", "cpu_us_per_op"), "timers": ("CPU µs/timer", "cpu_us_each")}
    panels = [panel(names, lines, series, "workers", *kinds.get(series.split()[0], ("ns/op", "ns_per_op")))
              for series, lines in found.items()]
    cpus = results["machine"].split(" ")[0]
    words = [f"The cost of an operation with 1 to 64 workers on {cpus} processors: lower is better, level is what one hopes for.",
             "Both axes are logarithmic."]
    return draw_curves("More workers", words, panels, names)


def draw_tasks(results):
    found = read.lines_of(results, "counts")
    names = in_order(who for series, lines in found.items() if series != "echo conns" for who in lines)
    kinds = [("yield tasks", "yield", "ns/op", "ns_per_op"),
             ("idle_memory n", "idle_memory: memory", "bytes/task", "bytes_per_task"),
             ("idle_memory n", "idle_memory: waking all", "ns/task", "ns_per_op"),
             ("timers n", "timers", "CPU µs/timer", "cpu_us_each"),
             ("waiters n", "waiters at one channel", "ns/item", "ns_per_op")]
    panels = [panel(names, found[series], title, "tasks", unit, key) for series, title, unit, key in kinds if series in found]
    words = ["The cost for each task, with more and more of them: lower is better. Both axes are logarithmic."]
    return draw_curves("More tasks", words, panels, names)


def draw_connections(results):
    lines = read.lines_of(results, "counts").get("echo conns")
    if not lines:
        return None
    names = in_order(lines)
    kinds = [("requests", "req/s", "req_per_s", False), ("time to the answer, 99 % within", "µs", "p99_us", True),
             ("processor time of the server", "µs/request", "cpu_us_per_op", False)]
    panels = [panel(names, lines, title, "connections", unit, key, y_log) for title, unit, key, y_log in kinds]
    words = ["One message of 64 bytes is on the way on each connection; the load runs on the same processors.",
             "The axes of connections and of the time to the answer are logarithmic."]
    return draw_curves("More connections (echo)", words, panels, names)


# --- bars ------------------------------------------------------------------------------------

def draw_memory(results):
    cases, rows = read.cases_of(results, "memory"), []
    names = in_order(["weft", *(who for case in cases for who in case.runs)])
    for case in cases:
        for who in case.runs:
            for key, what in (("bytes_per_task", "waiting"), ("left_per_task", "left afterwards")):
                spread = case.spread(who, key)
                if spread:
                    value = tuple(max(part, 0) for part in spread[:3])
                    rows.append(svg.Bar(case.name, f"{who}, {what}", names.index(who), value, f"{show(spread.median)} B",
                                        key == "left_per_task"))
    if not rows:
        return None
    title = "Memory of those who wait"
    words = ["Growth of the resident memory for each task or connection while all wait, and (pale) what is left of it when all have gone."]
    return title, svg.bars(title, words, names, rows, "bytes for each")


def draw_micro(results):
    found, rows = read.lines_of_micro(results), []
    for series, group, spread in found:
        rows.append(svg.Bar(group, series, 0, spread[:3], f"{show(spread.median)} ns"))
    if not rows:
        return None
    title = "One mechanism each"
    words = ["Nanoseconds for one operation, the least of the repetitions of a run. The axis is logarithmic."]
    return title, svg.bars(title, words, ["weft"], rows, "ns (logarithmic)", log=True)
