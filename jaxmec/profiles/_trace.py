"""Tracing a JAX function into one flat list of operations.

Calls are inlined and scans over layers unrolled, so that a cut can lie inside them; operations that nobody needs
are skipped; what depends only on parameters and constants is marked, since both sides can hold it. Loops of
unknown length, data-dependent branches and scans over a request's own data stay single operations.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxmec.profiles._fusion import fuse
from jaxmec.profiles._graph import Graph, Kind, needed
from jaxmec.profiles._inline import Builder

_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def trace(
    fn: Callable,
    params: Any,
    inputs: tuple,
    resident: Sequence[int] = (),
    local: bool | Sequence[Hashable] = (),
) -> Graph:
    """Trace fn(params, *inputs) with abstract values.

    Args:
      fn: any JAX function.
      params: its parameters: arrays or ShapeDtypeStructs.
      inputs: what changes from request to request, likewise.
      resident: positions in `inputs` of arguments that stay on their side.
      local: positions, or a dictionary's keys, of outputs that stay on their side; or whether all do.

    Raises:
      ValueError: if the function cannot be traced; the message tells the operation and what to do.
    """
    _check_arrays(params, "params")
    for i, one in enumerate(inputs):
        _check_arrays(one, f"input {i}")
    positions = range(len(inputs))
    kept = _chosen("resident", resident, positions, f"positions of inputs, 0..{len(inputs) - 1}")
    closed, out_shape = _jaxpr(fn, params, inputs)

    builder = Builder()
    invars = iter(closed.jaxpr.invars)

    def leaves(tree: Any, kind: Kind) -> list[int]:
        return [builder.value(next(invars).aval, kind) for _ in jax.tree.leaves(tree)]

    param_leaves = leaves(params, Kind.CONSTANT)
    input_leaves = [leaves(one, Kind.RESIDENT if i in kept else Kind.REQUEST) for i, one in enumerate(inputs)]
    arguments = param_leaves + [leaf for one in input_leaves for leaf in one]
    results = iter(builder.inline(closed, arguments, ""))
    container, keys, outputs = _items(out_shape)
    graph = Graph(
        values=builder.values,
        operations=builder.operations,
        needed=[],
        stretches=builder.stretches,
        constants=builder.constants,
        param_leaves=param_leaves,
        input_leaves=input_leaves,
        outputs=[[next(results) for _ in jax.tree.leaves(one)] for one in outputs],
        output_trees=[jax.tree.structure(one) for one in outputs],
        container=container,
        output_keys=keys,
        maker={value: operation for operation in builder.operations for value in operation.outputs},
        param_tree=jax.tree.structure(params),
        input_trees=[jax.tree.structure(one) for one in inputs],
        resident=kept,
        local_outputs=_local(local, container, keys),
    )
    returned, local_parts = graph.wanted()
    wanted = needed(graph.operations, range(len(graph.operations)), [*returned, *local_parts])
    return dataclasses.replace(graph, needed=wanted, operations=fuse(graph.operations, graph.values, wanted))


def _jaxpr(fn: Callable, params: Any, inputs: tuple) -> tuple[Any, Any]:
    """The function's program and the shapes that it returns."""
    try:
        return jax.make_jaxpr(fn, return_shape=True)(params, *inputs)
    except Exception as error:
        name = getattr(fn, "__name__", str(fn))
        raise ValueError(
            f"{name} cannot be traced with abstract values: {_first_line(error)}{_where(error)}. {_advice(error)}"
        ) from error


def _items(returned: Any) -> tuple[type | None, tuple[Hashable, ...], list[Any]]:
    """What a function returns as separate outputs: container, keys and items."""
    if type(returned) in (tuple, list):
        return type(returned), tuple(range(len(returned))), list(returned)
    if type(returned) is dict:
        keys = tuple(sorted(returned))  # the order in which JAX flattens it
        return dict, keys, [returned[key] for key in keys]
    return None, (0,), [returned]


def _local(
    local: bool | Sequence[Hashable], container: type | None, keys: tuple[Hashable, ...]
) -> tuple[int, ...]:
    if isinstance(local, bool | np.bool_):
        return tuple(range(len(keys))) if local else ()
    if container is dict:
        allowed = f"keys of the outputs, {', '.join(map(repr, keys))}"
    else:
        allowed = f"positions of outputs, 0..{len(keys) - 1}"
    return _chosen("local_outputs", local, keys, allowed)


def _chosen(field: str, given: Any, keys: Sequence[Hashable], allowed: str) -> tuple[int, ...]:
    """Places of the given keys among all of them."""
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ValueError(f"{field}: got {given!r}; allowed are {allowed}")
    for key in given:
        if isinstance(key, bool) or key not in keys:
            raise ValueError(f"{field}: got {key!r}; allowed are {allowed}")
    return tuple(sorted({keys.index(key) for key in given}))


def _check_arrays(tree: Any, name: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")) and not isinstance(leaf, int | float | complex):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: got {type(leaf).__name__}; allowed are arrays and "
                "ShapeDtypeStructs. Keep the rest outside: nnx.split, equinox.partition, functools.partial"
            )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _advice(error: Exception) -> str:
    if isinstance(error, _NEEDS_VALUES):
        return (
            "Python control flow and NumPy must not depend on array values: use jax.lax.cond, jnp.where and jnp; "
            "arguments that are no arrays go into the function by functools.partial"
        )
    return "It is called as fn(params, *inputs): check that it takes arguments of these shapes"


def _where(error: Exception) -> str:
    """The innermost line of the user's own code."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and frame.filename != __file__:
            return f" (at {frame.filename}:{frame.lineno}: {frame.line})" if frame.line else ""
    return ""
