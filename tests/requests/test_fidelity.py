"""The environment at request fidelity: its promises, and what a slot tells, by hand."""

import copy
import dataclasses
import hashlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.config import ConfigError
from jaxmec.requests import RequestFidelity, follow
from jaxmec.reward import DeadlineMisses, RequestDelay

ADDED = {
    "request_count", "request_delay_s", "request_delay_max_s", "late", "overflow", "backlog_s", "request_objective",
    "late_objective",
}  # fmt: skip
RECORDED = {"request_arrival_s", "request_departure_s", "request_return_s"}
BUSY = {"radio": {"bandwidth_hz": 6e5}}  # a band so narrow that requests are left over


@pytest.fixture(scope="module")
def system():
    return jaxmec.make("coinfer4", fidelity="requests", **BUSY)


def run(env, params, num_slots, seed=0):
    """Random cuts that exist, from a fresh state: leaves [T, ...] of states, rewards, infos and observations."""

    @jax.jit
    def play(key):
        key_reset, key_run = jax.random.split(key)

        def slot(state, key):
            key_action, key_step = jax.random.split(key)
            mask = env.action_mask(state, params)
            action = jax.random.categorical(key_action, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
            obs, after, reward, _, _, info = env.step(key_step, state, action, params)
            return after, (state, reward, info, obs)

        return jax.lax.scan(slot, env.reset(key_reset, params)[1], jax.random.split(key_run, num_slots))[1]

    return jax.tree.map(np.asarray, play(jax.random.key(seed)))


@pytest.fixture(scope="module")
def trajectory(system):
    env, params = system
    recording = dataclasses.replace(env, fidelity=dataclasses.replace(env.fidelity, record=True))
    return run(recording, params, 60)


def test_it_adds_to_the_stationary_environment_and_changes_nothing_of_it(system, trajectory):
    env, _ = system
    stationary, params = jaxmec.make("coinfer4", **BUSY)
    state, _, info, obs = run(stationary, params, 60)
    assert set(trajectory[2]) - set(info) == ADDED | RECORDED
    # To the last bit in float32; in float64 the two programmes round one or the other product differently.
    tolerance = {"rtol": 1e-12, "atol": 1e-14} if jax.config.jax_enable_x64 else {"rtol": 0.0, "atol": 0.0}
    for name in info.keys() - {"final_observation"}:
        np.testing.assert_allclose(info[name], trajectory[2][name], err_msg=name, **tolerance)
    np.testing.assert_allclose(state.device_queue, trajectory[0].device_queue, **tolerance)
    assert trajectory[3].shape[-1] == obs.shape[-1] + len(env.fidelity.user_features)
    assert pickle.loads(pickle.dumps(env)) == env == copy.deepcopy(env)
    assert hash(env) == hash(jaxmec.make("coinfer4", fidelity="requests")[0])
    assert env != stationary


def test_unfinished_work_is_carried_over_request_by_request(trajectory):
    _, _, info, _ = trajectory
    carried = 0
    for user in range(4):
        counts = info["request_count"][:, user]
        arrival = [t + info["request_arrival_s"][t, :count, user] for t, count in enumerate(counts)]
        services = [np.tile(info["stage_times_s"][t, user], (count, 1)) for t, count in enumerate(counts)]
        departure = follow(
            jnp.asarray(np.concatenate(arrival)), jnp.asarray(np.concatenate(services)), jnp.zeros(3)
        )
        departure = np.split(np.asarray(departure), np.cumsum(counts)[:-1])
        for t, count in enumerate(counts):
            mine = info["request_departure_s"][t, :count, user] + t
            np.testing.assert_allclose(mine, departure[t], atol=2e-3)
            delays = departure[t][:, -1] - arrival[t]
            assert info["request_delay_s"][t, user] == pytest.approx(delays.mean() if count else 0.0, abs=2e-3)
            assert info["late"][t, user] == np.sum(
                info["request_departure_s"][t, :count, user, -1] - info["request_arrival_s"][t, :count, user] > 0.5
            )
            if count:
                left = np.maximum(departure[t][-1] - (t + 1), 0.0)
                np.testing.assert_allclose(info["backlog_s"][t, user], left, atol=2e-3)
                carried += left[-1] > 0.1
    assert carried > 20


def test_rewards_are_drift_plus_penalty_of_what_requests_met(system, trajectory):
    env, params = system
    state, reward, info, _ = trajectory
    budget_j = np.asarray(params.device_budget_j)[np.arange(4), state.device]
    expected = params.slot_s * jax.vmap(params.workload.rate_hz)(state.workload)
    energy = np.sum(state.device_queue * (info["device_energy_j"] / budget_j - 1.0), axis=-1)
    energy = energy + state.server_queue * (info["server_energy_j"] / params.server_budget_j - 1.0)

    def by_hand(seconds):
        return -(np.sum(10.0 * seconds / expected, axis=-1) + energy) / (10.0 * 4)

    np.testing.assert_allclose(
        reward, by_hand(info["request_count"] * info["request_delay_s"]), rtol=2e-3, atol=1e-4
    )
    one = jax.tree.map(lambda leaf: leaf[7], (state, info))
    misses = DeadlineMisses()(one[0], None, one[1], params)
    assert float(misses) == pytest.approx(float(by_hand(info["late"] * 0.5)[7]), rel=2e-3)
    assert env.reward == RequestDelay()
    plain = {name: values[7] for name, values in info.items() if name not in ADDED}
    with pytest.raises(ValueError, match='fidelity="requests"'):
        RequestDelay()(one[0], None, plain, params)


def test_learners_may_learn_from_what_requests_met(system, trajectory):
    env, params = system
    _, reward, info, obs = trajectory
    assert env.reward_signals[0] == "objective"
    one = {name: values[3] for name, values in info.items()}
    signal = {name: float(env.reward_signal(name, obs[2], reward[3], one)) for name in env.reward_signals}
    assert signal["environment"] == pytest.approx(float(reward[3]))
    # Both are relative to the same expectation.
    ratio = float(one["late_objective"] / one["request_objective"])
    assert signal["late"] / signal["objective"] == pytest.approx(ratio, rel=1e-4)
    metrics = env.metrics(jax.tree.map(lambda leaf: leaf[3], trajectory[0]), reward[3], one, params)
    total = np.sum(one["request_count"])
    assert float(metrics["late"]) == pytest.approx(one["late"].sum() / total)


def test_the_observation_shows_backlogs_and_deadline(system, trajectory):
    env, params = system
    _, _, info, obs = trajectory
    views = env.unpack(obs[30])
    assert views.users.shape == (4, 8 + 4)
    np.testing.assert_allclose(views.users[:, 8:11], np.log10(info["backlog_s"][30] + 1e-3), atol=1e-4)
    np.testing.assert_allclose(views.users[:, 11], np.log10(0.5 + 1e-3), atol=1e-5)
    assert views.mask.shape == (4, env.num_cuts)
    assert env.observation_space(params).shape == obs.shape[1:]


def test_two_halves_are_a_step(system):
    env, params = system
    key = jax.random.key(3)
    _, state = env.reset(key, params)
    cuts = jnp.zeros(4, jnp.int32)

    @jax.jit
    def both(state):
        halves = env.advance(key, state, env.decide(state, cuts, params), params)
        return env.step_env(key, state, cuts, params)[1], halves

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *both(state))


