"""The environment: by hand, against the allocation layer, and its promises about shapes and transforms."""

import copy
import dataclasses
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.allocation import SolverConfig, Status, allocate
from jaxmec.lyapunov import FixedMultipliers
from jaxmec.reward import MeanDelay


@pytest.fixture(scope="module")
def system():
    return jaxmec.make("coinfer4")


def random_action(env, key, state, params):
    return jax.random.categorical(key, jnp.where(env.action_mask(state, params), 0.0, -jnp.inf))


def rollout(env, key, params, num_slots):
    key_reset, key_run = jax.random.split(key)

    def slot(carry, key):
        _, state = carry
        key_action, key_step = jax.random.split(key)
        action = random_action(env, key_action, state, params)
        next_obs, next_state, reward, terminated, truncated, info = env.step(key_step, state, action, params)
        return (next_obs, next_state), (state, next_obs, reward, terminated, truncated, info)

    return jax.lax.scan(slot, env.reset(key_reset, params), jax.random.split(key_run, num_slots))[1]


@pytest.fixture(scope="module")
def trajectory(system):
    env, params = system
    run = jax.jit(jax.vmap(rollout, in_axes=(None, 0, None, None)), static_argnums=(0, 3))
    return run(env, jax.random.split(jax.random.key(0), 8), params.replace(episode_slots=jnp.asarray(20)), 45)


def test_environments_of_equal_shape_are_equal_hash_alike_and_survive_copies(system):
    env, params = system
    other, other_params = jaxmec.make("coinfer4", radio={"bandwidth_hz": 1e6})
    assert env == other
    assert hash(env) == hash(other)
    assert other_params.bandwidth_hz != params.bandwidth_hz
    assert pickle.loads(pickle.dumps(env)) == env == copy.deepcopy(env)
    assert env != jaxmec.make("coinfer10")[0]


def test_equal_environments_share_one_compilation_and_keep_their_own_numbers():
    def state_of(env, key, params):
        return env.cut_problems(env.reset(key, params)[1], params)

    reset = jax.jit(chex.assert_max_traces(state_of, n=1), static_argnums=0)
    for bandwidth_hz in (1e6, 2e6):
        env, params = jaxmec.make("coinfer4", radio={"bandwidth_hz": bandwidth_hz})
        problem = reset(env, jax.random.key(0), params)
        expected = env.cut_problems(env.reset(jax.random.key(0), env.default_params)[1], params)
        assert problem.bandwidth_hz == bandwidth_hz
        chex.assert_trees_all_close(problem, expected, rtol=1e-5)


def test_default_params_are_refused_while_tracing(system):
    env, params = system
    chex.assert_trees_all_equal(env.default_params, params)
    message = "default_params: read while tracing; allowed is to read it outside jax.jit and to pass params"
    with pytest.raises(RuntimeError, match=message):
        jax.jit(lambda env: env.default_params.bandwidth_hz, static_argnums=0)(env)
    with pytest.raises(RuntimeError, match=message):
        jax.jit(lambda slot: env.default_params.bandwidth_hz * slot)(1.0)
    rates = jax.vmap(lambda scale: scale * env.default_params.bandwidth_hz)(jnp.ones(2))  # nothing is compiled
    np.testing.assert_array_equal(rates, params.bandwidth_hz)
    with pytest.raises(ValueError, match="default_params: this environment was made without"):
        _ = dataclasses.replace(env, defaults=None).default_params


def test_rollout_has_the_promised_shapes_and_is_finite(system, trajectory):
    env, params = system
    state, obs, reward, terminated, _, info = trajectory
    space = env.observation_space(params)
    assert obs.shape == (8, 45, *space.shape)
    assert obs.dtype == jnp.float32
    assert info["final_observation"].shape == obs.shape
    assert env.action_space(params).shape == (env.num_users,)
    assert not terminated.any()
    chex.assert_tree_all_finite((state, obs, reward, info))
    assert (info["delay_s"] > 0).all()
    assert (info["duality_gap"] >= 0).all()


