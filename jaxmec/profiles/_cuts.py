"""Where a program can be cut, what lies before each cut and what crosses it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from jaxmec.profiles._cost import Cost
from jaxmec.profiles._graph import Graph, Kind, Operation
from jaxmec.profiles._wire import Crossing

# A mask or token numbers beside an activation are no tensor of their own: what no convolution or matrix product
# has touched does not count up to this share of the bytes of the largest array that crosses.
SIDE_SHARE = 0.05
LOOK_AHEAD = 3  # limits of tensors beyond the given one, of which is told how many cuts they would open
_KINDS = {"conv_general_dilated": "conv", "dot_general": "matmul"}


@dataclasses.dataclass(frozen=True)
class Cut:
    """A place between two operations."""

    position: int  # operations before it
    label: str  # place in the model of the last convolution or matrix product before it
    before: Cost  # of all operations on the device
    crossing: tuple[int, ...]  # values that are sent
    arrays: tuple[Crossing, ...]  # these, as the table has them

    @functools.cached_property
    def sent_bits(self) -> int:
        """At 8 bits per float: by this one place is preferred to another."""
        return sum(array.bits(8) for array in self.arrays)


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Cuts of a program, in order, and why there are no more."""

    rows: list[Cut]
    reason: str  # empty if there are cuts inside
    more: tuple[tuple[int, int], ...]  # (max_tensors, further rows) of the next limits that open any


def find_cuts(graph: Graph, max_tensors: int) -> Cuts:
    """All cuts worth a row, in order: the inputs, one per distinct cumulative cost, everything.

    Among places with the same convolutions, matrix products and loops before them (other operations, where there
    are none of these), the one that sends least is kept.

    Args:
      graph: the traced program.
      max_tensors: at most so many arrays may cross, small side inputs apart.
    """
    first, places, final = _places(graph)
    side = _side_inputs(graph)
    tensors = [_tensors(graph, place, side) for place in places]

    def rows(limit: int) -> list[Cut]:
        allowed = [place for place, number in zip(places, tensors, strict=True) if number <= limit]
        return [first, *_best(allowed, first, final), final]

    chosen = rows(max_tensors)
    more: list[tuple[int, int]] = []
    for limit in range(max_tensors + 1, max_tensors + 1 + LOOK_AHEAD):
        further = len(rows(limit)) - len(chosen) if limit in tensors else 0
        if further > (more[-1][1] if more else 0):
            more.append((limit, further))
    reason = "" if len(chosen) > 2 else _reason(graph, places, tensors, max_tensors)
    return Cuts(chosen, reason, tuple(more))


def _places(graph: Graph) -> tuple[Cut, list[Cut], Cut]:
    """The inputs, every place between two operations where a cut may lie, and everything."""
    returned, _ = graph.wanted()
    last_use = graph.last_use()
    live = {
        leaf
        for one in graph.input_leaves
        for leaf in one
        if leaf in last_use and graph.values[leaf].kind is Kind.REQUEST
    }
    as_sent = [Crossing.of(value.shape, value.dtype) for value in graph.values]

    def cut(position: int, label: str, before: Cost, crossing: Iterable[int]) -> Cut:
        return Cut(position, label, before, tuple(crossing), tuple(as_sent[i] for i in crossing))

    first = cut(0, "input", Cost(), sorted(live))
    forbidden = _inside_updates(graph)
    total, label, number = Cost(), "input", 0
    places: list[Cut] = []
    for index in graph.needed:
        operation = graph.operations[index]
        if operation.kind is Kind.CONSTANT:
            continue
        total += operation.cost
        if operation.cost.heavy_ops:
            number += 1
            label = _label(operation, number)
        if operation.kind is Kind.REQUEST:
            live.difference_update(i for i in operation.inputs if last_use[i] == index)
            live.update(i for i in operation.outputs if last_use.get(i, -1) > index)
        if index != graph.needed[-1] and index + 1 not in forbidden:
            places.append(cut(index + 1, label, total, sorted(live)))
    crossing = dict.fromkeys(i for i in returned if graph.values[i].kind is Kind.REQUEST)
    return first, places, cut(len(graph.operations), "output", total, crossing)


def _side_inputs(graph: Graph) -> set[int]:
    """Inputs of a request and what is made of them before any convolution or matrix product."""
    light = {leaf for one in graph.input_leaves for leaf in one}
    for operation in (graph.operations[i] for i in graph.request_operations()):
        of_request = [i for i in operation.inputs if not graph.values[i].constant]
        if not operation.cost.heavy_ops and light.issuperset(of_request):
            light.update(operation.outputs)
    return light


def _tensors(graph: Graph, cut: Cut, side: set[int]) -> int:
    """Arrays that cross, without the small ones among the side inputs."""
    large = SIDE_SHARE * max((graph.values[i].bytes for i in cut.crossing), default=0)
    return sum(i not in side or graph.values[i].bytes > large for i in cut.crossing)


def _best(cuts: list[Cut], first: Cut, final: Cut) -> list[Cut]:
    """One cut per distinct cost; at no cost and at all of it only if it sends less than that row does."""

    def cost(cut: Cut) -> tuple[float, ...]:
        return (cut.before.macs, cut.before.heavy_ops) if final.before.heavy_ops else (cut.before.other_ops,)

    best = {cost(first): first}
    for cut in cuts:
        rival = best.get(cost(cut))
        if rival is None or (cut.sent_bits, rival is first) <= (rival.sent_bits, False):
            best[cost(cut)] = cut
    last = best.get(cost(final))
    if last is not None and last.sent_bits >= final.sent_bits:
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


def _reason(graph: Graph, places: list[Cut], tensors: list[int], max_tensors: int) -> str:
    operations = [graph.operations[i] for i in graph.needed if graph.operations[i].kind is not Kind.CONSTANT]
    macs = sum(operation.cost.macs for operation in operations)
    whole = max(operations, key=lambda operation: operation.cost.macs)
    if whole.cost.macs >= macs > 0:
        return (
            f"all multiply-accumulates lie in one {whole.name}"
            + (f" ({whole.label})" if whole.label else "")
            + "; write it as layers to cut between"
        )
    over = [
        (number, i)
        for i, number in enumerate(tensors)
        if number > max_tensors and (places[i].before.macs or not macs)
    ]
    if over:
        fewest, i = min(over)
        return (
            f"more than max_tensors={max_tensors} arrays cross at every place inside, the fewest, {fewest}, "
            f"after {places[i].label}; pass max_tensors={fewest}"
        )
    return "no operation inside costs anything"


def rows_read(graph: Graph, among: Iterable[int], leaf: int) -> tuple[int, ...] | None:
    """Rows of a stacked leaf that operations `among` read; None if any needed operation reads it otherwise."""
    consumers = [i for i in graph.needed if leaf in graph.operations[i].inputs]
    if not consumers or any(graph.operations[i].row is None for i in consumers):
        return None
    inside = set(among)
    return tuple(sorted({graph.operations[i].row or 0 for i in consumers if i in inside}))
