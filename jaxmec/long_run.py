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

from jaxmec.blocks import blocks, joined
from jaxmec.closed_form import cheapest_cuts
from jaxmec.environment import LongRunEnvironment, Params, State

ASCENT = (1.0, 4.0, 16.0, 64.0)  # V of the phases of dual ascent, over the scenario's
ASCENT_SLOTS = 1000  # of each phase
# Episodes of an ascent, and states to be bounded, in one call: always the same numbers, so that all calls share a
# compilation.
ASCENT_AT_ONCE = 64
BOUNDED_AT_ONCE = 512

Multipliers = dict[str, Any]  # by budget, in seconds of mean delay per budget's worth of energy


def ascend(
    env: LongRunEnvironment, key: Array, params: Params, num_episodes: int, num_slots: int = ASCENT_SLOTS
) -> tuple[State, Multipliers]:
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
      States [E, ...] after the ascent, whose queues stand for the multipliers (see `LongRunEnvironment.priced`),
      and the multipliers, name -> [E, n].
    """
    keys = jax.random.split(key, num_episodes)
    parts = [_ascended(env, some, params, num_slots) for some in blocks(keys, ASCENT_AT_ONCE)]
    return joined(parts, num_episodes)


@partial(jax.jit, static_argnames="env")
def _ascended(env: LongRunEnvironment, keys: Array, params: Params, num_slots: Array) -> tuple[State, Multipliers]:
    """As `ascend`, of the episodes of keys [B]; the number of slots may be traced."""

    def episode(key: Array) -> tuple[State, Multipliers]:
        key_reset, key = jax.random.split(key)
        _, state = env.reset(key_reset, params)

        def phase(carry: tuple[State, Multipliers], numbered: tuple[Array, Array]) -> tuple:
            state, multipliers = carry
            number, factor = numbered
            changed = params.replace(tradeoff=factor * params.tradeoff)
            key_phase = jax.random.fold_in(key, number)

            def slot(index: Array, carry: tuple[State, Multipliers]) -> tuple[State, Multipliers]:
                state, sums = carry
                settled = index >= num_slots // 2
                sums = jax.tree.map(lambda s, queue: s + jnp.where(settled, queue, 0.0), sums, env.queues(state))
                cuts = cheapest_cuts(env.cut_problems(state, changed), env.action_mask(state, changed))
                decision = env.decide(state, cuts, changed)
                return env.advance(jax.random.fold_in(key_phase, index), state, decision, changed), sums

            state = env.priced(state, multipliers, changed)
            state, sums = jax.lax.fori_loop(0, num_slots, slot, (state, jax.tree.map(jnp.zeros_like, multipliers)))
            mean = jax.tree.map(lambda s: s / (num_slots - num_slots // 2), sums)
            return (state, env.multipliers(mean, changed)), None

        start = state, env.multipliers(env.queues(state), params)
        phases = jnp.arange(len(ASCENT)), jnp.asarray(ASCENT)
        (state, multipliers), _ = jax.lax.scan(phase, start, phases)
        return env.priced(state, multipliers, params), multipliers

    return jax.vmap(episode)(keys)


def lagrangian(cost: np.ndarray, use: dict[str, np.ndarray], multipliers: Multipliers) -> np.ndarray:
    """Cost plus multipliers times (use of the budget - 1): [E]. It is what the cost would be at equal energy.

    Args:
      cost: [E] mean delay, s.
      use: name -> [E, n] mean use of every budget, over the budget.
      multipliers: name -> [E, n].
    """
    excess = sum(np.sum(np.asarray(multipliers[name]) * (values - 1.0), axis=-1) for name, values in use.items())
    return cost + excess


def lower_bound(env: LongRunEnvironment, states: State, multipliers: Multipliers, params: Params) -> np.ndarray:
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
    flat = priced_states(env, flat, wide, params)
    bounds = bounds_at(env, flat, params).reshape(episodes, slots)
    slot_s = bounds / (float(params.tradeoff) * env.num_users)
    return slot_s.mean(axis=-1) - sum(np.sum(np.asarray(values), axis=-1) for values in multipliers.values())


def bounds_at(env: Any, states: Any, params: Any) -> np.ndarray:
    """The environment's lower bound [S] of the slot objective at states [S, ...], some hundred at a time."""
    number = jax.tree.leaves(states)[0].shape[0]
    parts = [_bounds(env, some, params) for some in blocks(states, BOUNDED_AT_ONCE)]
    return joined(parts, number)


@partial(jax.jit, static_argnames="env")
def _bounds(env: Any, states: Any, params: Any) -> Array:
    return jax.vmap(env.lower_bound, (0, None))(states, params)


@partial(jax.jit, static_argnames="env")
def populations(env: Any, keys: Array, params: Any) -> Any:
    """The states [E, ...] at the start of the episodes of keys [E]."""
    return jax.vmap(env.reset, (0, None))(keys, params)[1]


@partial(jax.jit, static_argnames="env")
def priced_states(env: LongRunEnvironment, states: State, multipliers: Multipliers, params: Params) -> State:
    """States [E, ...] whose queues stand for multipliers, name -> [E, n]; see `LongRunEnvironment.priced`."""
    return jax.vmap(env.priced, (0, 0, None))(states, multipliers, params)
