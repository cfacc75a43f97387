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
from flax import struct
from jax import Array

from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.environment import Policy
from jaxmec.evaluation.compare import bounds_at
from jaxmec.policies import make_policy
from jaxmec.rollout import Slot, rollout

ASCENT = (1.0, 4.0, 16.0, 64.0)  # V of the phases of dual ascent, over the scenario's
ASCENT_SLOTS = 2000  # of each phase


class Multipliers(struct.PyTreeNode):
    """Of the budgets, in seconds of mean delay per user: what another budget's worth of energy would save."""

    device: Array  # [E, N]
    server: Array  # [E]


class Episodes(struct.PyTreeNode):
    """A policy on E episodes of T slots: means over the slots. Energies are over their budgets."""

    delay_s: Array  # [E, N]
    device_energy: Array  # [E, N]
    server_energy: Array  # [E]
    device_queue: Array  # [E, N]
    server_queue: Array  # [E]
    states: EnvState  # [E, T, ...] at the start of every slot
    end: EnvState  # [E, ...]


@partial(jax.jit, static_argnames=("env", "policy", "num_slots"))
def run_episodes(
    env: EdgeInferenceEnv, policy: Policy, key: Array, start: EnvState, params: EnvParams, num_slots: int
) -> Episodes:
    """Run a policy from given states [E, ...]; the same key gives the same channels and arrivals."""

    def measure(slot: Slot) -> tuple[dict[str, Array], EnvState]:
        use = env.budget_use(slot.state, slot.info, params)
        return {
            "delay_s": slot.info["delay_s"],
            "device_energy": use["device_energy"],
            "server_energy": use["server_energy"][0],
            "device_queue": slot.state.device_queue,
            "server_queue": slot.state.server_queue,
        }, slot.state

    def episode(start: EnvState, key: Array) -> Episodes:
        end, (measured, states) = rollout(env, policy, key, start, params, num_slots, measure)
        means: dict[str, Any] = jax.tree.map(lambda values: jnp.mean(values, axis=0), measured)
        return Episodes(**means, states=states, end=end)

    return jax.vmap(episode)(start, jax.random.split(key, len(start.slot)))


def ascend(
    env: EdgeInferenceEnv, key: Array, params: EnvParams, num_episodes: int
) -> tuple[EnvState, Multipliers]:
    """Populations whose multipliers have been found by dual ascent, with the cuts of the closed form.

    Returns:
      States [E, ...] after the ascent, and the multipliers of each.
    """
    key_reset, key = jax.random.split(key)
    _, state = jax.vmap(env.reset_env, (0, None))(jax.random.split(key_reset, num_episodes), params)
    found = Multipliers(state.device_queue, state.server_queue)
    policy = make_policy("closed_form", env)
    for phase, factor in enumerate(ASCENT):
        changed = params.replace(tradeoff=factor * params.tradeoff)
        start = priced(state, found, changed)
        run = run_episodes(env, policy, jax.random.fold_in(key, phase), start, changed, ASCENT_SLOTS)
        state = run.end
        scale = changed.tradeoff * env.num_users
        found = Multipliers(run.device_queue / scale, run.server_queue / scale)
    return state, found


def priced(state: EnvState, multipliers: Multipliers, params: EnvParams) -> EnvState:
    """States whose queues stand for the multipliers: their slot objectives are V N times the Lagrangian's terms.

    The leading axes of states are [E] or those of the multipliers broadcast to them.
    """
    scale = params.tradeoff * multipliers.device.shape[-1]
    return state.replace(
        device_queue=jnp.broadcast_to(scale * multipliers.device, state.device_queue.shape),
        server_queue=jnp.broadcast_to(scale * multipliers.server, state.server_queue.shape),
    )


def lagrangian_s(run: Episodes, multipliers: Multipliers, params: EnvParams) -> np.ndarray:
    """Weighted mean delay plus multipliers times (energy over budget - 1): [E]. The delay at equal energy."""
    delay = jnp.mean(params.delay_weight[None] * run.delay_s, axis=-1)
    devices = jnp.sum(multipliers.device * (run.device_energy - 1.0), axis=-1)
    return np.asarray(delay + devices + multipliers.server * (run.server_energy - 1.0))


def lower_bound_s(
    env: EdgeInferenceEnv, states: EnvState, multipliers: Multipliers, params: EnvParams
) -> np.ndarray:
    """Certified lower bound [E] of the long-run delay of every policy that keeps the budgets.

    Args:
      env: the environment.
      states: [E, T, ...] whose channels and arrivals are met; cuts do not move them, so any policy's will do.
      multipliers: of the E episodes.
      params: of the system.
    """
    slots = states.slot.shape[1]
    wide = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], slots, axis=1), multipliers)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), priced(states, wide, params))
    slot_s = bounds_at(env, params, flat).reshape(states.slot.shape) / (float(params.tradeoff) * env.num_users)
    return slot_s.mean(-1) - np.asarray(multipliers.device.sum(-1) + multipliers.server)
