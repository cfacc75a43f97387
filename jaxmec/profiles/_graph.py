"""A JAX function as one flat list of operations.

Calls are inlined and scans over layers unrolled, so that a cut can lie inside them; operations that nobody needs
are skipped; what depends only on parameters and constants is marked, since both sides can hold it. Loops of
unknown length, data-dependent branches and scans over a request's own data stay single operations.

The list remembers which stretches of it were a call or the turns of a scan: a half that holds such a stretch
entirely runs the call itself, so that it computes bit for bit what the function does, and compiles as fast.
"""

from __future__ import annotations

import dataclasses
import enum
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxmec.profiles._cost import Cost, cost_of

MAX_UNROLL = 512  # turns; a longer scan is a time loop rather than a stack of layers

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
    "custom_lin": "call_jaxpr",
}
_OPAQUE = {"pallas_call", "ffi_call", "custom_call", "pure_callback", "io_callback", "shard_map", "xla_pmap"}

_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


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

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return self.size * self.dtype.itemsize


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
    container: type | None  # tuple or list if the function returns one, whose items then are the outputs
    maker: dict[int, Operation]  # value -> operation that computes it
    param_tree: Any
    input_trees: list[Any]
    resident: tuple[int, ...]  # positions of inputs that stay on their side
    local_outputs: tuple[int, ...]  # positions of outputs that stay on the side that computes them

    def parts(self, value: int) -> tuple[int, ...]:
        """The rows of which an unrolled scan stacks a value, or the value itself."""
        maker = self.maker.get(value)
        return maker.inputs if maker is not None and maker.name == "stack" else (value,)

    def wanted(self) -> tuple[list[int], list[int]]:
        """Values of the outputs that return, and the parts of those that stay."""
        returned, local = [], []
        for position, leaves in enumerate(self.outputs):
            if position in self.local_outputs:
                local += [part for leaf in leaves for part in self.parts(leaf)]
            else:
                returned += leaves
        return returned, local


def trace(
    fn: Callable, params: Any, inputs: tuple, resident: Sequence[int] = (), local: bool | Sequence[int] = ()
) -> Graph:
    """Trace fn(params, *inputs) with abstract values.

    Args:
      fn: any JAX function.
      params: its parameters: arrays or ShapeDtypeStructs.
      inputs: what changes from request to request, likewise.
      resident: positions in `inputs` of arguments that stay on their side.
      local: positions of outputs that stay on their side, or whether all do.

    Raises:
      ValueError: if the function cannot be traced; the message tells the operation and what to do.
    """
    _check_arrays(params, "params")
    for i, one in enumerate(inputs):
        _check_arrays(one, f"input {i}")
    resident = _positions("resident", resident, len(inputs), "inputs")
    try:
        closed, out_shape = jax.make_jaxpr(fn, return_shape=True)(params, *inputs)
    except Exception as error:
        name = getattr(fn, "__name__", str(fn))
        raise ValueError(
            f"{name} cannot be traced with abstract values: {_first_line(error)}{_where(error)}. {_advice(error)}"
        ) from error

    builder = _Builder()
    invars = iter(closed.jaxpr.invars)

    def leaves(tree: Any, kind: Kind) -> list[int]:
        return [builder.value(next(invars).aval, kind) for _ in jax.tree.leaves(tree)]

    param_leaves = leaves(params, Kind.CONSTANT)
    input_leaves = [leaves(one, Kind.RESIDENT if i in resident else Kind.REQUEST) for i, one in enumerate(inputs)]
    arguments = param_leaves + [leaf for one in input_leaves for leaf in one]
    results = iter(builder.inline(closed, arguments, ""))

    container = type(out_shape) if type(out_shape) in (tuple, list) else None
    outputs = [out_shape] if container is None else list(out_shape)
    if isinstance(local, bool):
        local = range(len(outputs)) if local else ()
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
        maker={value: operation for operation in builder.operations for value in operation.outputs},
        param_tree=jax.tree.structure(params),
        input_trees=[jax.tree.structure(one) for one in inputs],
        resident=resident,
        local_outputs=_positions("local_outputs", local, len(outputs), "outputs"),
    )
    returned, kept = graph.wanted()
    return dataclasses.replace(
        graph, needed=needed(graph.operations, range(len(graph.operations)), [*returned, *kept])
    )


