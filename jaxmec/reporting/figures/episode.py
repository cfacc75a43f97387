"""A policy at work: an animated picture of an episode, a frame per slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import PillowWriter

from jaxmec.reporting.style import STYLE, colour


@dataclasses.dataclass(frozen=True)
class Episode:
    """What is shown of T slots of N users."""

    users: Sequence[str]  # N names
    on_device: np.ndarray  # [T, N] share of a network's work that runs before the cut
    rate_hz: np.ndarray  # [T, N] requests per second
    bandwidth_share: np.ndarray  # [T, N]
    server_share: np.ndarray  # [T, N]
    queue: np.ndarray  # [T, N] virtual energy queues
    delay_s: np.ndarray  # [T, N]


def animate(path: Path, episode: Episode, title: str, slots_per_s: int = 4, dpi: int = 100) -> None:
    """Draw an episode as a GIF: cuts and load, shares of band and server, and queues of every user.

    Args:
      path: of the GIF.
      episode: what happened.
      title: above the picture; slot and mean delay are written behind it.
      slots_per_s: speed.
      dpi: pixels per inch of 8 by 3.8 inches.
    """
    with plt.rc_context({**STYLE, "savefig.bbox": None}):
        figure, axes = plt.subplots(
            1, 3, figsize=(8.0, 3.8), sharey=True, layout="constrained", width_ratios=[3, 2, 2]
        )
        try:
            show = _scene(figure, axes, episode, title)
            writer = PillowWriter(fps=slots_per_s)
            with writer.saving(figure, path, dpi):
                for slot in range(len(episode.delay_s)):
                    show(slot)
                    writer.grab_frame()
        finally:
            plt.close(figure)


def _scene(figure: plt.Figure, axes: Sequence[Any], episode: Episode, title: str) -> Any:
    """The empty picture, and the function that shows a slot in it."""
    places = np.arange(len(episode.users))
    nothing = np.zeros(len(places))
    cuts, shares, queues = axes
    cuts.barh(places, np.ones(len(places)), 0.6, color="0.88", label="on the server")
    device = cuts.barh(places, nothing, 0.6, color=colour(0), label="on the device")
    load = cuts.scatter(np.full(len(places), 1.09), places, s=0, color=colour(3), label="requests per second")
    band = shares.barh(places - 0.19, nothing, 0.34, color=colour(4), label="of the band")
    server = shares.barh(places + 0.19, nothing, 0.34, color=colour(2), label="of the server")
    queue = queues.barh(places, nothing, 0.6, color=colour(1))
    cuts.set(
        xlim=(0, 1.17), xticks=[0, 0.5, 1], xlabel="work before the cut", yticks=places, yticklabels=episode.users
    )
    shares.set(xlim=(0, 1.05 * max(episode.bandwidth_share.max(), episode.server_share.max())), xlabel="share")
    queues.set(xlim=(0, 1.05 * max(episode.queue.max(), 1e-6)), xlabel="energy queue")
    cuts.invert_yaxis()
    for axis in axes:
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
    handles = [device, load, band, server]
    legend = figure.legend(handles, [one.get_label() for one in handles], loc="outside lower center", ncols=4)
    for handle in legend.legend_handles:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([40])
    heading = figure.suptitle(title, fontsize=10)
    largest = episode.rate_hz.max()

    def show(slot: int) -> None:
        bars = (device, episode.on_device), (band, episode.bandwidth_share), (server, episode.server_share)
        for drawn, widths in (*bars, (queue, episode.queue)):
            for bar, width in zip(drawn, widths[slot], strict=True):
                bar.set_width(width)
        load.set_sizes(90 * episode.rate_hz[slot] / largest)
        delay_ms = 1e3 * episode.delay_s[slot].mean()
        heading.set_text(f"{title}    slot {slot + 1:3d}    mean delay {delay_ms:4.0f} ms")

    return show
