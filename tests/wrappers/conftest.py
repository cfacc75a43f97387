"""A small environment with everything that a view touches; it compiles in no time."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import struct

from jaxmec import spaces


class Numbers(struct.PyTreeNode):
    price: jax.Array  # []
    episode_slots: jax.Array  # int32[]


class Dials(struct.PyTreeNode):
    slot: jax.Array  # int32[]
    cost: jax.Array  # [2, 3]
    kind: jax.Array  # int32[2]: user n has two options or three


@dataclasses.dataclass(frozen=True)
class TwoDials:
    """Two users; each pays for its option, and some have only two of three options."""

    num_users: int = 2
    num_options: int = 3

    @property
    def default_params(self):
        return Numbers(price=jnp.asarray(2.0), episode_slots=jnp.asarray(4))

    def reset(self, key, params):
        key_cost, key_kind = jax.random.split(key)
        cost, kind = jax.random.uniform(key_cost, (2, 3)), jax.random.bernoulli(key_kind, 0.5, (2,))
        state = Dials(jnp.zeros((), jnp.int32), cost, kind.astype(jnp.int32))
        return self.observe(state, params), state

    def step_env(self, key, state, action, params):
        paid = params.price * jnp.take_along_axis(state.cost, action[:, None], axis=1)[:, 0]
        after = state.replace(slot=state.slot + 1, cost=jax.random.uniform(key, (2, 3)))
        info = {"paid": paid, "price": params.price, "table": state.cost}
        return self.observe(after, params), after, -jnp.mean(paid), jnp.asarray(False), info

    def step(self, key, state, action, params):
        key_step, key_reset = jax.random.split(key)
        obs, after, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = after.slot >= params.episode_slots
        fresh = self.reset(key_reset, params)
        info["final_observation"] = obs
        obs, after = jax.tree.map(lambda new, old: jnp.where(truncated, new, old), fresh, (obs, after))
        return obs, after, reward, terminated, truncated, info

    def observe(self, state, params):
        return jnp.concatenate([state.cost, state.kind[:, None].astype(float)], axis=1)

    def action_mask(self, state, params):
        return jnp.arange(3)[None, :] < 2 + state.kind[:, None]

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (2, 4))

    def action_space(self, params):
        return spaces.MultiDiscrete(2, 3)


@pytest.fixture(scope="session")
def dials():
    return TwoDials()


@pytest.fixture(scope="session")
def episode(dials):
    """Six slots of the environment itself, which last over the end of an episode: keys, actions, what came."""
    keys = jax.random.split(jax.random.key(7), 7)
    actions = jax.random.randint(jax.random.key(8), (6, 2), 0, 2)
    params, step = dials.default_params, jax.jit(dials.step)
    obs, state = dials.reset(keys[0], params)
    slots = []
    for key, action in zip(keys[1:], actions, strict=True):
        before = state
        obs_after, state, *rest = step(key, state, action, params)
        slots.append((before, obs_after, state, *rest))
    return keys, actions, obs, slots