def needed(operations: Sequence[Operation], among: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """Which of the operations `among` the wanted values depend on, in order."""
    values, kept = set(wanted), []
    for index in sorted(among, reverse=True):
        if not values.isdisjoint(operations[index].outputs):
            values.update(operations[index].inputs)
            kept.append(index)
    return kept[::-1]


def evaluate(
    graph: Graph,
    operations: Sequence[int],
    start: int,
    stop: int,
    known: dict[int, Any],
    rows: dict[int, tuple[int, ...]],
) -> dict[int, Any]:
    """Run operations in order; returns `known` with the results added.

    Args:
      graph: the program.
      operations: which ones, in order.
      start: calls and scans' turns run as such if they lie at or behind it ...
      stop: ... and before this.
      known: value to array.
      rows: of stacked arrays that are not whole, the rows that are there.
    """
    known = {**graph.constants, **known}
    done = start
    for index in operations:
        if start <= index < done:
            continue
        end = None
        for first in range(done, index + 1):  # a stretch may begin with operations that nobody needs
            for stretch in graph.stretches.get(first, ()):
                end = end or _run_stretch(stretch, index, stop, known, rows)
        if end is not None:
            done = end
            continue
        operation = graph.operations[index]
        if operation.row is None:
            results = operation.run(*[known[i] for i in operation.inputs])
        else:
            stacked = operation.inputs[0]
            results = [known[stacked][_place(rows, stacked, operation.row)]]
        known.update(zip(operation.outputs, results, strict=True))
        done = max(done, index + 1)
    return known


def _run_stretch(
    stretch: Call | tuple[Loop, int],
    index: int,
    stop: int,
    known: dict[int, Any],
    rows: dict[int, tuple[int, ...]],
) -> int | None:
    """Run a stretch that holds an operation as such, if it ends before `stop`; returns where it ends."""
    if isinstance(stretch, Call):
        return _run_call(stretch, stop, known, rows) if stretch.stop > index else None
    loop, turn = stretch
    return _run_turns(loop, turn, stop, known, rows) if loop.bounds[turn][1] > index else None


def _run_call(call: Call, stop: int, known: dict[int, Any], rows: dict[int, tuple[int, ...]]) -> int | None:
    """Run a call as such, if it can be; returns where it ends."""
    if call.stop > stop or any(i not in known or i in rows for i in call.inputs):
        return None
    known.update(zip(call.outputs, call.run(*[known[i] for i in call.inputs]), strict=True))
    return call.stop


def _run_turns(
    loop: Loop, first: int, stop: int, known: dict[int, Any], rows: dict[int, tuple[int, ...]]
) -> int | None:
    """Run as many turns of a scan as lie before `stop` as a shorter scan; returns where they end."""
    number = sum(end <= stop for _, end in loop.bounds[first:])
    before = (*loop.consts, *loop.carries[first])
    if number == 0 or any(i not in known for i in (*before, *loop.stacked)):
        return None
    turns = slice(first, first + number)
    low = min(loop.rows[turns])
    stacked = []
    for i in loop.stacked:
        if i in rows and not set(loop.rows[turns]) <= set(rows[i]):
            return None
        place = _place(rows, i, low)
        whole = number == len(known[i])
        stacked.append(known[i] if whole else known[i][place : place + number])
    results = loop.run(number, *[known[i] for i in before], *stacked)
    num_carry = len(loop.carries[0])
    known.update(zip(loop.carries[first + number], results[:num_carry], strict=True))
    for turn, row in zip(loop.collected[turns], loop.rows[turns], strict=True):
        known.update((value, ys[row - low]) for value, ys in zip(turn, results[num_carry:], strict=True))
    return loop.bounds[first + number - 1][1]


def _place(rows: dict[int, tuple[int, ...]], stacked: int, row: int) -> int:
    return rows[stacked].index(row) if stacked in rows else row


def _positions(field: str, given: Sequence[int], number: int, what: str) -> tuple[int, ...]:
    allowed = f"allowed are positions of {what}, 0..{number - 1}"
    if not isinstance(given, Iterable) or not all(isinstance(i, int) for i in given):
        raise ValueError(f"{field}: got {given!r}; {allowed}")
    for i in given:
        if not 0 <= i < number:
            raise ValueError(f"{field}: got {i}; {allowed}")
    return tuple(sorted(set(given)))


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


class _Builder:
    """Collects values and operations while programs are inlined."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.operations: list[Operation] = []
        self.constants: dict[int, Any] = {}
        self.stretches: dict[int, list[Call | tuple[Loop, int]]] = {}

    def value(self, aval: Any, kind: Kind) -> int:
        self.values.append(Value(tuple(aval.shape), aval.dtype, kind))
        return len(self.values) - 1

    def constant(self, array: Any) -> int:
        index = self.value(jax.typeof(array), Kind.CONSTANT)
        self.constants[index] = array
        return index

    def kind_of(self, values: Iterable[int]) -> Kind:
        return max((self.values[i].kind for i in values), default=Kind.CONSTANT)

    def operation(
        self,
        name: str,
        run: Callable,
        inputs: Sequence[int],
        avals: Sequence[Any],
        label: str,
        params: dict | None = None,
        cost: Cost | None = None,
        row: int | None = None,
    ) -> list[int]:
        kind = self.kind_of(inputs)
        outputs = [self.value(aval, kind) for aval in avals]
        if cost is None:
            read, written = ([self.values[i] for i in which] for which in (inputs, outputs))
            cost = cost_of(name, params or {}, read, written)
        self.operations.append(Operation(name, run, tuple(inputs), tuple(outputs), label, cost, kind, row))
        return outputs

    def inline(self, closed: ClosedJaxpr | Jaxpr, arguments: Sequence[int], label: str) -> list[int]:
        """Append a program's operations; returns the values of its results."""
        jaxpr = getattr(closed, "jaxpr", closed)
        where: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
        consts = getattr(closed, "consts", ())
        where |= {var: self.constant(c) for var, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> int:
            return self.constant(jnp.asarray(atom.val)) if isinstance(atom, Literal) else where[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            stack = str(eqn.source_info.name_stack)
            outputs = self.equation(eqn, inputs, "/".join(part for part in (label, stack) if part))
            where.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, inputs: list[int], label: str) -> list[int]:
        name = eqn.primitive.name
        if name in _CALLS and _CALLS[name] in eqn.params:
            start = len(self.operations)
            starting = self.stretches.setdefault(start, [])
            place = len(starting)
            outputs = self.inline(eqn.params[_CALLS[name]], inputs, label)
            if len(self.operations) > start:
                call = Call(start, len(self.operations), _bind(eqn), tuple(inputs), tuple(outputs))
                starting.insert(place, call)
            return outputs
        if name == "scan" and self.is_over_layers(eqn, inputs, label):
            return self.unroll(eqn, inputs, label)
        return self.operation(
            name,
            _bind(eqn),
            inputs,
            [var.aval for var in eqn.outvars],
            label,
            eqn.params,
            self.inner_cost(eqn, inputs, label),
        )

    def is_over_layers(self, eqn: Any, inputs: list[int], label: str) -> bool:
        """Whether a cut inside a scan can be of use: its turns differ by parameters, not by the request's data."""
        stacked = inputs[sum(_scan_operands(eqn.params, len(inputs))) :]
        if stacked and all(self.values[i].kind is Kind.REQUEST for i in stacked):
            return False
        if (turns := eqn.params["length"]) > MAX_UNROLL:
            self.warn(
                label, f"a scan of {turns} turns", f"all of it is counted; scans are cut up to {MAX_UNROLL} turns"
            )
            return False
        return self.kind_of(inputs) is Kind.REQUEST

    def unroll(self, eqn: Any, inputs: list[int], label: str) -> list[int]:
        """A scan as its turns, one after the other."""
        num_consts, num_carry = _scan_operands(eqn.params, len(inputs))
        consts, carry = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]
        stacked = inputs[num_consts + num_carry :]
        backwards = eqn.params["reverse"]
        order = range(eqn.params["length"])
        start = len(self.operations)
        loop = Loop(_scan(eqn), tuple(consts), tuple(stacked), [], [], [tuple(carry)], [])
        outermost = self.stretches.setdefault(start, [])
        place = len(outermost)
        for turn, i in enumerate(reversed(order) if backwards else order):
            first = len(self.operations)
            self.stretches.setdefault(first, []).append((loop, turn))
            rows = [self.row(xs, i, label) for xs in stacked]
            results = self.inline(eqn.params["jaxpr"], [*consts, *carry, *rows], f"{label}[{i}]")
            carry = results[:num_carry]
            loop.bounds.append((first, len(self.operations)))
            loop.rows.append(i)
            loop.carries.append(tuple(carry))
            loop.collected.append(tuple(results[num_carry:]))
        columns = zip(*(loop.collected[::-1] if backwards else loop.collected), strict=True)
        gathered = []
        for var, column in zip(eqn.outvars[num_carry:], columns, strict=True):
            gathered += self.operation("stack", lambda *rows: [jnp.stack(rows)], column, [var.aval], label)
        outputs = [*carry, *gathered]
        if len(self.operations) > start:
            outermost.insert(place, Call(start, len(self.operations), _bind(eqn), tuple(inputs), tuple(outputs)))
        return outputs

    def row(self, stacked: int, i: int, label: str) -> int:
        value = self.values[stacked]
        aval = jax.ShapeDtypeStruct(value.shape[1:], value.dtype)
        return self.operation("row", lambda xs, i=i: [xs[i]], [stacked], [aval], label, row=i)[0]

    def inner_cost(self, eqn: Any, inputs: list[int], label: str) -> Cost | None:
        """Counts of an operation that holds programs; None for an ordinary one."""
        name, params = eqn.primitive.name, eqn.params
        if self.kind_of(inputs) is Kind.CONSTANT:
            return Cost()
        kinds = [self.values[i].kind for i in inputs]
        if name == "scan":
            cost = _scan_cost(params, kinds, label)
        elif name == "while":
            self.warn(
                label, "a while loop", "its condition and body are counted once: how often they run is unknown"
            )
            split = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            condition = _program_cost(params["cond_jaxpr"], [*kinds[: split[0]], *kinds[split[1] :]], label)[0]
            cost = condition + _program_cost(params["body_jaxpr"], kinds[split[0] :], label)[0]
        elif name == "cond":
            self.warn(label, "a data-dependent branch", "its dearest side is counted")
            sides = [_program_cost(branch, kinds[1:], label)[0] for branch in params["branches"]]
            cost = max(sides, key=lambda cost: (2 * cost.macs + cost.other_ops, cost.bytes_moved))
        elif name in _OPAQUE:
            self.warn(label, name, "what it computes is not counted")
            cost = Cost()
        else:
            return None
        return cost._replace(heavy_ops=max(cost.heavy_ops, 1.0))

    @staticmethod
    def warn(label: str, what: str, how: str) -> None:
        warnings.warn(
            f"{label or 'the function'}: {what} is kept whole: no cut lies inside it; {how}", stacklevel=2
        )


def _program_cost(closed: ClosedJaxpr, kinds: Sequence[Kind], label: str) -> tuple[Cost, list[Kind]]:
    """Counts of a program by itself, and the kinds of its results."""
    builder = _Builder()
    arguments = [builder.value(var.aval, kind) for var, kind in zip(closed.jaxpr.invars, kinds, strict=True)]
    results = builder.inline(closed, arguments, label)
    total = Cost()
    for index in needed(builder.operations, range(len(builder.operations)), results):
        if builder.operations[index].kind is not Kind.CONSTANT:
            total += builder.operations[index].cost
    return total, [builder.values[i].kind for i in results]


def _scan_cost(params: dict[str, Any], kinds: list[Kind], label: str) -> Cost:
    """Counts of all turns: the first ones may be cheaper, as long as the carry depends on constants only."""
    num_consts, num_carry = _scan_operands(params, len(kinds))
    consts, carry = kinds[:num_consts], kinds[num_consts : num_consts + num_carry]
    stacked = kinds[num_consts + num_carry :]
    total, left = Cost(), params["length"]
    while left:
        cost, results = _program_cost(params["jaxpr"], [*consts, *carry, *stacked], label)
        settled = results[:num_carry] == carry
        total += cost.times(left if settled else 1)
        left = 0 if settled else left - 1
        carry = results[:num_carry]
    return total


def _scan_operands(params: dict[str, Any], number: int) -> tuple[int, int]:
    """How many of a scan's operands are constants of its turns, and how many its carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].update(range(number)).unpack()  # since jax 0.12
    return len(list(consts)), len(list(carry))


def _bind(eqn: Any) -> Callable[..., Sequence[Any]]:
    params = eqn.primitive.get_bind_params(eqn.params)

    def run(*arrays: Any) -> Sequence[Any]:
        results = eqn.primitive.bind(*arrays, **params)
        return results if eqn.primitive.multiple_results else [results]

    return run


def _scan(eqn: Any) -> Callable[..., Sequence[Any]]:
    def run(turns: int, *arrays: Any) -> Sequence[Any]:
        unroll = min(eqn.params["unroll"], turns)
        return eqn.primitive.bind(*arrays, **{**eqn.params, "length": turns, "unroll": unroll})

    return run
