"""The allocation layer against an independent solver, its certificates, its gradients and its robustness."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.allocation import SlotProblem, SolverConfig, Status, allocate, evaluate, objective

X64 = jax.config.jax_enable_x64
FLOAT = np.float64 if X64 else np.float32


def problems(seed, batch, num_users, wide=False):
    """Random problems [batch, ...]: what scenarios produce, or far beyond it."""
    rng = np.random.default_rng(seed)

    def uniform_log(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), (batch, num_users)))

    if wide:
        present = rng.random((3, batch, num_users)) > 0.8 * rng.random((3, batch, 1))
        leaves = {
            "device_work_s": uniform_log(1e-5, 10) * present[0],
            "uplink_bits": uniform_log(1e-5, 10) * 20e6 * present[1],
            "server_work_s": uniform_log(1e-5, 10) * present[2],
            "arrival_rate_hz": uniform_log(0.01, 20),
            "device_power_w": uniform_log(0.1, 10),
            "tx_power_w": uniform_log(0.01, 1),
            "snr": uniform_log(1e-3, 1e5),
            "delay_price": uniform_log(1e-2, 1e4),
            "energy_price": uniform_log(1e-2, 1e4) * (rng.random((batch, num_users)) > 0.2),
            "server_energy_price": np.exp(rng.uniform(-7, 7, batch)) * (rng.random(batch) > 0.2),
        }
    else:
        present = rng.random((3, batch, num_users)) > 0.3
        leaves = {
            "device_work_s": uniform_log(0.01, 1) * present[0],
            "uplink_bits": uniform_log(1e4, 2e6) * present[1],
            "server_work_s": uniform_log(0.001, 0.05) * present[2],
            "arrival_rate_hz": uniform_log(1, 3),
            "device_power_w": uniform_log(3, 7),
            "tx_power_w": uniform_log(0.1, 0.3),
            "snr": uniform_log(3, 1e3),
            "delay_price": uniform_log(5, 20),
            "energy_price": uniform_log(0.01, 100) * (rng.random((batch, num_users)) > 0.2),
            "server_energy_price": np.exp(rng.uniform(-5, 1, batch)),
        }
    shared = {"bandwidth_hz": 20e6, "server_power_w": 200.0, "slot_s": 1.0, "knee": 0.9}
    leaves |= {name: np.full(batch, value) for name, value in shared.items()}
    return SlotProblem(**{name: jnp.asarray(leaf, FLOAT) for name, leaf in leaves.items()})


def solve(batch, iterations=30):
    return jax.jit(jax.vmap(lambda p: allocate(p, SolverConfig(iterations=iterations))))(batch)


def one(batch, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf[index], np.float64), batch)


def reference(p):
    """The optimum by CVXPY: stage times are the variables, shares their inverse functions' epigraphs."""
    num_users = len(p.device_work_s)
    requests = p.slot_s * p.arrival_rate_hz
    theta, over, below = (cp.Variable(num_users, nonneg=True) for _ in range(3))
    total, constraints, band, server = 0, [below <= p.knee / p.arrival_rate_hz, theta == below + over], [], []
    slope = 0.5 * ((1 - p.knee) ** -2 - 1)
    scale = np.ones(num_users) if p.waiting_scale is None else p.waiting_scale
    backlog_price = np.zeros(num_users) if p.backlog_price is None else p.backlog_price
    capacity_bps = np.zeros(num_users) if p.capacity_bps is None else p.capacity_bps
    for n in range(num_users):
        price = p.delay_price[n]
        rate = p.arrival_rate_hz[n]
        # λ b² / (2 (1 - λ b)) = ((1 - λ b)⁻¹ - 1 - λ b) / (2 λ)
        busy = rate * below[n]
        total += price * scale[n] * ((cp.inv_pos(1 - busy) - 1 - busy) / (2 * rate) + slope * over[n])
        total += backlog_price[n] * rate * theta[n]
        for work, energy, shares in (
            (p.device_work_s[n], requests[n] * p.energy_price[n] * p.device_power_w[n], None),
            (p.server_work_s[n], requests[n] * p.server_energy_price * p.server_power_w, server),
        ):
            if work > 0:
                y = cp.Variable(nonneg=True)
                time = work * cp.inv_pos(y)
                total += price * time + energy * work * cp.square(y)
                constraints += [y <= 1, time <= theta[n]]
                if shares is not None:
                    shares.append(y)
        if p.uplink_bits[n] > 0:
            y, nats = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
            if capacity_bps[n] > 0:
                time = p.uplink_bits[n] / capacity_bps[n] * cp.inv_pos(y)
            else:  # y log(1 + snr / y) is minus a relative entropy of (y, y + snr)
                constraints += [nats <= -cp.rel_entr(y, y + p.snr[n])]
                time = p.uplink_bits[n] * np.log(2) / p.bandwidth_hz * cp.inv_pos(nats)
            total += (price + requests[n] * p.energy_price[n] * p.tx_power_w[n]) * time
            constraints += [y <= 1, time <= theta[n]]
            band.append(y)
    constraints += [cp.sum(cp.hstack(shares)) <= 1 for shares in (band, server) if shares]
    problem = cp.Problem(cp.Minimize(total), constraints)
    try:
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    except cp.SolverError:
        return None
    return problem.value if problem.status == "optimal" else None


