"""Where a program can be cut, what lies before each cut and what crosses it."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxmec.profiles._cost import Cost, cost_of
from jaxmec.profiles._graph import Graph


@dataclasses.dataclass(frozen=True)
class Cut:
    """A place between two operations."""

    position: int  # operations before it
    label: str  # place in the model of the last convolution or matrix product before it
    before: Cost  # of all operations on the device
    crossing: tuple[int, ...]  # values that are sent

    def elements(self, graph: Graph) -> int:
        """Floating-point numbers that cross."""
        return sum(graph.values[i].size for i in self.crossing if _is_float(graph, i))

    def integer_bits(self, graph: Graph) -> int:
        """Bits of whatever else crosses, such as token numbers."""
        return sum(
            graph.values[i].size * (1 if graph.values[i].dtype == bool else 8 * graph.values[i].dtype.itemsize)
            for i in self.crossing
            if not _is_float(graph, i)
        )


def find_cuts(graph: Graph, max_tensors: int, local_outputs: bool | tuple[int, ...]) -> list[Cut]:
    """All cuts worth a row, in order: the inputs, one per distinct cumulative MAC count, everything.

    Among places with the same multiply-accumulates before them, the one that sends least is kept.

    Args:
      graph: the traced program.
      max_tensors: at most so many values may cross.
      local_outputs: outputs that need not return to the device's other side: all (True), none (False), or
        their positions. With all, the last row sends nothing.
    """
    outputs = list(graph.outputs)
    if local_outputs is True:
        outputs = []
    elif local_outputs:
        outputs = [value for i, value in enumerate(outputs) if i not in local_outputs]
    last_use: dict[int, int] = {}
    for position, operation in enumerate(graph.operations):
        last_use |= dict.fromkeys(operation.inputs, position)
    end = len(graph.operations)
    last_use |= dict.fromkeys(outputs, end)

    live = {i for i in graph.input_leaves if i in last_use and i not in graph.resident}
    cuts = [Cut(0, "input", Cost(), tuple(sorted(live)))]
    total, label = Cost(), "input"
    for position, operation in enumerate(graph.operations):
        if graph.resident.issuperset(operation.outputs):
            continue
        cost = cost_of(graph, operation)
        total += cost
        if cost.heavy_ops:
            label = operation.label or operation.name
        live |= {i for i in operation.outputs if last_use.get(i, -1) > position}
        live = {i for i in live if last_use[i] > position}
        if len(live) <= max_tensors and position + 1 < end:
            cuts.append(Cut(position + 1, label, total, tuple(sorted(live))))
    final = Cut(end, "output", total, tuple(dict.fromkeys(i for i in outputs if i not in graph.resident)))

    best: dict[float, Cut] = {}
    for cut in cuts[1:]:
        rival = best.get(cut.before.macs)
        if rival is None or _sent(graph, cut) <= _sent(graph, rival):
            best[cut.before.macs] = cut
    inside = [cut for macs, cut in best.items() if 0 < macs < total.macs or total.macs == 0]
    return [cuts[0], *inside, final]


def _sent(graph: Graph, cut: Cut) -> float:
    return 8.0 * cut.elements(graph) + cut.integer_bits(graph)


def _is_float(graph: Graph, value: int) -> bool:
    return bool(np.issubdtype(graph.values[value].dtype, np.floating)) or graph.values[value].dtype == jnp.bfloat16
