"""The learner: where an update's time goes, how it scales, and PPO on CartPole beside it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

import jaxmec
from benchmarks.common import Row, Settings, scenario_states, timed, without_final_observation
from jaxmec.agents import PPO, actor_critic
from jaxmec.agents.advantage import gae
from jaxmec.agents.networks import NETWORKS
from jaxmec.agents.ppo import clipped_gain
from jaxmec.allocation import allocate

_ENVS = 4096
_SCALES = ((10, 1024), (10, 16384), (10, 65536), (50, 4096), (200, 1024))  # users, environments
_UPDATES, _SECONDS = 5, 3.0  # that one timing repeats at least


def learner_section(settings: Settings) -> Iterator[Row]:
    """Parts of an update of the default recipe on coinfer10; time and memory against size; CartPole."""
    parts = list(_parts(settings))
    yield from parts
    update = _update("coinfer10", 10, _ENVS)
    yield update
    yield from _remainders({row.what: row.microseconds for row in parts}, update)
    for users, envs in _SCALES:
        yield _update("coinfer50" if users > 10 else "coinfer10", users, envs)
    yield _cartpole()


def _remainders(parts: dict[str, float], update: Row) -> Iterator[Row]:
    """What the parts leave of an update, in which forward runs once to act and once with the gradient."""
    own = update.microseconds - parts["env.step"]
    ratio = f"{own / parts['exact layer']:.1f} times the exact layer"
    for what, microseconds, note in (
        ("backward", parts["forward and backward"] - parts["forward"], ""),
        ("the learner's own: all but env.step", own, ratio),
        (
            "rest of it: all but forward, forward and backward",
            own - parts["forward"] - parts["forward and backward"],
            "",
        ),
    ):
        yield dataclasses.replace(update, what=what, microseconds=microseconds, compile_s=float("nan"), note=note)


def _parts(settings: Settings) -> Iterator[Row]:
    env, params = jaxmec.make("coinfer10")
    algorithm = PPO(num_envs=_ENVS)
    model = jax.jit(lambda key: algorithm.init(env, key, params).model)(jax.random.key(0))
    network = NETWORKS[algorithm.network](width=algorithm.width)
    keys = jax.random.split(jax.random.key(1), _ENVS)
    states, cuts = jax.jit(lambda: scenario_states(env, params, 0, _ENVS))()
    problem = jax.jit(jax.vmap(env.slot_problem, (0, 0, None)))(states, cuts, params)
    observation = jax.jit(jax.vmap(env.observe, (0, None)))(states, params)
    observation = observation.reshape(algorithm.num_minibatches, -1, *observation.shape[1:])

    def run(weights: Any, observation: Array) -> tuple[Array, Array]:
        return actor_critic.forward(env, network, model.replace(weights=weights), observation)

    def act(weights: Any, observation: Array) -> Any:
        return jax.lax.map(partial(run, weights), observation)

    def gradients(weights: Any, observation: Array) -> Any:
        def loss(weights: Any, part: Array) -> Array:
            logits, value = run(weights, part)
            return jnp.mean(jax.nn.logsumexp(logits, axis=-1)) + jnp.mean(value**2)

        return jax.lax.scan(lambda w, part: (_descend(w, jax.grad(loss)(w, part)), None), weights, observation)[0]

    step = jax.vmap(env.step, (0, 0, 0, None))
    for what, function, arguments in (
        ("features", jax.vmap(env.observe, (0, None)), (states, params)),
        ("forward", act, (model.weights, observation)),
        ("exact layer", jax.vmap(allocate), (problem,)),
        ("forward and backward", gradients, (model.weights, observation)),
        ("env.step", partial(without_final_observation, step), (keys, states, cuts, params)),
    ):
        _, seconds, compile_s = timed(function, arguments, settings)
        yield Row("learner", what, env.num_users, _ENVS, "float32", 1e6 * seconds / _ENVS, compile_s=compile_s)


def _descend(weights: Any, gradient: Any) -> Any:
    return jax.tree.map(lambda w, g: w - 1e-4 * g, weights, gradient)


def _update(scenario: str, users: int, envs: int) -> Row:
    env, params = jaxmec.make(scenario, num_users=users)
    algorithm = PPO(num_envs=envs)
    learner = jax.jit(lambda key: algorithm.init(env, key, params))(jax.random.key(0))
    started = time.perf_counter()
    update = (
        jax.jit(lambda learner: algorithm.update(env, learner, params)[0], donate_argnums=0)
        .lower(learner)
        .compile()
    )
    compile_s = time.perf_counter() - started
    memory = update.memory_analysis()
    used = sum(getattr(memory, f"{kind}_size_in_bytes") for kind in ("argument", "temp"))
    learner, wall_s, cpu_s = _run(update, learner)
    return Row(
        section="learner",
        what="update",
        users=users,
        batch=envs,
        dtype="float32",
        microseconds=1e6 * wall_s / envs,
        compile_s=compile_s,
        note=f"{envs / cpu_s:,.0f} steps per CPU-second, {used / envs / 1e3:,.0f} kB per environment",
    )


def _run(update: Any, carry: Any) -> tuple[Any, float, float]:
    """Carry, and wall and processor seconds of an update: the fastest of some, after one to warm up."""
    carry = jax.block_until_ready(update(carry))
    wall: list[float] = []
    cpu: list[float] = []
    start = time.perf_counter()
    while len(wall) < _UPDATES or time.perf_counter() < start + _SECONDS:
        wall_0, cpu_0 = time.perf_counter(), time.process_time()
        carry = jax.block_until_ready(update(carry))
        wall.append(time.perf_counter() - wall_0)
        cpu.append(time.process_time() - cpu_0)
    return carry, min(wall), min(cpu)


class _ActorCritic(nn.Module):
    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        def tower(size: int) -> Array:
            hidden = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(observation))))
            return nn.Dense(size)(hidden)

        return tower(2), tower(1)[..., 0]


class _Cart(NamedTuple):
    state: Array  # [4] position, velocity, angle, angular velocity
    steps: Array  # int32[]


def _cart_step(key: Array, cart: _Cart, action: Array) -> tuple[_Cart, Array, Array]:
    """One Euler step of 20 ms. Source: Barto, Sutton and Anderson, IEEE Trans. SMC 13 (1983)."""
    x, v, angle, rate = cart.state
    force, cos, sin = jnp.where(action == 1, 10.0, -10.0), jnp.cos(angle), jnp.sin(angle)
    push = (force + 0.05 * rate**2 * sin) / 1.1
    turn = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    thrust = push - 0.05 * turn * cos / 1.1
    state = jnp.stack([x + 0.02 * v, v + 0.02 * thrust, angle + 0.02 * rate, rate + 0.02 * turn])
    fallen = (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 0.2095)
    over = cart.steps + 1 >= 500
    fresh = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
    ended = fallen | over
    return _Cart(jnp.where(ended, fresh, state), jnp.where(ended, 0, cart.steps + 1)), fallen, over


def _cartpole(num_envs: int = 1024, num_steps: int = 32) -> Row:
    update, start = _cartpole_ppo(num_envs, num_steps)
    started = time.perf_counter()
    compiled = jax.jit(update).lower(start).compile()
    compile_s = time.perf_counter() - started
    _, wall_s, cpu_s = _run(compiled, start)
    steps = num_envs * num_steps
    return Row(
        section="learner",
        what="PPO update on CartPole",
        users=1,
        batch=num_envs,
        dtype="float32",
        microseconds=1e6 * wall_s / steps,
        compile_s=compile_s,
        note=f"{steps / cpu_s:,.0f} steps per CPU-second",
    )


def _cartpole_ppo(
    num_envs: int, num_steps: int, num_epochs: int = 4, num_minibatches: int = 4
) -> tuple[Callable[[tuple], tuple], tuple]:
    """PPO as commonly written in JAX: two towers of 64, four epochs of four shuffled minibatches.

    Returns its update and what the first one starts from.
    """
    network, optimiser = _ActorCritic(), optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-4, eps=1e-5))

    def loss(weights: Any, part: tuple) -> Array:
        observation, action, log_prob, value, advantage = part
        logits, new_value = network.apply(weights, observation)
        ratio = jnp.exp(_log_prob(logits, action) - log_prob)
        scaled = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
        log_p = jax.nn.log_softmax(logits)
        entropy = -jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, axis=-1))
        error = 0.5 * jnp.mean((new_value - value - advantage) ** 2)
        return -jnp.mean(clipped_gain(ratio, scaled, 0.2)) + 0.5 * error - 0.01 * entropy

    def step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        weights, carts = carry
        keys = jax.random.split(key, num_envs + 1)
        logits, value = network.apply(weights, carts.state)
        action = jax.random.categorical(keys[0], logits)
        after, fallen, over = jax.vmap(_cart_step)(keys[1:], carts, action)
        kept = (carts.state, action, _log_prob(logits, action), value, fallen, over)
        return (weights, after), kept

    def update(carry: tuple) -> tuple:
        weights, state, carts, key = carry
        key, key_rollout, key_epochs = jax.random.split(key, 3)
        (_, carts), kept = jax.lax.scan(step, (weights, carts), jax.random.split(key_rollout, num_steps))
        observation, action, log_prob, value, fallen, over = kept
        last: Any = network.apply(weights, carts.state)[1]
        value_tp1 = jnp.concatenate([value[1:], jnp.expand_dims(last, 0)])
        advantage = gae(jnp.ones_like(value), value, value_tp1, fallen, over, 0.99, 0.95)
        batch = (observation, action, log_prob, value, advantage)
        flat = jax.tree.map(lambda leaf: leaf.reshape(num_envs * num_steps, *leaf.shape[2:]), batch)

        def minibatch(carry: tuple, rows: Array) -> tuple[tuple, None]:
            weights, state = carry
            gradient = jax.grad(loss)(weights, jax.tree.map(lambda leaf: leaf[rows], flat))
            change, state = optimiser.update(gradient, state)
            return (optax.apply_updates(weights, change), state), None

        def epoch(carry: tuple, key: Array) -> tuple[tuple, None]:
            rows = jax.random.permutation(key, num_envs * num_steps).reshape(num_minibatches, -1)
            return jax.lax.scan(minibatch, carry, rows)

        (weights, state), _ = jax.lax.scan(epoch, (weights, state), jax.random.split(key_epochs, num_epochs))
        return weights, state, carts, key

    weights = network.init(jax.random.key(0), jnp.zeros(4))
    carts = _Cart(jnp.zeros((num_envs, 4)), jnp.zeros(num_envs, jnp.int32))
    return update, (weights, optimiser.init(weights), carts, jax.random.key(1))


def _log_prob(logits: Array, action: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]