@pytest.mark.parametrize(("num_users", "count"), [(1, 40), (4, 40), (12, 8)])
def test_objective_is_that_of_an_independent_solver(num_users, count):
    batch = problems(num_users, count, num_users)
    answer = solve(batch)
    tolerance = 1e-6 if X64 else 2e-5  # the reference's own is at most 6e-7
    compared = 0
    for index in range(count):
        expected = reference(one(batch, index))
        if expected is not None and expected > 1e-3:
            assert np.isclose(answer.objective[index], expected, rtol=tolerance)
            compared += 1
    assert compared >= 0.9 * count


def test_bursts_clocked_frames_backlogs_and_capacities_are_those_of_an_independent_solver():
    rng = np.random.default_rng(8)
    count, num_users = 32, 4
    batch = problems(8, count, num_users)
    batch = batch.replace(
        waiting_scale=jnp.asarray(rng.choice([0.0, 0.4, 1.0, 8.0], (count, num_users)), FLOAT),
        backlog_price=jnp.asarray(rng.choice([0.0, 1.0, 30.0], (count, num_users)), FLOAT),
        capacity_bps=jnp.asarray(rng.choice([0.0, 5e6, 1e8], (count, num_users)), FLOAT),
    )
    answer = jax.jit(jax.vmap(allocate))(batch)
    assert (answer.status == Status.OPTIMAL).all()
    compared = 0
    for index in range(count):
        expected = reference(one(batch, index))
        if expected is not None:
            np.testing.assert_allclose(answer.objective[index], expected, rtol=1e-6 if X64 else 2e-5)
            compared += 1
    assert compared > 0.9 * count
    values = jax.vmap(objective)(batch, answer.device_share, answer.bandwidth_share, answer.server_share)
    np.testing.assert_allclose(values, answer.objective, rtol=1e-5)


def test_the_defaults_of_optional_leaves_change_nothing():
    batch = problems(3, 32, 3)
    ones = jnp.ones_like(batch.snr)
    explicit = batch.replace(waiting_scale=ones, backlog_price=0 * ones, capacity_bps=0 * ones)
    plain, told = (jax.jit(jax.vmap(allocate))(p) for p in (batch, explicit))
    for name in ("device_share", "bandwidth_share", "server_share", "objective"):
        np.testing.assert_allclose(getattr(plain, name), getattr(told, name), rtol=1e-5, atol=1e-6)


