"""The best cut against the uplink's rate, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmec.profiles import Choice
from jaxmec.reporting.style import colour, drawing

_LOSSES = (0, 10, 100, 1000)  # %, ticks of an axis that is linear up to the first; the last is its end


def best_cuts(path: Path, choices: Sequence[Choice], title: str) -> None:
    """A column per objective: the best cut above, the losses of the better end and of an erring model below.

    Rates at which a cut inside is better than both ends by more than the error may cost are shaded.
    """
    with drawing(path, 2, len(choices), figsize=(0.6 + 2.5 * len(choices), 4.4)) as (figure, axes):
        figure.suptitle(title, fontsize=10, parse_math=False)
        for choice, (above, below) in zip(choices, axes.T, strict=True):
            mbps = choice.rate_bps / 1e6
            above.plot(mbps, choice.best, color="black", lw=1.4, drawstyle="steps-mid")
            above.set_ylim(-0.04 * choice.last - 0.3, 1.04 * choice.last + 0.3)
            above.set_title(choice.objective if choice.is_worth_it.any() else f"{choice.objective}: not worth it")
            losses = {"of the better end": choice.end_loss, "of this cut if the model errs": choice.error_loss}
            for index, (name, loss) in enumerate(losses.items()):
                percent = np.minimum(100.0 * loss, _LOSSES[-1])  # against nothing at all it is infinite
                below.plot(mbps, percent, color=colour(index), ls=("-", "--")[index], label=name)
            below.set_yscale("symlog", linthresh=_LOSSES[1])
            below.set_yticks(_LOSSES, map(str, _LOSSES))
            below.set(xlabel="uplink [Mbit/s]", ylim=(-0.5, 1.1 * _LOSSES[-1]))
            for axis in (above, below):
                _shade(axis, mbps, choice.is_worth_it)
                axis.set_xscale("log")
                axis.set_xlim(mbps.min(), mbps.max())
        axes[0, 0].set_ylabel(f"best cut\n(0: server, {choices[0].last}: device)")
        axes[1, 0].set_ylabel("loss [%]")
        figure.legend(
            *axes[1, 0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=len(losses)
        )


def _shade(axis: Any, mbps: np.ndarray, where: np.ndarray) -> None:
    axis.fill_between(
        mbps, 0, 1, where=where, transform=axis.get_xaxis_transform(), color="#009E73", alpha=0.15, lw=0
    )
