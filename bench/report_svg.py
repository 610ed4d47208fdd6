"""Draws charts as SVG, with nothing but text: for bench/report.

Owns      the look: colours in light and dark, marks, fonts, axes. It knows no benchmark.
Callers   report_plot.py: beside() for rows of marks about a line, curves() for small panels, bars().
Holds     S1  what is drawn is text that was escaped: the files are well-formed XML.
          S2  who is who is told by a shape as well as by a colour.
          S3  both axes of a logarithmic panel have positive values only: the others are left out.
Tested    tests/report_test.py. """

import collections
import math
from xml.sax.saxutils import escape, quoteattr

# Of the one that all are compared with, and of the others in the order in which they first appear.
COLOURS = [("#1f5fd6", "#6ea8fe"), ("#0b8a7d", "#3fd0bf"), ("#d9580d", "#ff9d52"), ("#7a3fd0", "#b99cff"),
           ("#b5175f", "#ff85ba"), ("#7a6a00", "#dcc64a"), ("#4b5563", "#b6c0cd"), ("#0e7aa8", "#62c6f2"),
           ("#9b1c1c", "#ff8f8f")]
SHAPES = ["circle", "square", "triangle", "diamond", "down", "cross", "ring", "box", "plus"]

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; font-size: 12px; fill: #1f2328 }
.head { font-size: 16px; font-weight: 600 } .sub, .tick { fill: #59636e } .tick { font-size: 11px } .name { font-weight: 600 }
.card { fill: #ffffff } .grid { stroke: #e4e8ec } .axis { stroke: #8c959f } .one { stroke: #1f2328; stroke-width: 1.5 }
.bad { fill: #fdecea } .late { fill: #b42318; font-weight: 600 } .stripe { fill: #f6f8fa }
.line { fill: none; stroke-width: 2; stroke-linejoin: round } .whisker { stroke-width: 1.5; opacity: 0.75 } .rest { opacity: 0.5 } .open { fill: #ffffff }
"""
DARK = """
text { fill: #e6edf3 } .sub, .tick { fill: #9aa5b1 } .card { fill: #0d1117 } .grid { stroke: #262c36 } .axis { stroke: #6b7682 }
.one { stroke: #e6edf3 } .bad { fill: #34191a } .late { fill: #ff8f87 } .stripe { fill: #141a22 } .open { fill: #0d1117 }
"""


def colour_rules(which):
    return " ".join(f".f{i} {{ fill: {pair[which]} }} .s{i} {{ stroke: {pair[which]} }}"
                    for i, pair in enumerate(COLOURS))


def colour_of(index):
    """So that colour and shape together are another for each (S2)."""
    return (index + index // len(SHAPES) * 4) % len(COLOURS)


def width_of(text):
    """About, at 12 pixels."""
    return 6.6 * len(text)


# --- a drawing -------------------------------------------------------------------------------

class Drawing:
    def __init__(self, width, title, subtitle):
        self.width, self.title, self.subtitle, self.parts = width, title, subtitle, []
        self.text(16, 28, title, "head")
        self.top = 36
        for line in subtitle:
            self.top += 16
            self.text(16, self.top - 2, line, "sub")

    def add(self, tag, inner=None, **attributes):
        words = "".join(f" {key.replace('_', '-')}={quoteattr(number(value))}" for key, value in attributes.items())
        self.parts.append(f"<{tag}{words}/>" if inner is None else f"<{tag}{words}>{inner}</{tag}>")

    def text(self, x, y, text, kind="", anchor="start", turn=False):
        more = {"transform": f"rotate(-90 {number(x)} {number(y)})"} if turn else {}
        self.add("text", escape(text), x=x, y=y, text_anchor=anchor, **{"class": kind}, **more)

    def line(self, x1, y1, x2, y2, kind):
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, **{"class": kind})

    def rect(self, x, y, width, height, kind, tip=None):
        self.add("rect", tip and f"<title>{escape(tip)}</title>", x=x, y=y, width=max(width, 0), height=height,
                 **{"class": kind})

    def mark(self, x, y, index, tip="", size=4.5):
        """The shape of the index-th."""
        shape, s = SHAPES[index % len(SHAPES)], size
        tip, colour = f"<title>{escape(tip)}</title>", f"f{colour_of(index)}"
        outline = f"open s{colour_of(index)}"
        points = {"triangle": [(0, -s), (s, s * .8), (-s, s * .8)], "down": [(0, s), (s, -s * .8), (-s, -s * .8)],
                  "diamond": [(0, -s * 1.2), (s * 1.2, 0), (0, s * 1.2), (-s * 1.2, 0)],
                  "square": [(-s * .85, -s * .85), (s * .85, -s * .85), (s * .85, s * .85), (-s * .85, s * .85)]}
        if shape in points:
            corners = " ".join(f"{number(x + dx)},{number(y + dy)}" for dx, dy in points[shape])
            self.add("polygon", tip, points=corners, **{"class": colour})
        elif shape == "circle":
            self.add("circle", tip, cx=x, cy=y, r=s, **{"class": colour})
        elif shape == "ring":
            self.add("circle", tip, cx=x, cy=y, r=s * .85, stroke_width=2, **{"class": outline})
        elif shape == "box":
            self.add("rect", tip, x=x - s * .8, y=y - s * .8, width=s * 1.6, height=s * 1.6, stroke_width=2,
                     **{"class": outline})
        else:
            d = s if shape == "plus" else s * .8
            path = (f"M{number(x - d)} {number(y)}H{number(x + d)}M{number(x)} {number(y - d)}V{number(y + d)}"
                    if shape == "plus" else
                    f"M{number(x - d)} {number(y - d)}L{number(x + d)} {number(y + d)}"
                    f"M{number(x - d)} {number(y + d)}L{number(x + d)} {number(y - d)}")
            self.add("path", tip, d=path, stroke_width=2.5, **{"class": outline})

    def legend(self, names):
        """Below the subtitle; wraps."""
        x = 22
        self.top += 18
        for index, name in enumerate(names):
            if x > 22 and x + 22 + width_of(name) > self.width - 16:
                x, self.top = 22, self.top + 18
            self.mark(x, self.top - 4, index)
            self.text(x + 10, self.top, name)
            x += 32 + width_of(name)
        self.top += 8

    def finish(self, height):
        size = f'width="{number(self.width)}" height="{number(height)}" viewBox="0 0 {number(self.width)} {number(height)}"'
        style = f"{STYLE}{colour_rules(0)}\n@media (prefers-color-scheme: dark) {{ {DARK}{colour_rules(1)} }}\n"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><title>{escape(self.title)}</title>'
        card = f'<rect class="card" width="{number(self.width)}" height="{number(height)}" rx="8"/>'
        return "\n".join([head, f"<style>{escape(style)}</style>", card, *self.parts, "</svg>", ""])


def number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


# --- scales ----------------------------------------------------------------------------------

def short(value):
    """A tick's label: 20k, 1.5M, 0.05."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


class Scale:
    """From values to pixels."""

    def __init__(self, low, high, start, end, log=False, ticks=None):
        self.log, self.start, self.end = log, start, end
        room = max(abs(end - start) / 45, 2)
        if log and not ticks:
            low, high = low * 0.85, high * 1.18
        self.ticks = ticks or (log_ticks(low, high, room) if log else even_ticks(low, high, room))
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        if self.low == self.high:
            self.low, self.high = self.low / 2, self.high * 2 or 1

    def __call__(self, value):
        place = math.log if self.log else float
        if self.log and value <= 0:
            return self.start
        part = (place(value) - place(self.low)) / (place(self.high) - place(self.low))
        return self.start + min(max(part, 0), 1) * (self.end - self.start)


def log_ticks(low, high, room):
    """Of 1, 2, 5 as many as there is room for, at least one on either side of the middle."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(ticks) <= room + 1:
            return ticks
    if len(ticks) < 2:
        return [10.0**first, 10.0**last] if last - first > 1 else [low / 0.85, high / 1.18]
    return ticks[::math.ceil(len(ticks) / room)]


def even_ticks(low, high, room):
    span = (high - low) or 1
    step = next(s for p in range(-12, 16) for s in (10.0**p, 2 * 10.0**p, 5 * 10.0**p) if span / s <= room)
    return [step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


# --- rows of marks about a line --------------------------------------------------------------

# One row: its case, what is measured, what stands at its end, whether that is bad, and for each of `names` (median, low, high)
# or None.
Row = collections.namedtuple("Row", "group label note bad marks")
LINE = 20  # pixels for a row


def beside(title, subtitle, names, rows, axis, left, right):
    """How many times as much the others cost as the first, which is the line at 1; left of it is bad."""
    drawing = Drawing(900, title, subtitle)
    drawing.legend(names)
    values = [value for row in rows for mark in row.marks if mark for value in mark if value > 0] + [0.7, 2]
    edge = 46 + max(width_of(row.group) for row in rows) + max(width_of(row.label) for row in rows)
    scale = Scale(min(values), max(values), edge, 724, log=True)
    top = drawing.top + 30
    bottom = top + LINE * len(rows)
    draw_stripes(drawing, rows, top)
    drawing.rect(edge, top, scale(1) - edge, bottom - top, "bad")
    for tick in scale.ticks:
        drawing.line(scale(tick), top, scale(tick), bottom, "grid")
        drawing.text(scale(tick), bottom + 16, f"{short(tick)} ×", "tick", "middle")
    drawing.text(scale(1) - 6, top - 6, left, "late", "end")
    drawing.text(scale(1) + 6, top - 6, right, "sub")
    group = None
    for index, row in enumerate(rows):
        y = top + LINE * index + 14
        if row.group != group:
            group = row.group
            drawing.text(16, y, group, "name")
        draw_row(drawing, names, row, scale, edge, y)
    drawing.line(scale(1), top, scale(1), bottom, "one")
    drawing.text((edge + 724) / 2, bottom + 36, axis, "sub", "middle")
    return drawing.finish(bottom + 50)


def draw_stripes(drawing, rows, top):
    """One case, with all that is measured of it, on one ground; the next one on another."""
    shaded, group = False, None
    for index, row in enumerate(rows):
        if row.group != group:
            shaded, group = not shaded, row.group
        if shaded:
            drawing.rect(8, top + LINE * index, 884, LINE, "stripe")


def draw_row(drawing, names, row, scale, edge, y):
    drawing.text(edge - 10, y, row.label, "late" if row.bad else "sub", "end")
    drawing.text(736, y, row.note, "late" if row.bad else "sub")
    for index, mark in enumerate(row.marks):
        if not mark or mark[0] <= 0:
            continue
        middle, low, high = mark
        drawing.line(scale(low), y - 4, scale(high), y - 4, f"whisker s{colour_of(index)}")
        tip = f"{row.group}, {row.label}: {names[index]} {middle:.2f} ({low:.2f} to {high:.2f})"
        drawing.mark(scale(middle), y - 4, index, tip)


# --- small panels of curves ------------------------------------------------------------------

# `series`: for each of the names a list of (x, median, low, high).
Panel = collections.namedtuple("Panel", "title x_label y_label y_log series")


def curves(title, subtitle, names, panels, across=3):
    drawing = Drawing(900, title, subtitle)
    drawing.legend(names)
    width, height = (900 - 16) / across, 250
    for index, panel in enumerate(panels):
        draw_panel(drawing, names, panel, 16 + width * (index % across), drawing.top + height * (index // across),
                   width, height)
    return drawing.finish(drawing.top + height * math.ceil(len(panels) / across) + 8)


def draw_panel(drawing, names, panel, left, top, width, height):
    points = [point for line in panel.series for point in line if point[0] > 0 and (not panel.y_log or point[1] > 0)]
    drawing.text(left + 46, top + 22, panel.title, "name")
    if not points:
        return
    xs = sorted({float(point[0]) for point in points})
    lows = [point[2] for point in points if not panel.y_log or point[2] > 0] or [point[1] for point in points]
    x_of = Scale(xs[0], xs[-1], left + 54, left + width - 20, log=True, ticks=xs)
    y_of = Scale(min(lows) if panel.y_log else 0, max(point[3] for point in points), top + height - 46, top + 34,
                 log=panel.y_log)
    for tick in y_of.ticks:
        drawing.line(left + 46, y_of(tick), left + width - 12, y_of(tick), "grid")
        drawing.text(left + 42, y_of(tick) + 4, short(tick), "tick", "end")
    for tick in xs:
        drawing.line(x_of(tick), top + height - 46, x_of(tick), top + height - 42, "axis")
        drawing.text(x_of(tick), top + height - 30, short(tick), "tick", "middle")
    drawing.line(left + 46, top + height - 46, left + width - 12, top + height - 46, "axis")
    drawing.text(left + width / 2 + 17, top + height - 13, panel.x_label, "sub", "middle")
    drawing.text(left + 8, top + height / 2 - 6, panel.y_label, "sub", "middle", turn=True)
    for index in reversed(range(len(panel.series))):
        draw_curve(drawing, names[index], index, sorted(panel.series[index]), panel, x_of, y_of)


def draw_curve(drawing, name, index, line, panel, x_of, y_of):
    line = [point for point in line if point[0] > 0 and (not panel.y_log or point[1] > 0)]
    if not line:
        return
    colour = colour_of(index)
    path = "M" + "L".join(f"{number(x_of(x))} {number(y_of(middle))}" for x, middle, _, _ in line)
    drawing.add("path", d=path, **{"class": f"line s{colour}"})
    for x, middle, low, high in line:
        if high > low:
            drawing.line(x_of(x), y_of(low), x_of(x), y_of(high), f"whisker s{colour}")
        drawing.mark(x_of(x), y_of(middle), index, f"{panel.title}, {short(x)}: {name} {middle:.4g}", 4)


# --- bars ------------------------------------------------------------------------------------

# One bar: its group's heading, its label, the index of its colour, (median, low, high), how that is written, and whether it is
# what is left of the one above.
Bar = collections.namedtuple("Bar", "group label index value note rest", defaults=[False])


def bars(title, subtitle, names, all_bars, axis, log=False):
    drawing = Drawing(900, title, subtitle)
    if len(names) > 1:
        drawing.legend(names)
    edge = 34 + max(max(width_of(bar.label), 1.1 * width_of(bar.group)) for bar in all_bars)
    values = [value for bar in all_bars for value in bar.value if value > 0] or [1]
    scale = Scale(min(values) * 0.8 if log else 0, max(values), edge, 760, log=log)
    groups = len({bar.group for bar in all_bars})
    top, bottom = drawing.top + 8, drawing.top + 12 + 20 * len(all_bars) + 24 * groups
    for tick in scale.ticks:
        drawing.line(scale(tick), top, scale(tick), bottom, "grid")
        drawing.text(scale(tick), bottom + 16, short(tick), "tick", "middle")
    y, group = top - 8, None
    for bar in all_bars:
        if bar.group != group:
            group, y = bar.group, y + 24
            drawing.text(16, y + 2, group, "name")
        y += 20
        middle, low, high = bar.value
        drawing.text(edge - 8, y, bar.label, anchor="end")
        kind = f"f{colour_of(bar.index)}{' rest' if bar.rest else ''}"
        drawing.rect(edge, y - 10, scale(middle) - edge, 12, kind, f"{bar.label}: {bar.note}")
        if high > low:
            drawing.line(scale(low), y - 4, scale(high), y - 4, "one")
        drawing.text(max(scale(middle), scale(high)) + 8, y, bar.note, "sub")
    drawing.line(edge, top, edge, bottom, "axis")
    drawing.text((edge + 760) / 2, bottom + 36, axis, "sub", "middle")
    return drawing.finish(bottom + 50)