def test_clocked_frames_by_hand():
    # No waiting and no energy price: full speed, a lone user's whole band and server. The backlog counts the
    # slowest stage: 7 * 2 per second * .3 s.
    leaves = {"device_work_s": [0.1], "server_work_s": [0.05], "uplink_bits": [6e6], "arrival_rate_hz": [2.0]}
    leaves |= {"snr": [3.0], "energy_price": [0.0], "waiting_scale": [0.0], "backlog_price": [7.0]}
    leaves |= {name: [1.0] for name in ("device_power_w", "tx_power_w", "delay_price")}
    leaves |= {"bandwidth_hz": 1e7, "server_power_w": 1.0, "server_energy_price": 0.0, "slot_s": 1.0, "knee": 0.9}
    answer = allocate(SlotProblem(**{name: jnp.asarray(leaf, FLOAT) for name, leaf in leaves.items()}))
    np.testing.assert_allclose(answer.objective, 0.1 + 0.3 + 0.05 + 7.0 * 2.0 * 0.3, rtol=1e-5)  # log2(1 + 3) = 2


@pytest.mark.parametrize("num_users", [1, 5, 20])
@pytest.mark.parametrize("wide", [False, True])
def test_answers_are_feasible_finite_and_certified(num_users, wide):
    batch = problems(7, 512, num_users, wide)
    answer = solve(batch)
    for name in answer.__dataclass_fields__:
        assert np.isfinite(getattr(answer, name)).all(), name
    for work, share in (
        ("device_work_s", answer.device_share),
        ("uplink_bits", answer.bandwidth_share),
        ("server_work_s", answer.server_share),
    ):
        needed = np.asarray(getattr(batch, work)) > 0
        assert (np.asarray(share)[needed] > 0).all()
        assert (np.asarray(share)[~needed] == 0).all()
        assert (np.asarray(share) <= 1 + 1e-6).all()
    rounding = 1e-12 if X64 else 1e-5
    assert (answer.bandwidth_share.sum(-1) <= 1 + rounding).all()
    assert (answer.server_share.sum(-1) <= 1 + rounding).all()
    # The certificate bounds the distance to the optimum, so a small gap is a proof.
    gap = np.asarray(answer.duality_gap)
    assert np.percentile(gap, 99) < (1e-6 if X64 else 2e-5)


def test_objective_and_outcome_are_those_of_the_shares():
    batch = problems(3, 64, 5)
    answer = solve(batch)
    values = jax.vmap(objective)(batch, answer.device_share, answer.bandwidth_share, answer.server_share)
    np.testing.assert_allclose(values, answer.objective, rtol=1e-5)
    outcome = jax.vmap(evaluate)(batch, answer.device_share, answer.bandwidth_share, answer.server_share)
    total = (batch.delay_price * outcome.delay_s + batch.energy_price * outcome.device_energy_j).sum(
        -1
    ) + batch.server_energy_price * outcome.server_energy_j
    np.testing.assert_allclose(total, values, rtol=1e-5)


def test_two_equal_users_share_the_band_equally_and_by_hand():
    # Only uplinks, equal snr: each takes half; s = B / (W/2 log2(1 + 2 snr))
    problem = SlotProblem(
        **{name: jnp.zeros(2, FLOAT) for name in ("device_work_s", "server_work_s", "energy_price")},
        uplink_bits=jnp.full(2, 1e6, FLOAT),
        arrival_rate_hz=jnp.ones(2, FLOAT),
        device_power_w=jnp.ones(2, FLOAT),
        tx_power_w=jnp.ones(2, FLOAT),
        snr=jnp.full(2, 7.5, FLOAT),
        delay_price=jnp.full(2, 10.0, FLOAT),
        **{
            name: jnp.asarray(value, FLOAT)
            for name, value in {
                "bandwidth_hz": 1e6,
                "server_power_w": 1.0,
                "server_energy_price": 0.0,
                "slot_s": 1.0,
                "knee": 0.9,
            }.items()
        },
    )
    answer = allocate(problem)
    time = 1e6 / (0.5e6 * 4)  # log2(16) = 4
    np.testing.assert_allclose(answer.bandwidth_share, 0.5, rtol=1e-4)
    np.testing.assert_allclose(answer.objective, 20 * (time + time**2 / (2 * (1 - time))), rtol=1e-5)


def test_gradients_are_finite_on_wide_problems_and_nest_with_vmap():
    batch = problems(11, 64, 4, wide=True)
    gradient = jax.jit(jax.vmap(jax.grad(lambda p: allocate(p).objective)))(batch)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


