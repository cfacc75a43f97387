"""A training loop in the manner of purejaxrl: one pure function of a key, gymnax's interface, one scan.

    python docs/examples/stacks/purejaxrl_loop.py

The actor scores every cut of every user, one network for all. The update is the policy gradient of single slots, since
prices carry the future; what the closed form expects of a slot is the baseline.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from common import arguments, judge, make_system

from jaxmec.wrappers import FiveTupleEnv

NUM_ENVS = 64


class Actor(nn.Module):
    """Logits [..., N, K] of observations [..., N, F] and the mask of cuts that exist."""

    num_cuts: int

    @nn.compact
    def __call__(self, observation, mask):
        hidden = nn.tanh(nn.Dense(64)(observation))
        everyone = jnp.broadcast_to(hidden.mean(axis=-2, keepdims=True), hidden.shape)
        hidden = nn.tanh(nn.Dense(64)(jnp.concatenate([hidden, everyone], axis=-1)))
        return jnp.where(mask, nn.Dense(self.num_cuts, kernel_init=nn.initializers.orthogonal(0.01))(hidden), -1e9)


def make_train(env, view, actor, optimiser, num_updates):
    """train(key) -> weights."""
    params = view.default_params

    def train(key):
        key_net, key_env, key = jax.random.split(key, 3)
        observation, state = jax.vmap(view.reset, (0, None))(jax.random.split(key_env, NUM_ENVS), params)
        weights = actor.init(key_net, observation, env.unpack(observation).mask)

        def update(carry, key):
            weights, slow, observation, state = carry
            key_action, key_step = jax.random.split(key)
            mask = env.unpack(observation).mask
            action = jax.random.categorical(key_action, actor.apply(weights, observation, mask))
            after, state, reward, _, info = jax.vmap(view.step, (0, 0, 0, None))(
                jax.random.split(key_step, NUM_ENVS), state, action, params
            )
            advantage = env.reward_signal("objective", observation, reward, info)  # beside what was to be expected
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)

            def loss(weights):
                log_p = jax.nn.log_softmax(actor.apply(weights, observation, mask))
                chosen = jnp.take_along_axis(log_p, action[..., None], axis=-1)[..., 0].sum(axis=-1)
                return -jnp.mean(chosen * advantage)

            changes, slow = optimiser.update(jax.grad(loss)(weights), slow)
            return (optax.apply_updates(weights, changes), slow, after, state), reward.mean()

        carry = weights, optimiser.init(weights), observation, state
        (weights, *_), rewards = jax.lax.scan(update, carry, jax.random.split(key, num_updates))
        return weights, rewards

    return train


def main() -> None:
    """Train and judge."""
    options = arguments(slots=200_000)
    env, params = make_system()
    view, actor = FiveTupleEnv(env, params, flat=False), Actor(env.num_cuts)
    train = make_train(env, view, actor, optax.adam(3e-3), max(options.slots // NUM_ENVS, 1))
    weights, _ = jax.jit(train)(jax.random.key(0))

    def act(observation):
        return actor.apply(weights, observation, env.unpack(observation).mask).argmax(axis=-1)

    judge("gymnax", {"policy gradient, purejaxrl's loop": act}, options.built_in)


if __name__ == "__main__":
    main()
