"""Policies against one field of a scenario: their delay, and how it compares at equal energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import PercentFormatter

from jaxmec.reporting.figures.sweep import name_of, place_of, positions, x_axis
from jaxmec.reporting.style import colour, drawing, plain_log

Row = Mapping[str, float | str]
DECADE = 10.0


def policies_against_field(path: Path, rows: Sequence[Row], field: str, reference: str) -> None:
    """Draw every policy's mean delay, and its delay at equal energy over the reference's, with 95 % intervals.

    Args:
      path: of the PNG.
      rows: the field, policy, and delay_s and over_reference with their intervals.
      field: whose values are the horizontal axis.
      reference: the policy that the others are paired with.
    """
    with drawing(path, 1, 2, figsize=(8.4, 3.2)) as (figure, (delay, over)):
        for index, policy in enumerate(dict.fromkeys(str(row["policy"]) for row in rows)):
            mine = sorted(
                (row for row in rows if row["policy"] == policy), key=lambda row: place_of(str(row[field]))
            )
            _line(delay, index, mine, field, "delay_s")
            if policy != reference:
                _line(over, index, mine, field, "over_reference")
        for axis in (delay, over):
            x_axis(axis, sorted({str(row[field]) for row in rows}, key=place_of))
            axis.set_xlabel(name_of(field))
        delay.set_ylabel("mean end-to-end delay [s]")
        over.set_ylabel(f"delay at equal energy over {reference}", fontsize="small")
        over.axhline(0.0, color="0.4", lw=0.8, zorder=1)
        over.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        delays = [float(row["delay_s"]) for row in rows]
        if min(delays) > 0 and max(delays) >= DECADE * min(delays):
            plain_log(delay.yaxis)
        figure.legend(*delay.get_legend_handles_labels(), loc="outside right center")


def _line(axis: Any, index: int, rows: Sequence[Row], field: str, metric: str) -> None:
    """One policy's values with their intervals."""
    axis.errorbar(
        positions([str(row[field]) for row in rows]),
        [float(row[metric]) for row in rows],
        [float(row[f"{metric}_ci95"]) for row in rows],
        fmt="osD^vP*Xh"[index % 9] + "-",
        color=colour(index),
        label=str(rows[0]["policy"]),
        ms=4,
        lw=1.2,
        capsize=2,
    )
