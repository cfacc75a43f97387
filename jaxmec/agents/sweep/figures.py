"""Figures of a sweep: the winners with their confidence intervals, and metrics against a swept field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from jaxmec.agents.sweep.config import SweepConfig
from jaxmec.agents.sweep.folder import Row
from jaxmec.agents.sweep.ranking import Candidate, candidates, label, short, short_value

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": 200,
    "savefig.bbox": "tight",
}
SHOWN = 10
LABELS = {
    "objective": "slot objective",
    "delay_s": "end-to-end delay [s]",
    "device_energy": "device energy / budget",
    "server_energy": "server energy / budget",
    "gap": "certified gap",
    "reward": "reward [s]",
    "radio.bandwidth_hz": "bandwidth [Hz]",
    "tradeoff": "tradeoff V",
}


def name_of(column: str) -> str:
    """A column's name on an axis."""
    held_out = column.startswith("eval_")
    column = column.removeprefix("eval_")
    return LABELS.get(column, short(column)) + (", held out" if held_out else "")


def winners(path: Path, ranked: Sequence[Candidate], metric: str) -> None:
    """Draw the best settings: every run, the interquartile mean and its 95 % interval."""
    shown = [one for one in ranked if np.isfinite(one.estimate)][:SHOWN]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 0.9 + 0.3 * len(shown)), layout="constrained")
        for place, one in enumerate(shown):
            low, high = np.nan_to_num(one.interval, nan=one.estimate, posinf=one.scores.max())
            axis.plot([low, high], [place, place], color="C0", lw=5, alpha=0.35, solid_capstyle="butt", zorder=2)
            axis.plot(one.scores, np.full(len(one.scores), place), "o", color="0.35", ms=2.5, alpha=0.7, zorder=3)
            axis.plot([one.estimate] * 2, [place - 0.3, place + 0.3], color="C0", lw=1.8, zorder=4)
        axis.set(
            yticks=range(len(shown)),
            yticklabels=[label(one.values) for one in shown],
            xlabel=name_of(metric),
        )
        everything = np.concatenate([one.scores for one in shown]) if shown else np.ones(1)
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
        figure.savefig(path)
        plt.close(figure)


def curves(path: Path, rows: Sequence[Row], config: SweepConfig) -> None:
    """Draw metrics against a swept field: interquartile means and 95 % intervals over everything else."""
    assert config.curves is not None
    wanted = config.curves
    shown = [wanted.x] if wanted.lines is None else [wanted.lines, wanted.x]
    others = [path for path in config.space if path not in shown]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(wanted.y), figsize=(3.3 * len(wanted.y), 2.7), layout="constrained", squeeze=False
        )
        for axis, metric in zip(axes[0], wanted.y, strict=True):
            found = candidates(rows, [*shown, *others], metric, across=others, worst=np.nan)
            found = [one for one in found if np.isfinite(one.estimate)]
            lines: dict[str, list[Candidate]] = {}
            for one in found:
                lines.setdefault(one.values.get(wanted.lines or "", ""), []).append(one)
            for index, (value, line) in enumerate(sorted(lines.items(), key=lambda item: _place(item[0]))):
                line.sort(key=lambda one: _place(one.values[wanted.x]))
                x = _positions([one.values[wanted.x] for one in line])
                colour = plt.get_cmap("viridis")(0.85 * index / max(len(lines) - 1, 1))
                low, high = np.array([one.interval for one in line]).T
                axis.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
                axis.plot(
                    x, [one.estimate for one in line], "o-", color=colour, ms=3.5, lw=1.3, label=short_value(value)
                )
            _x_axis(axis, sorted({one.values[wanted.x] for one in found}, key=_place))
            axis.set(xlabel=name_of(wanted.x), ylabel=name_of(metric))
            _percent(axis.yaxis, metric)
        if wanted.lines is not None:
            handles, labels = axes[0][0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center", title=name_of(wanted.lines))
        figure.savefig(path)
        plt.close(figure)


def _percent(axis: Any, metric: str) -> None:
    if metric.endswith("gap"):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _place(value: str) -> tuple[float, str]:
    """Order of cells: numbers by size, then texts."""
    try:
        return float(value), ""
    except ValueError:
        return np.inf, value


def _positions(values: Sequence[str]) -> list[Any]:
    """Cells on an axis: numbers, or texts as categories."""
    return [value if text else place for value, (place, text) in ((v, _place(v)) for v in values)]


def _x_axis(axis: Any, values: Sequence[str]) -> None:
    """A logarithmic axis with a tick at every value, where numbers span more than a factor of four."""
    numbers = [place for place, text in map(_place, values) if not text]
    if len(numbers) == len(values) and numbers and numbers[0] > 0 and numbers[-1] / numbers[0] > 4:
        axis.set_xscale("log")
        if len(numbers) <= 8:
            axis.set_xticks(numbers, [f"{number:g}" for number in numbers])
            axis.minorticks_off()