def test_episodes_end_by_truncation_and_draw_a_new_population(trajectory):
    state, obs, _, _, truncated, info = trajectory
    assert (np.flatnonzero(truncated[0]) == [19, 39]).all()
    np.testing.assert_array_equal(state.slot[0, :41], list(range(20)) * 2 + [0])
    assert (state.device_queue[:, 20] == 0).all()
    moved = np.abs(state.channel.mean_gain[:, 20] - state.channel.mean_gain[:, 19]) > 0
    assert moved.all()
    np.testing.assert_array_equal(state.channel.mean_gain[:, 0], state.channel.mean_gain[:, 19])
    ended = np.asarray(truncated)
    assert (np.asarray(obs)[ended] != np.asarray(info["final_observation"])[ended]).any()
    np.testing.assert_allclose(obs[~ended], info["final_observation"][~ended], rtol=1e-4, atol=1e-5)


def test_reward_is_the_drift_plus_penalty_of_what_info_reports(system, trajectory):
    env, params = system
    state, _, reward, _, _, info = trajectory
    budget = jax.vmap(jax.vmap(env.device_budget_j, (0, None)), (0, None))(state, params)
    v = float(params.tradeoff)
    cost = (
        v * (np.asarray(params.delay_weight) * np.asarray(info["delay_s"])).sum(-1)
        + (state.device_queue * (info["device_energy_j"] / budget - 1)).sum(-1)
        + state.server_queue * (info["server_energy_j"] / params.server_budget_j - 1)
    )
    np.testing.assert_allclose(reward, -cost / (v * env.num_users), rtol=2e-4, atol=1e-5)


