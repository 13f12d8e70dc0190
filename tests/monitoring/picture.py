"""Draws a dashboard from what the last run of tests/monitoring/run saw.

usage: picture.py overview.json FILE.png   Needs matplotlib. It shows the queries' values in the panels' places, not Grafana's looks.
"""

import json
import math
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from dashboards import ROOT, dashboards

BACKGROUND, PANEL, TEXT = "#f4f5f5", "#ffffff", "#24292e"
SHADES = {"green": "#3d9a50", "orange": "#e0862c", "red": "#c4162a", "text": "#44515e"}
COLUMN, ROW = 0.58, 0.30    # inches for one step of Grafana's grid


def amount(value, unit):
    """A value in its unit, short."""
    if not math.isfinite(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        if abs(value) >= 3600:
            return f"{value / 3600:.3g} h"
        return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    steps = [(1 << 20, "MiB"), (1 << 10, "KiB")] if unit == "bytes" else [(1e6, "M"), (1e3, "k")]
    for size, name in steps:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}{ {'cps': '/s', 'reqps': '/s'}.get(unit, '')}"


def legend(format_, labels):
    text = format_
    for name, value in labels.items():
        text = text.replace("{{%s}}" % name, value)
    return " ".join(word for word in text.split() if "{{" not in word) or "value"


def place(figure, panel, height):
    grid, pad = panel["gridPos"], 0.12
    top = (height - grid["y"] - (1 if panel["type"] != "stat" else 0)) / height
    x, w = (grid["x"] + pad) / 24, (grid["w"] - 2 * pad) / 24
    h = (grid["h"] - pad - (1 if panel["type"] != "stat" else 0)) / height
    if panel["type"] == "timeseries":
        x, w = x + 0.9 / 24, w - 1.1 / 24
        h -= 1.9 / height
    if panel["type"] == "stat":
        top -= 0.1 / height
    return figure.add_axes([x, top - h, w, h])


def draw_stat(axes, panel, series):
    defaults = panel["fieldConfig"]["defaults"]
    values = [value for _, value in series[0][1][0][1] if math.isfinite(value)] if series[0][1] else []
    value = values[-1] if values else math.nan
    color = "text"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    axes.set_facecolor(SHADES[color])
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    words = {number: word["text"] for one in defaults.get("mappings", []) for number, word in one["options"].items()}
    shown = words.get(f"{value:.0f}") or amount(value, defaults["unit"])
    axes.text(0.5, 0.40, shown, color="white", fontsize=17, ha="center", va="center",
              transform=axes.transAxes)
    title = panel["title"] if panel["gridPos"]["w"] > 5 else panel["title"].replace(", ", ",\n")
    axes.text(0.04, 0.9, title, color="white", fontsize=8, va="top", transform=axes.transAxes)


def draw_series(axes, panel, series):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = [(legend(target["legendFormat"], labels), points) for target, found in series for labels, points in found]
    begun = min(at for _, points in lines for at, _ in points)
    for name, points in lines[:12]:
        points = [(at - begun, value) for at, value in points if math.isfinite(value)]
        axes.plot([at for at, _ in points], [value for _, value in points], linewidth=1, label=name)
    axes.set_title(panel["title"], fontsize=8, loc="left", color=TEXT)
    highest = max((value for line in axes.lines for value in line.get_ydata()), default=0)
    axes.set_ylim(0, highest * 1.12 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 3, 5, 6, 10]))
    axes.set_facecolor(PANEL)
    axes.grid(True, color="#e4e7e7", linewidth=0.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value, unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
    axes.tick_params(labelsize=6, colors=TEXT, length=2)
    axes.legend(fontsize=5.5, loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False, ncols=4)


def draw_table(axes, panel, series):
    axes.set_axis_off()
    axes.set_title(panel["title"], fontsize=8, loc="left", color=TEXT)
    rows = [[labels.get("namespace", ""), labels["version"], labels["revision"], amount(points[-1][1], "short")]
            for _, found in series for labels, points in found]
    table = axes.table(rows, colLabels=["namespace", "version", "revision", "processes"], loc="upper left")
    table.auto_set_font_size(False)
    table.set_fontsize(6.5)


def main():
    file, picture = sys.argv[1:]
    values = json.loads((ROOT / ".interop/prometheus/panels.json").read_text())
    dashboard = dashboards()[file]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 1
    figure = plt.figure(figsize=(24 * COLUMN, height * ROW), facecolor=BACKGROUND)
    draw = {"stat": draw_stat, "timeseries": draw_series, "table": draw_table}
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            y = (height - panel["gridPos"]["y"] - 0.8) / height
            figure.text(0.005, y, panel["title"], fontsize=9, fontweight="bold", color=TEXT)
            continue
        series = [(target, values[f"{file}, {panel['title']!r}, {target['refId']}"]) for target in panel["targets"]]
        draw[panel["type"]](place(figure, panel, height), panel, series)
    figure.savefig(picture, dpi=80)
    # Few colours make a small file.
    Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main()
