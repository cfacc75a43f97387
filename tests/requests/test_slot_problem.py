"""What the slot problem knows of bursts and of unfinished work, and what the bound makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmec
from jaxmec.config import ConfigError
from jaxmec.policies import make_policy

BUSY = {"radio": {"bandwidth_hz": 6e5}}  # a band so narrow that requests are left over


def play(env, params, num_slots, policy, seed=0):
    """States [T, ...] and infos [T, ...] under a policy."""

    @jax.jit
    def run(key):
        key_reset, key_run = jax.random.split(key)

        def slot(state, key):
            _, after, _, _, info = env.step_env(key, state, policy(key, state, params), params)
            return after, (state, info)

        return jax.lax.scan(slot, env.reset(key_reset, params)[1], jax.random.split(key_run, num_slots))[1]

    return run(jax.random.key(seed))


def test_unfinished_work_has_its_price_and_bursts_their_factor():
    env, params = jaxmec.make("coinfer4", fidelity="requests", backlog_weight=3.0, waiting_scale=5.0, **BUSY)
    states, info = play(env, params, 20, make_policy("random", env))
    state = jax.tree.map(lambda leaf: leaf[-1], states)
    problem = env.slot_problem(state, jnp.zeros(4, jnp.int32), params)
    # V = 10 and ω = 1; the work is what the slot before left until the last stage has finished.
    assert float(info["backlog_s"][-2].max()) > 0.5
    np.testing.assert_allclose(problem.backlog_price, 3.0 * 10.0 * info["backlog_s"][-2][:, -1], rtol=1e-5)
    np.testing.assert_allclose(problem.waiting_scale, 5.0)


@pytest.mark.parametrize("fidelity", ["stationary", "requests"])
def test_without_them_the_problem_has_no_leaves_for_them(fidelity):
    env, params = jaxmec.make("coinfer4", fidelity=fidelity)
    _, state = env.reset(jax.random.key(0), params)
    assert len(jax.tree.leaves(env.cut_problems(state, params))) == 14
    weighed = jaxmec.make("coinfer4", fidelity=fidelity, backlog_weight=1.0)[1]
    assert (env.cut_problems(state, weighed).backlog_price is None) == (fidelity == "stationary")


def test_limits_are_told_by_field():
    with pytest.raises(
        ConfigError, match=r"waiting_scale: got -1.0; allowed is a number at least 0 and at most 1"
    ):
        jaxmec.make("coinfer4", waiting_scale=-1)
    with pytest.raises(
        ConfigError, match="backlog_weight: got 10000.0; allowed is a number at least 0 and at most"
    ):
        jaxmec.make("coinfer4", backlog_weight=1e4)


def test_the_bound_knows_bursts_backlogs_and_capacities(tmp_path):
    recording = tmp_path / "capacity.txt"
    recording.write_text("0 4\n" + "".join(f"{t} {4 + 4 * (t % 3)}\n" for t in range(1, 40)))
    radio = {"process": "trace", "bandwidth_hz": 4e6, "trace_file": str(recording)}
    data = {
        "users": [
            {
                "count": 3,
                "networks": {"alexnet": 1},
                "devices": {"raspberry_pi_4": 1, "jetson_nano": 1},
                "energy_budget_j": {"raspberry_pi_4": 0.06, "jetson_nano": 0.09},
            }
        ],
        "server": {"device": "epyc_7742", "energy_budget_j": 0.5},
        "radio": radio,
        "waiting_scale": 4.0,
        "backlog_weight": 2.0,
    }
    file = tmp_path / "mine.yaml"
    file.write_text(repr(data))
    env, params = jaxmec.make(file, fidelity="requests")
    states, _ = play(env, params, 16, make_policy("greedy", env))
    priced = jax.vmap(env.cut_problems, (0, None))(states, params).backlog_price
    assert float((priced > 1.0).mean()) > 0.2

    @jax.jit
    @jax.vmap
    def reach(state):
        cuts = make_policy("exhaustive", env)(jax.random.key(0), state, params)
        return env.objective(state, cuts, params), env.lower_bound(state, params)

    best, bound = reach(states)
    assert (bound <= best * (1 + 1e-5)).all()
    assert np.mean(best / bound - 1.0) < 0.02
