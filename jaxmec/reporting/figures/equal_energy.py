"""Delay against energy, policy by policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxmec.evaluation.equal_energy import Curve
from jaxmec.evaluation.statistics import paired_difference
from jaxmec.reporting.style import colour, drawing


def delay_against_energy(path: Path, curves: Mapping[str, Curve], reference: str, title: str) -> None:
    """Mean delay of every policy over its mean energy; the budget is a line.

    Populations differ far more than policies do, so a bar is the 95 % interval of the paired difference to the
    reference's delay at the same multiple.
    """
    with drawing(path, figsize=(5.6, 4.2)) as (_, axis):
        for index, (name, curve) in enumerate(curves.items()):
            halves = [
                paired_difference(*pair)[1] for pair in zip(curve.delay_s, curves[reference].delay_s, strict=True)
            ]
            axis.errorbar(
                curve.energy.mean(axis=1),
                1e3 * curve.delay_s.mean(axis=1),
                None if name == reference else 1e3 * np.array(halves),
                fmt="osD^vP"[index % 6] + "-",
                color=colour(index),
                label=name,
                ms=4,
                lw=1.2,
                capsize=2,
            )
        axis.axvline(1.0, color="0.4", lw=0.8, ls=":")
        at = {"xytext": (4, -4), "textcoords": "offset points", "va": "top", "fontsize": 8}
        axis.annotate("budget", (1.0, 1.0), xycoords=axis.get_xaxis_transform(), **at)
        axis.set(xlabel="energy over budget, weighted by multipliers", ylabel="mean delay [ms]", title=title)
        axis.legend(fontsize=8, title=f"bars: 95 % of the difference to {reference}", title_fontsize=7)
