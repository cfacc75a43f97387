"""Figures of an evaluation: curves over time, delay against energy, and where networks are cut."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from jaxmec.evaluation import LongRun, Report, mean_and_interval, same_state_rows

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
COLOURS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]


def save_all(
    folder: Path,
    report: Report,
    networks: list[str],
    devices: list[str],
    highlight: str,
) -> list[Path]:
    """Draw every figure into a folder.

    Args:
      folder: where the PNGs go.
      report: what an evaluation found.
      networks: names of the M networks.
      devices: names of the D device classes.
      highlight: the policy whose cuts are shown.

    Returns:
      The files written.
    """
    results = report.long_run
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(results)}
    figures = {
        "over_time.png": over_time(results, colours),
        "delay_against_energy.png": delay_against_energy(results, colours),
        "quality_against_time.png": quality_against_time(report, colours),
        "cuts.png": cuts(results[highlight], networks, devices, highlight),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name)
        plt.close(figure)
    return [folder / name for name in figures]


def over_time(results: Mapping[str, LongRun], colours: Mapping[str, tuple]) -> plt.Figure:
    """Mean delay and mean virtual queues, slot by slot."""
    panels = {
        "delay_s": "delay [s]",
        "device_queue": "device energy queue Z",
        "server_queue": "server energy queue Y",
    }
    scales = {"delay_s": "log", "device_queue": "symlog", "server_queue": "linear"}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
        for axis, (name, label) in zip(axes, panels.items(), strict=True):
            for policy, result in results.items():
                axis.plot(result.curves[name], color=colours[policy], label=policy, lw=1.2)
            axis.set(xlabel="slot", ylabel=label, yscale=scales[name])
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(results))
    return figure


def delay_against_energy(results: Mapping[str, LongRun], colours: Mapping[str, tuple]) -> plt.Figure:
    """Each policy's mean delay and energy over budget, with 95 % intervals."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
        for axis, name in zip(axes, ("device_energy", "server_energy"), strict=True):
            axis.axvline(1.0, color="0.4", lw=1, ls="--")
            for policy, result in results.items():
                x, dx = mean_and_interval(result.metrics[name])
                y, dy = mean_and_interval(result.metrics["delay_s"])
                axis.errorbar(
                    x, y, xerr=dx, yerr=dy, fmt="o", ms=5, color=colours[policy], label=policy, capsize=2
                )
            axis.set(xlabel=f"{name.replace('_', ' ')} / budget", yscale="log")
            axis.yaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel("mean end-to-end delay [s]")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(results), 4))
    return figure


def quality_against_time(report: Report, colours: Mapping[str, tuple]) -> plt.Figure:
    """Certified gap of every policy's cuts against the time of a decision; the best lie at the lower left."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
        labels: dict[tuple[float, float], str] = {}
        for row in same_state_rows(report):
            name = str(row["policy"])
            point = float(row["decision_us"]), 100 * float(row["certified_gap_mean"])
            axis.plot(*point, "o", ms=6, color=colours[name])
            # Policies that lie on one another share a label.
            place = next((other for other in labels if np.allclose(other, point, rtol=0.1)), point)
            labels[place] = f"{labels[place]}, {name}" if place in labels else name
        before = None
        for place, label in sorted(labels.items()):
            # Neighbours are close: labels rise, but that of a point just to the lower right of another falls.
            falls = before and place[1] < before[1] and np.allclose(np.log10(place), np.log10(before), atol=0.4)
            axis.annotate(
                label,
                place,
                xytext=(2, -4 if falls else 4),
                textcoords="offset points",
                rotation=-50 if falls else 50,
                verticalalignment="top" if falls else "bottom",
                fontsize=8,
            )
            before = place
        axis.set(xscale="log", yscale="log", xlabel="time per slot [µs]", ylabel="mean certified gap [%]")
        axis.margins(x=0.15, y=0.25)
    return figure


def cuts(result: LongRun, networks: list[str], devices: list[str], policy: str) -> plt.Figure:
    """How often each network is cut where, per device class."""
    counts = result.cut_counts
    width = 0.8 / len(devices)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(networks), figsize=(2.3 * len(networks), 2.6), sharey=True, layout="constrained"
        )
        for m, (axis, network) in enumerate(zip(np.atleast_1d(axes), networks, strict=True)):
            used = int(np.flatnonzero(counts[m].sum(axis=0)).max(initial=0)) + 1
            for d, device in enumerate(devices):
                share = counts[m, d] / max(counts[m, d].sum(), 1)
                position = np.arange(used) + (d - (len(devices) - 1) / 2) * width
                axis.bar(position, share[:used], width, color=COLOURS[d], label=device)
            axis.set(title=network, xlabel="cut (0: all on server)")
            axis.xaxis.get_major_locator().set_params(integer=True)
        np.atleast_1d(axes)[0].set_ylabel(f"share of slots, {policy}")
        handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(devices))
    return figure
