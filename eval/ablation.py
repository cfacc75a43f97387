"""What the learner owes to which of its parts: variants of one recipe, several seeds each.

python eval/ablation.py [--seeds 3] [--total-steps 400000] [--variants default "no closed form" ...]

Every variant is trained for the same number of steps and judged by the certified gap of its most probable cuts at
the states that `best_response` visits on held-out episodes.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array
from rich import box
from rich.table import Table

import jaxmec
from jaxmec.agents import PPOConfig, ppo
from jaxmec.agents.networks import forward, make_network
from jaxmec.agents.policy import learned
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.evaluation import EvaluationConfig, evaluate_policies, objectives_at, terminal, write_csv
from jaxmec.features import CUT_FEATURES, USER_FEATURES
from jaxmec.policies import make_policy

CLOSED_FORM = ("expected cost", "expected cost over the best cut's", "expected regret")
IMITATED_UPDATES = 10


@dataclasses.dataclass(frozen=True)
class _Overwriting(EdgeInferenceEnv):
    """The environment with some features overwritten by a constant."""

    overwritten: tuple[str, ...] = ()
    constant: float = 0.0

    def observe(self, state: EnvState, params: EnvParams) -> Array:
        """As the environment's own, without what is overwritten."""
        observation = super().observe(state, params)
        names = USER_FEATURES + self.num_cuts * CUT_FEATURES
        columns = [column for column, name in enumerate(names) if name in self.overwritten]
        return observation.at[:, np.array(columns)].set(self.constant)


class _PricedState(EnvState):
    band_price: Array  # [] of the slot before


@dataclasses.dataclass(frozen=True)
class _Priced(EdgeInferenceEnv):
    """The environment that also shows the last slot's price of the band, in place of the number of users."""

    def observe(self, state: EnvState, params: EnvParams) -> Array:
        """As the environment's own, but for one feature."""
        column = USER_FEATURES.index("number of users")
        price = getattr(state, "band_price", jnp.zeros(()))
        return super().observe(state, params).at[:, column].set(jnp.log10(price + 1e-2))

    def _play(self, key: Array, state: EnvState, action: Array, params: EnvParams) -> tuple:
        """As the environment's own, and keeps the price."""
        next_state, reward, terminated, info = super()._play(key, state, action, params)
        return next_state.replace(band_price=info["bandwidth_price"]), reward, terminated, info

    def _draw_state(self, key: Array, params: EnvParams) -> EnvState:
        drawn = super()._draw_state(key, params)
        leaves = {field.name: getattr(drawn, field.name) for field in dataclasses.fields(drawn)}
        return _PricedState(**leaves, band_price=jnp.zeros(()))


def _as(cls: type[EdgeInferenceEnv], env: EdgeInferenceEnv, **fields: Any) -> EdgeInferenceEnv:
    return cls(**{field.name: getattr(env, field.name) for field in dataclasses.fields(env)}, **fields)


