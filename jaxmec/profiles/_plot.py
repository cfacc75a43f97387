"""The picture of a cut table: where the seconds go at every cut, and what crosses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxmec.profiles.table import PartitionProfile

if TYPE_CHECKING:
    from jaxmec.devices import Device

_COLOURS = {"device": "#4c78a8", "uplink": "#f2a541", "server": "#7a9a58"}
_MOST_LABELS = 40  # along the axis
_ROOM = 1.7  # height of the axis over the slower of all on the server and all on the device


def draw(
    table: PartitionProfile,
    device: Device,
    server: Device,
    rate_bps: float,
    wire_bits: int,
    input_bits: float | None,
) -> Figure:
    """Stacked seconds above, bits below, a bar per cut; arguments are those of `PartitionProfile.plot`."""
    stages = table.stages(device, server, wire_bits, input_bits)
    seconds = {
        "device": stages.device_work_s,
        "uplink": stages.uplink_bits / rate_bps,
        "server": stages.server_work_s,
    }
    total = stages.delay_s(rate_bps)
    best = int(np.argmin(total))
    cuts = np.arange(len(table))

    figure = Figure(figsize=(min(2.5 + 0.26 * len(table), 11.0), 5.2), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
    bottom = np.zeros(len(table))
    for name, part in seconds.items():
        above.bar(cuts, 1e3 * part, bottom=1e3 * bottom, width=0.8, color=_COLOURS[name], label=name)
        bottom = bottom + part
    above.bar(best, 1e3 * total[best], width=0.8, fill=False, edgecolor="black", linewidth=1.4)
    limit = min(1.18 * total.max(), _ROOM * max(total[0], total[-1]))
    above.set_ylim(0, 1e3 * limit)
    for cut in np.flatnonzero(total > limit):
        above.annotate(
            f"{1e3 * total[cut]:.3g}",
            (cut, 1e3 * limit),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6.5,
        )
    above.annotate(
        f"{1e3 * total[best]:.3g} ms",
        (best, 1e3 * total[best]),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        fontweight="bold",
    )
    above.set_ylabel("delay of a request [ms]")
    above.legend(fontsize=8, loc="upper right", framealpha=0.9, edgecolor="none")
    above.set_title(
        f"{table.name}: {_title(device.name)}, {rate_bps / 1e6:.3g} Mbit/s, {_title(server.name)}\n"
        f"best cut {best}: {_short(table.labels[best])}",
        fontsize=9,
        pad=14,
    )

    scale, unit = (1e6, "Mbit") if stages.uplink_bits.max() >= 1e6 else (1e3, "kbit")
    below.bar(cuts, stages.uplink_bits / scale, width=0.8, color=_COLOURS["uplink"])
    below.bar(best, stages.uplink_bits[best] / scale, width=0.8, fill=False, edgecolor="black", linewidth=1.4)
    below.axhline(stages.uplink_bits[0] / scale, color="0.3", linewidth=0.8, linestyle="--")
    below.set_yscale("log")
    below.set_ylabel(f"crosses [{unit}]")
    below.set_xlabel("cut, after")
    step = -(-len(table) // _MOST_LABELS)
    shown = [i for i in cuts if i % step == 0 or i == len(table) - 1]
    below.set_xticks(shown, [f"{_short(table.labels[i])}  {i}" for i in shown], rotation=90, fontsize=7)
    below.set_xlim(-0.7, len(table) - 0.3)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", labelsize=8)
    return figure


def _title(name: str) -> str:
    return name.replace("_", " ")


def _short(label: str) -> str:
    """First and last part of a place in the model, without the model's own name."""
    parts = label.split("/")
    parts = parts[1:] if len(parts) > 1 else parts
    text = parts[0] if len(parts) == 1 else f"{parts[0]}/{parts[-1]}"
    return text if len(text) <= 26 else f"{text[:12]}…{text[-13:]}"
