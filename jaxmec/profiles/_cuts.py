"""Where a program can be cut, what lies before each cut and what crosses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import jax.numpy as jnp

from jaxmec.profiles._cost import Cost
from jaxmec.profiles._graph import Graph, Kind, Operation

_KINDS = {"conv_general_dilated": "conv", "dot_general": "matmul"}


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
        others = [graph.values[i] for i in self.crossing if not _is_float(graph, i)]
        return sum(value.size if value.dtype == bool else 8 * value.bytes for value in others)


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Cuts of a program, in order, and why there are no more."""

    rows: list[Cut]
    reason: str  # empty if there are cuts inside


def find_cuts(graph: Graph, max_tensors: int) -> Cuts:
    """All cuts worth a row, in order: the inputs, one per distinct cumulative cost, everything.

    Among places with the same convolutions, matrix products and loops before them (other operations, where there
    are none of these), the one that sends least is kept.

    Args:
      graph: the traced program.
      max_tensors: at most so many values may cross.
    """
    returned, _ = graph.wanted()
    request = [i for i in graph.needed if graph.operations[i].kind is Kind.REQUEST]
    end = len(graph.operations)
    last_use: dict[int, int] = {}
    for index in request:
        last_use |= dict.fromkeys(graph.operations[index].inputs, index)
    last_use |= dict.fromkeys(returned, end)

    inputs = [leaf for one in graph.input_leaves for leaf in one]
    live = {i for i in inputs if i in last_use and graph.values[i].kind is Kind.REQUEST}
    first = Cut(0, "input", Cost(), tuple(sorted(live)))
    forbidden = _inside_updates(graph)
    total, label, number = Cost(), "input", 0
    cuts: list[Cut] = []
    fewest: tuple[int, str] | None = None
    whole: Operation | None = None
    for index in graph.needed:
        operation = graph.operations[index]
        if operation.kind is Kind.CONSTANT:
            continue
        total += operation.cost
        if operation.cost.heavy_ops:
            number += 1
            label = _label(operation, number)
            if whole is None or operation.cost.macs > whole.cost.macs:
                whole = operation
        if operation.kind is Kind.REQUEST:
            live.difference_update(i for i in operation.inputs if last_use[i] == index)
            live.update(i for i in operation.outputs if last_use.get(i, -1) > index)
        if index == graph.needed[-1] or index + 1 in forbidden:
            continue
        if len(live) <= max_tensors:
            cuts.append(Cut(index + 1, label, total, tuple(sorted(live))))
        elif total.macs and (fewest is None or len(live) < fewest[0]):
            fewest = len(live), label
    crossing = dict.fromkeys(i for i in returned if graph.values[i].kind is Kind.REQUEST)
    final = Cut(end, "output", total, tuple(crossing))
    rows = [first, *_best(graph, cuts, first, final), final]
    return Cuts(rows, "" if len(rows) > 2 else _reason(fewest, whole, total, max_tensors))


def _best(graph: Graph, cuts: list[Cut], first: Cut, final: Cut) -> list[Cut]:
    """One cut per distinct cost; at no cost and at all of it only if it sends less than that row does."""

    def cost(cut: Cut) -> tuple[float, ...]:
        return (cut.before.macs, cut.before.heavy_ops) if final.before.heavy_ops else (cut.before.other_ops,)

    best = {cost(first): first}
    for cut in cuts:
        rival = best.get(cost(cut))
        sent = _sent(graph, cut)
        if rival is None or sent < _sent(graph, rival) or (rival is not first and sent == _sent(graph, rival)):
            best[cost(cut)] = cut
    last = best.get(cost(final))
    if last is not None and _sent(graph, last) >= _sent(graph, final):
        del best[cost(final)]
    return [cut for cut in best.values() if cut is not first]


