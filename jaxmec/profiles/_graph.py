"""A JAX function as one flat list of operations: the list itself, see `jaxmec.profiles._trace` for its making.

The list remembers which stretches of it were a call or the turns of a scan: a half that holds such a stretch
entirely runs the call itself, so that it computes bit for bit what the function does, and compiles as fast.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxmec.profiles._cost import Cost


class Kind(enum.IntEnum):
    """What a value depends on; a result is of the highest kind among its operands."""

    CONSTANT = 0  # parameters and constants alone: known on both sides, computed once
    RESIDENT = 1  # also on resident inputs: known on its side, computed for every request
    REQUEST = 2  # also on what arrives with a request


@dataclasses.dataclass(frozen=True)
class Value:
    """An array that an operation reads or writes."""

    shape: tuple[int, ...]
    dtype: Any
    kind: Kind
    source_bytes: int | None = None  # of what it is a broadcast of

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return self.size * self.dtype.itemsize

    @property
    def moved(self) -> int:
        """Bytes that reading it moves: a broadcast is not written out."""
        return self.bytes if self.source_bytes is None else self.source_bytes

    @property
    def constant(self) -> bool:
        """Whether it depends on parameters and constants alone."""
        return self.kind is Kind.CONSTANT


@dataclasses.dataclass(frozen=True)
class Operation:
    """One step of the program; operands are indices of values."""

    name: str
    run: Callable[..., Sequence[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str  # place in the model, by the framework's name stack
    cost: Cost
    kind: Kind
    row: int | None = None  # which row of its operand a `row` takes


@dataclasses.dataclass(frozen=True)
class Call:
    """Operations start..stop-1 are one call."""

    start: int
    stop: int
    run: Callable[..., Sequence[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Loop:
    """An unrolled scan; lists over turns are in the order in which they run."""

    run: Callable[..., Sequence[Any]]  # run(number of turns, *consts, *carry, *stacked)
    consts: tuple[int, ...]
    stacked: tuple[int, ...]
    bounds: list[tuple[int, int]]  # operations of every turn
    rows: list[int]  # row of the stacked values that a turn reads and writes
    carries: list[tuple[int, ...]]  # before every turn, and after the last
    collected: list[tuple[int, ...]]  # values that a turn adds to the stacked results


@dataclasses.dataclass(frozen=True)
class Graph:
    """A program in execution order."""

    values: list[Value]
    operations: list[Operation]
    needed: list[int]  # operations that an output depends on
    stretches: dict[int, list[Call | tuple[Loop, int]]]  # what starts at an operation, outermost first
    constants: dict[int, Any]  # value -> array known at trace time
    param_leaves: list[int]  # values of the parameters' leaves, in tree order
    input_leaves: list[list[int]]  # values of every input's leaves, in tree order
    outputs: list[list[int]]  # values of the leaves of every output
    output_trees: list[Any]
    container: type | None  # tuple, list or dict if the function returns one, whose items then are the outputs
    output_keys: tuple[Hashable, ...]  # of a dict's items, otherwise their positions
    maker: dict[int, Operation]  # value -> operation that computes it
    param_tree: Any
    input_trees: list[Any]
    resident: tuple[int, ...]  # positions of inputs that stay on their side
    local_outputs: tuple[int, ...]  # outputs, counted from 0, that stay on the side that computes them

    def parts(self, value: int) -> tuple[int, ...]:
        """The rows of which an unrolled scan stacks a value, or the value itself."""
        maker = self.maker.get(value)
        return maker.inputs if maker is not None and maker.name == "stack" else (value,)

    def request_operations(self) -> list[int]:
        """Needed operations that are done for every request."""
        return [i for i in self.needed if self.operations[i].kind is Kind.REQUEST]

    def last_use(self) -> dict[int, int]:
        """Value to the last operation that reads it for a request; to the end for what is returned."""
        returned, _ = self.wanted()
        uses = {value: i for i in self.request_operations() for value in self.operations[i].inputs}
        return uses | dict.fromkeys(returned, len(self.operations))

    def wanted(self) -> tuple[list[int], list[int]]:
        """Values of the outputs that return, and the parts of those that stay."""
        returned, local = [], []
        for position, leaves in enumerate(self.outputs):
            if position in self.local_outputs:
                local += [part for leaf in leaves for part in self.parts(leaf)]
            else:
                returned += leaves
        return returned, local


def needed(operations: Sequence[Operation], among: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """Which of the operations `among` the wanted values depend on, in order."""
    values, kept = set(wanted), []
    for index in sorted(among, reverse=True):
        if not values.isdisjoint(operations[index].outputs):
            values.update(operations[index].inputs)
            kept.append(index)
    return kept[::-1]
