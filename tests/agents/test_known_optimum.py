"""Learners on a system whose best cuts exhaustive search knows, and the regret that one of them learns from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.agents import PPO, Imitation, WhiteBox, make_train
from jaxmec.delay import serial_delay
from jaxmec.evaluation import objectives_at
from jaxmec.policies import make_policy

SHORT = {"num_envs": 256, "num_minibatches": 4, "total_steps": 256 * 100, "width": 16}
LEARNERS = {
    "ppo": PPO(**SHORT),
    "white_box": WhiteBox(**SHORT),
    "imitation": Imitation(**SHORT, expert="closed_form"),
}


@pytest.fixture(scope="module")
def runs():
    """Every learner's metrics, and objectives at the same states, where one user has no one to share with."""
    env, params = jaxmec.make("coinfer10", num_users=1, radio={"bandwidth_hz": 2e6})
    results = {
        name: jax.jit(make_train(env, learner))(jax.random.key(0), params) for name, learner in LEARNERS.items()
    }
    policies = {name: make_policy(name, env) for name in ("exhaustive", "local_only")}
    policies |= {name: learner.policy(env, results[name].learner) for name, learner in LEARNERS.items()}
    visited = results["ppo"].learner.env_state
    states = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), visited)
    found = objectives_at(env, policies, jax.random.key(1), params, states)
    return {name: result.metrics for name, result in results.items()}, found


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_approaches_the_exhaustive_optimum(runs, name):
    metrics, found = runs
    assert all(np.isfinite(value).all() for value in metrics[name].values())
    assert found[name].mean() < 1.03 * found["exhaustive"].mean()
    assert found["local_only"].mean() > 1.2 * found["exhaustive"].mean()  # the task is not trivial


def test_regret_is_what_a_cut_costs_more_at_given_prices():
    # By hand: the least cost plus rent over a grid of shares, which may exceed one where only prices limit them.
    env, params = jaxmec.make("coinfer10", num_users=1)
    _, state = env.reset(jax.random.key(0), params)
    prices = 1.5, 0.8
    info = dict(zip(("bandwidth_price", "server_price"), map(jnp.asarray, prices), strict=True))
    regret = jax.jit(env.regret)(state, info, params)[0]
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float)[..., None, None, None], env.cut_problems(state, params))
    own = np.geomspace(0.02, 1, 60)[:, None, None]
    band, server = np.geomspace(0.02, 2, 80)[:, None], np.geomspace(0.02, 2, 80)
    requests = p.slot_s * p.arrival_rate_hz
    times = np.broadcast_arrays(
        p.device_work_s[0] / own,
        p.uplink_bits[0] / (p.bandwidth_hz * band * np.log2(1 + p.snr / band)),
        p.server_work_s[0] / server,
    )
    delay_s = np.asarray(serial_delay(jnp.stack(times, -1), jnp.broadcast_to(requests, times[0].shape), 0.9))
    cost = p.delay_price * delay_s + prices[0] * band * (p.uplink_bits[0] > 0)
    cost = cost + prices[1] * server * (p.server_work_s[0] > 0)
    mask = np.asarray(env.action_mask(state, params))[0]
    least = cost.min(axis=(1, 2, 3))[mask]
    np.testing.assert_allclose(regret[mask], least / least.min() - 1, rtol=5e-3, atol=5e-3)
    assert (np.asarray(regret)[~mask] == 0).all()