def _inside_updates(graph: Graph) -> set[int]:
    """Positions at which a resident value would be read on one side and its new value made on the other.

    A resident input whose shapes are those of a local output is the state that this output updates. Every part of
    it, such as a layer's row of a cache, must be read and updated on one side.
    """
    part_of: dict[int, tuple[int, int]] = {}  # resident value -> (leaf, row)
    updates: dict[tuple[int, int], list[int]] = {}  # (leaf, row) -> values that replace it
    for leaf, output in state_leaves(graph):
        parts = graph.parts(output)
        if all(graph.values[part].kind is not Kind.REQUEST for part in parts):
            continue  # both sides make the new value
        if rows_read(graph, graph.needed, leaf) is not None and graph.values[leaf].shape[0] == len(parts):
            for row in (graph.operations[i] for i in graph.needed if leaf in graph.operations[i].inputs):
                part_of[row.outputs[0]] = (leaf, row.row or 0)
            updates |= {(leaf, row): [part] for row, part in enumerate(parts)}
        else:
            part_of[leaf] = (leaf, 0)
            updates[leaf, 0] = list(parts)

    sources: dict[int, set[tuple[int, int]]] = {value: {part} for value, part in part_of.items()}
    spans: dict[tuple[int, int], list[int]] = {}
    replaced_by = {value: part for part, values in updates.items() for value in values}
    for index in graph.needed:
        operation = graph.operations[index]
        read = set().union(*(sources.get(i, set()) for i in operation.inputs))
        if operation.kind is Kind.REQUEST:
            for part in read:
                spans.setdefault(part, []).append(index)
            for value in operation.outputs:
                if value in replaced_by:
                    spans.setdefault(replaced_by[value], []).append(index)
        elif read:
            for value in operation.outputs:
                sources[value] = sources.get(value, set()) | read
    return {i for used in spans.values() for i in range(min(used) + 1, max(used) + 1)}


def state_leaves(graph: Graph) -> list[tuple[int, int]]:
    """Leaves of resident inputs, each with the leaf of the local output that has its shape and replaces it."""
    free = list(graph.local_outputs)
    pairs: list[tuple[int, int]] = []
    for position in graph.resident:
        leaves = graph.input_leaves[position]
        for output in free:
            candidates = graph.outputs[output]
            if graph.input_trees[position] == graph.output_trees[output] and all(
                (graph.values[a].shape, graph.values[a].dtype) == (graph.values[b].shape, graph.values[b].dtype)
                for a, b in zip(leaves, candidates, strict=True)
            ):
                pairs += zip(leaves, candidates, strict=True)
                free.remove(output)
                break
    return pairs


def _label(operation: Operation, number: int) -> str:
    """The framework's name for the place, or a synthesised one."""
    parts = operation.label.split("/")
    if any(part.strip("[]0123456789") for part in parts):
        return operation.label
    return f"{operation.label} stage{number} {_KINDS.get(operation.name, operation.name)}".strip()


def _reason(fewest: tuple[int, str] | None, whole: Operation | None, total: Cost, max_tensors: int) -> str:
    if whole is not None and whole.cost.macs >= total.macs > 0:
        return (
            f"all multiply-accumulates lie in one {whole.name}"
            + (f" ({whole.label})" if whole.label else "")
            + "; write it as layers to cut between"
        )
    if fewest is not None:
        return (
            f"more than max_tensors={max_tensors} arrays cross at every place inside, the fewest, {fewest[0]}, "
            f"after {fewest[1]}; pass max_tensors={fewest[0]}"
        )
    return "no operation inside costs anything"


def _sent(graph: Graph, cut: Cut) -> float:
    return 8.0 * cut.elements(graph) + cut.integer_bits(graph)


def _is_float(graph: Graph, value: int) -> bool:
    return bool(jnp.issubdtype(graph.values[value].dtype, jnp.floating))


def rows_read(graph: Graph, among: Iterable[int], leaf: int) -> tuple[int, ...] | None:
    """Rows of a stacked leaf that operations `among` read; None if any needed operation reads it otherwise."""
    consumers = [i for i in graph.needed if leaf in graph.operations[i].inputs]
    if not consumers or any(graph.operations[i].row is None for i in consumers):
        return None
    inside = set(among)
    return tuple(sorted({graph.operations[i].row or 0 for i in consumers if i in inside}))
