"""One policy on many tasks: its turns against an ordinary run, its rows by hand."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.agents import PPO, make_train
from jaxmec.config import ConfigError

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
SMALL = {"num_envs": 8, "num_steps": 2, "num_minibatches": 2, "width": 8, "total_steps": 8 * 2 * 4}


@pytest.fixture(scope="module")
def study(command):
    return command("transfer")


@pytest.fixture(scope="module")
def env():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("foreign_environment").TwoDrivers()
        sys.modules.pop("foreign_environment")


def test_turns_on_one_task_are_an_ordinary_run(study, env):
    algorithm, key = PPO(reward="environment", **SMALL), jax.random.key(0)
    mixed = study.train(algorithm, [(env, env.default_params)], key, [0] * 4)
    run = jax.jit(make_train(env, algorithm))(jax.random.split(key, 1)[0], env.default_params)
    chex.assert_trees_all_close(mixed.model, run.learner.model, rtol=1e-3, atol=1e-5)
    assert mixed.updates == 4


def test_what_one_task_teaches_goes_on_to_the_next_and_every_task_keeps_its_episodes(study, env):
    algorithm, key = PPO(reward="environment", **SMALL), jax.random.key(0)
    free = env.default_params._replace(held_up_s=jnp.zeros(3))
    mixed = study.train(algorithm, [(env, env.default_params), (env, free)], key, [0, 1])
    first, second = (algorithm.init(env, own, env.default_params) for own in jax.random.split(key, 2))
    taught, _ = algorithm.update(env, first, env.default_params)
    wanted, _ = algorithm.update(
        env, second.replace(model=taught.model, optimiser=taught.optimiser, updates=taught.updates), free
    )
    chex.assert_trees_all_close(mixed.model, wanted.model, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mixed.env_state.own_s, wanted.env_state.own_s, rtol=1e-6)


def test_rows_hold_gaps_to_the_bound_and_paired_differences(study):
    objectives = {"learned": [1.1, 2.2], "closed_form": [1.2, 2.4], "best_response": [1.0, 2.0]}
    equal = {"learned": [1.0, 2.0, 3.0], "closed_form": [1.5, 2.5, 3.5], "best_response": [1.0, 1.0, 1.0]}
    comparison = SimpleNamespace(
        objectives={name: np.array(values) for name, values in objectives.items()},
        bound=np.array([1.0, 2.0]),
        long_run={
            name: SimpleNamespace(metrics={"equal_energy": np.array(values)}) for name, values in equal.items()
        },
    )
    row = study.judge("district10:4", False, comparison)
    gaps = [row[f"gap_{name}"] for name in ("learned", "closed_form", "best_response")]
    np.testing.assert_allclose(gaps, [0.1, 0.2, 0.0], atol=1e-12)
    assert row["delay_over_closed_form"] == pytest.approx(-0.5 / 2.5)  # half a second less of 2.5 s, every time
    assert row["delay_over_closed_form_ci95"] == pytest.approx(0.0, abs=1e-12)


def test_a_task_may_name_its_number_of_users(study):
    env, params = study.make_task("coinfer10:3")
    assert (env.num_users, params.tx_power_w.shape) == (3, (3,))
    with pytest.raises(ConfigError, match="tasks: coinfer10:0: "):
        study.make_task("coinfer10:0")
    with pytest.raises(ConfigError, match="scenario: got 'nope'"):
        study.make_task("nope")