def test_nested_vmap_gives_what_a_flat_one_gives():
    batch = problems(13, 12, 3)
    flat = solve(batch)
    nested = jax.tree.map(lambda leaf: leaf.reshape(3, 4, *leaf.shape[1:]), batch)
    twice = jax.vmap(jax.vmap(lambda p: allocate(p, SolverConfig(iterations=30))))(nested)
    np.testing.assert_allclose(twice.objective.ravel(), flat.objective, rtol=1e-5)


def test_numbers_of_every_kind_are_leaves():
    problem = jax.tree.map(lambda leaf: leaf[0], problems(0, 1, 3)).replace(
        delay_price=jnp.full(3, 8.0, FLOAT), bandwidth_hz=jnp.asarray(2e7, FLOAT), slot_s=jnp.asarray(1.0, FLOAT)
    )
    changed = problem.replace(
        delay_price=np.full(3, 8),
        tx_power_w=problem.tx_power_w.astype(jnp.bfloat16),
        energy_price=np.full(3, 2.0, np.float16),
        bandwidth_hz=20_000_000,
        slot_s=np.int64(1),
        knee=0.9,
    )
    same = jax.tree.map(lambda leaf: jnp.asarray(leaf, FLOAT), changed)
    first, second = (jax.jit(allocate)(p).objective for p in (changed, same))
    assert first.dtype == second.dtype
    np.testing.assert_allclose(first, second, rtol=1e-5)
    with jax.enable_x64(True):
        single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), problem)
        assert jax.eval_shape(allocate, single).objective.dtype == jnp.float32


def test_wrong_leaves_are_told_by_name():
    problem = jax.tree.map(lambda leaf: leaf[0], problems(0, 1, 3))
    with pytest.raises(ValueError, match=r"SlotProblem.snr: got shape \(2,\); allowed is \[N\]"):
        allocate(problem.replace(snr=jnp.ones(2, FLOAT)))
    with pytest.raises(ValueError, match=r"SlotProblem.knee: got shape \(3,\); allowed is a scalar"):
        allocate(problem.replace(knee=jnp.ones(3, FLOAT)))
    with pytest.raises(ValueError, match="SlotProblem.tx_power_w: got complex64; allowed are real numbers"):
        allocate(problem.replace(tx_power_w=jnp.ones(3, jnp.complex64)))
    with pytest.raises(ValueError, match="SlotProblem.knee: got bool; allowed are real numbers"):
        allocate(problem.replace(knee=True))
    with pytest.raises(ValueError, match=r"SlotProblem.backlog_price: got shape \(\); allowed is \[N\]"):
        allocate(problem.replace(backlog_price=1.0))
    with pytest.raises(ValueError, match=r"device_work_s: got shape \(0,\); allowed is at least one user"):
        allocate(jax.tree.map(lambda leaf: leaf[:0] if leaf.ndim else leaf, problem))
    with pytest.raises(ValueError, match="iterations: got 0"):
        SolverConfig(iterations=0)


def test_time_behind_the_last_stage_moves_the_objective_by_its_price_and_no_share():
    problem = jax.tree.map(lambda leaf: leaf[0], problems(0, 1, 3))
    seconds = jnp.asarray([0.0, 0.5, 2.0], FLOAT)

    @jax.jit
    def solved(return_s):
        def objective(return_s):
            answer = allocate(problem.replace(return_s=return_s))
            return answer.objective, answer

        return jax.value_and_grad(objective, has_aux=True)(return_s)

    (without, before), _ = solved(0.0 * seconds)
    (value, after), slope = solved(seconds)
    np.testing.assert_allclose(value, without + problem.delay_price @ seconds, rtol=1e-6)
    np.testing.assert_allclose(slope, problem.delay_price, rtol=1e-6)
    np.testing.assert_array_equal(after.bandwidth_share, before.bandwidth_share)
    assert after.status == Status.OPTIMAL
    shares = after.device_share, after.bandwidth_share, after.server_share
    outcomes = [evaluate(problem.replace(return_s=s), *shares) for s in (None, seconds)]
    np.testing.assert_allclose(outcomes[1].delay_s - outcomes[0].delay_s, seconds, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outcomes[1].objective, value, rtol=1e-5)
