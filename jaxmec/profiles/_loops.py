"""How often a while loop can run, where its condition counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal, Var


def most_turns(params: dict[str, Any], known: Sequence[Any]) -> int | None:
    """Turns of a while loop whose condition says `counter < limit`, alone or with others.

    Args:
      params: of the loop.
      known: arrays of its operands, None where they are not known: constants of the condition, constants of the
        body, and the first carry.

    Returns:
      The most turns; None if the condition names no counter that the body moves by a constant.
    """
    condition, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    num_consts = params["cond_nconsts"]
    carried = condition.invars[num_consts:]
    first = dict(zip(carried, known[num_consts + params["body_nconsts"] :], strict=True))
    new = dict(zip(carried, body.outvars, strict=True))
    old = dict(zip(carried, body.invars[params["body_nconsts"] :], strict=True))
    fixed = dict(zip(condition.invars[:num_consts], known[:num_consts], strict=True))
    fixed |= {var: first[var] for var in carried if new[var] is old[var]}

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else fixed.get(atom)

    bounds = []
    for counter, limit in _comparisons(condition, condition.outvars[0]):
        start, end, step = first.get(counter), value(limit), _step(body, old.get(counter), new.get(counter))
        if start is not None and end is not None and step is not None and step > 0:
            bounds.append(max(0, int(np.ceil((float(end) - float(start)) / step))))
    return min(bounds, default=None)


def _maker(jaxpr: Any, atom: Any) -> Any:
    """The operation that makes a value, looked at through conversions of type; None for arguments."""
    for eqn in jaxpr.eqns:
        if atom in eqn.outvars:
            return _maker(jaxpr, eqn.invars[0]) if eqn.primitive.name == "convert_element_type" else eqn
    return None


def _comparisons(jaxpr: Any, atom: Any) -> list[tuple[Any, Any]]:
    """Pairs (a, b) of all conditions a < b that must hold together."""
    made = _maker(jaxpr, atom) if isinstance(atom, Var) else None
    if made is None:
        return []
    if made.primitive.name == "and":
        return [pair for part in made.invars for pair in _comparisons(jaxpr, part)]
    if made.primitive.name in ("lt", "gt"):
        a, b = made.invars if made.primitive.name == "lt" else reversed(made.invars)
        return [(a, b)] if isinstance(a, Var) else []
    return []


def _step(body: Any, old: Any, new: Any) -> float | None:
    """The constant by which a loop's body moves a counter."""
    made = _maker(body, new) if isinstance(new, Var) else None
    if made is None or made.primitive.name != "add":
        return None
    others = [atom for atom in made.invars if atom is not old]
    return float(others[0].val) if len(others) == 1 and isinstance(others[0], Literal) else None
