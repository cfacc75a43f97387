"""The one style of every figure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # commands write files and open no window
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

STYLE: Any = {
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
# Okabe and Ito's colours, which colour-blind readers tell apart, and a few more for long lists.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#661100", "#6699CC",
)  # fmt: skip

# Ticks within a decade of a logarithmic axis, from sparse to dense; the first that give enough are taken.
LOG_TICKS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
FEWEST_TICKS = 3


@contextmanager
def drawing(path: Path, *grid: int, figsize: tuple[float, float]) -> Iterator[tuple[plt.Figure, Any]]:
    """A figure and its axes, saved and closed at the end: one, or an array [columns] or [rows, columns] of a grid."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(*(grid or (1, 1)), figsize=figsize, layout="constrained", squeeze=False)
        axes = axes[0, 0] if not grid else axes[0] if grid[0] == 1 else axes
        try:
            yield figure, axes
            figure.savefig(path)
        finally:
            plt.close(figure)


def colour(index: int) -> str:
    """The colour of the index-th of several lines."""
    return COLOURS[index % len(COLOURS)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two, the sparsest that are `FEWEST_TICKS` at least, or the densest."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in LOG_TICKS:
        ticks = [tick for at in decades for digit in digits if low <= (tick := digit * 10.0**at) <= high]
        if len(ticks) >= FEWEST_TICKS:
            break
    return ticks


def plain_log(axis: Any) -> None:
    """A logarithmic axis with plain numbers, also where it spans less than a decade."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = sorted(axis.get_view_interval())
    ticks = log_ticks(low, high)
    few = MaxNLocator(FEWEST_TICKS + 1)  # where there is less than a factor of two
    axis.set_major_locator(FixedLocator(ticks) if len(ticks) >= FEWEST_TICKS else few)
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
