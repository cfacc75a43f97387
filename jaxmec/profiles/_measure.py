"""Measured profiles: how long the halves of a network take on the machine at hand."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmec.profiles._profile import profile, whole_number
from jaxmec.profiles._split import split
from jaxmec.profiles.table import PartitionProfile

_WARM_UPS = 3


class HalfTimes(NamedTuple):
    """Median seconds of one run."""

    head_s: float
    tail_s: float


def measure(
    head: Callable,
    tail: Callable,
    params: Any,
    *inputs: Any,
    resident: Sequence[int] = (),
    local_outputs: bool | Sequence[Hashable] = False,
    repeats: int = 20,
) -> HalfTimes:
    """Time the two halves of a `split` on this machine: jitted, warm, the median of the repeats.

    Args:
      head: the first half.
      tail: the second half.
      params: arrays.
      *inputs: arrays.
      resident: as given to `split`.
      local_outputs: as given to `split`.
      repeats: runs of each half whose median is taken.

    Raises:
      ValueError: for abstract arguments or no repeats.
    """
    count = whole_number(repeats)
    if count is None or count < 1:
        raise ValueError(f"repeats: got {repeats!r}; allowed is a whole number of at least 1")
    for name, tree in (("params", params), ("inputs", inputs)):
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)):
            raise ValueError(f"{name}: got shapes; measuring runs the network, so give it arrays")
    head, tail = jax.jit(head), jax.jit(tail)
    kept = [inputs[i] for i in sorted(set(resident))]
    sent = head(params, *inputs)
    crossing = sent[0] if local_outputs else sent
    return HalfTimes(_median_s(repeats, head, params, *inputs), _median_s(repeats, tail, params, crossing, *kept))


def measured_profile(
    fn: Callable,
    params: Any,
    *inputs: Any,
    rows: Sequence[int] | None = None,
    repeats: int = 20,
    resident: Sequence[int] = (),
    local_outputs: bool | Sequence[Hashable] = False,
    max_tensors: int = 1,
    **options: Any,
) -> PartitionProfile:
    """A profile with seconds measured on this machine instead of a latency model's.

    Its `device_s` are the times of the heads, its `server_s` those of the tails. Where device and server are two
    machines, measure on both and join: `dataclasses.replace(on_device, server_s=on_server.server_s)`.

    Args:
      fn: as for `profile`, likewise everything that is not named here.
      params: arrays.
      *inputs: arrays.
      rows: of the profile, those to measure and keep; all if absent. Each takes two compilations.
      repeats: as for `measure`.
      resident: as for `profile`.
      local_outputs: as for `profile`.
      max_tensors: as for `profile`.
      **options: `name`, `batch`, `input_bits`, `downlink_bits` and `source` of `profile`.
    """
    cutting: dict[str, Any] = {"resident": resident, "local_outputs": local_outputs, "max_tensors": max_tensors}
    table = profile(fn, params, *inputs, **cutting, **options)
    chosen = np.arange(len(table)) if rows is None else np.array(sorted({0, *rows, len(table) - 1}))
    device_s, server_s = np.zeros(len(chosen)), np.zeros(len(chosen))
    for i, cut in enumerate(chosen):
        head, tail = split(fn, params, *inputs, cut=int(cut), **cutting)[:2]
        times = measure(
            head, tail, params, *inputs, resident=resident, local_outputs=local_outputs, repeats=repeats
        )
        # Handing inputs or outputs through is no work.
        device_s[i] = times.head_s if cut > 0 else 0.0
        server_s[i] = times.tail_s if cut < len(table) - 1 else 0.0
    return dataclasses.replace(table.rows(chosen), device_s=device_s, server_s=server_s)


def _median_s(repeats: int, run: Callable, *arguments: Any) -> float:
    for _ in range(_WARM_UPS):
        jax.block_until_ready(run(*arguments))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
