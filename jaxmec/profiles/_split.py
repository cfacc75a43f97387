"""`split`: the two halves of a JAX function, which really run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmec.profiles._cuts import Cut, rows_read
from jaxmec.profiles._evaluate import evaluate
from jaxmec.profiles._graph import Graph, Kind, needed
from jaxmec.profiles._profile import analyse, whole_number
from jaxmec.profiles._wire import check_wire_bits, from_wire, relative_error, to_wire


class Split(NamedTuple):
    """A function cut in two; see `split`."""

    head: Callable  # head(params, *inputs) -> crossing, or (crossing, local outputs)
    tail: Callable  # tail(params, crossing, *resident inputs) -> what the function returns
    head_params: Any  # the parameters with None for what the head does not need
    tail_params: Any
    head_bytes: int  # of these parameters
    tail_bytes: int
    head_resident: tuple  # the resident inputs, likewise
    tail_resident: tuple
    crossing: tuple[jax.ShapeDtypeStruct, ...]  # what crosses, before any quantisation
    wire_error: Callable  # wire_error(params, *inputs) -> relative error of every output, by quantisation


def split(
    fn: Callable,
    params: Any,
    *inputs: Any,
    cut: int,
    resident: Sequence[int] = (),
    local_outputs: bool | Sequence[Hashable] = False,
    max_tensors: int = 1,
    wire_bits: int | None = None,
    per_channel: bool = False,
) -> Split:
    """Cut a function at a row of its profile, into two that run.

    In the ordinary case `tail(params, head(params, *inputs))` is `fn(params, *inputs)`: run eagerly, bit for bit
    what the operations of fn give one after the other; a cut inside a jitted call or a scan, and jit, change what
    XLA rounds together, by about 1e-7 of the largest output. With resident inputs and
    local outputs each side keeps its own, and the next request takes up what the last one returned:

        crossing, (device_cache,) = head(params, token, position, device_cache)
        logits, server_cache = tail(params, crossing, position, server_cache)

    Each half takes the whole parameters and resident inputs, or only what it needs of them: the same trees with
    None for arrays that it does not read and, where layers are stacked in a scan, only the rows that it reads.
    `head_params`, `tail_params`, `head_resident` and `tail_resident` are the given trees in that form, and local
    outputs come in it.

    Args:
      fn: as for `profile`.
      params: as for `profile`; arrays if the halves' parameters are to be arrays.
      *inputs: as for `profile`.
      cut: the row of the profile that is made with the same options.
      resident: as for `profile`. The tail takes these inputs after what crosses.
      local_outputs: as for `profile`. The head returns (crossing, these outputs in a tuple, or in a dictionary if
        fn returns one), and the tail what fn returns, each with what it has computed of them.
      max_tensors: as for `profile`.
      wire_bits: 8 or 16 quantises floats of more bits that cross to whole numbers with one scale per array; 32
        sends wider ones as float32; None sends all as they are. Infinities and NaN stay what they are.
      per_channel: quantise with a scale per index of an array's last axis, so that one outlier costs only its own
        channel precision.

    Returns:
      The two halves, both jittable, and what each needs. `wire_error(params, *inputs)` is the root mean square
      error of every output over its own root mean square, as the quantisation causes it on given inputs.

    Raises:
      ValueError: as `profile`; for a row that does not exist; for other wire_bits. The halves raise it for arrays
        that are missing or of another shape than fn was cut with.
    """
    check_wire_bits(wire_bits)
    graph, cuts = analyse(fn, params, inputs, resident, local_outputs, max_tensors)
    row = whole_number(cut)
    if row is None or not 0 <= row < len(cuts.rows):
        reason = f" (no cut lies inside: {cuts.reason})" if cuts.reason else ""
        raise ValueError(f"cut: got {cut!r}; allowed is 0..{len(cuts.rows) - 1}{reason}")
    here = cuts.rows[row]
    head_side, tail_side = _sides(graph, here)
    kept = tuple(inputs[i] for i in graph.resident)

    def halves(bits: int | None) -> tuple[Callable, Callable]:
        return _head(graph, head_side, here, bits, per_channel), _tail(graph, tail_side, here)

    head, tail = halves(wire_bits)
    head_params, tail_params = (_reduced_params(side, params) for side in (head_side, tail_side))
    return Split(
        head=head,
        tail=tail,
        head_params=head_params,
        tail_params=tail_params,
        head_bytes=_bytes(head_params),
        tail_bytes=_bytes(tail_params),
        head_resident=_reduced_resident(head_side, kept),
        tail_resident=_reduced_resident(tail_side, kept),
        crossing=tuple(jax.ShapeDtypeStruct(graph.values[i].shape, graph.values[i].dtype) for i in here.crossing),
        wire_error=_wire_error(graph, (head, tail), halves(None)),
    )


@dataclasses.dataclass(frozen=True)
class _Side:
    """What one half runs and reads."""

    graph: Graph
    operations: list[int]
    start: int  # of its own operations; resident ones before it are computed again
    stop: int
    reads: frozenset[int]  # values
    keeps: frozenset[int]  # parts of local outputs
    rows: dict[int, tuple[int, ...]]  # of stacked leaves, where not all are read

    def leaves(self, tree: Any, given: Any, values: Sequence[int], name: str) -> dict[int, Any]:
        """Arrays by value, from a whole tree or one of what the half needs; rows are checked by their number."""
        try:
            arrays = tree.flatten_up_to(given)
        except ValueError as error:
            raise ValueError(f"{name}: the tree is not the one that the function was cut with: {error}") from None
        known = {}
        for value, array in zip(values, arrays, strict=True):
            if value not in self.reads:
                continue
            if array is None:
                raise ValueError(f"{name}: an array of shape {self.graph.values[value].shape} is missing")
            rows, whole = self.rows.get(value), self.graph.values[value].shape
            shape = jnp.shape(array)
            if shape == whole and rows is not None:
                array = _take(array, rows)
            elif shape != (whole if rows is None else (len(rows), *whole[1:])):
                raise ValueError(f"{name}: got an array of shape {shape}; allowed is {whole}")
            known[value] = array
        return known

    def reduced(self, tree: Any, given: Any, values: Sequence[int]) -> Any:
        """A tree with None for what the half does not read, and only the rows that it reads."""
        arrays = [
            (_take(array, self.rows[value]) if value in self.rows else array) if value in self.reads else None
            for value, array in zip(values, tree.flatten_up_to(given), strict=True)
        ]
        return jax.tree.unflatten(tree, arrays)

    def run(self, known: dict[int, Any]) -> dict[int, Any]:
        return evaluate(self.graph, self.operations, self.start, self.stop, known, self.rows)


def _sides(graph: Graph, cut: Cut) -> tuple[_Side, _Side]:
    returned, local = graph.wanted()
    end = len(graph.operations)
    stays = [i for i in graph.needed if graph.operations[i].kind is not Kind.REQUEST]

    before = [i for i in graph.needed if i < cut.position and graph.operations[i].kind is Kind.REQUEST]
    after = [i for i in graph.needed if i >= cut.position and graph.operations[i].kind is Kind.REQUEST]
    # Local outputs stay where they are made; what depends on resident inputs alone is made on both sides.
    made = {value for i in before for value in graph.operations[i].outputs}
    made.update(leaf for one in graph.input_leaves for leaf in one)
    both = {value for value in local if graph.values[value].kind is not Kind.REQUEST}
    head_keeps, tail_keeps = both | made.intersection(local), both.union(local) - (made - both)

    def side(
        own: list[int], start: int, stop: int, sends: Sequence[int], keeps: set[int], received: tuple[int, ...]
    ) -> _Side:
        wants = keeps.union(sends)
        operations = needed(graph.operations, [*stays, *own], wants - set(received))
        reads = wants.union(*(graph.operations[i].inputs for i in operations))
        leaves = [*graph.param_leaves, *(leaf for i in graph.resident for leaf in graph.input_leaves[i])]
        rows = {leaf: rows_read(graph, operations, leaf) for leaf in leaves if leaf in reads and leaf not in wants}
        partial = {
            leaf: some
            for leaf, some in rows.items()
            if some is not None and len(some) < graph.values[leaf].shape[0]
        }
        return _Side(graph, operations, start, stop, frozenset(reads), frozenset(keeps), partial)

    return (
        side(before, 0, cut.position, cut.crossing, head_keeps, ()),
        side(after, cut.position, end, returned, tail_keeps, cut.crossing),
    )


def _head(graph: Graph, side: _Side, cut: Cut, wire_bits: int | None, per_channel: bool) -> Callable:
    def head(params: Any, *inputs: Any) -> Any:
        if len(inputs) != len(graph.input_trees):
            raise ValueError(f"inputs: got {len(inputs)}; allowed are {len(graph.input_trees)}")
        known = side.leaves(graph.param_tree, params, graph.param_leaves, "params")
        for i, (tree, given, values) in enumerate(zip(graph.input_trees, inputs, graph.input_leaves, strict=True)):
            known |= side.leaves(tree, given, values, f"input {i}")
        known = side.run(known)
        crossing = tuple(to_wire(known[i], wire_bits, per_channel) for i in cut.crossing)
        if not graph.local_outputs:
            return crossing
        outputs = {position: _output(side, known, position) for position in graph.local_outputs}
        if graph.container is dict:
            return crossing, {graph.output_keys[position]: output for position, output in outputs.items()}
        return crossing, tuple(outputs.values())

    return head


def _tail(graph: Graph, side: _Side, cut: Cut) -> Callable:
    def tail(params: Any, crossing: tuple, *resident: Any) -> Any:
        if len(resident) != len(graph.resident):
            raise ValueError(f"resident inputs: got {len(resident)}; allowed are {len(graph.resident)}")
        known = side.leaves(graph.param_tree, params, graph.param_leaves, "params")
        for i, given in zip(graph.resident, resident, strict=True):
            known |= side.leaves(graph.input_trees[i], given, graph.input_leaves[i], f"input {i}")
        known |= _received(graph, cut, crossing)
        known = side.run(known)
        outputs = [_output(side, known, position) for position in range(len(graph.outputs))]
        if graph.container is dict:
            return dict(zip(graph.output_keys, outputs, strict=True))
        return outputs[0] if graph.container is None else graph.container(outputs)

    return tail


def _received(graph: Graph, cut: Cut, crossing: Any) -> dict[int, Any]:
    """Arrays by value, of what the head has sent."""
    expected = ", ".join(map(str, cut.arrays))
    if not isinstance(crossing, tuple | list) or len(crossing) != len(cut.crossing):
        got = f"{len(crossing)} arrays" if isinstance(crossing, tuple | list) else type(crossing).__name__
        raise ValueError(f"crossing: got {got}; allowed is a tuple of {len(cut.crossing)}: {expected}")
    known = {}
    for i, sent in zip(cut.crossing, crossing, strict=True):
        shape = jnp.shape(sent[0] if isinstance(sent, tuple | list) else sent)
        if shape != graph.values[i].shape:
            raise ValueError(f"crossing: got an array of shape {shape}; allowed are {expected}")
        known[i] = from_wire(sent, graph.values[i].dtype)
    return known


def _output(side: _Side, known: dict[int, Any], position: int) -> Any:
    """An output; of one that stays, what this side keeps of it."""
    graph = side.graph
    leaves: list[Any] = []
    for leaf in graph.outputs[position]:
        parts = graph.parts(leaf)
        here = [part for part in parts if part in side.keeps]
        if position not in graph.local_outputs or (leaf in known and len(here) == len(parts)):
            leaves.append(known[leaf])
        else:
            leaves.append(jnp.stack([known[part] for part in here]) if here else None)
    return jax.tree.unflatten(graph.output_trees[position], leaves)


def _reduced_params(side: _Side, params: Any) -> Any:
    return side.reduced(side.graph.param_tree, params, side.graph.param_leaves)


def _reduced_resident(side: _Side, kept: tuple) -> tuple:
    graph = side.graph
    return tuple(
        side.reduced(graph.input_trees[i], one, graph.input_leaves[i])
        for i, one in zip(graph.resident, kept, strict=True)
    )


def _take(array: Any, rows: tuple[int, ...]) -> Any:
    if isinstance(array, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(rows), *array.shape[1:]), array.dtype)
    low, high = rows[0], rows[-1] + 1
    return array[low:high] if len(rows) == high - low else array[jnp.array(rows)]


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(lambda x: x, tree)))


def _wire_error(graph: Graph, quantised: tuple[Callable, Callable], exact: tuple[Callable, Callable]) -> Callable:
    def wire_error(params: Any, *inputs: Any) -> Any:
        resident = [inputs[i] for i in graph.resident]
        results = []
        for head, tail in (quantised, exact):
            crossing = head(params, *inputs)
            results.append(tail(params, crossing[0] if graph.local_outputs else crossing, *resident))
        return jax.tree.map(relative_error, *results)

    return wire_error
