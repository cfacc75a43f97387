"""Static figures of the study: the trade-off by V, and which cuts are chosen when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmec.reporting.style import colour, drawing, plain_log

Row = Mapping[str, float | str]
MARKERS = "osD^vP*Xh"
LINES = ("-", "--", ":", "-.")
QUARTERS = ("lowest", "2nd", "3rd", "highest")


def delay_and_queues(path: Path, rows: Sequence[Row], reference: str) -> None:
    """Draw mean delay and mean device queue against V, with the orders of the theory through the reference's ends.

    Args:
      path: of the PNG.
      rows: tradeoff, policy, delay_s, device_queue, and delay_over_first_ci95: bars are the interval of the change from
        the least V on the same episodes.
      reference: the policy that the guides are drawn for.
    """
    columns = ("tradeoff", "delay_s", "delay_over_first_ci95", "device_queue")
    with drawing(path, 1, 2, figsize=(8.4, 3.2)) as (figure, (delays, queues)):
        for index, policy in enumerate(dict.fromkeys(str(row["policy"]) for row in rows)):
            mine = sorted([float(row[name]) for name in columns] for row in rows if row["policy"] == policy)
            v, delay_s, share, queue = np.array(mine).T
            look: dict[str, Any] = {
                "fmt": MARKERS[index % len(MARKERS)], "ls": LINES[index % len(LINES)], "color": colour(index),
                "label": policy, "ms": 4, "lw": 1.2, "capsize": 2,
            }  # fmt: skip
            delays.errorbar(v, delay_s, share * delay_s[0], **look)
            queues.errorbar(v, queue, **look)
            if policy == reference:
                falling = delay_s[-1] + (delay_s[0] - delay_s[-1]) * v[0] / v
                # The labels stand below their lines, where nothing else is.
                _guide(delays, v, falling, "O(1/V)", 1, xytext=(-4, -8), ha="right")
                _guide(queues, v, queue[-1] * v / v[-1], "O(V)", len(v) // 2, xytext=(6, -10), ha="left")
        delays.set(ylabel="mean end-to-end delay [s]")
        queues.set(ylabel="mean energy queue of a device")
        for axis in (delays, queues):
            axis.set(xscale="log", xlabel="trade-off constant V")
            plain_log(axis.yaxis)
        figure.legend(*delays.get_legend_handles_labels(), loc="outside right center")


def _guide(axis: Any, v: np.ndarray, values: np.ndarray, name: str, at: int, **place: Any) -> None:
    """Draw an order of the theory, named at one of its points."""
    axis.plot(v, values, color="0.5", lw=0.9, zorder=1)
    axis.annotate(name, (v[at], values[at]), color="0.4", fontsize="small", textcoords="offset points", **place)


def work_on_device(path: Path, rows: Sequence[Row]) -> None:
    """Draw one policy's mean share of work on the device, by network and device, and by quarters of each state.

    Args:
      path: of the PNG.
      rows: network, device, state, quarter (1 to 4) and on_device.
    """
    pairs = sorted({(str(row["network"]), str(row["device"])) for row in rows})
    states = list(dict.fromkeys(str(row["state"]) for row in rows))
    with drawing(path, 1, len(states), figsize=(8.4, 0.9 + 0.3 * len(pairs))) as (figure, axes):
        for column, (axis, state) in enumerate(zip(axes, states, strict=True)):
            mine = [row for row in rows if row["state"] == state]
            there = sorted({int(float(row["quarter"])) for row in mine})  # of two values there are two
            grid = np.full((len(pairs), len(there)), np.nan)
            for row in mine:
                place = pairs.index((str(row["network"]), str(row["device"])))
                grid[place, there.index(int(float(row["quarter"])))] = float(row["on_device"])
            image = axis.imshow(grid, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
            for (place, quarter), value in np.ndenumerate(grid):
                if np.isfinite(value):
                    shade = "white" if value < 0.6 else "black"
                    axis.text(
                        quarter, place, f"{value:.2f}", ha="center", va="center", color=shade, fontsize="x-small"
                    )
            axis.set(title=state)
            axis.set_xticks(range(len(there)), [QUARTERS[each - 1] for each in there], fontsize="small")
            axis.set_yticks(
                range(len(pairs)), [f"{network} on {device}" for network, device in pairs] if not column else []
            )
            axis.grid(visible=False)
        figure.colorbar(image, ax=axes, label="share of work on the device")