def test_queues_follow_their_recursion(system, trajectory):
    env, params = system
    state, _, _, _, _, info = trajectory
    budget = jax.vmap(jax.vmap(env.device_budget_j, (0, None)), (0, None))(state, params)
    expected = np.maximum(state.device_queue + info["device_energy_j"] / budget - 1, 0)
    np.testing.assert_allclose(state.device_queue[:, 1:19], expected[:, :18], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def slot(system):
    """A slot with queues, every way: a state, cuts, what `decide` and `step_env` make of it and the next state."""
    env, params = system
    params = params.replace(knee=jnp.asarray(0.5, params.knee.dtype))
    _, state = env.reset(jax.random.key(3), params)
    state = state.replace(
        device_queue=jnp.array([0.0, 3.0, 6.0, 9.0]), server_queue=jnp.asarray(2.0), slot=jnp.asarray(5, jnp.int32)
    )
    cuts = jnp.array([0, 1, 2, 99], jnp.int32)  # the last user's last cut

    @jax.jit
    def play(key, state, params):
        decision = env.decide(state, cuts, params)
        halves = decision, env.advance(key, state, decision, params)
        objectives = env.objective(state, cuts, params), allocate(env.slot_problem(state, cuts, params)).objective
        return halves, env.step_env(key, state, cuts, params), objectives

    return env, params, state, cuts, play(jax.random.key(4), state, params)


def test_a_slot_is_its_two_halves(slot):
    env, params, state, _, ((decision, after), (obs, next_state, _, terminated, info), _) = slot
    chex.assert_trees_all_equal(after, next_state)
    assert after.slot == 6
    assert not terminated
    np.testing.assert_allclose(obs, env.observe(after, params), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(info["cut"], decision.cuts)
    last = np.asarray(env.action_mask(state, params)).sum(-1) - 1
    np.testing.assert_array_equal(decision.cuts, np.minimum([0, 1, 2, 99], last))
    np.testing.assert_array_equal(info["invalid_action"], [False, False, False, True])
    chex.assert_trees_all_equal(decision.outcome.delay_s, info["delay_s"])


def test_objective_is_that_of_the_slot_problem(slot):
    *_, ((decision, _), (*_, info), (objective, expected)) = slot
    found = [info["objective"], objective, decision.allocation.objective]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_slot_problem_is_what_state_and_params_say(slot):
    env, params, state, _, ((decision, _), *_) = slot
    problem, gain = decision.problem, np.asarray(params.channel.gain(state.channel), np.float64)
    noise_w = float(params.noise_w_per_hz) * float(params.bandwidth_hz)
    np.testing.assert_allclose(problem.snr, np.asarray(params.tx_power_w) * gain / noise_w, rtol=1e-5)
    np.testing.assert_array_equal(problem.arrival_rate_hz, params.workload.rate_hz(state.workload))
    np.testing.assert_allclose(problem.delay_price, params.tradeoff * np.asarray(params.delay_weight))
    budget = np.asarray(params.device_budget_j)[np.arange(env.num_users), state.device]
    np.testing.assert_allclose(problem.energy_price, np.asarray(state.device_queue) / budget, rtol=1e-6)
    np.testing.assert_allclose(problem.server_energy_price, 2.0 / params.server_budget_j, rtol=1e-6)
    assert problem.knee == 0.5


def test_info_tells_stage_times_shares_and_status_that_agree_with_the_delay(slot):
    *_, ((decision, _), (*_, info), _) = slot
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), decision.problem)
    device, band, server = (
        np.asarray(info[f"{stage}_share"], np.float64) for stage in ("device", "bandwidth", "server")
    )
    assert (band > 0).tolist() == (p.uplink_bits > 0).tolist() == [True, True, True, False]
    assert np.isclose(band.sum(), 1.0, atol=1e-5)  # a band that is not used up is wasted
    assert server.sum() < 1 + 1e-5
    assert device.max() < 1 + 1e-6
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.stack(
            [
                np.where(p.device_work_s > 0, p.device_work_s / device, 0.0),
                np.where(
                    p.uplink_bits > 0, p.uplink_bits / (p.bandwidth_hz * band * np.log2(1 + p.snr / band)), 0.0
                ),
                np.where(p.server_work_s > 0, p.server_work_s / server, 0.0),
            ],
            axis=-1,
        )
    np.testing.assert_allclose(info["stage_times_s"], times, rtol=1e-4, atol=1e-9)
    # M/D/1 in front of the slowest stage, along its tangent past a utilisation of one half.
    load = p.arrival_rate_hz * times.max(axis=-1)
    knee_wait, slope = 0.5 * 0.5**2 / 0.5, 0.5 * (0.5**-2 - 1)
    wait = np.where(load > 0.5, knee_wait + slope * (load - 0.5), 0.5 * load**2 / (1 - np.minimum(load, 0.99)))
    np.testing.assert_allclose(info["delay_s"], times.sum(axis=-1) + wait / p.arrival_rate_hz, rtol=1e-4)
    assert load.max() > 0.55
    assert load.min() < 0.5
    np.testing.assert_array_equal(info["stable"], load < 1)
    assert info["status"] == int(Status.OPTIMAL)
    assert info["status"].dtype == jnp.int32


def test_slot_problem_picks_the_chosen_cut_of_cut_problems(system):
    env, params = system
    _, state = env.reset(jax.random.key(5), params)
    every = env.cut_problems(state, params)
    action = jnp.arange(env.num_users, dtype=jnp.int32)
    chosen = env.slot_problem(state, action, params)
    for name in ("device_work_s", "uplink_bits", "server_work_s"):
        table = np.asarray(getattr(every, name))
        assert table.shape == (env.num_users, env.num_cuts)
        np.testing.assert_array_equal(getattr(chosen, name), table[np.arange(env.num_users), action])


