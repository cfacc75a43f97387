"""How much the closed form's constants matter: its slot gap where each is halved and doubled.

python eval/closed_form.py [--scenarios district10 coinfer10 coinfer50] [--states 512]

States are those of the closed form's own long run (`jaxmec.long_run.ascend`); the gap is to the certified bound.
"""

from __future__ import annotations

import dataclasses
import sys

import jax
import numpy as np
import tyro

import jaxmec
from jaxmec import closed_form
from jaxmec.compilation import keep_compiled
from jaxmec.evaluation import mean_and_interval, paired_difference
from jaxmec.long_run import ascend, bounds_at
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.tables import table

CONSTANTS = ("OFFLOADING", "LEAST_FREE")
FACTORS = (0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Flags:
    """Vary the closed form's constants."""

    scenarios: tuple[str, ...] = ("district10", "coinfer10")
    """Names or YAML files."""
    states: int = 512
    """At which the gap is measured, each of a population of its own."""
    slots: int = 100
    """Of each phase of the ascent that leads to them."""


def gaps(name: str, flags: Flags) -> dict[tuple[str, float], np.ndarray]:
    """The slot gap [S] by constant and factor, at the same states."""
    env, params = jaxmec.make(name)
    states, _ = ascend(env, jax.random.key(0), params, flags.states, flags.slots)
    bound = bounds_at(env, states, params)
    keys = jax.random.split(jax.random.key(1), flags.states)
    found = {}
    for constant in CONSTANTS:
        own = getattr(closed_form, constant)
        for factor in FACTORS:
            setattr(closed_form, constant, factor * own)
            policy = make_policy("closed_form", env)
            chosen = jax.jit(lambda key, state, policy=policy: policy(key, state, params))
            cuts = jax.vmap(chosen)(keys, states)
            reached = jax.jit(jax.vmap(env.objective, (0, 0, None)))(states, cuts, params)
            found[constant, factor] = np.asarray(reached) / bound - 1.0
        setattr(closed_form, constant, own)
    return found


def main(flags: Flags) -> int:
    """Print the table; returns the exit status."""
    keep_compiled()
    messages, console = terminal(), terminal(stderr=False)
    rows = []
    for name in flags.scenarios:
        say(messages, name)
        try:
            found = gaps(name, flags)
        except (ValueError, OSError) as error:
            return fail(messages, error)
        for (constant, factor), values in found.items():
            mean, half = mean_and_interval(values)
            more, more_half = paired_difference(values, found[constant, 1.0])
            value = factor * getattr(closed_form, constant)
            rows.append(
                [name, f"{constant} = {value:g}", f"{mean:.2%} ± {half:.2%}", f"{more:+.2%} ± {more_half:.2%}"]
            )
    console.print(
        table("Slot gap of the closed form, ± 95 %", ["scenario", "constant", "gap", "over its own"], rows)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))
