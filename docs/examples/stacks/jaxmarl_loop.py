"""Independent learners on JaxMARL's interface: every user an agent, one shared actor, each with its own reward.

python docs/examples/stacks/jaxmarl_loop.py
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from common import arguments, judge, make_system

from jaxmec.wrappers import JaxMARLEnv

NUM_ENVS = 64


class Actor(nn.Module):
    """Logits [..., K] and value [...] of one agent's observation [..., F]."""

    num_cuts: int

    @nn.compact
    def __call__(self, observation):
        hidden = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(observation))))
        logits = nn.Dense(self.num_cuts, kernel_init=nn.initializers.orthogonal(0.01))(hidden)
        return logits, nn.Dense(1)(hidden)[..., 0]


def main() -> None:
    """Train and judge."""
    options = arguments(slots=200_000)
    env, params = make_system()
    agents, actor, optimiser = JaxMARLEnv(env, params, own_reward=True), Actor(env.num_cuts), optax.adam(3e-3)

    def stacked(by_agent):
        return jnp.stack([by_agent[agent] for agent in agents.agents], axis=1)  # [E, N, ...]

    def scores(weights, observation, mask):
        logits, value = actor.apply(weights, observation)
        return jnp.where(mask, logits, -1e9), value

    def update(carry, key):
        weights, slow, observation, state = carry
        key_action, key_step = jax.random.split(key)
        mask = stacked(jax.vmap(agents.get_avail_actions)(state))
        action = jax.random.categorical(key_action, scores(weights, observation, mask)[0])
        named = {agent: action[:, number] for number, agent in enumerate(agents.agents)}
        after, state, rewards, _, _ = jax.vmap(agents.step)(jax.random.split(key_step, NUM_ENVS), state, named)
        # Own rewards are seconds with a long tail: their order of magnitude is what is learned from.
        reward = -jnp.arcsinh(-10.0 * stacked(rewards))

        def loss(weights):
            logits, value = scores(weights, observation, mask)
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]
            advantage = jax.lax.stop_gradient(reward - value)
            return jnp.mean(-chosen * advantage / (advantage.std() + 1e-6) + 0.5 * (value - reward) ** 2)

        changes, slow = optimiser.update(jax.grad(loss)(weights), slow)
        return (optax.apply_updates(weights, changes), slow, stacked(after), state), reward.mean()

    @jax.jit
    def train(key):
        key_net, key_env, key_run = jax.random.split(key, 3)
        seen, state = jax.vmap(agents.reset)(jax.random.split(key_env, NUM_ENVS))
        weights = actor.init(key_net, stacked(seen))
        carry = weights, optimiser.init(weights), stacked(seen), state
        return jax.lax.scan(update, carry, jax.random.split(key_run, max(options.slots // NUM_ENVS, 1)))[0][0]

    weights = train(jax.random.key(0))

    def act(observation):
        return scores(weights, observation, env.unpack(observation).mask)[0].argmax(axis=-1)

    judge("jaxmarl", {"independent actors, JaxMARL": act}, options.built_in)


if __name__ == "__main__":
    main()
