"""What these examples share: a small system, a reward on a scale that learners like, and a yardstick."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxmec
from jaxmec.policies import make_policy

STATES = 512  # held out
SEED = 2**20  # of theirs


@dataclasses.dataclass(frozen=True)
class LogObjective:
    """Minus the logarithm of the slot objective: as good a slot by slot goal, without its rare huge values."""

    def __call__(self, state, decision, info, params):
        return -jnp.log(info["objective"])


def make_system():
    """Four users that may cut seven ways at most: (env, params)."""
    env, params = jaxmec.make("coinfer4")
    return dataclasses.replace(env, reward=LogObjective()), params


def arguments(slots: int) -> argparse.Namespace:
    """--slots to learn from, and --built-in, the folder of a run to stand beside."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slots", type=int, default=slots)
    parser.add_argument("--built-in", type=Path, help="a run of jaxmec train --scenario coinfer4")
    return parser.parse_args()


def judge(library: str, learned: dict[str, Callable], built_in: Path | None = None) -> dict[str, float]:
    """Print the mean slot objective of policies at held-out states, over that of the closed form, and return it.

    Args:
      library: whose version is printed.
      learned: functions of observations float32[S, N, F] to cuts int[S, N].
      built_in: a run of the package's own learner.
    """
    env, params = make_system()
    keys = jax.random.split(jax.random.key(SEED), STATES)
    observations, states = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
    cuts = {name: np.asarray(act(observations)) for name, act in learned.items()}
    names = ["random", *([] if built_in is None else [built_in])]
    rivals = {str(name): make_policy(name, env) for name in ["closed_form", *names]}
    for name, policy in rivals.items():
        cuts[name] = jax.jit(jax.vmap(policy, (0, 0, None)))(keys, states, params)
    objective = jax.jit(jax.vmap(env.objective, (0, 0, None)))
    found = {
        name: float(jnp.mean(objective(states, jnp.asarray(own, jnp.int32), params))) for name, own in cuts.items()
    }
    relative = {name: value / found["closed_form"] for name, value in found.items()}
    print(f"{library} {version(library)}: mean slot objective over the closed form's")
    for name, value in relative.items():
        print(f"  {name:40} {value:.4f}")
    return relative
