"""Running operations of a traced program, as the calls and scans that they came from wherever these are whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxmec.profiles._graph import Call, Graph, Loop


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
