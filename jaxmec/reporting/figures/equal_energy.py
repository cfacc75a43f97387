"""Delay against energy, policy by policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jaxmec.evaluation.equal_energy import Curve
from jaxmec.evaluation.statistics import mean_and_interval
from jaxmec.reporting.style import colour, drawing


def delay_against_energy(path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Mean delay of every policy over its mean energy, with 95 % intervals over episodes; the budget is a line."""
    with drawing(path, figsize=(5.6, 4.2)) as (_, axis):
        for index, (name, curve) in enumerate(curves.items()):
            delay = [mean_and_interval(1e3 * values) for values in curve.delay_s]
            axis.errorbar(
                curve.energy.mean(axis=1),
                [mean for mean, _ in delay],
                [half for _, half in delay],
                fmt="osD^vP"[index % 6] + "-",
                color=colour(index),
                label=name,
                ms=4,
                lw=1.2,
                capsize=2,
            )
        axis.axvline(1.0, color="0.4", lw=0.8, ls=":")
        axis.annotate("budget", (1.0, 0.98), (4, 0), "axes fraction", "offset points", va="top", fontsize=8)
        axis.set(xlabel="energy over budget, weighted by multipliers", ylabel="mean delay [ms]", title=title)
        axis.legend(fontsize=8)
