"""A JAX function as one flat list of operations.

Calls are inlined and scans unrolled, so that a cut can lie inside a layer stack; operations that nobody needs are
dropped; what depends only on parameters and constants is marked resident, since both sides can hold it. Loops of
unknown length and data-dependent branches stay single operations.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_CALLS = {  # primitive -> parameter that holds the called program
    "pjit": "jaxpr",
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_vmap_call": "call",
}
_ATOMIC = {"while": "a while loop", "cond": "a data-dependent branch"}


@dataclasses.dataclass(frozen=True)
class Value:
    """An array that an operation reads or writes."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return self.size * jnp.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class Operation:
    """One step of the program; operands are indices of values."""

    name: str
    run: Callable[..., Sequence[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str
    params: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Graph:
    """A program in execution order."""

    values: list[Value]
    operations: list[Operation]
    constants: dict[int, Any]  # value -> array known at trace time
    param_leaves: list[int]  # values of the parameters' leaves, in tree order
    input_leaves: list[int]  # values of the inputs' leaves, in tree order
    outputs: list[int]
    out_tree: Any
    resident: set[int]  # values that depend on parameters and constants only


def trace(fn: Callable, params: Any, inputs: tuple, resident_inputs: Sequence[int] = ()) -> Graph:
    """Trace fn(params, *inputs) with abstract values.

    Args:
      fn: any JAX function.
      params: its parameters: arrays or ShapeDtypeStructs.
      inputs: what changes from request to request, likewise.
      resident_inputs: positions in `inputs` of arguments that stay on their side.

    Raises:
      ValueError: if the function cannot be traced; the message tells the operation and what to do.
    """
    try:
        closed, out_shape = jax.make_jaxpr(fn, return_shape=True)(params, *inputs)
    except Exception as error:
        raise ValueError(
            f"{getattr(fn, '__name__', fn)} cannot be traced with abstract values: "
            f"{str(error).splitlines()[0]}. Python control flow must not depend on array values; "
            "use jax.lax.cond, or pass such arguments by functools.partial"
        ) from error
    builder = _Builder()
    leaves = [builder.value(var.aval) for var in closed.jaxpr.invars]
    number = len(jax.tree.leaves(params))
    counts = [len(jax.tree.leaves(one)) for one in inputs]
    ends = np.cumsum([number, *counts])
    outputs = builder.inline(closed, leaves, "")

    stay = set(leaves[:number]) | set(builder.constants)
    for position in resident_inputs:
        stay |= set(leaves[ends[position] : ends[position + 1]])
    operations = _needed(builder.operations, outputs)
    for operation in operations:
        if stay.issuperset(operation.inputs):
            stay |= set(operation.outputs)
    return Graph(
        values=builder.values,
        operations=operations,
        constants=builder.constants,
        param_leaves=leaves[:number],
        input_leaves=leaves[number:],
        outputs=outputs,
        out_tree=jax.tree.structure(out_shape),
        resident=stay,
    )


def evaluate(graph: Graph, operations: Sequence[Operation], known: dict[int, Any]) -> dict[int, Any]:
    """Run operations in order, given arrays by value; returns `known` with the results added."""
    known = {**graph.constants, **known}
    for operation in operations:
        results = operation.run(*[known[i] for i in operation.inputs])
        known.update(zip(operation.outputs, results, strict=True))
    return known


def _needed(operations: list[Operation], outputs: Sequence[int]) -> list[Operation]:
    needed, kept = set(outputs), []
    for operation in reversed(operations):
        if needed.intersection(operation.outputs):
            needed.update(operation.inputs)
            kept.append(operation)
    return kept[::-1]


class _Builder:
    """Collects values and operations while programs are inlined."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.operations: list[Operation] = []
        self.constants: dict[int, Any] = {}

    def value(self, aval: Any) -> int:
        self.values.append(Value(tuple(aval.shape), aval.dtype))
        return len(self.values) - 1

    def constant(self, array: Any) -> int:
        index = self.value(jax.typeof(array))
        self.constants[index] = array
        return index

    def operation(
        self, name: str, run: Callable, inputs: Sequence[int], avals: Sequence[Any], label: str, params: dict
    ) -> list[int]:
        outputs = [self.value(aval) for aval in avals]
        self.operations.append(Operation(name, run, tuple(inputs), tuple(outputs), label, params))
        return outputs

    def inline(self, closed: ClosedJaxpr | Jaxpr, arguments: Sequence[int], label: str) -> list[int]:
        """Append a program's operations; returns the values of its results."""
        jaxpr = getattr(closed, "jaxpr", closed)
        where: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
        where |= {
            var: self.constant(c) for var, c in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True)
        }

        def read(atom: Any) -> int:
            return self.constant(jnp.asarray(atom.val)) if isinstance(atom, Literal) else where[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            stack = str(eqn.source_info.name_stack)
            here = "/".join(part for part in (label, stack) if part)
            name = eqn.primitive.name
            if name in _CALLS and _CALLS[name] in eqn.params:
                outputs = self.inline(eqn.params[_CALLS[name]], inputs, here)
            elif name == "scan":
                outputs = self.unroll(eqn, inputs, here)
            else:
                if name in _ATOMIC:
                    warnings.warn(
                        f"{here or 'the function'}: {_ATOMIC[name]} is kept whole: no cut lies inside it and its "
                        "operations are not counted",
                        stacklevel=2,
                    )
                avals = [var.aval for var in eqn.outvars]
                outputs = self.operation(name, _bind(eqn), inputs, avals, here, eqn.params)
            where.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def unroll(self, eqn: Any, inputs: list[int], label: str) -> list[int]:
        """A scan as its iterations, one after the other."""
        num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
        consts, carry = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]
        stacked = inputs[num_consts + num_carry :]
        order = range(eqn.params["length"])
        collected: list[list[int]] = []
        for i in reversed(order) if eqn.params["reverse"] else order:
            rows = [self._row(xs, i, label) for xs in stacked]
            results = self.inline(eqn.params["jaxpr"], [*consts, *carry, *rows], f"{label}[{i}]")
            carry = results[:num_carry]
            collected.append(results[num_carry:])
        if eqn.params["reverse"]:
            collected.reverse()
        gathered = []
        for var, column in zip(eqn.outvars[num_carry:], zip(*collected, strict=True), strict=True):
            gathered += self.operation("stack", _stack, column, [var.aval], label, {})
        return [*carry, *gathered]

    def _row(self, stacked: int, i: int, label: str) -> int:
        value = self.values[stacked]
        aval = jax.ShapeDtypeStruct(value.shape[1:], value.dtype)
        return self.operation("row", lambda xs, i=i: [xs[i]], [stacked], [aval], label, {})[0]


def _stack(*arrays: Any) -> Sequence[Any]:
    return [jnp.stack(arrays)]


def _bind(eqn: Any) -> Callable[..., Sequence[Any]]:
    def run(*arrays: Any) -> Sequence[Any]:
        results = eqn.primitive.bind(*arrays, **eqn.params)
        return results if eqn.primitive.multiple_results else [results]

    return run
