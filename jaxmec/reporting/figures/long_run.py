"""Delay over the certified bound of the long-run problem, against energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmec.reporting.style import colour, drawing

Row = Mapping[str, float | str]


def delay_over_bound(path: Path, rows: Sequence[Row]) -> None:
    """Draw policies with paired 95 % intervals; those named "..., V = ..." are one line.

    Args:
      path: of the PNG.
      rows: policy, priced_energy, delay_over_bound, over_bound, and the first two's half-widths (..._ci95).
    """
    swept = sorted((row for row in rows if ", V = " in str(row["policy"])), key=lambda row: row["delay_s"])
    with drawing(path, figsize=(5.6, 4.2)) as (_, axis):
        for i, part in enumerate([swept, *([row] for row in rows if row not in swept)]):
            x, y, dx, dy = (
                np.array([float(row[name]) for row in part])
                for name in ("priced_energy", "delay_over_bound", "priced_energy_ci95", "delay_over_bound_ci95")
            )
            label = "best_response, queues" if i == 0 else str(part[0]["policy"])
            marker = "o-" if i == 0 else "sD^vP"[i % 5]
            axis.errorbar(x, 100 * y, 100 * dy, dx, marker, label=label, color=colour(i), ms=5, lw=1.2, capsize=2)
        for row in swept:
            at = (
                float(row["priced_energy"]) + float(row["priced_energy_ci95"]),
                100 * float(row["delay_over_bound"]),
            )
            name = str(row["policy"]).split(", ")[1]
            axis.annotate(name, at, (4, -3), textcoords="offset points", fontsize=8)
        # At equal Lagrangian, delay and energy trade at the same rate for all.
        energy, delay, equal = (
            np.array([float(row[name]) for row in rows])
            for name in ("priced_energy", "delay_over_bound", "over_bound")
        )
        slope = np.dot(equal - delay, energy - 1.0) / np.dot(energy - 1.0, energy - 1.0)
        reach = np.array(axis.get_xlim())
        axis.plot(reach, -100 * slope * (reach - 1.0), color="0.4", lw=1, ls="--", label="certified bound")
        axis.axvline(1.0, color="0.4", lw=0.8, ls=":")
        axis.set(
            xlabel="energy over budget, weighted by multipliers",
            ylabel="mean delay over the bound [%]",
            xlim=reach,
        )
        axis.set_yscale("symlog", linthresh=10, subs=range(2, 10))
        axis.set_yticks([*range(-4, 11, 2), 20, 40])
        axis.set_ylim(bottom=min(-1.0, 100 * delay.min() - 2.0))  # the ticks have widened it
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(fontsize=8)
