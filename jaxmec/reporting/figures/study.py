"""Static figures of the study: the trade-off by V, and which cuts are chosen when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

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
    with drawing(path, 1, 2, figsize=(8.4, 3.2)) as (figure, axes):
        for axis, metric, label in zip(
            axes,
            ("delay_s", "device_queue"),
            ("mean end-to-end delay [s]", "mean energy queue of a device"),
            strict=True,
        ):
            for index, policy in enumerate(dict.fromkeys(str(row["policy"]) for row in rows)):
                v, value, share = _line([row for row in rows if row["policy"] == policy], metric)
                half = share * value[0] if metric == "delay_s" else None
                axis.errorbar(
                    v, value, half, fmt=MARKERS[index % len(MARKERS)], ls=LINES[index % len(LINES)],
                    color=colour(index), label=policy, ms=4, lw=1.2, capsize=2,
                )  # fmt: skip
                if policy == reference:
                    falling = value[-1] + (value[0] - value[-1]) * v[0] / v
                    guide = falling if metric == "delay_s" else value[-1] * v / v[-1]
                    # The label stands below its line, at whose foot nothing else is.
                    name, at = ("O(1/V)", 1) if metric == "delay_s" else ("O(V)", len(v) // 2)
                    offset, side = ((-4, -8), "right") if metric == "delay_s" else ((6, -10), "left")
                    axis.plot(v, guide, color="0.5", lw=0.9, zorder=1)
                    axis.annotate(name, (v[at], guide[at]), color="0.4", fontsize="small", ha=side,
                                  xytext=offset, textcoords="offset points")  # fmt: skip
            axis.set(xscale="log", xlabel="trade-off constant V", ylabel=label)
            plain_log(axis.yaxis)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")


def _line(rows: Sequence[Row], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V, values and half-widths of the delay's change, as shares of the first one, in the order of V."""
    columns = ("tradeoff", metric, "delay_over_first_ci95")
    found = np.array(sorted([float(row[name]) for name in columns] for row in rows))
    return found[:, 0], found[:, 1], found[:, 2]


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
