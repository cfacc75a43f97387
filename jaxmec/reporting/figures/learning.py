"""Learning curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jaxmec.reporting.files import read_csv
from jaxmec.reporting.style import colour, drawing, plain_log

PANELS = {  # metric -> title and scale; those that the run has measured are drawn
    "objective": ("slot objective", "log"),
    "delay_s": ("end-to-end delay [s]", "log"),
    "device_energy": ("device energy / budget", "log"),
    "reward": ("reward", "linear"),
    "entropy": ("entropy of a choice [nats]", "linear"),
}


def learning_curve(metrics: Path, path: Path, levels: Mapping[str, Mapping[str, float]] | None = None) -> None:
    """Draw the metrics of a run's CSV file against its steps.

    Args:
      metrics: the CSV file.
      path: of the PNG.
      levels: policy -> metric -> mean, drawn as lines across.
    """
    levels = levels or {}
    rows = read_csv(metrics)
    panels = [name for name in PANELS if name in rows[0]]
    steps = [float(row["steps"]) for row in rows]
    with drawing(path, 1, len(panels), figsize=(3.0 * len(panels), 2.6)) as (figure, axes):
        for axis, name in zip(axes, panels, strict=True):
            title, scale = PANELS[name]
            values = [float(row[name]) for row in rows]
            axis.plot(steps, values, lw=1.2, color=colour(0), label="training")
            for index, (policy, level) in enumerate(levels.items(), start=1):
                if name in level:
                    axis.axhline(level[name], lw=1, ls="--", color=colour(index), label=policy)
            axis.set(xlabel="steps", title=title, xscale="log")
            if scale == "log" and min(values) > 0:
                plain_log(axis.yaxis)
        if levels:
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
