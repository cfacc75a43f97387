"""The two sides of a cut as functions of flat lists of arrays: made from a model, or read from files."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import jax
import numpy as np

from jaxmec.profiles import PartitionProfile, Split, profile, split

Arrays = Sequence[np.ndarray | None]
_WARM_UPS = 3


@dataclasses.dataclass(frozen=True)
class Half:
    """One side of a cut. None stands for an output of the network that the other side computes."""

    function: Callable  # function(weights, arrays) -> list of arrays and None
    weights: Sequence[Any]
    takes: tuple[jax.ShapeDtypeStruct, ...]
    gives: tuple[jax.ShapeDtypeStruct | None, ...]
    sends: int = 0  # of a head: the first so many of what it gives cross; the rest are outputs of the network

    def compiled(self) -> Callable[[Arrays], list[np.ndarray | None]]:
        """The half as one program; it raises ValueError where arrays differ from `takes`."""
        program = jax.jit(self.function).lower(list(self.weights), list(self.takes)).compile()
        weights = jax.device_put(list(self.weights))

        def run(arrays: Arrays) -> list[np.ndarray | None]:
            check(arrays, self.takes, "arrays")
            given = program(weights, list(arrays))
            return [None if one is None else np.asarray(one) for one in given]

        return run


class Source(Protocol):
    """Where halves come from."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def digest(self) -> str:
        """Equal where two sides can work together."""

    def head(self, cut: int) -> Half:
        """The device's half."""

    def tail(self, cut: int) -> Half:
        """The server's half."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A function whose halves run on two processes; both sides hold it.

    Args:
      fn: called as fn(params, *inputs), as `jaxmec.profiles.profile` takes it.
      params: arrays.
      inputs: arrays; what a request brings has their shapes.
      name: for people.
      wire_bits: as for `jaxmec.profiles.split`.
      max_tensors: likewise.

    Raises:
      ValueError: for shapes instead of arrays.
    """

    fn: Callable
    params: Any
    inputs: tuple
    name: str = "model"
    wire_bits: int | None = 8
    max_tensors: int = 1

    def __post_init__(self) -> None:
        for name, tree in (("params", self.params), ("inputs", self.inputs)):
            if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)):
                raise ValueError(f"{name}: got shapes; halves run on arrays")

    @cached_property
    def table(self) -> PartitionProfile:
        """Its cut table, in which outputs stay where they are computed; rows are cuts."""
        return profile(
            self.fn,
            self.params,
            *self.inputs,
            name=self.name,
            local_outputs=True,
            max_tensors=self.max_tensors,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of cut table, weights, input shapes and options: equal where two sides can work together."""
        table = self.table
        found = hashlib.sha256(repr((self.wire_bits, self.max_tensors, table.labels, table.crossing)).encode())
        found.update(table.macs.tobytes())
        for leaf in jax.tree.leaves(self.params):
            array = np.asarray(leaf)
            found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        found.update(repr(self._takes()).encode())
        return found.hexdigest()

    def arrays(self) -> list[np.ndarray]:
        """The example inputs as a request brings them."""
        return [
            np.asarray(leaf, spec.dtype)
            for leaf, spec in zip(jax.tree.leaves(self.inputs), self._takes(), strict=True)
        ]

    def head(self, cut: int) -> Half:
        """The device's half of a row of the table.

        Raises:
          ValueError: for a row that does not exist, or an output of which either side computes a part.
        """
        halves, gives, sends = self._cut(cut)
        inputs_tree = jax.tree.structure(self.inputs)
        weights, weights_tree = jax.tree.flatten(halves.head_params)

        def function(weights: list, arrays: list) -> list:
            params = jax.tree.unflatten(weights_tree, weights)
            crossing, local = halves.head(params, *jax.tree.unflatten(inputs_tree, arrays))
            return [*jax.tree.leaves(crossing), *_outputs(local)]

        return Half(function, weights, self._takes(), gives, sends)

    def tail(self, cut: int) -> Half:
        """The server's half; errors are those of `head`."""
        halves, gives, sends = self._cut(cut)
        crossing, _ = jax.eval_shape(halves.head, halves.head_params, *self.inputs)
        crossing_tree = jax.tree.structure(crossing)
        weights, weights_tree = jax.tree.flatten(halves.tail_params)

        def function(weights: list, arrays: list) -> list:
            params = jax.tree.unflatten(weights_tree, weights)
            return _outputs(halves.tail(params, jax.tree.unflatten(crossing_tree, arrays)))

        computed = tuple(jax.eval_shape(function, weights, jax.tree.leaves(crossing)))
        for index, (ours, theirs) in enumerate(zip(computed, gives[sends:], strict=True)):
            if ours is not None and theirs is not None:
                raise ValueError(f"cut: got {cut}; output {index} is computed on both sides there, choose another")
        return Half(function, weights, gives[:sends], computed)

    def _cut(self, cut: int) -> tuple[Split, tuple, int]:
        """The two halves, what the head gives, and how much of it crosses."""
        halves = split(
            self.fn,
            self.params,
            *self.inputs,
            cut=cut,
            local_outputs=True,
            max_tensors=self.max_tensors,
            wire_bits=self.wire_bits,
        )
        crossing, local = jax.eval_shape(halves.head, halves.head_params, *self.inputs)
        sent = jax.tree.leaves(crossing)
        return halves, (*sent, *_outputs(local)), len(sent)

    def _takes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.tree.leaves(jax.eval_shape(lambda x: x, self.inputs)))


def load_model(spec: str, wire_bits: int | None = 8, max_tensors: int = 1) -> Model:
    """The model that MODULE:FUNCTION returns as (fn, params, *inputs), called without arguments.

    Args:
      spec: importable from the current directory, too.
      wire_bits: of `Model`.
      max_tensors: of `Model`.

    Raises:
      ValueError: if there is none.
    """
    module, _, function = spec.partition(":")
    sys.path.insert(0, "")
    try:
        made = getattr(importlib.import_module(module), function)()
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ValueError(f"model: got {spec!r}: {error}; allowed is an importable MODULE:FUNCTION") from None
    except Exception as error:
        raise ValueError(f"model: {spec} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove("")
    if not isinstance(made, tuple) or len(made) < 3 or not callable(made[0]):
        raise ValueError(f"model: {spec} returned {type(made).__name__}; allowed is (fn, params, *inputs)")
    fn, params, *inputs = made
    return Model(fn, params, tuple(inputs), spec, wire_bits, max_tensors)


def check(arrays: Arrays, takes: Sequence[jax.ShapeDtypeStruct], name: str) -> None:
    """Raise ValueError unless arrays have the given shapes and dtypes."""
    got, allowed = _described(arrays), _described(takes)
    if got != allowed:
        raise ValueError(f"{name}: got {', '.join(got) or 'none'}; allowed are {', '.join(allowed)}")


def median_s(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of a call, warm: the median of the repeats."""
    for _ in range(_WARM_UPS):
        run()
    seconds = []
    for _ in range(repeats):
        start_s = time.monotonic()
        run()
        seconds.append(time.monotonic() - start_s)
    return statistics.median(seconds)


def _described(arrays: Sequence[Any]) -> list[str]:
    return ["none" if one is None else f"{np.dtype(one.dtype).name}{list(one.shape)}" for one in arrays]


def _outputs(tree: Any) -> list:
    """Leaves with None for what is not there."""
    return jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)