@pytest.mark.parametrize(("asked", "runs"), [(999, "last"), (-3, "first")])
def test_wrong_cuts_become_the_nearest_valid_one_and_are_flagged(system, asked, runs):
    env, params = system
    _, state = env.reset(jax.random.key(6), params)
    action = jnp.full(env.num_users, asked, jnp.int32)
    info = env.step(jax.random.key(7), state, action, params)[5]
    last = np.asarray(env.action_mask(state, params)).sum(-1) - 1
    np.testing.assert_array_equal(info["cut"], last if runs == "last" else np.zeros_like(last))
    assert info["invalid_action"].all()


def test_actions_do_not_move_channel_and_arrivals(system):
    env, params = system
    _, state = env.reset(jax.random.key(8), params)
    last = jnp.sum(env.action_mask(state, params), axis=-1, dtype=jnp.int32) - 1
    key = jax.random.key(9)
    a, b = (env.step_env(key, state, action, params)[1] for action in (jnp.zeros_like(last), last))
    chex.assert_trees_all_equal((a.channel, a.workload), (b.channel, b.workload))


def test_params_can_be_vmapped_over(system):
    env, params = system
    _, state = env.reset(jax.random.key(10), params)
    action = jnp.zeros(env.num_users, jnp.int32)

    def delay(bandwidth_hz):
        info = env.step_env(jax.random.key(11), state, action, params.replace(bandwidth_hz=bandwidth_hz))[4]
        return info["delay_s"]

    delays = jax.jit(jax.vmap(delay))(jnp.array([5e6, 10e6, 20e6]))
    assert (np.diff(delays.sum(axis=-1)) < 0).all()  # more band, less delay


def test_gradients_through_two_slots_agree_with_central_differences():
    # In float64, where a central difference has six digits. The first slot's shares move the second's prices, so
    # both the envelope (objective) and the implicit derivatives (energies, delays) of the layer are at work.
    with jax.enable_x64(True):
        env, params = jaxmec.make("coinfer10", num_users=2)
        env = dataclasses.replace(env, solver=SolverConfig(iterations=20, tolerance=1e-13, rescues=0))
        state = jax.jit(lambda key: env.reset(key, params)[1])(jax.random.key(12))
        state = state.replace(device_queue=jnp.array([3.0, 2.0]), server_queue=jnp.asarray(3.0))

        def outcome(logs):
            changed = params.replace(
                bandwidth_hz=params.bandwidth_hz * jnp.exp(logs["bandwidth_hz"]),
                server_budget_j=params.server_budget_j * jnp.exp(logs["server_budget_j"]),
                workload=jax.tree.map(lambda rate: rate * jnp.exp(logs["rate_hz"]), params.workload),
            )

            def slot(state, key):
                _, after, reward, _, info = env.step_env(key, state, jnp.ones(2, jnp.int32), changed)
                return after, jnp.concatenate([reward[None], info["delay_s"], info["bandwidth_share"]])

            first = state.replace(device_queue=state.device_queue * jnp.exp(logs["device_queue"]))
            return jax.lax.scan(slot, first, jax.random.split(jax.random.key(13), 2))[1]

        names, step = ("bandwidth_hz", "server_budget_j", "rate_hz", "device_queue"), 1e-4
        places = jnp.concatenate([jnp.zeros((4, 4)), step * jnp.eye(4), -step * jnp.eye(4)])

        def value_and_slope(place, direction):
            logs, tangent = (dict(zip(names, values, strict=True)) for values in (place, direction))
            return jax.jvp(outcome, (logs,), (tangent,))

        values, slopes = jax.jit(jax.vmap(value_and_slope))(places, jnp.tile(jnp.eye(4), (3, 1)))
        for name, high, low, slope in zip(names, values[4:8], values[8:], slopes[:4], strict=True):
            difference = np.asarray(high - low) / (2 * step)
            scale = np.abs(difference).max()
            assert scale > 1e-3
            np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-6 * scale, err_msg=name)


def test_observation_tells_which_cuts_exist(system):
    env, params = system
    obs, state = env.reset(jax.random.key(14), params)
    np.testing.assert_array_equal(env.unpack(obs).mask, env.action_mask(state, params))


