"""The picture of a cut table: where the seconds go at every cut, and what crosses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxmec.profiles.table import Stages

_COLOURS = {"device": "#4c78a8", "wire": "#f2a541", "server": "#7a9a58"}
_MOST_LABELS = 40  # along the axis
_ROOM = 1.7  # height of the axis over the slower of all on the server and all on the device


def draw(labels: Sequence[str], stages: Stages, wire_s: np.ndarray, title: str) -> Figure:
    """Stacked seconds above, bits below, a bar per cut.

    Args:
      labels: place in the model of every cut.
      stages: demands of every cut.
      wire_s: seconds of up- and downlink, float64[K].
      title: above the picture.
    """
    best = int(np.argmin(stages.device_work_s + wire_s + stages.server_work_s))
    figure = Figure(figsize=(min(2.5 + 0.26 * len(labels), 11.0), 5.2), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[2.2, 1.0])
    _seconds(above, {"device": stages.device_work_s, "wire": wire_s, "server": stages.server_work_s}, best)
    above.set_title(f"{title}\nbest cut {best}: {_short(labels[best])}", fontsize=9, pad=14, parse_math=False)
    _bits(below, stages.uplink_bits, best)
    _name_cuts(above, below, labels)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", labelsize=8)
    return figure


def _seconds(axes: Axes, seconds: dict[str, np.ndarray], best: int) -> None:
    """Stacked bars; those that leave the axis carry their height as text."""
    total = sum(seconds.values(), np.zeros(()))
    cuts, bottom = np.arange(len(total)), np.zeros(len(total))
    for name, part in seconds.items():
        axes.bar(cuts, 1e3 * part, bottom=1e3 * bottom, width=0.8, color=_COLOURS[name], label=name)
        bottom = bottom + part
    axes.bar(best, 1e3 * total[best], width=0.8, fill=False, edgecolor="black", linewidth=1.4)
    limit = min(1.18 * total.max(), _ROOM * max(total[0], total[-1]))
    axes.set_ylim(0, 1e3 * limit)
    for cut in np.flatnonzero(total > limit).tolist():
        _write_above(axes, f"{1e3 * total[cut]:.3g}", cut, 1e3 * limit, fontsize=6.5)
    _write_above(axes, f"{1e3 * total[best]:.3g} ms", best, 1e3 * total[best], fontsize=8, fontweight="bold")
    axes.set_ylabel("delay of a request [ms]")
    axes.legend(fontsize=8, loc="upper right", framealpha=0.9, edgecolor="none")


def _write_above(axes: Axes, text: str, x: float, y: float, **font) -> None:
    axes.annotate(text, (x, y), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom", **font)


def _bits(axes: Axes, uplink_bits: np.ndarray, best: int) -> None:
    """What crosses, with the raw input as a line."""
    scale, unit = (1e6, "Mbit") if uplink_bits.max() >= 1e6 else (1e3, "kbit")
    axes.bar(np.arange(len(uplink_bits)), uplink_bits / scale, width=0.8, color=_COLOURS["wire"])
    axes.bar(best, uplink_bits[best] / scale, width=0.8, fill=False, edgecolor="black", linewidth=1.4)
    axes.axhline(uplink_bits[0] / scale, color="0.3", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylabel(f"crosses [{unit}]")


def _name_cuts(above: Axes, below: Axes, labels: Sequence[str]) -> None:
    """Numbers of the cuts between the two panels, their places in the model below both."""
    step = -(-len(labels) // _MOST_LABELS)
    shown = [i for i in range(len(labels)) if i % step == 0 or i == len(labels) - 1]
    above.set_xticks(shown, [str(i) for i in shown], fontsize=7)
    below.set_xticks(shown, [_short(labels[i]) for i in shown], rotation=90, fontsize=7, parse_math=False)
    below.set_xlabel("cut, after")
    for axes in (above, below):
        axes.set_xlim(-0.7, len(labels) - 0.3)


def _short(label: str) -> str:
    """First and last part of a place in the model, without the model's own name."""
    parts = label.split("/")
    parts = parts[1:] if len(parts) > 1 else parts
    text = parts[0] if len(parts) == 1 else f"{parts[0]}/{parts[-1]}"
    return text if len(text) <= 26 else f"{text[:12]}…{text[-13:]}"