def _imitate(env: EdgeInferenceEnv, config: PPOConfig, learner: ppo.Learner, params: EnvParams) -> ppo.Learner:
    """Some updates by cross-entropy towards the cuts of `price`, along its own trajectories."""
    network, expert = make_network(config.network, env.num_cuts, config.width), make_policy("price", env)
    optimiser = optax.adam(config.learning_rate)

    def loss(weights: Any, observation: Array, cuts: Array) -> Array:
        logits, _ = forward(network, learner.moments, weights, observation)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, cuts))

    def minibatch(carry: tuple, rows: tuple[Array, Array]) -> tuple[tuple, None]:
        weights, state = carry
        step, state = optimiser.update(jax.grad(loss)(weights, *rows), state)
        return (optax.apply_updates(weights, step), state), None

    def update(carry: tuple, key: Array) -> tuple[tuple, None]:
        weights, state, env_state = carry
        keys = jax.random.split(key, env_state.slot.shape)
        cuts = ppo.over_envs(expert, (0, 0, None))(keys, env_state, params)
        observation = ppo.over_envs(env.observe, (0, None))(env_state, params)
        weights, state = jax.lax.scan(minibatch, (weights, state), (observation, cuts))[0]
        env_state = ppo.over_envs(env.step, (0, 0, 0, None))(keys, env_state, cuts, params)[1]
        return (weights, state, env_state), None

    keys = jax.random.split(jax.random.fold_in(learner.key, 1), IMITATED_UPDATES)
    start = (learner.params, optimiser.init(learner.params), learner.env_state)
    (weights, _, env_state), _ = jax.lax.scan(update, start, keys)
    return learner.replace(params=weights, env_state=env_state)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What differs from the default recipe."""

    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of PPOConfig
    env: Callable[[EdgeInferenceEnv], EdgeInferenceEnv] = lambda env: env
    warm_start: bool = False
    candidates: int = 1
    of: str | None = None  # the variant whose training it shares


VARIANTS = {
    "default": Variant(),
    "best of 4": Variant(candidates=4, of="default"),
    "best of 16": Variant(candidates=16, of="default"),
    "white box": Variant({"teacher": "regret"}),
    "white box, best of 16": Variant({"teacher": "regret"}, candidates=16, of="white box"),
    "no closed form": Variant(env=lambda env: _as(_Overwriting, env, overwritten=CLOSED_FORM)),
    "mlp head": Variant({"network": "mlp", "width": 256}),
    "discount 0.9": Variant({"discount": 0.9, "num_steps": 4, "num_minibatches": 128}),
    "environment's reward": Variant({"teacher": "environment"}),
    "no masks": Variant(env=lambda env: _as(_Overwriting, env, overwritten=("valid",), constant=1.0)),
    "warm start from price": Variant(warm_start=True),
    "last band price as input": Variant(env=lambda env: _as(_Priced, env)),
}


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train variants of the default recipe and compare them."""

    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which."""
    scenario: str = "coinfer10"
    """Name or YAML file."""
    seeds: int = 3
    """Runs of each."""
    total_steps: int = 400_000
    """Slots of each run."""
    out: Path = Path("runs/ablation")
    """Folder of ablation.csv."""


def main(flags: Flags) -> None:
    """Train, judge, print and write."""
    console = terminal()
    env, params = jaxmec.make(flags.scenario)
    best = {"best_response": make_policy("best_response", env)}
    report = evaluate_policies(env, params, best, EvaluationConfig())
    trained = functools.cache(functools.partial(_trained, env, params, flags.total_steps, flags.seeds))
    rows: list[dict[str, float | str]] = []
    flags.out.mkdir(parents=True, exist_ok=True)
    for name in flags.variants:
        variant = VARIANTS[name]
        seen, config = variant.env(env), _config(variant, flags.total_steps)
        gaps = []
        for seed, (learner, seconds) in enumerate(trained(variant.of or name)):
            network = make_network(config.network, env.num_cuts, config.width)
            policy = learned(seen, network, learner.params, learner.moments, variant.candidates)
            reached = objectives_at(seen, policy, jax.random.key(1), params, report.states)
            gaps.append(reached / report.bound - 1.0)
            rows.append(
                {
                    "variant": name,
                    "seed": seed,
                    "gap_mean": float(gaps[-1].mean()),
                    "gap_p99": float(np.percentile(gaps[-1], 99)),
                    "seconds": seconds,
                }
            )
            write_csv(flags.out / "ablation.csv", rows)
        console.print(f"{name}: {np.mean(gaps):.3%}")
    console.print(_table(rows))


def _config(variant: Variant, total_steps: int) -> PPOConfig:
    return PPOConfig(total_steps=total_steps).replace(**variant.config)


def _trained(
    env: EdgeInferenceEnv, params: EnvParams, total_steps: int, num_seeds: int, name: str
) -> list[tuple[ppo.Learner, float]]:
    """Per seed a finished learner, and the seconds that its training took without compilation."""
    variant = VARIANTS[name]
    seen, config = variant.env(env), _config(variant, total_steps)

    @jax.jit
    def start(key: Array) -> ppo.Learner:
        learner = ppo.init(seen, config, key, params)
        return _imitate(seen, config, learner, params) if variant.warm_start else learner

    learners = [start(jax.random.key(seed)) for seed in range(num_seeds)]
    update = (
        jax.jit(lambda learner: ppo.run_updates(seen, config, learner, params, 1)[0]).lower(learners[0]).compile()
    )
    finished = []
    for learner in learners:
        started = time.perf_counter()
        for _ in range(config.num_updates):
            learner = update(learner)
        jax.block_until_ready(learner.params)
        finished.append((learner, time.perf_counter() - started))
    return finished


def _table(rows: list[dict[str, float | str]]) -> Table:
    table = Table(title="Certified gap, mean over seeds (least to greatest)", box=box.SIMPLE_HEAD)
    for header in ("variant", "mean gap", "p99 gap", "training s"):
        table.add_column(header, justify="left" if header == "variant" else "right")
    for name in dict.fromkeys(row["variant"] for row in rows):
        means, tails, seconds = (
            np.array([row[column] for row in rows if row["variant"] == name], float)
            for column in ("gap_mean", "gap_p99", "seconds")
        )
        table.add_row(
            str(name),
            f"{means.mean():.3%} ({means.min():.3%} to {means.max():.3%})",
            f"{tails.mean():.2%}",
            f"{seconds.mean():.0f}",
        )
    return table


if __name__ == "__main__":
    main(tyro.cli(Flags))
