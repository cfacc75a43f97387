"""Which cut, by network and device, and by what changes from slot to slot: channel, energy queue, arrivals."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxmec.evaluation import long_runs, mean_and_interval
from jaxmec.evaluation.tables import Row
from studies.study import SETTLED, Found, Size, Study

PARTS = 4  # of a state's distribution, a quarter of all users and slots in each
STATES = ("channel", "queue", "arrivals")


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is simulated."""

    size: Size


def run(study: Study, config: Config) -> Found:
    """One row per policy, network, device, state and quarter of it."""
    names = [name for name in study.policies if name in (study.reference, study.learned, *study.own)]

    def compute() -> list:
        start, _ = study.started(config.size)
        chosen = {name: study.policies[name] for name in names}
        size = config.size
        runs = long_runs(
            study.env,
            chosen,
            study.key_episodes,
            study.params,
            size.episodes,
            size.slots,
            start,
            study.tell,
            study.slots,
        )
        return [row for name, one in runs.items() for row in _rows(study, name, one.states, one.actions)]

    rows = study.remembered("cuts", dataclasses.asdict(config), names, compute)
    return Found(rows, {**dataclasses.asdict(config.size), "warm_up": SETTLED})


def _rows(study: Study, policy: str, states: Any, cuts: np.ndarray) -> list[Row]:
    """Of one policy's states [E, T, ...] and cuts [E, T, N]."""
    seen = jax.jit(jax.vmap(jax.vmap(study.env.cut_problems, (0, None)), (0, None)))(states, study.params)
    snr = np.asarray(seen.snr)
    channel = 10.0 * np.log10(np.maximum(snr, np.finfo(np.float32).tiny))
    values = dict(
        zip(STATES, (channel, np.asarray(states.device_queue), np.asarray(seen.arrival_rate_hz)), strict=True)
    )
    work = np.asarray(study.params.device_work_s)
    network, device = np.asarray(states.network), np.asarray(states.device)
    share = (
        np.take_along_axis(work[network, device], cuts[..., None], axis=-1)[..., 0] / work.max(-1)[network, device]
    )
    found = cell_rows(network, device, cuts, share, values)
    for row in found:
        row["policy"] = policy
        row["network"] = study.env.network_names[int(row["network"])]
        row["device"] = study.env.device_names[int(row["device"])]
    return found


def cell_rows(
    network: np.ndarray, device: np.ndarray, cuts: np.ndarray, share: np.ndarray, values: dict[str, np.ndarray]
) -> list[Row]:
    """Rows of every network, device, state and quarter that occurs; all arrays are [E, T, N].

    `on_device` is the mean share of a network's work that its device runs, with an interval over episodes; `cut` the
    most frequent one, in `cut_share` of the slots; `low` and `high` are the quarter's least and greatest value.
    """
    rows: list[Row] = []
    for state, value in values.items():
        part = quarters(value)
        for m, d in sorted(set(zip(network.ravel().tolist(), device.ravel().tolist(), strict=True))):
            for quarter in range(PARTS):
                here = (network == m) & (device == d) & (part == quarter)
                if not here.any():
                    continue
                episodes = here.any(axis=(1, 2))
                means = np.array([share[e][here[e]].mean() for e in np.flatnonzero(episodes)])
                counts = np.bincount(cuts[here])
                mean, half = mean_and_interval(means)
                rows.append(
                    {
                        "network": m,
                        "device": d,
                        "state": state,
                        "quarter": quarter + 1,
                        "low": float(value[part == quarter].min()),
                        "high": float(value[part == quarter].max()),
                        "on_device": mean,
                        "on_device_ci95": half,
                        "cut": int(counts.argmax()),
                        "cut_share": float(counts.max() / counts.sum()),
                        "count": int(here.sum()),
                        "episodes": int(episodes.sum()),
                    }
                )
    return rows


def quarters(value: np.ndarray) -> np.ndarray:
    """The quarter, 0 to 3, of every value; of up to four different ones the least is in 0, the greatest in 3."""
    distinct, index = np.unique(value, return_inverse=True)
    if distinct.size <= PARTS:
        place = np.linspace(0, PARTS - 1, distinct.size).round().astype(int)
        return place[index].reshape(value.shape)
    edges = np.quantile(value, np.linspace(0.0, 1.0, PARTS + 1))
    return np.clip(np.searchsorted(edges, value, side="right") - 1, 0, PARTS - 1)
