"""The long-run problem: least mean delay such that mean energies are within their budgets.

Its Lagrangian adds a multiplier, in seconds, times (energy over budget - 1) for every device and the server. Cuts move
neither channel nor arrivals, so at constant multipliers every slot is a problem of its own, and its minimum, slot by
slot, bounds the delay of all policies that keep the budgets on the same channels and arrivals, far-sighted or
clairvoyant (weak duality). The bound holds for any multipliers, and is close for good ones: a virtual queue over V is
a multiplier under dual ascent with steps 1/V, so mean queues over a growing V are what `ascend` takes.

Source: M. J. Neely, "Stochastic Network Optimization with Application to Communication and Queueing Systems" (2010),
ch. 4 (drift-plus-penalty as dual ascent).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec.closed_form import cheapest_cuts
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState

ASCENT = (1.0, 4.0, 16.0, 64.0)  # V of the phases of dual ascent, over the scenario's
ASCENT_SLOTS = 1000  # of each phase
BOUNDED_AT_ONCE = 4096  # states whose bounds are computed in one call

Multipliers = dict[str, Any]  # by budget, in seconds of mean delay per budget's worth of energy


def ascend(
    env: EdgeInferenceEnv, key: Array, params: EnvParams, num_episodes: int, num_slots: int = ASCENT_SLOTS
) -> tuple[EnvState, Multipliers]:
    """Populations and the multipliers of their budgets, by dual ascent with the cuts of the closed form.

    The ascent starts with the scenario's V and goes on with larger ones, whose queues move less: each phase's mean
    queues are the next one's start. The first half of a phase is left out of its means.

    Args:
      env: the environment.
      key: random key.
      params: of the system.
      num_episodes: E populations.
      num_slots: of each phase.

    Returns:
      States [E, ...] after the ascent, whose queues stand for the multipliers (see `EdgeInferenceEnv.priced`), and the
      multipliers, name -> [E, n].
    """
    key_reset, key = jax.random.split(key)
    _, states = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_episodes), params)

    multipliers = env.multipliers(jax.vmap(env.queues)(states), params)
    for number, factor in enumerate(ASCENT):
        changed = params.replace(tradeoff=factor * params.tradeoff)
        keys = jax.random.split(jax.random.fold_in(key, number), num_episodes)
        start = _priced(env, states, multipliers, changed)
        states, multipliers = _ascent_phase(env, start, keys, changed, num_slots)
    return _priced(env, states, multipliers, params), multipliers


@partial(jax.jit, static_argnames=("env", "num_slots"))
def _ascent_phase(
    env: EdgeInferenceEnv, states: EnvState, keys: Array, params: EnvParams, num_slots: int
) -> tuple[EnvState, Multipliers]:
    """Run the closed form's cuts from states [E, ...]: the last states, and what the mean queues stand for."""

    def slot(state: EnvState, key: Array) -> tuple[EnvState, Multipliers]:
        cuts = cheapest_cuts(env.cut_problems(state, params), env.action_mask(state, params))
        return env.advance(key, state, env.decide(state, cuts, params), params), env.queues(state)

    def episode(state: EnvState, key: Array) -> tuple[EnvState, Multipliers]:
        state, queues = jax.lax.scan(slot, state, jax.random.split(key, num_slots))
        settled = jax.tree.map(lambda queue: jnp.mean(queue[num_slots // 2 :], axis=0), queues)
        return state, env.multipliers(settled, params)

    return jax.vmap(episode)(states, keys)


def lagrangian(cost: np.ndarray, use: dict[str, np.ndarray], multipliers: Multipliers) -> np.ndarray:
    """Cost plus multipliers times (use of the budget - 1): [E]. It is what the cost would be at equal energy.

    Args:
      cost: [E] mean delay, s.
      use: name -> [E, n] mean use of every budget, over the budget.
      multipliers: name -> [E, n].
    """
    excess = sum(np.sum(np.asarray(multipliers[name]) * (values - 1.0), axis=-1) for name, values in use.items())
    return cost + excess


def lower_bound(
    env: EdgeInferenceEnv, states: EnvState, multipliers: Multipliers, params: EnvParams
) -> np.ndarray:
    """Certified lower bound [E] of the long-run delay, s, of every policy that keeps the budgets.

    It bounds the `lagrangian` of every policy from below as well, whether or not it keeps the budgets.

    Args:
      env: the environment.
      states: [E, T, ...] whose channels and arrivals are met; cuts do not move them, so any policy's will do.
      multipliers: of the E episodes, name -> [E, n].
      params: of the system.
    """
    episodes, slots = states.slot.shape
    params = params.replace(backlog_weight=None)  # a slot's own concern, and no part of the long-run delay
    wide = jax.tree.map(lambda leaf: jnp.repeat(leaf, slots, axis=0), multipliers)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
    flat = _priced(env, flat, wide, params)
    bounds = bounds_at(env, flat, params).reshape(episodes, slots)
    slot_s = bounds / (float(params.tradeoff) * env.num_users)
    return slot_s.mean(axis=-1) - sum(np.sum(np.asarray(values), axis=-1) for values in multipliers.values())


def bounds_at(env: Any, states: Any, params: Any) -> np.ndarray:
    """The environment's lower bound [S] of the slot objective at states [S, ...], a few thousand at a time."""
    number = jax.tree.leaves(states)[0].shape[0]
    size = min(number, BOUNDED_AT_ONCE)
    parts = []
    for first in range(0, number, size):
        chosen = np.minimum(np.arange(first, first + size), number - 1)
        parts.append(np.asarray(_bounds(env, jax.tree.map(lambda leaf, c=chosen: leaf[c], states), params)))
    return np.concatenate(parts)[:number]


@partial(jax.jit, static_argnames="env")
def _bounds(env: Any, states: Any, params: Any) -> Array:
    return jax.vmap(env.lower_bound, (0, None))(states, params)


def _priced(env: EdgeInferenceEnv, states: EnvState, multipliers: Multipliers, params: EnvParams) -> EnvState:
    return jax.vmap(env.priced, (0, 0, None))(states, multipliers, params)
