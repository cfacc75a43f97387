"""A system in one slot: users, cuts, shares and queues, as an image or as a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.reporting import style
from jaxmec.reporting.tables import table

STAGES = ("device", "band", "server")
_INCHES_PER_USER, _DPI = 0.34, 100
_BAR = 10  # characters of a share of one
_WIDTH = 120  # of the text: a terminal that watches systems is a wide one


class Snapshot(NamedTuple):
    """What is shown, as NumPy arrays; before a slot was played, cuts and shares are zero."""

    networks: list[str]  # N
    devices: list[str]  # N
    cut: np.ndarray  # int[N]
    last_cut: np.ndarray  # int[N] at which everything runs on the device
    shares: np.ndarray  # [N, 3] of the stages
    delay_s: np.ndarray  # [N]
    device_queue: np.ndarray  # [N]
    server_queue: float
    slot: int


def snapshot(env: EdgeInferenceEnv, state: EnvState, info: dict[str, jax.Array], params: EnvParams) -> Snapshot:
    """A slot in numbers.

    Args:
      env: whose names it has.
      state: at the slot's start.
      info: of the step, or of a reset.
      params: of the system.
    """
    network, device = np.asarray(state.network), np.asarray(state.device)
    shares = [np.asarray(info[f"{name}_share"]) for name in ("device", "bandwidth", "server")]
    return Snapshot(
        networks=[_name(env.network_names, number, "network") for number in network],
        devices=[_name(env.device_names, number, "device") for number in device],
        cut=np.asarray(info["cut"]),
        last_cut=np.asarray(env.action_mask(state, params)).sum(axis=-1) - 1,
        shares=np.stack(shares, axis=-1),
        delay_s=np.asarray(info["delay_s"]),
        device_queue=np.asarray(state.device_queue),
        server_queue=float(state.server_queue),
        slot=int(state.slot),
    )


def image(shown: Snapshot) -> np.ndarray:
    """An RGB image, uint8[height, width, 3]."""
    num_users = len(shown.networks)
    figure = Figure(figsize=(9.0, 1.1 + _INCHES_PER_USER * num_users), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = np.arange(num_users)
    cuts, shares, delays, queues = figure.subplots(1, 4, sharey=True, width_ratios=[3, 3, 2, 2])

    part = shown.cut / np.maximum(shown.last_cut, 1)
    cuts.barh(rows, part, color=style.colour(0))
    cuts.barh(rows, 1.0 - part, left=part, color=style.colour(1))
    for row, (cut, last) in enumerate(zip(shown.cut, shown.last_cut, strict=True)):
        cuts.text(0.5, row, f"{cut} of {last}", ha="center", va="center", color="white", fontsize=8)
    names = zip(shown.networks, shown.devices, strict=True)
    cuts.set_yticks(rows, [f"{network} on {device}" for network, device in names], fontsize=8)
    cuts.set(title="cut: device | server", xticks=[], xlim=(0, 1))
    for number, stage in enumerate(STAGES):
        shares.barh(
            rows + 0.26 * (number - 1), shown.shares[:, number], 0.24, color=style.colour(number), label=stage
        )
    shares.set(title="shares", xlim=(0, 1))
    shares.legend(fontsize=7, frameon=False, loc="upper right")
    delays.barh(rows, shown.delay_s, color=style.colour(7))
    delays.set(title="mean delay, s")
    queues.barh(rows, shown.device_queue, color=style.colour(4))
    queues.set(title="energy queue")
    for axes in (cuts, shares, delays, queues):
        axes.title.set_fontsize(9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    cuts.invert_yaxis()  # the axes share it; the first user is on top
    figure.suptitle(f"slot {shown.slot}, server's energy queue {shown.server_queue:.2f}", fontsize=9)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def rich_table(shown: Snapshot) -> Table:
    """The same for a terminal."""
    headers = ("user", "network on device", "cut", *(f"{stage} share" for stage in STAGES), "delay, s", "queue")
    rows = [
        (
            number,
            f"{shown.networks[number]} on {shown.devices[number]}",
            f"{shown.cut[number]} of {shown.last_cut[number]}",
            *(_bar(share) for share in shown.shares[number]),
            f"{shown.delay_s[number]:.3f}",
            f"{shown.device_queue[number]:.2f}",
        )
        for number in range(len(shown.networks))
    ]
    title = f"slot {shown.slot}, server's energy queue {shown.server_queue:.2f}"
    return table(title, headers, rows, left=2, width=_WIDTH)


def text(shown: Snapshot) -> str:
    """The table as plain text."""
    console = Console(width=_WIDTH, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(rich_table(shown))
    return captured.get()


def _bar(share: Any) -> str:
    filled = round(float(share) * _BAR)
    return "█" * filled + "·" * (_BAR - filled) + f" {float(share):4.2f}"


def _name(names: tuple[str, ...], number: int, kind: str) -> str:
    return names[number] if names else f"{kind} {number}"
