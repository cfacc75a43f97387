"""Arrival-rate processes: how many requests per second each user issues, slot by slot.

Within a slot arrivals are Poisson; a process moves their rate between slots. Each user has a range
`low_hz..high_hz`, and the processes read it as follows:

- `constant`: a rate drawn once per episode, uniform over the range;
- `uniform`: a fresh rate in every slot, uniform over the range;
- `markov`: two states, `low_hz` and `high_hz`, left with probability 1 - `stay_probability` per slot
  (a Markov-modulated Poisson process, Fischer and Meier-Hellstern, Performance Evaluation 18 (1993));
- `diurnal`: a sinusoid between the two with period `period_slots` and a random phase per user;
- `trace`: a recorded sequence, normalised to mean one, times a level drawn once per episode over the range;
  every user starts at its own random position and the sequence repeats.
"""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

PROCESSES = ("constant", "uniform", "markov", "diurnal", "trace")


class WorkloadParams(struct.PyTreeNode):
    """Constants of the arrival rates."""

    low_hz: Array  # [N]
    high_hz: Array  # [N]
    stay_probability: Array  # [] read by `markov`
    period_slots: Array  # [] read by `diurnal`
    trace: Array  # [T] mean one, read by `trace`


class WorkloadState(struct.PyTreeNode):
    """Where each user's process stands."""

    level: Array  # [N] in [0, 1]: position in the user's range; of `markov`, the state 0 or 1
    phase: Array  # [N] in [0, 1): where in the period or in the trace the episode starts


def reset(key: Array, process: str, params: WorkloadParams) -> WorkloadState:
    """Stationary start of the process."""
    level, phase = jax.random.uniform(key, (2, *params.low_hz.shape), params.low_hz.dtype)
    if process == "markov":
        level = jnp.round(level)
    return WorkloadState(level=level, phase=phase)


def step(key: Array, process: str, state: WorkloadState, params: WorkloadParams) -> WorkloadState:
    """One slot."""
    if process == "uniform":
        return state.replace(level=jax.random.uniform(key, state.level.shape, state.level.dtype))
    if process == "markov":
        leave = jax.random.uniform(key, state.level.shape) >= params.stay_probability
        return state.replace(level=jnp.where(leave, 1.0 - state.level, state.level))
    return state


def rate_hz(process: str, state: WorkloadState, slot: Array, params: WorkloadParams) -> Array:
    """Arrival rate of every user in slot number `slot` of the episode, requests per second: [N]."""
    span = params.high_hz - params.low_hz
    if process == "diurnal":
        turns = state.phase + slot / params.period_slots
        return params.low_hz + span * 0.5 * (1.0 - jnp.cos(2.0 * jnp.pi * turns))
    rate = params.low_hz + span * state.level
    if process == "trace":
        length = params.trace.shape[-1]
        start = jnp.floor(state.phase * length).astype(jnp.int32)
        return rate * params.trace[jnp.mod(start + slot, length)]
    return rate


def load_trace(path: str | Path, slot_s: float, column: str | int = 0) -> np.ndarray:
    """Turn a file of request times into relative rates per slot, mean one.

    Args:
      path: CSV file with one request per line and a header; times in seconds, or ISO dates with time.
      slot_s: length of a slot, s.
      column: the column that holds the times, by name or by position.

    Returns:
      float64[T]: requests in each slot over the mean number per slot.

    Raises:
      ValueError: if the column is missing, a time cannot be read, or there are fewer than two requests.
    """
    with open(path, newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader)]
        if isinstance(column, str) and column not in header:
            raise ValueError(f"{path}: no column {column!r}; columns are {', '.join(header)}")
        index = header.index(column) if isinstance(column, str) else column
        try:
            times = np.array([_seconds(row[index]) for row in reader if row])
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: column {column!r} must hold seconds or ISO times: {error}") from None
    if len(times) < 2:
        raise ValueError(f"{path}: {len(times)} requests; a trace needs at least two")
    times -= times.min()
    counts = np.bincount((times / slot_s).astype(int))
    return counts / counts.mean()


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        date, _, fraction = text.strip().partition(".")
        return datetime.fromisoformat(date).timestamp() + float("0." + (fraction or "0"))
