"""Figures of a comparison of policies: over time, delay against energy, quality against time, and cuts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxmec.evaluation import Comparison, LongRun, mean_and_interval
from jaxmec.evaluation.tables import same_state_rows
from jaxmec.reporting.style import colour, drawing, plain_log

CURVES = {  # metric -> label and scale; those that were measured are drawn
    "delay_s": ("delay [s]", "log"),
    "device_queue": ("device energy queue Z", "symlog"),
    "server_queue": ("server energy queue Y", "linear"),
    "objective": ("slot objective", "log"),
}
MARKERS = "osD^vP*Xh<>"


def save_all(
    folder: Path, comparison: Comparison, networks: Sequence[str], devices: Sequence[str], highlight: str
) -> list[Path]:
    """Draw every figure that the comparison has numbers for into a folder.

    Args:
      folder: where the PNGs go.
      comparison: what an evaluation found.
      networks: names of the M networks, none for an environment without.
      devices: names of the D device classes.
      highlight: the policy whose cuts are shown.

    Returns:
      The files written.
    """
    files = [folder / "over_time.png"]
    over_time(files[0], comparison)
    if "device_energy" in comparison.long_run[highlight].metrics:
        files.append(folder / "delay_against_energy.png")
        delay_against_energy(files[-1], comparison)
    if comparison.decision_s:
        files.append(folder / "quality_against_time.png")
        quality_against_time(files[-1], comparison)
    if networks:
        files.append(folder / "cuts.png")
        cuts(files[-1], comparison.long_run[highlight], networks, devices, highlight)
    return files


def over_time(path: Path, comparison: Comparison) -> None:
    """Means over episodes of delay and virtual queues, slot by slot."""
    results = comparison.long_run
    panels = [name for name in CURVES if all(name in result.curves for result in results.values())][:3]
    with drawing(path, 1, len(panels), figsize=(3.4 * len(panels), 3.0)) as (figure, axes):
        for axis, name in zip(axes, panels, strict=True):
            label, scale = CURVES[name]
            for index, (policy, result) in enumerate(results.items()):
                axis.plot(result.curves[name], color=colour(index), label=policy, lw=1.2)
            axis.set(xlabel="slot", ylabel=label)
            if scale == "log":
                plain_log(axis.yaxis)
            else:
                axis.set_yscale(scale)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)


def delay_against_energy(path: Path, comparison: Comparison) -> None:
    """Each policy's mean delay and energy over budget, with 95 % intervals."""
    with drawing(path, 1, 2, figsize=(8, 3.6)) as (figure, axes):
        for axis, name in zip(axes, ("device_energy", "server_energy"), strict=True):
            axis.axvline(1.0, color="0.4", lw=1, ls="--")
            for index, (policy, result) in enumerate(comparison.long_run.items()):
                x, dx = mean_and_interval(result.metrics[name])
                y, dy = mean_and_interval(result.metrics["delay_s"])
                mark = MARKERS[index % len(MARKERS)]
                axis.errorbar(x, y, xerr=dx, yerr=dy, fmt=mark, ms=5, color=colour(index), label=policy, capsize=2)
            axis.set(xlabel=f"{name.replace('_', ' ')} / budget")
            plain_log(axis.yaxis)
        axes[0].set_ylabel("mean end-to-end delay [s]")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def quality_against_time(path: Path, comparison: Comparison) -> None:
    """Certified gap of every policy's cuts against the time of a decision; the best lie at the lower left."""
    with drawing(path, figsize=(6.4, 3.4)) as (figure, axis):
        for index, row in enumerate(same_state_rows(comparison)):
            if row["policy"] not in comparison.objectives or not np.isfinite(float(row["decision_us"])):
                continue
            axis.plot(
                float(row["decision_us"]),
                100 * float(row["certified_gap_mean"]),
                MARKERS[index % len(MARKERS)],
                ms=6,
                color=colour(index),
                label=str(row["policy"]),
            )
        axis.set(xscale="log", yscale="log", xlabel="time per slot [µs]", ylabel="mean certified gap [%]")
        for each in (axis.xaxis, axis.yaxis):
            plain_log(each)
        figure.legend(loc="outside right center")


def cuts(path: Path, result: LongRun, networks: Sequence[str], devices: Sequence[str], policy: str) -> None:
    """How often each network is cut where, per device class."""
    counts = cut_counts(result, len(networks), len(devices))
    width = 0.8 / len(devices)
    with drawing(path, 1, len(networks), figsize=(2.3 * len(networks), 2.6)) as (figure, axes):
        for m, (axis, network) in enumerate(zip(axes, networks, strict=True)):
            used = int(np.flatnonzero(counts[m].sum(axis=0)).max(initial=0)) + 1
            for d, device in enumerate(devices):
                share = counts[m, d] / max(counts[m, d].sum(), 1)
                position = np.arange(used) + (d - (len(devices) - 1) / 2) * width
                axis.bar(position, share[:used], width, color=colour(d), label=device)
            axis.set(title=network, xlabel="cut (0: all on server)", ylim=(0, 1))
            axis.xaxis.get_major_locator().set_params(integer=True)
            if m:
                axis.set_yticklabels([])
        axes[0].set_ylabel(f"share of slots, {policy}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(devices))


def cut_counts(result: LongRun, num_networks: int, num_devices: int) -> np.ndarray:
    """How often every cut ran: int[M, D, K] with K one more than the largest."""
    network, device = (np.asarray(leaf) for leaf in (result.states.network, result.states.device))
    counts = np.zeros((num_networks, num_devices, int(result.actions.max()) + 1), int)
    np.add.at(counts, (network, device, result.actions), 1)
    return counts
