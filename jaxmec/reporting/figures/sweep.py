"""Figures of a sweep: the winners with their confidence intervals, and metrics against a swept field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from jaxmec.reporting.style import colour, drawing

LABELS = {
    "objective": "slot objective",
    "delay_s": "end-to-end delay [s]",
    "device_energy": "device energy / budget",
    "server_energy": "server energy / budget",
    "gap": "certified gap",
    "reward": "reward [s]",
    "bandwidth_hz": "bandwidth [Hz]",
    "tradeoff": "tradeoff V",
}


class Estimate(Protocol):
    """An interquartile mean of some runs."""

    @property
    def scores(self) -> np.ndarray:
        """Of all runs, [R]."""
        ...

    @property
    def estimate(self) -> float:
        """The interquartile mean."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % confidence interval; NaN for a single run."""
        ...


Lines = Mapping[
    str, Sequence[tuple[str, Estimate]]
]  # a line's label -> the swept field's cell and the estimate there


def name_of(column: str) -> str:
    """A column's or a field's name on an axis."""
    held_out = column.startswith("eval_")
    last = column.removeprefix("eval_").rpartition(".")[2]
    return LABELS.get(last, last.replace("_", " ")) + (", held out" if held_out else "")


def winners(path: Path, best: Sequence[tuple[str, Estimate]], metric: str) -> None:
    """Draw the best settings, by label: every run, the interquartile mean and its 95 % interval."""
    with drawing(path, figsize=(6.4, 0.9 + 0.3 * len(best))) as (_, axis):
        for place, (_, one) in enumerate(best):
            low, high = np.nan_to_num(one.interval, nan=one.estimate, posinf=one.scores.max())
            axis.plot(
                [low, high], [place, place], color=colour(0), lw=5, alpha=0.35, solid_capstyle="butt", zorder=2
            )
            axis.plot(one.scores, np.full(len(one.scores), place), "o", color="0.35", ms=2.5, alpha=0.7, zorder=3)
            axis.plot([one.estimate] * 2, [place - 0.3, place + 0.3], color=colour(0), lw=1.8, zorder=4)
        axis.set(yticks=range(len(best)), yticklabels=[label for label, _ in best], xlabel=name_of(metric))
        everything = np.concatenate([one.scores for _, one in best]) if best else np.ones(1)
        if everything.min() > 0 and everything.max() / everything.min() > 20:
            axis.set_xscale("log")
        axis.set_title(
            "bar: interquartile mean, band: 95 % bootstrap interval, dots: runs",
            loc="right",
            fontsize=7,
            color="0.4",
        )
        _percent(axis.xaxis, metric)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)


def curves(path: Path, panels: Mapping[str, Lines], x: str, lines: str | None) -> None:
    """Draw metrics against the swept field `x`, a line for each value of the field `lines`."""
    with drawing(path, 1, len(panels), figsize=(3.3 * len(panels), 2.7)) as (figure, axes):
        for axis, (metric, drawn) in zip(axes, panels.items(), strict=True):
            for index, (label, points) in enumerate(drawn.items()):
                cells = [cell for cell, _ in points]
                shade = plt.get_cmap("viridis")(0.85 * index / max(len(drawn) - 1, 1))
                low, high = np.array([one.interval for _, one in points]).T
                at = positions(cells)
                axis.fill_between(at, low, high, color=shade, alpha=0.2, lw=0)
                axis.plot(at, [one.estimate for _, one in points], "o-", color=shade, ms=3.5, lw=1.3, label=label)
            x_axis(axis, sorted({cell for points in drawn.values() for cell, _ in points}, key=place_of))
            axis.set(xlabel=name_of(x), ylabel=name_of(metric))
            _percent(axis.yaxis, metric)
        if lines is not None:
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center", title=name_of(lines))


def place_of(cell: str) -> tuple[float, str]:
    """Order of cells: numbers by size, then texts."""
    try:
        return float(cell), ""
    except ValueError:
        return np.inf, cell


def _percent(axis: Any, metric: str) -> None:
    if metric.endswith("gap"):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def positions(cells: Sequence[str]) -> list[Any]:
    """Cells on an axis: numbers, or texts as categories."""
    return [cell if text else place for cell, (place, text) in ((c, place_of(c)) for c in cells)]


def x_axis(axis: Any, cells: Sequence[str]) -> None:
    """A logarithmic axis with a tick at every value, where numbers span more than a factor of four."""
    numbers = [place for place, text in map(place_of, cells) if not text]
    if len(numbers) == len(cells) and numbers and numbers[0] > 0 and numbers[-1] / numbers[0] > 4:
        axis.set_xscale("log")
        if len(numbers) <= 8:
            axis.set_xticks(numbers, [f"{number:g}".replace("e+0", "e") for number in numbers])
            axis.minorticks_off()
