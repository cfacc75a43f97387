"""Measured against predicted mean delay of networks that ran in two halves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmec.reporting.style import colour, drawing

MARKERS = "osD"
Row = Mapping[str, float | str]


def predicted_against_measured(path: Path, rows: Sequence[Row], predictions: Mapping[str, str]) -> None:
    """Draw a panel per prediction with 95 % intervals, by ever more of what the run itself was like.

    Predictions beyond the frame stand at its edge: in these runs stages were slower than requests came.

    Args:
      path: of the PNG.
      rows: network, load, measured_s, measured_ci95_s and the predictions.
      predictions: column -> title.
    """
    networks = list(dict.fromkeys(str(row["network"]) for row in rows))
    loads = sorted({float(row["load"]) for row in rows})
    measured_ms = np.array([1e3 * float(row["measured_s"]) for row in rows])
    frame = 0.6 * measured_ms.min(), 1.8 * measured_ms.max()
    with drawing(path, 1, len(predictions), figsize=(11.0, 4.0)) as (_, axes):
        for axis, (column, title) in zip(axes, predictions.items(), strict=True):
            for (i, network), (j, load) in itertools.product(enumerate(networks), enumerate(loads)):
                mine = [row for row in rows if (row["network"], row["load"]) == (network, load)]
                x, y, dy = (
                    1e3 * np.array([float(row[name]) for row in mine])
                    for name in (column, "measured_s", "measured_ci95_s")
                )
                x = np.clip(x, *frame)
                label = network if j == 0 else None
                style = {
                    "marker": MARKERS[i % 3],
                    "ms": 3 + 1.5 * j,
                    "color": colour(i),
                    "mfc": "none",
                    "clip_on": False,
                }
                axis.errorbar(x, y, dy, ls="none", lw=1, capsize=2, label=label, **style)
            axis.plot(frame, frame, color="0.4", lw=1, ls="--", zorder=0)
            error = np.median([abs(float(row[column]) / float(row["measured_s"]) - 1.0) for row in rows])
            axis.set(xscale="log", yscale="log", xlabel="predicted mean delay [ms]", xlim=frame, ylim=frame)
            axis.set_title(f"{title}\nmedian error {error:.0%}", fontsize=9)
        axes[0].set_ylabel("measured mean delay [ms]")
        axes[0].legend(title="larger marks: higher load", fontsize=8, title_fontsize=8)
