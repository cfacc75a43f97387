"""Policies that spend differently, compared where they spend the same.

Constant multipliers of the budgets, from a fraction to a multiple of the long-run problem's own, make a policy save
more or less. Each multiple is a point of delay against energy; between the points the delay is interpolated, episode by
episode, at the energy that the budgets allow. Energies of several budgets are one number, their mean weighted by the
long-run problem's multipliers: what a little more of each is worth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.environment import Policy
from jaxmec.evaluation.comparison import Slots, Tell, long_runs
from jaxmec.long_run import Multipliers, ascend, priced_states
from jaxmec.lyapunov import FixedMultipliers
from jaxmec.policies.static import ASCENT_SLOTS, POPULATIONS, SEED, fit_static, lookup


@dataclasses.dataclass(frozen=True)
class Curve:
    """Delay against energy of one policy; P points, in order of their multiples, E episodes."""

    multiples: tuple[float, ...]  # of the long-run problem's multipliers
    energy: np.ndarray  # [P, E] over budget, weighted by multipliers
    delay_s: np.ndarray  # [P, E]

    def delay_at(self, energy: float) -> np.ndarray:
        """Delay [E] at an energy, linear between the two points around it; not a number where there are none."""
        found = np.full(self.energy.shape[1], np.nan)
        for episode, (used, delay) in enumerate(zip(self.energy.T, self.delay_s.T, strict=True)):
            order = np.argsort(used)
            if used[order[0]] <= energy <= used[order[-1]]:
                found[episode] = np.interp(energy, used[order], delay[order])
        return found


def weighted_energy(use: Mapping[str, np.ndarray], multipliers: Multipliers) -> np.ndarray:
    """Mean use [E] of the budgets, name -> [E, n], weighted by their multipliers; one where all are just used up."""
    weights = {name: np.asarray(values) for name, values in multipliers.items()}
    total = sum(np.sum(values, axis=-1) for values in weights.values())
    spent = sum(np.sum(weights[name] * use[name], axis=-1) for name in weights)
    return np.asarray(spent / total)


def delay_against_energy(
    env: EdgeInferenceEnv,
    params: EnvParams,
    policies: Mapping[str, Policy | Sequence[Policy]],
    multiples: tuple[float, ...],
    num_episodes: int,
    num_slots: int,
    seed: int = 2**20,
    tell: Tell = lambda _: None,
) -> dict[str, Curve]:
    """Run policies with multiples of the long-run problem's multipliers, all on the same episodes.

    Args:
      env: the environment; its constraints are replaced by constant multipliers.
      params: of the system.
      policies: by name; one that reads the multipliers in the state, or one for each multiple.
      multiples: P of them, above zero.
      num_episodes: E populations.
      num_slots: of each.
      seed: of the populations.
      tell: is told what is being done.
    """
    constant = dataclasses.replace(env, constraints=FixedMultipliers())
    key_start, key_run = jax.random.split(jax.random.key(seed))
    tell("looking for the multipliers of the budgets")
    states, multipliers = ascend(env, key_start, params, num_episodes)
    several = {name: (one,) * len(multiples) if callable(one) else one for name, one in policies.items()}
    every = {
        name if callable(policies[name]) else f"{name} {multiple:g}": one
        for name, ones in several.items()
        for multiple, one in zip(multiples, ones, strict=True)
    }
    slots = Slots(constant, every)
    points: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in policies}
    for index, multiple in enumerate(multiples):
        tell(f"multipliers times {multiple:g}")
        start = priced_states(constant, states, _times(multiple, multipliers), params)
        now = {
            name if callable(policies[name]) else f"{name} {multiple:g}": several[name][index] for name in policies
        }
        runs = long_runs(constant, now, key_run, params, num_episodes, num_slots, start, slots=slots)
        for name, run in zip(policies, runs.values(), strict=True):
            points[name].append((weighted_energy(run.use, multipliers), run.metrics["cost"]))
    return {
        name: Curve(multiples, *(np.stack(values) for values in zip(*found, strict=True)))
        for name, found in points.items()
    }


def static_tables(env: EdgeInferenceEnv, params: EnvParams, multiples: tuple[float, ...]) -> list[Policy]:
    """A lookup table for each multiple, fitted to other populations than any that policies are compared on."""
    states, multipliers = ascend(env, jax.random.key(SEED), params, POPULATIONS, ASCENT_SLOTS)
    return [
        lookup(fit_static(env, params, priced_states(env, states, _times(multiple, multipliers), params)))
        for multiple in multiples
    ]


def _times(multiple: float, multipliers: Multipliers) -> Multipliers:
    return {name: multiple * np.asarray(values) for name, values in multipliers.items()}
