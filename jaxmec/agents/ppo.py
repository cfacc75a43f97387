"""Proximal policy optimisation of the cuts, wholly inside one jitted scan.

Source: Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347 (2017). Every user's choice is
its own categorical with its own probability ratio, clipped by itself: with one joint ratio of ten users nearly
every sample would be clipped. Users' rewards may differ (see `PPOConfig.reward`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args, get_type_hints

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from jaxmec.agents import distribution, normalise
from jaxmec.agents.advantage import gae
from jaxmec.agents.networks import forward, make_network, valid_cuts
from jaxmec.allocation import SolverConfig, cut_costs
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.features import log_expected_cost

REGRET_SOLVER = SolverConfig(iterations=10)  # costs within 1e-5 on coinfer10, far below what cuts differ by


def _static(default: Any) -> Any:
    return struct.field(pytree_node=False, default=default)


class PPOConfig(struct.PyTreeNode):
    """Hyperparameters. Floats are traced, so a sweep over them is one vmap; the rest are shapes and kinds.

    `teacher` is what the actor learns from:
      "objective": model-free; the reward is -log of the slot objective, the same for all users;
      "environment": model-free; the environment's reward, the same for all users;
      "regret": white box; what every cut of every user would have cost at the slot's own prices, without a critic.

    The field "network" is "set" or "mlp", see `jaxmec.agents.networks`.
    """

    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-5  # reached linearly with the last update
    discount: float = 0.0
    trace_decay: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 3e-3  # falls linearly to zero
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    total_steps: int = _static(6_000_000)
    num_envs: int = _static(4096)
    num_steps: int = _static(1)  # per environment and update
    num_epochs: int = _static(1)
    num_minibatches: int = _static(32)
    network: Literal["set", "mlp"] = _static("set")
    width: int = _static(16)
    teacher: Literal["objective", "environment", "regret"] = _static("objective")

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, at least one."""
        return max(self.total_steps // (self.num_envs * self.num_steps), 1)


class Learner(struct.PyTreeNode):
    """Everything that training carries from one update to the next.

    Environments lie in minibatches, M times E / M of num_envs = E, so that nothing has to be copied to make them.
    """

    params: Any  # of the network
    optimiser: Any
    moments: normalise.Moments
    env_state: EnvState  # [M, E / M, ...]
    key: Array
    updates: Array  # int32[]


class Result(struct.PyTreeNode):
    """A finished run."""

    learner: Learner
    metrics: dict[str, Array]  # name -> [num_updates]


class Batch(struct.PyTreeNode):
    """A rollout; leaves [T, M, E / M, N, ...]."""

    observation: Array
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    regret: Array  # [..., K]; of the white-box learner, else [..., 0]


def check(config: PPOConfig) -> None:
    """Sizes and kinds, before anything is traced.

    Raises:
      ValueError: naming the field, its value and what is allowed.
    """
    for name in ("total_steps", "num_envs", "num_steps", "num_epochs", "num_minibatches", "width"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: got {getattr(config, name)}; allowed is at least 1")
    if config.num_envs % config.num_minibatches:
        raise ValueError(
            f"num_minibatches: got {config.num_minibatches}; allowed is a divisor of num_envs = {config.num_envs}"
        )
    for name in ("network", "teacher"):
        allowed = get_args(get_type_hints(PPOConfig)[name])
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name}: got {getattr(config, name)!r}; allowed are {', '.join(allowed)}")


def make_train(env: EdgeInferenceEnv, config: PPOConfig) -> Callable[[Array, EnvParams], Result]:
    """A whole training run as one pure function: train(key, params), to be jitted and vmapped at will.

    Raises:
      ValueError: for a configuration that cannot run.
    """
    check(config)

    def train(key: Array, params: EnvParams) -> Result:
        learner, metrics = run_updates(env, config, init(env, config, key, params), params, config.num_updates)
        return Result(learner, metrics)

    return train


def init(env: EdgeInferenceEnv, config: PPOConfig, key: Array, params: EnvParams) -> Learner:
    """A fresh network among fresh episodes."""
    key, key_net, key_env, key_slot = jax.random.split(key, 4)
    shape = _envs_shape(config)
    observation, env_state = over_envs(env.reset, (0, None))(jax.random.split(key_env, shape), params)
    # Episodes are at different slots from the start, so that they do not end all at once.
    slot = jax.random.randint(key_slot, shape, 0, params.episode_slots, jnp.int32)
    env_state = env_state.replace(slot=slot)
    moments = normalise.update(normalise.init(), observation)
    network = make_network(config.network, env.num_cuts, config.width)
    one = observation[0, 0]
    weights = network.init(key_net, one, valid_cuts(one, env.num_cuts))
    return Learner(
        params=weights,
        optimiser=_optimiser(config).init(weights),
        moments=moments,
        env_state=env_state,
        key=key,
        updates=jnp.zeros((), jnp.int32),
    )


def over_envs(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`jax.vmap` over both axes [M, E / M] of environments, where `in_axes` is 0.

    Devices share the second one. It is mapped outermost where there are several, as what is spread over devices
    stays spread if it leads; on one device the first leads, so that the batch is in the order of memory.
    """
    axis = 1 if jax.device_count() > 1 else 0
    outer = tuple(None if own is None else axis for own in in_axes)
    return jax.vmap(jax.vmap(function, in_axes), outer, out_axes=axis)


def run_updates(
    env: EdgeInferenceEnv, config: PPOConfig, learner: Learner, params: EnvParams, num_updates: int
) -> tuple[Learner, dict[str, Array]]:
    """Some updates in one scan; metrics are [num_updates]. Two calls of n are one call of 2 n."""
    return jax.lax.scan(lambda one, _: _update(env, config, one, params), learner, None, length=num_updates)


def _envs_shape(config: PPOConfig) -> tuple[int, int]:
    return config.num_minibatches, config.num_envs // config.num_minibatches


def _optimiser(config: PPOConfig) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=1e-5))


def _update(
    env: EdgeInferenceEnv, config: PPOConfig, learner: Learner, params: EnvParams
) -> tuple[Learner, dict[str, Array]]:
    network = make_network(config.network, env.num_cuts, config.width)
    key, key_rollout = jax.random.split(learner.key)
    env_state, batch, metrics = _rollout(env, config, network, learner, params, key_rollout)

    done = learner.updates / config.num_updates
    rate = config.learning_rate + done * (config.final_learning_rate - config.learning_rate)
    loss = partial(_loss, network, config, learner.moments, (1.0 - done) * config.entropy_weight)

    def minibatch(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        weights, optimiser = carry
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, 1, keepdims=False), batch)
        gradient, losses = jax.grad(loss, has_aux=True)(weights, part)
        step, optimiser = _optimiser(config).update(gradient, optimiser)
        weights = optax.apply_updates(weights, jax.tree.map(lambda s: -rate * s, step))
        return (weights, optimiser), losses

    (weights, optimiser), losses = jax.lax.scan(
        lambda carry, _: jax.lax.scan(minibatch, carry, jnp.arange(config.num_minibatches)),
        (learner.params, learner.optimiser),
        None,
        length=config.num_epochs,
    )
    metrics |= jax.tree.map(jnp.mean, losses) | {"learning_rate": rate}
    learner = Learner(
        params=weights,
        optimiser=optimiser,
        # Environments are alike: one minibatch of them tells what there is to know.
        moments=normalise.update(learner.moments, batch.observation[:, 0]),
        env_state=env_state,
        key=key,
        updates=learner.updates + 1,
    )
    return learner, metrics


def _rollout(
    env: EdgeInferenceEnv, config: PPOConfig, network: Any, learner: Learner, params: EnvParams, key: Array
) -> tuple[EnvState, Batch, dict[str, Array]]:
    observe = over_envs(env.observe, (0, None))

    def act(observation: Array) -> tuple[Array, Array]:
        # A minibatch at a time, whose hidden layers stay in the cache: a third of the time on a CPU.
        return jax.lax.map(partial(forward, network, learner.moments, learner.params), observation)

    def step(carry: tuple[EnvState, Array], key: Array):
        env_state, observation = carry
        key_action, key_env = jax.random.split(key)
        logits, value = act(observation)
        action = distribution.sample(key_action, logits)
        keys = jax.random.split(key_env, _envs_shape(config))
        after = over_envs(env.step, (0, 0, 0, None))(keys, env_state, action, params)
        next_observation, next_state, reward, terminated, truncated, info = after
        # Without a discount nobody asks what the reached state is worth.
        value_tp1 = jax.lax.cond(
            config.discount > 0, lambda: act(info["final_observation"])[1], lambda: jnp.zeros_like(value)
        )
        # What the closed form expects is a baseline that knows the state, not the cuts.
        expected = jax.nn.logsumexp(log_expected_cost(observation), axis=-1)
        reward_t = reward if config.teacher == "environment" else expected - jnp.log(info["objective"])
        taught = jnp.broadcast_to(reward_t[..., None], value.shape)
        regret = jnp.zeros((*value.shape, 0))
        if config.teacher == "regret":
            prices = info["bandwidth_price"], info["server_price"]
            regret = over_envs(partial(_regret, env), (0, None, 0, 0))(env_state, params, *prices)
        budget_j = over_envs(env.device_budget_j, (0, None))(env_state, params)
        metrics = {
            "reward": jnp.mean(reward),
            "objective": jnp.mean(info["objective"]),
            "log_objective": jnp.mean(jnp.log(info["objective"])),
            "delay_s": jnp.mean(info["delay_s"]),
            "device_energy": jnp.mean(info["device_energy_j"] / budget_j),
            "server_energy": jnp.mean(info["server_energy_j"] / params.server_budget_j),
            "stable": jnp.mean(info["stable"]),
        }
        kept = (observation, action, distribution.log_prob(logits, action), value, regret)
        future = (taught, value_tp1, terminated[..., None], truncated[..., None])
        return (next_state, next_observation), (kept, future, metrics)

    # The learner does not keep observations, which are large and a function of the state; the last step's, which
    # nobody reads, XLA leaves out of a rollout of one step.
    carry = (learner.env_state, observe(learner.env_state, params))
    (env_state, _), (kept, future, metrics) = jax.lax.scan(step, carry, jax.random.split(key, config.num_steps))
    seen, action, log_prob, value, regret = kept
    taught, value_tp1, terminated, truncated = future
    advantage = gae(taught, value, value_tp1, terminated, truncated, config.discount, config.trace_decay)
    batch = Batch(seen, action, log_prob, value, advantage, regret)
    return env_state, batch, jax.tree.map(jnp.mean, metrics)


def _regret(
    env: EdgeInferenceEnv, state: EnvState, params: EnvParams, bandwidth_price: Array, server_price: Array
) -> Array:
    """What each cut costs more than the user's best at given prices, relative to the mean user's cost: [N, K]."""
    mask = env.action_mask(state, params)
    costs = cut_costs(env.cut_problems(state, params), bandwidth_price, server_price, REGRET_SOLVER)
    best = jnp.min(jnp.where(mask, costs, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(mask, costs - best, 0.0) / jnp.mean(best)


def _loss(
    network: Any, config: PPOConfig, moments: normalise.Moments, entropy_weight: Array, weights: Any, batch: Batch
) -> tuple[Array, dict[str, Array]]:
    logits, value = forward(network, moments, weights, batch.observation)
    entropy = jnp.mean(distribution.entropy(logits))
    ratio = jnp.exp(distribution.log_prob(logits, batch.action) - batch.log_prob)
    if config.teacher == "regret":
        policy_loss, value_loss = jnp.mean(jnp.sum(jax.nn.softmax(logits) * batch.regret, axis=-1)), jnp.zeros(())
    else:
        advantage = (batch.advantage - jnp.mean(batch.advantage)) / (jnp.std(batch.advantage) + 1e-8)
        policy_loss = -jnp.mean(clipped_gain(ratio, advantage, config.clip))
        value_loss = 0.5 * jnp.mean((value - batch.value - batch.advantage) ** 2)
    losses = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "clipped": jnp.mean(jnp.abs(ratio - 1.0) > config.clip),
    }
    return policy_loss + config.value_weight * value_loss - entropy_weight * entropy, losses


def clipped_gain(ratio: Array, advantage: Array, clip: Array | float) -> Array:
    """PPO's surrogate, min(r A, clip(r, 1 - ε, 1 + ε) A), element by element: one per user."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)