def test_the_mean_delay_of_requests_has_the_derivative_of_their_paths(system):
    """By finite differences: the same requests, a device a little faster (infinitesimal perturbation analysis)."""
    env, params = system
    _, state = env.reset(jax.random.key(0), params)
    cuts = jnp.sum(env.action_mask(state, params), axis=-1, dtype=jnp.int32) - 1

    @jax.jit
    @jax.value_and_grad
    def delay(scale):
        changed = params.replace(device_work_s=params.device_work_s * scale)
        info = env.step_env(jax.random.key(1), state, cuts, changed)[4]
        return jnp.sum(info["request_count"] * info["request_delay_s"])

    slope = float(delay(1.0)[1])
    assert slope == pytest.approx(float((delay(1.01)[0] - delay(0.99)[0]) / 0.02), rel=0.02)
    assert slope > 0


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="float64 draws other random numbers")
def test_a_fixed_seed_gives_the_trajectory_of_this_version(trajectory):
    """Raise the version, and tell, when these change: results of studies may change with them."""
    _, _, info, _ = trajectory
    text = " ".join(f"{count}" for count in info["request_count"].reshape(-1))
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "9c74f38bf3cb"


def test_bad_values_are_told_by_field():
    with pytest.raises(ConfigError, match="fidelity: got 'events'; allowed are 'stationary', 'requests'"):
        jaxmec.make("coinfer4", fidelity="events")
    with pytest.raises(ConfigError, match="max_requests: got 3; allowed is at least 8, .* 3 expected requests"):
        jaxmec.make("coinfer4", fidelity="requests", max_requests=3)
    users = [{"networks": {"alexnet": 1}, "devices": {"jetson_nano": 1}, "energy_budget_j": {"jetson_nano": 1}}]
    with pytest.raises(ConfigError, match=r"users\[0\].deadline_s: got 0.0; allowed is a number at least 1e-06"):
        jaxmec.make("coinfer4", users=[{**users[0], "deadline_s": 0.0}])
    with pytest.raises(ConfigError, match="requests.process: got 'pareto'"):
        jaxmec.make("coinfer4", requests={"process": "pareto"})
    env, params = jaxmec.make(
        "coinfer4", fidelity="requests", users=[{**users[0], "deadline_s": 0.2}], max_requests=9
    )
    assert env.fidelity == RequestFidelity(9)
    assert params.deadline_s.tolist() == [pytest.approx(0.2)]


def test_the_way_back_delays_every_request_and_moves_nothing_else(system):
    env, params = system
    last = jnp.sum(params.valid_cut, axis=-1, keepdims=True) - 1
    away = jnp.arange(env.num_cuts)[None] < last
    key, cuts = jax.random.key(3), jnp.zeros(4, jnp.int32)

    @jax.jit
    def play(return_s):
        system = params.replace(return_s=return_s)
        return env.step_env(key, env.reset(key, system)[1], cuts, system)[4]

    before, after = play(0.0 * away), play(0.25 * away)
    some = np.asarray(before["request_count"]) > 0
    assert some.any()
    for name in ("request_delay_s", "request_delay_max_s"):
        np.testing.assert_allclose(after[name] - before[name], 0.25 * some, atol=1e-5)
    np.testing.assert_allclose(after["delay_s"] - before["delay_s"], 0.25, atol=1e-4)
    np.testing.assert_allclose(
        after["objective"] - before["objective"], 0.25 * jnp.sum(params.tradeoff * params.delay_weight), rtol=1e-3
    )
    for name in ("request_count", "backlog_s", "device_energy_j", "bandwidth_share"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)
    # The deadline of 0.5 s is the request's own: what comes back past it is late.
    assert (after["late"] >= before["late"]).all()
    np.testing.assert_array_equal(play(0.5 * away)["late"], before["request_count"])
