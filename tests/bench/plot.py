"""Plots as SVG, with no library: points on a logarithmic line for the table's rows, and curves on two logarithmic axes."""

import html
import math

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#e377c2", "#7f7f7f", "#bcbd22")
LEFT, RIGHT, ROW = 190, 30, 26


class Svg:
    """A drawing, piece by piece."""

    def __init__(self, width, height):
        self.parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" '
                      'font-size="12">' % (width, height), '<rect width="100%" height="100%" fill="white"/>']

    def line(self, x1, y1, x2, y2, colour="#ccc", width=1):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>'
                          % (x1, y1, x2, y2, colour, width))

    def text(self, x, y, text, anchor="start", colour="black"):
        self.parts.append('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>'
                          % (x, y, anchor, colour, html.escape(text)))

    def point(self, x, y, colour, title):
        self.parts.append('<circle cx="%.1f" cy="%.1f" r="5" fill="%s" fill-opacity="0.8"><title>%s</title></circle>'
                          % (x, y, colour, html.escape(title)))

    def curve(self, points, colour):
        self.parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>'
                          % (" ".join("%.1f,%.1f" % p for p in points), colour))

    def save(self, path):
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join(self.parts + ["</svg>", ""]))


def number(value):
    """Three digits that matter."""
    if value == 0:
        return "0"
    return "%.*f" % (max(0, 2 - math.floor(math.log10(abs(value)))), value)


def legend(svg, names, y):
    """Colour and name of each; {name: colour}."""
    colours = {}
    x = 10
    for index, name in enumerate(names):
        colours[name] = COLOURS[index % len(COLOURS)] if name != "limit" else "black"
        svg.point(x + 5, y - 4, colours[name], name)
        svg.text(x + 14, y, name)
        x += 26 + 7 * len(name)
    return colours


def decades(low, high):
    """The powers of ten that span these values."""
    return range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)


def rows(path, title, table):
    """
    table: [(label, {name: cost against the first one's, 1 is equal}, bound or None)].  The bound is what is accepted,
    against the same.
    """
    names = list(dict.fromkeys(name for _, costs, _ in table for name in costs))
    values = [v for _, costs, bound in table for v in [*costs.values(), bound or 1] if v > 0]
    powers = decades(min(values), max(values))
    width = max(900, sum(26 + 7 * len(name) for name in names) + 40)
    svg = Svg(width, 90 + ROW * len(table))
    span = max(1, powers[-1] - powers[0])

    def place(value):
        return LEFT + (math.log10(value) - powers[0]) / span * (width - LEFT - RIGHT)
    svg.text(10, 18, title + ": cost in multiples of postern's; right is worse; | is what is accepted")
    colours = legend(svg, names, 40)
    bottom = 60 + ROW * len(table)
    for power in powers:
        svg.line(place(10.0 ** power), 52, place(10.0 ** power), bottom, "#888" if power == 0 else "#ddd")
        svg.text(place(10.0 ** power), bottom + 16, "%g" % 10.0 ** power, "middle")
    for index, (label, costs, bound) in enumerate(table):
        y = 60 + ROW * (index + 0.5)
        svg.text(LEFT - 8, y + 4, label, "end")
        svg.line(LEFT, y, width - RIGHT, y, "#eee")
        for name, cost in costs.items():
            if cost > 0:
                svg.point(place(cost), y, colours[name], "%s %s" % (name, number(cost)))
        if bound:
            svg.line(place(bound), y - 9, place(bound), y + 9, "black", 2)
    svg.save(path)


def curves(path, title, x_label, series):
    """series: {name: [(x, y)]}, all positive."""
    points = [p for line in series.values() for p in line]
    width, height, top, bottom = 900, 520, 60, 50
    xs, ys = decades(min(p[0] for p in points), max(p[0] for p in points)), decades(
        min(p[1] for p in points), max(p[1] for p in points))
    svg = Svg(width, height)

    def place(x, y):
        return (80 + (math.log10(x) - xs[0]) / max(1, xs[-1] - xs[0]) * (width - 80 - RIGHT),
                height - bottom - (math.log10(y) - ys[0]) / max(1, ys[-1] - ys[0]) * (height - top - bottom))
    svg.text(10, 18, title)
    colours = legend(svg, list(series), 40)
    for power in xs:
        x, y = place(10.0 ** power, 10.0 ** ys[0])
        svg.line(x, y, x, top)
        svg.text(x, y + 16, "%g" % 10.0 ** power, "middle")
    for power in ys:
        x, y = place(10.0 ** xs[0], 10.0 ** power)
        svg.line(x, y, width - RIGHT, y)
        svg.text(x - 6, y + 4, "%g" % 10.0 ** power, "end")
    svg.text((width + 80) / 2, height - 12, x_label, "middle")
    for name, line in series.items():
        svg.curve([place(*p) for p in line], colours[name])
        for p in line:
            svg.point(*place(*p), colours[name], "%s: %s, %s" % (name, number(p[0]), number(p[1])))
    svg.save(path)
