"""How many bytes each half of a network holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxmec.profiles._cost import is_elementwise, is_free
from jaxmec.profiles._cuts import Cut
from jaxmec.profiles._graph import Graph


class Memory(NamedTuple):
    """Bytes that the two halves of every cut hold; float64[K] each.

    Peaks are those of arrays that depend on the request, each until the last operation of its half that reads it;
    the result of an elementwise operation takes the place of an operand. Weights are what a half's operations read
    of the parameters and of what depends on these alone. Resident inputs and local outputs are not included.
    """

    device_peak_bytes: np.ndarray
    server_peak_bytes: np.ndarray
    device_weight_bytes: np.ndarray
    server_weight_bytes: np.ndarray


def memory(graph: Graph, rows: Sequence[Cut]) -> Memory:
    """Memory of both halves at every cut."""
    values, last_use = graph.values, graph.last_use()

    def size(which: Iterable[int]) -> int:
        return sum(values[i].moved for i in which)

    live = set(rows[0].crossing)
    held: list[tuple[int, int]] = []  # operation, bytes while it runs
    first_read: dict[int, int] = {}  # weight -> first and last operation that reads it
    last_read: dict[int, int] = {}
    for index in graph.request_operations():
        operation = graph.operations[index]
        before, during = size(live), size(live.union(operation.outputs))
        live.difference_update(i for i in operation.inputs if last_use[i] == index)
        live.update(i for i in operation.outputs if last_use.get(i, -1) > index)
        in_place = is_elementwise(operation.name) or is_free(operation.name)
        held.append((index, max(before, size(live)) if in_place else during))
        for weight in (i for i in operation.inputs if values[i].constant):
            first_read.setdefault(weight, index)
            last_read[weight] = index
    columns = [
        (
            max([size(cut.crossing), *(size_ for index, size_ in held if index < cut.position)]),
            max([size(cut.crossing), *(size_ for index, size_ in held if index >= cut.position)]),
            size(weight for weight, index in first_read.items() if index < cut.position),
            size(weight for weight, index in last_read.items() if index >= cut.position),
        )
        for cut in rows
    ]
    return Memory(*np.array(columns, float).T)
