"""Inlining programs into one flat list of operations, and counting those that stay whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxmec.profiles._cost import Cost, cost_of, is_known
from jaxmec.profiles._fusion import fuse
from jaxmec.profiles._graph import Call, Kind, Loop, Operation, Value, needed
from jaxmec.profiles._loops import most_turns

MAX_UNROLL = 512  # turns; a longer scan is a time loop rather than a stack of layers
_NO_CALLS = {"cond", "pallas_call", "scan", "shard_map", "while"}  # hold a program and do more than call it


class Builder:
    """Collects values and operations while programs are inlined."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.operations: list[Operation] = []
        self.constants: dict[int, Any] = {}
        self.stretches: dict[int, list[Call | tuple[Loop, int]]] = {}

    def value(self, aval: Any, kind: Kind, source_bytes: int | None = None) -> int:
        self.values.append(Value(tuple(aval.shape), aval.dtype, kind, source_bytes))
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
        source = self.values[inputs[0]].moved if name == "broadcast_in_dim" else None
        outputs = [self.value(aval, kind, source) for aval in avals]
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
        if name == "device_put":  # each half runs where it is put
            return inputs
        called = _called(eqn, inputs)
        if called is not None:
            return self.call(eqn, *called, inputs, label)
        if name == "scan" and self.is_over_layers(eqn, inputs, label):
            return self.unroll(eqn, inputs, label)
        cost = None if is_known(name) else self.cost_whole(eqn, inputs, label)
        return self.operation(name, _bind(eqn), inputs, [var.aval for var in eqn.outvars], label, eqn.params, cost)

    def call(self, eqn: Any, program: Any, arguments: Sequence[int], inputs: list[int], label: str) -> list[int]:
        """The operations of a call, remembered as one stretch."""
        start = len(self.operations)
        starting = self.stretches.setdefault(start, [])
        place = len(starting)
        outputs = self.inline(program, arguments, label)
        if len(self.operations) > start:
            call = Call(start, len(self.operations), _bind(eqn), tuple(inputs), tuple(outputs))
            starting.insert(place, call)
        return outputs

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

    def cost_whole(self, eqn: Any, inputs: list[int], label: str) -> Cost:
        """Counts of an operation that stays whole: a loop, a branch, or what is not known."""
        if self.kind_of(inputs) is Kind.CONSTANT:
            return Cost()
        name, params = eqn.primitive.name, eqn.params
        kinds = [self.values[i].kind for i in inputs]
        if name == "scan":
            cost = _scan_cost(params, kinds, label)
        elif name == "while":
            cost = self.while_cost(params, inputs, kinds, label)
        elif name == "cond":
            self.warn(label, "a data-dependent branch", "its dearest side is counted")
            sides = [_program_cost(branch, kinds[1:], label)[0] for branch in params["branches"]]
            cost = max(sides, key=lambda cost: (2 * cost.macs + cost.other_ops, cost.bytes_moved))
        elif name != "pallas_call" and (programs := _programs(params)):
            times = params["mesh"].size if name == "shard_map" else 1
            self.warn(label, name, f"what it holds is counted {times} time(s)")
            cost = Cost()
            for program in programs:
                kinds = [Kind.REQUEST] * len(_jaxpr(program).invars)
                cost += _program_cost(program, kinds, label)[0].times(times)
        else:
            self.warn(label, name, "what it computes is not counted")
            cost = Cost()
        return cost._replace(heavy_ops=max(cost.heavy_ops, 1.0), kernels=max(cost.kernels, 1.0))

    def while_cost(self, params: dict[str, Any], inputs: list[int], kinds: list[Kind], label: str) -> Cost:
        """As many turns as the condition allows if it counts them, otherwise one."""
        turns = most_turns(params, [self.constants.get(i) for i in inputs])
        if turns is None:
            how = "its condition and body are counted once: how often they run is unknown"
        else:
            how = f"the {turns} turns that its condition allows are counted"
        self.warn(label, "a while loop", how)
        split = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        condition = _program_cost(params["cond_jaxpr"], [*kinds[: split[0]], *kinds[split[1] :]], label)[0]
        body = _program_cost(params["body_jaxpr"], kinds[split[0] :], label)[0]
        return condition + body if turns is None else condition.times(turns + 1) + body.times(turns)

    @staticmethod
    def warn(label: str, what: str, how: str) -> None:
        warnings.warn(
            f"{label or 'the function'}: {what} is kept whole: no cut lies inside it; {how}", stacklevel=2
        )


def _called(eqn: Any, inputs: list[int]) -> tuple[Any, list[int]] | None:
    """The program that an operation calls and its arguments, if it does nothing but call it."""
    if eqn.primitive.name == "custom_linear_solve":  # the other programs that it holds are for derivatives
        lengths = eqn.params["const_lengths"]
        first = lengths.matvec + lengths.vecmat
        arguments = inputs[first : first + lengths.solve] + inputs[sum(lengths) :]
        return eqn.params["jaxprs"].solve, arguments
    if is_known(eqn.primitive.name) or eqn.primitive.name in _NO_CALLS:
        return None
    programs = _programs(eqn.params)
    if len(programs) != 1:
        return None
    jaxpr = _jaxpr(programs[0])
    same = _signature(jaxpr.invars) == _signature(eqn.invars) and _signature(jaxpr.outvars) == _signature(
        eqn.outvars
    )
    return (programs[0], inputs) if same else None


def _signature(atoms: Sequence[Any]) -> list[tuple]:
    return [(type(atom.aval), atom.aval.shape, atom.aval.dtype) for atom in atoms]


def _programs(params: dict[str, Any]) -> list[Any]:
    """Programs among the parameters of an operation."""
    items = [item for value in params.values() for item in (value if isinstance(value, tuple) else (value,))]
    return [item for item in items if isinstance(item, ClosedJaxpr | Jaxpr)]


def _jaxpr(program: Any) -> Any:
    return getattr(program, "jaxpr", program)


def _program_cost(program: Any, kinds: Sequence[Kind], label: str) -> tuple[Cost, list[Kind]]:
    """Counts of a program by itself, and the kinds of its results."""
    builder = Builder()
    arguments = [builder.value(var.aval, kind) for var, kind in zip(_jaxpr(program).invars, kinds, strict=True)]
    results = builder.inline(program, arguments, label)
    wanted = needed(builder.operations, range(len(builder.operations)), results)
    operations = fuse(builder.operations, builder.values, wanted)
    total = Cost()
    for index in wanted:
        if operations[index].kind is not Kind.CONSTANT:
            total += operations[index].cost
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