def test_population_follows_its_weights(system):
    env, params = system
    draw = jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))
    states = draw(jax.random.split(jax.random.key(15), 4000))
    shares = np.bincount(np.asarray(states.network).ravel(), minlength=5) / states.network.size
    expected = np.asarray(params.network_probability[0])
    half_width = 4 * np.sqrt(expected * (1 - expected) / states.network.size)
    assert (np.abs(shares - expected) <= half_width).all()


def test_injected_parts_change_what_a_study_varies_and_nothing_else(system):
    env, params = system
    params = params.replace(episode_slots=jnp.asarray(1))
    study = dataclasses.replace(
        env, reward=MeanDelay(), constraints=FixedMultipliers(), redraw_population=False, defaults=None
    )
    assert study != env
    assert hash(study) == hash(dataclasses.replace(study))
    _, state = env.reset(jax.random.key(16), params)
    state = state.replace(device_queue=jnp.arange(4.0), server_queue=jnp.asarray(5.0))
    weights = jnp.array([1.0, 2.0, 3.0, 4.0])
    step = jax.jit(study.step)
    obs, after, reward, _, truncated, info = step(
        jax.random.key(17), state, jnp.zeros(4, jnp.int32), params.replace(delay_weight=weights)
    )
    np.testing.assert_allclose(reward, -np.mean(np.asarray(weights) * np.asarray(info["delay_s"])), rtol=1e-6)
    # The multipliers stand, though the slot used more or less than its budgets.
    assert (np.abs(np.asarray(study.budget_use(state, info, params)["device_energy"]) - 1) > 1e-3).all()
    np.testing.assert_array_equal(after.device_queue, state.device_queue)
    assert after.server_queue == state.server_queue
    # The episode is over, and the same users go on: their channels and arrivals have moved, as without an end.
    assert truncated
    assert after.slot == 0
    for name in ("network", "device"):
        np.testing.assert_array_equal(getattr(after, name), getattr(state, name))
    np.testing.assert_array_equal(after.channel.mean_gain, state.channel.mean_gain)
    assert (after.channel.fading != state.channel.fading).all()
    np.testing.assert_allclose(obs, info["final_observation"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("process", ["markov", "diurnal"])
def test_arrivals_move_inside_the_environment(process):
    settings = {"stay_probability": 0.6} if process == "markov" else {"period_slots": 8.0}
    env, params = jaxmec.make("coinfer10", num_users=2, arrivals={"process": process, **settings})

    def slot(state, key):
        decision = env.decide(state, jnp.zeros(2, jnp.int32), params)
        return env.advance(key, state, decision, params), decision.outcome.device_energy_j / (
            decision.stage_times[:, 1] * params.tx_power_w * params.slot_s
        )  # only the radio works, so its energy tells how many requests there were

    @jax.jit
    def run(key):
        return jax.lax.scan(slot, env.reset(key, params)[1], jax.random.split(key, 400))[1]

    rates, others = (np.asarray(run(jax.random.key(seed))) for seed in (18, 19))
    low, high = (float(x[0]) for x in (params.workload.low_hz, params.workload.high_hz))
    if process == "markov":
        near_low, near_high = np.isclose(rates, low, rtol=1e-4), np.isclose(rates, high, rtol=1e-4)
        assert (near_low | near_high).all()
        stays = (near_high[1:] == near_high[:-1]).mean()
        assert abs(stays - 0.6) < 4 * np.sqrt(0.24 / near_high[1:].size)
    else:
        np.testing.assert_allclose(rates[8:], rates[:-8], rtol=1e-3)
        np.testing.assert_allclose(rates[4:] + rates[:-4], low + high, rtol=1e-3)
        assert not np.allclose(others[0], rates[0], rtol=1e-2)  # an episode begins anywhere in its day
        assert not np.isclose(rates[0, 0], rates[0, 1], rtol=1e-2)  # and everybody has its own
