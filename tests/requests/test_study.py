"""Percentiles, misses and backlog with intervals: against the theory of M/D/1, and the parts by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import binom

import jaxmec
from jaxmec.lyapunov import FixedMultipliers
from jaxmec.policies import make_policy
from jaxmec.requests import LogHistogram, RequestReport, StudyConfig, simulate_requests
from jaxmec.requests.study import Tally, estimate, mser5

OPTIMISED = True
RATE_HZ, SEEDS = 12.0, 40


@pytest.fixture(scope="module")
def md1():
    """One user, everything on its device at full speed: service in constant time, Poisson arrivals."""
    users = [
        {
            "networks": {"resnet18": 1},
            "devices": {"jetson_nano": 1},
            "energy_budget_j": {"jetson_nano": 1},
            "arrival_rate_hz": [RATE_HZ, RATE_HZ],
            "deadline_s": 0.1,
        }
    ]
    env, params = jaxmec.make("coinfer4", fidelity="requests", users=users)
    env = dataclasses.replace(env, constraints=FixedMultipliers())
    return env, params, make_policy("local_only", env), float(params.device_work_s.max())


@pytest.fixture(scope="module")
def reports(md1):
    env, params, policy, _ = md1
    config = StudyConfig(num_slots=100, replications=12, level=0.99, warm_up_slots=50)
    return [simulate_requests(jax.random.key(seed), env, params, policy, config) for seed in range(SEEDS)]


def test_intervals_cover_the_mean_of_md1_as_often_as_they_claim(md1, reports):
    service_s = md1[3]
    load = RATE_HZ * service_s
    assert 0.4 < load < 0.8
    theory = service_s + RATE_HZ * service_s**2 / (2.0 * (1.0 - load))  # Pollaczek and Khinchine
    delays = [report.estimates["delay_s"] for report in reports]
    errors = np.array([abs(delay.value - theory) / delay.half_width for delay in delays])
    # A 99 % interval misses in one of a hundred; more than three of forty would be a chance of one in 2,000.
    assert binom.sf(3, SEEDS, 0.01) < 1e-3
    assert np.sum(errors > 1.0) <= 3
    # And they are no wider than they must be: half of the intervals at 50 % miss.
    narrower = stdtrit(11, 0.75) / stdtrit(11, 0.995)
    assert 8 <= np.sum(errors > narrower) <= 32
    whole = np.mean([delay.value for delay in delays])
    assert whole == pytest.approx(theory, rel=0.01)


def test_percentiles_and_misses_are_those_of_md1(md1, reports):
    service_s = md1[3]

    def probability(time_s):  # P(D <= t): Erlang, Crommelin
        waited = time_s - service_s
        steps = range(math.floor(waited / service_s) + 1)
        terms = []
        for k in steps:
            past = RATE_HZ * (waited - k * service_s)
            terms.append((-past) ** k / math.factorial(k) * math.exp(past))
        return (1.0 - RATE_HZ * service_s) * math.fsum(terms)

    for name, level in (("p50_s", 0.5), ("p95_s", 0.95), ("p99_s", 0.99)):
        found = np.mean([report.estimates[name].value for report in reports])
        assert probability(found * 0.985) < level < probability(found * 1.015)
    late = np.mean([report.estimates["late"].value for report in reports])
    assert late == pytest.approx(1.0 - probability(0.1), rel=0.05)
    assert all(report.estimates["overflow"].value == 0 for report in reports)


def test_the_way_back_is_part_of_percentiles_and_misses(md1, reports):
    env, params, policy, _ = md1
    back = params.replace(return_s=jnp.full_like(params.uplink_bits, 0.25))
    config = StudyConfig(num_slots=100, replications=12, level=0.99, warm_up_slots=50)
    found = simulate_requests(jax.random.key(0), env, back, policy, config).estimates
    for name in ("delay_s", "p50_s", "p95_s", "p99_s"):
        assert found[name].value == pytest.approx(reports[0].estimates[name].value + 0.25, rel=0.01)
    assert found["late"].value == 1.0  # of a deadline of 0.1 s
    assert found["backlog_s"].value == pytest.approx(reports[0].estimates["backlog_s"].value, rel=1e-4)


def test_replications_go_on_until_the_precision_is_reached(md1):
    env, params, policy, _ = md1
    asked = StudyConfig(num_slots=100, replications=12, warm_up_slots=50, precision=0.02, max_replications=240)
    report = simulate_requests(jax.random.key(0), env, params, policy, asked)
    delay = report.estimates["delay_s"]
    assert report.precise
    assert delay.half_width <= 0.02 * delay.value
    assert len(report.means_s) > 12
    assert report.requests == report.counts.sum()
    short = dataclasses.replace(asked, precision=1e-4, max_replications=24)
    report = simulate_requests(jax.random.key(0), env, params, policy, short)
    assert not report.precise
    assert len(report.means_s) == 24


def test_overload_is_told(md1):
    env, params, policy, _ = md1
    slow = params.replace(device_work_s=2.0 * params.device_work_s)
    report = simulate_requests(jax.random.key(0), env, slow, policy, StudyConfig(num_slots=100, replications=12))
    assert not report.settled
    # Work grows by λ s - 1 per second.
    growth = RATE_HZ * float(slow.device_work_s.max()) - 1.0
    mean_s = growth * (report.warm_up_slots + 50.0)
    assert report.estimates["backlog_s"].value == pytest.approx(mean_s, rel=0.1)


def test_the_jackknife_of_a_ratio_by_hand():
    counts, sums = np.array([10.0, 20.0, 30.0]), np.array([12.0, 18.0, 39.0])
    nothing = np.zeros(3)
    tally = Tally(counts, sums, nothing, nothing, nothing, nothing, np.zeros((3, 2)))
    found = estimate(tally, lambda tally: tally.delay_s / tally.requests, 0.95)
    without = np.array([57 / 50, 51 / 40, 30 / 30])
    error = math.sqrt(2 / 3 * np.sum((without - without.mean()) ** 2))
    assert found.value == pytest.approx(69 / 60)
    assert found.half_width == pytest.approx(4.302653 * error, rel=1e-5)  # Student's t, 2 degrees of freedom


def test_a_difference_is_paired_by_replication():
    rng = np.random.default_rng(0)
    nothing, requests, common = np.zeros(8), np.full(8, 10.0), rng.normal(50.0, 20.0, 8)
    gains = rng.normal(5.0, 0.5, 8)
    one, other = (
        RequestReport({}, Tally(requests, sums, *[nothing] * 3, requests, np.ones((8, 2303))), 0, True, True, 0.95)
        for sums in (common, common + gains)
    )
    difference = other.over(one)["delay_s"]
    # Of equal weights the jackknife is Student's interval of the pairs.
    assert difference.value == pytest.approx(gains.mean() / 10)
    half_width = stdtrit(7, 0.975) * gains.std(ddof=1) / np.sqrt(8) / 10
    assert difference.half_width == pytest.approx(half_width, rel=1e-6)
    assert other.over(one)["p95_s"].value == 0
    fewer = dataclasses.replace(one, tally=jax.tree.map(lambda leaf: leaf[:3], one.tally))
    with pytest.raises(ValueError, match="reference: got 3 replications; allowed are 8"):
        other.over(fewer)


def test_the_warm_up_ends_where_the_series_settles():
    rng = np.random.default_rng(0)
    settled = rng.normal(1.0, 0.1, 400)
    assert mser5(settled)[0] <= 40
    rising = settled - np.where(np.arange(400) < 100, 1.0 - np.arange(400) / 100.0, 0.0)
    cut, found = mser5(rising)
    assert found
    assert 60 <= cut <= 120
    assert not mser5(np.arange(400.0))[1]


def test_the_sketch_keeps_its_promise_and_adds_up():
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(-2.0, 2.0, 20_000))
    sketch = LogHistogram()
    first, second = (
        np.asarray(sketch.count(jnp.asarray(part), jnp.ones(len(part), bool)))
        for part in (values[:5000], values[5000:])
    )
    ordered = np.sort(values)
    for level in (0.01, 0.5, 0.95, 0.999):
        exact = ordered[math.ceil(level * len(values)) - 1]
        assert sketch.quantile(first + second, level) == pytest.approx(exact, rel=1.01 * sketch.relative_error)
    assert (first + second).sum() == 20_000
    none = sketch.count(jnp.asarray([0.1, 0.2]), jnp.asarray([False, True]))
    assert none.sum() == 1
    assert sketch.quantile(np.asarray(sketch.count(jnp.asarray([0.0]), jnp.asarray([True]))), 0.5) < 1.1e-5
    assert np.isnan(sketch.quantile(np.zeros(sketch.size), 0.5))


def test_bad_requests_for_a_study_are_told(md1):
    env, params, policy, _ = md1
    with pytest.raises(ValueError, match="replications: got 1; allowed is a number at least 2"):
        simulate_requests(jax.random.key(0), env, params, policy, StudyConfig(replications=1))
    with pytest.raises(ValueError, match="max_replications: got 8; allowed is at least replications = 32"):
        StudyConfig(max_replications=8)
    stationary, _ = jaxmec.make("coinfer4")
    with pytest.raises(ValueError, match="env: got fidelity Stationary"):
        simulate_requests(jax.random.key(0), stationary, params, policy)
