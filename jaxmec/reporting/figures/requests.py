"""The figure of a study of requests: how long they take, and how many take longer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxmec.reporting.style import colour, drawing, plain_log
from jaxmec.requests import RequestReport


def delay_distributions(path: Path, reports: Mapping[str, RequestReport]) -> None:
    """The share of every policy's requests that take longer than a time, down to one in ten thousand."""
    with drawing(path, figsize=(6.4, 3.6)) as (figure, axis):
        shown = []
        for index, (policy, report) in enumerate(reports.items()):
            longer = 1.0 - np.cumsum(report.counts) / report.counts.sum()
            axis.plot(report.sketch.centres, longer, color=colour(index), label=policy, lw=1.2)
            shown.append(report.sketch.centres[(longer < 0.999) & (longer > 1e-4)])
        times = np.concatenate(shown)
        axis.set(yscale="log", ylim=(1e-4, 1.0), xlim=(times.min(), times.max()))
        axis.set(xlabel="end-to-end delay [s]", ylabel="share of requests that take longer")
        plain_log(axis.xaxis)
        figure.legend(loc="outside right center")
