"""Off-policy learning from flashbax's buffer: what a slot is worth by its cuts, and the best cuts by that.

    python docs/examples/stacks/flashbax_loop.py

A network predicts each user's part of log(objective) of its own cut, and their sum is fitted to what slots brought
(value decomposition, as in VDN, Sunehag et al., arXiv 1706.05296). Users then take their best cut; one in ten explores.
"""

from __future__ import annotations

import flashbax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from common import arguments, judge, make_system

NUM_ENVS, BATCH, EXPLORE, FITS = 128, 512, 0.1, 4


class Parts(nn.Module):
    """Cost parts [..., N, K] of observations [..., N, F]."""

    num_cuts: int

    @nn.compact
    def __call__(self, observation):
        hidden = nn.relu(nn.Dense(64)(observation))
        everyone = jnp.broadcast_to(hidden.mean(axis=-2, keepdims=True), hidden.shape)
        return nn.Dense(self.num_cuts)(nn.relu(nn.Dense(64)(jnp.concatenate([hidden, everyone], axis=-1))))


def main() -> None:
    """Train and judge."""
    options = arguments(slots=200_000)
    env, params = make_system()
    network, optimiser = Parts(env.num_cuts), optax.adam(1e-3)
    buffer = flashbax.make_item_buffer(65_536, BATCH, BATCH, add_batches=True)

    def best(weights, observation):
        mask = env.unpack(observation).mask
        return jnp.argmin(jnp.where(mask, network.apply(weights, observation), jnp.inf), axis=-1)

    def loss(weights, item):
        parts = jnp.take_along_axis(network.apply(weights, item["seen"]), item["cuts"][..., None], axis=-1)
        return jnp.mean((parts.sum(axis=(-2, -1)) + item["reward"]) ** 2)

    def update(carry, key):
        weights, slow, held, observation, state = carry
        key_draw, key_which, key_step, key_fit = jax.random.split(key, 4)
        mask = env.unpack(observation).mask
        random = jax.random.categorical(key_draw, jnp.where(mask, 0.0, -jnp.inf))
        explores = jax.random.bernoulli(key_which, EXPLORE, random.shape)
        cuts = jnp.where(explores, random, best(weights, observation))
        after, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(key_step, NUM_ENVS), state, cuts, params
        )
        held = buffer.add(held, {"seen": observation, "cuts": cuts, "reward": reward})

        def fit(both, key):
            weights, slow = both
            slope = jax.grad(loss)(weights, buffer.sample(held, key).experience)
            changes, slow = optimiser.update(slope, slow)
            return (optax.apply_updates(weights, changes), slow), None

        (weights, slow), _ = jax.lax.cond(
            buffer.can_sample(held),
            lambda: jax.lax.scan(fit, (weights, slow), jax.random.split(key_fit, FITS)),
            lambda: ((weights, slow), None),
        )
        return (weights, slow, held, after, state), None

    @jax.jit
    def train(key):
        key_net, key_env, key_run = jax.random.split(key, 3)
        observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(key_env, NUM_ENVS), params)
        weights = network.init(key_net, observation)
        item = {"seen": observation[0], "cuts": jnp.zeros(env.num_users, jnp.int32), "reward": jnp.zeros(())}
        carry = weights, optimiser.init(weights), buffer.init(item), observation, state
        return jax.lax.scan(update, carry, jax.random.split(key_run, max(options.slots // NUM_ENVS, 1)))[0][0]

    weights = train(jax.random.key(0))
    judge("flashbax", {"parts of the cost, from flashbax": lambda seen: best(weights, seen)}, options.built_in)


if __name__ == "__main__":
    main()
