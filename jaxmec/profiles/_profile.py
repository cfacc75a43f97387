"""`profile` and `split`: where a JAX function can be cut, and the two halves that really run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmec.profiles._cuts import Cut, find_cuts
from jaxmec.profiles._graph import Graph, evaluate, trace
from jaxmec.profiles.table import PartitionProfile


def profile(
    fn: Callable,
    params: Any,
    *inputs: Any,
    name: str | None = None,
    resident: Sequence[int] = (),
    max_tensors: int = 1,
    local_outputs: bool | tuple[int, ...] = False,
    input_bits: float | None = None,
    source: str = "",
) -> PartitionProfile:
    """Cut table of any JAX function, from abstract values: no weights are needed and nothing is run.

    Args:
      fn: called as fn(params, *inputs).
      params: its parameters, held on both sides: arrays or ShapeDtypeStructs in any tree.
      *inputs: what arrives with a request, likewise.
      name: of the profile; the function's own if absent.
      resident: positions of inputs that stay on their side, such as a decoder's cache.
      max_tensors: at most so many arrays may cross at a cut.
      local_outputs: outputs that need not leave the device when all runs there: all, none, or their positions.
      input_bits: bits that row 0 sends, e.g. 8 per value of a camera image; like any activation if absent.
      source: where the model comes from.

    Returns:
      A row per cut, named by its position.

    Raises:
      ValueError: if the function cannot be traced or has nothing to cut; the message tells what to do.
    """
    graph, cuts = _analyse(fn, params, inputs, resident, max_tensors, local_outputs)
    return PartitionProfile(
        name=name or str(getattr(fn, "__name__", "function")),
        labels=tuple(cut.label for cut in cuts),
        macs=np.array([cut.before.macs for cut in cuts]),
        other_ops=np.array([cut.before.other_ops for cut in cuts]),
        heavy_ops=np.array([cut.before.heavy_ops for cut in cuts]),
        bytes_moved=np.array([cut.before.bytes_moved for cut in cuts]),
        elements=np.array([cut.elements(graph) for cut in cuts]),
        integer_bits=np.array([cut.integer_bits(graph) for cut in cuts]),
        input_bits=input_bits,
        source=source,
    )


class Split(NamedTuple):
    """A function cut in two."""

    head: Callable  # head(params, *inputs) -> crossing, a tuple of arrays
    tail: Callable  # tail(params, crossing) -> what the function returns
    head_params: list[jax.ShapeDtypeStruct]  # the leaves that the head needs
    tail_params: list[jax.ShapeDtypeStruct]  # the leaves that the tail needs
    head_bytes: int
    tail_bytes: int


def split(
    fn: Callable,
    params: Any,
    *inputs: Any,
    cut: int,
    max_tensors: int = 1,
    wire_bits: int | None = None,
) -> Split:
    """Cut a function at a row of its profile, into two that run.

    Args:
      fn: as for `profile`.
      params: as for `profile`.
      *inputs: as for `profile`.
      cut: the row.
      max_tensors: as for `profile`; the rows depend on it.
      wire_bits: 8 or 16 quantises floats that cross, uniformly with one scale per array; None sends them as
        they are.

    Returns:
      head and tail, both jittable, with tail(params, head(params, *inputs)) == fn(params, *inputs).

    Raises:
      ValueError: as `profile`; for a row that does not exist; for other wire_bits.
    """
    if wire_bits not in (None, 8, 16):
        raise ValueError(f"wire_bits: got {wire_bits!r}; allowed are None, 8 and 16")
    graph, cuts = _analyse(fn, params, inputs, (), max_tensors, local_outputs=False)
    if not 0 <= cut < len(cuts):
        raise ValueError(f"cut: got {cut}; allowed is 0..{len(cuts) - 1}")
    here = cuts[cut]
    # Resident values are recomputed on the side that needs them.
    constant = [o for o in graph.operations if graph.resident.issuperset(o.outputs)]
    before = [o for o in graph.operations[: here.position] if o not in constant]
    after = [o for o in graph.operations[here.position :] if o not in constant]

    def head(params: Any, *inputs: Any) -> tuple[jax.Array, ...]:
        known = _leaves(graph, params) | dict(zip(graph.input_leaves, jax.tree.leaves(inputs), strict=True))
        known = evaluate(graph, [*constant, *before], known)
        return tuple(_to_wire(known[i], wire_bits) for i in here.crossing)

    def tail(params: Any, crossing: tuple[jax.Array, ...]) -> Any:
        received = (_from_wire(x, graph.values[i].dtype) for i, x in zip(here.crossing, crossing, strict=True))
        known = _leaves(graph, params) | dict(zip(here.crossing, received, strict=True))
        known = evaluate(graph, [*constant, *after], known)
        return jax.tree.unflatten(graph.out_tree, [known[i] for i in graph.outputs])

    head_params, tail_params = (_params_of(graph, constant, part) for part in (before, after))
    return Split(head, tail, head_params, tail_params, _bytes(head_params), _bytes(tail_params))


def _analyse(fn, params, inputs, resident, max_tensors, local_outputs) -> tuple[Graph, list[Cut]]:
    if max_tensors < 1:
        raise ValueError(f"max_tensors: got {max_tensors}; allowed is at least 1")
    if not jax.tree.leaves(inputs):
        raise ValueError("inputs: got none; a request needs at least one array")
    graph = trace(fn, params, inputs, resident)
    if graph.resident.issuperset(graph.outputs):
        raise ValueError("the outputs do not depend on the inputs: there is nothing to cut")
    return graph, find_cuts(graph, max_tensors, local_outputs)


def _leaves(graph: Graph, params: Any) -> dict[int, Any]:
    return dict(zip(graph.param_leaves, jax.tree.leaves(params), strict=True))


def _params_of(graph: Graph, constant: list, part: list) -> list[jax.ShapeDtypeStruct]:
    needed = {i for operation in part for i in operation.inputs}
    for operation in reversed(constant):
        if needed.intersection(operation.outputs):
            needed.update(operation.inputs)
    values = (graph.values[i] for i in graph.param_leaves if i in needed)
    return [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values]


def _bytes(leaves: list[jax.ShapeDtypeStruct]) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _to_wire(x: jax.Array, wire_bits: int | None) -> Any:
    if wire_bits is None or not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    levels = 2 ** (wire_bits - 1) - 1
    scale = jnp.maximum(jnp.max(jnp.abs(x)), jnp.finfo(x.dtype).tiny) / levels
    return jnp.round(x / scale).astype(jnp.int8 if wire_bits == 8 else jnp.int16), scale


def _from_wire(x: Any, dtype: Any) -> jax.Array:
    if isinstance(x, tuple):
        levels, scale = x
        return (levels * scale).astype(dtype)
    return x
