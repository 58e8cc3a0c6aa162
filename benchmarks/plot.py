"""A picture of a result file: `python -m benchmarks.plot serving` draws benchmarks/results/serving.svg.

Every ratio with its runs, its median and its goal, on a scale where twice and half are equally far from 1, and every
share of something whole, such as the roofline or the kills. Runs in an environment of its own (`.venv-plot`), which has
Matplotlib and nothing of ours.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_RESULTS: Final = Path(__file__).resolve().parent / "results"
_MET, _MISSED, _TOLD, _INK = "#2a7f4f", "#b3261e", "#5b6b7b", "#20262d"
_ROW: Final = 0.26
"""inches"""


def main(arguments: list[str]) -> int:
    """Draw one result file beside it."""
    (name,) = arguments
    figures = json.loads((_RESULTS / f"{name}.json").read_text())
    mpl.rcParams |= {"svg.hashsalt": "intramuros", "svg.fonttype": "none", "font.family": "sans-serif"}
    figures.sort(
        key=lambda figure: [int(part) if part.isdigit() else part for part in re.findall(r"\d+|\D+", figure["id"])]
    )
    shares = [
        figure
        for figure in figures
        if figure["id"].endswith(".roofline") or figure["unit"].startswith(("part", "share"))
    ]
    panels = [[figure for figure in figures if figure["unit"].startswith("ratio") and figure not in shares], shares]
    heights = [len(panel) + 3 for panel in panels]
    picture = Figure(figsize=(9, _ROW * sum(heights)), layout="constrained")
    above, below = picture.subplots(2, 1, height_ratios=heights)
    _draw(above, panels[0], "ratio to the named peer or format (log scale): | goal, bar median, dots runs")
    above.set_xscale("log", base=2)
    above.axvline(1, color=_TOLD, linewidth=0.8)
    above.xaxis.set_major_formatter("{x:g}")
    _draw(below, panels[1], "share of the roofline, or of what is named")
    below.set_xlim(0, max(1.0, below.get_xlim()[1]))
    picture.savefig(_RESULTS / f"{name}.svg", metadata={"Date": None})
    return 0


def _draw(axes: Axes, figures: list[dict[str, Any]], title: str) -> None:
    rows = range(len(figures))
    for row, figure in zip(rows, figures, strict=True):
        colour = {True: _MET, False: _MISSED, None: _TOLD}[figure["met"]]
        axes.plot(figure["runs"], [row] * len(figure["runs"]), "o", color=colour, alpha=0.35, markersize=4)
        axes.plot([figure["value"]], [row], "|", color=colour, markersize=11, markeredgewidth=3)
        if figure["goal"]:
            bound = float(figure["goal"].split()[1])
            axes.plot([bound], [row], "|", color=_INK, markersize=11, markeredgewidth=1)
    labels = [
        f"{figure['id']}  {figure['value']:g} {figure['goal'] and '(' + figure['goal'] + ')'}" for figure in figures
    ]
    axes.set_yticks(rows, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(axis="x", alpha=0.25)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
