"""The figure of a validation: what is said of delays, over what requests met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxmec.evaluation.queueing import Point
from jaxmec.reporting.style import colour, drawing

RULES = {  # field of a point -> label
    "formula_s": "serial queues (jaxmec.delay)",
    "scaled_s": "the same, waiting times squared variation",
    "slower_later_s": "a slower later stage adds its wait",
    "independent_s": "independent queues",
}
STUDIES = {  # label and scale of its axis
    "load": ("load of the slowest stage", "linear"),
    "order": ("services of the three stages [ms]", "linear"),
    "slot length": ("slot [s], rate drawn anew in each", "log"),
    "cut changes": ("probability that the cut changes in a slot", "linear"),
    "burstiness": ("squared variation of intervals", "symlog"),
}


def said_over_simulated(path: Path, points: Sequence[Point]) -> None:
    """One panel per study: what each rule says over the simulated mean delay, with its 95 % interval."""
    with drawing(path, 2, 3, figsize=(10.0, 5.8)) as (_, axes):
        panels = list(axes.flat)
        for panel, (study, (label, scale)) in zip(panels, STUDIES.items(), strict=False):
            mine = [point for point in points if point.study == study]
            x = [point.x for point in mine]
            lines = {"ls": "", "ms": 5} if study == "order" else {"ls": "-", "lw": 1.1, "ms": 3}
            for index, (field, rule) in enumerate(RULES.items()):
                if field == "scaled_s" and all(point.scaled_s == point.formula_s for point in mine):
                    continue
                ratio = [getattr(point, field) / point.simulated_s for point in mine]
                panel.plot(x, ratio, marker="osD^"[index], color=colour(index), label=rule, **lines)
            spread = [point.half_width_s / point.simulated_s for point in mine]
            panel.fill_between(
                x, [1.0 - s for s in spread], [1.0 + s for s in spread], color="0.6", alpha=0.5, lw=0
            )
            panel.axhline(1.0, color="0.4", lw=0.8)
            panel.set(xlabel=label, xscale=scale, title=study)
            if study == "order":
                panel.set_xticks(x, [point.case for point in mine], fontsize=6)
        for row in axes:
            row[0].set_ylabel("said over simulated mean delay")
        panels[-1].axis("off")
        handles, labels = panels[len(STUDIES) - 1].get_legend_handles_labels()
        panels[-1].legend(handles, labels, loc="center")
