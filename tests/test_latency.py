"""The latency model: its fit against closed forms, and the prior from many devices."""

import numpy as np
import pytest

from jaxmec import devices, latency, profiles

SIX = np.eye(6)


def prior(mean, variance, error=0.1):
    return latency.Prior(np.full(6, float(mean)), variance * np.eye(6), error)


def test_a_single_term_has_the_weighted_mean_of_prior_and_measurements():
    # log time = log work + log constant, so that the posterior of the constant is normal.
    work = np.outer([2.0, 5.0], SIX[0])
    times_s = np.array([2.0 * 0.3, 5.0 * 0.5])
    before, variance, error = np.log(0.1), 0.04, 0.2
    precision = 1 / variance + 2 / error**2
    expected = (before / variance + (np.log(0.3) + np.log(0.5)) / error**2) / precision
    constants = latency.fit(work, times_s, prior(before, variance, error))
    np.testing.assert_allclose(np.log(constants[0]), expected, rtol=1e-9)
    np.testing.assert_allclose(np.log(constants[1:]), before)  # nothing was measured of them
    half = latency.fit(work, times_s, prior(before, variance, error), np.array([1.0, 0.0]))
    alone = (before / variance + np.log(0.3) / error**2) / (1 / variance + 1 / error**2)
    np.testing.assert_allclose(np.log(half[0]), alone, rtol=1e-9)


def test_fit_is_the_minimum_that_another_solver_finds():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    work = rng.uniform(0.1, 3.0, (5, 6))
    truth = np.exp(rng.normal(0, 1, 6))
    times_s = work @ truth * np.exp(rng.normal(0, 0.05, 5))
    spread = rng.normal(size=(6, 6))
    usual = latency.Prior(rng.normal(0, 0.5, 6), spread @ spread.T + 0.1 * SIX, 0.1)

    def objective(x):
        misfit = (np.log(work @ np.exp(x)) - np.log(times_s)) / usual.error
        away = x - usual.mean
        return misfit @ misfit + away @ np.linalg.solve(usual.covariance, away)

    found = np.log(latency.fit(work, times_s, usual))
    other = optimize.minimize(objective, found + 0.1, method="BFGS", tol=1e-10)
    assert objective(found) <= other.fun * (1 + 1e-6)
    np.testing.assert_allclose(found, other.x, atol=1e-3)


def test_many_exact_measurements_overrule_the_prior():
    truth = np.array([1e-11, 4e-11, 2e-11, 2e-10, 1e-10, 5e-5])
    work = np.array([latency.terms(profiles.load(name))[-1] for name in profiles.names()])
    constants = latency.fit(np.tile(work, (50, 1)), np.tile(work @ truth, 50), latency.load_prior())
    np.testing.assert_allclose(constants, truth, rtol=0.02)
    model = latency.LatencyModel.of(truth)
    np.testing.assert_allclose(
        model.latency_s(profiles.load("vgg16"))[-1], work[profiles.names().index("vgg16")] @ truth
    )


def test_the_pool_finds_what_is_usual():
    rng = np.random.default_rng(1)
    mean, speed, own = np.array([-2.0, -1.0, 0.0, 1.0, -1.5, 0.5]), 0.8, 0.3
    devices = mean + speed * rng.normal(size=(400, 1)) + own * rng.normal(size=(400, 6))
    # Networks in which one term rules, so that its constant can be told; some were not measured everywhere.
    work = 0.02 + np.tile(SIX, (2, 1)) * np.exp(-mean)
    times_s = np.exp(devices) @ work.T * np.exp(0.1 * rng.normal(size=(400, 12)))
    times_s[::3, 5] = np.nan
    found = latency.pool(work, times_s, error=0.1, trim=0.0)
    np.testing.assert_allclose(found.mean, devices.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(found.covariance, np.cov(devices.T, bias=True), rtol=0.05, atol=0.03)


def test_errors_on_networks_left_out_are_those_of_a_plain_least_squares():
    usual = latency.load_prior()
    whiten = np.linalg.inv(np.linalg.cholesky(usual.covariance))

    def fitted(work, times_s):
        """Misfits and distances from the prior as the rows of one least-squares problem, linearised again and again."""
        x = usual.mean.copy()
        for _ in range(200):
            parts = work * np.exp(x)
            seconds = parts.sum(axis=1)
            rows = np.concatenate([parts / seconds[:, None] / usual.error, whiten])
            missing = [(np.log(times_s) - np.log(seconds)) / usual.error, whiten @ (usual.mean - x)]
            x += 0.5 * np.linalg.lstsq(rows, np.concatenate(missing), rcond=None)[0]
        return np.exp(x)

    sizes = []
    for name in devices.names():
        device = devices.load(name)
        networks, times_s = list(device.measured_s), np.array(list(device.measured_s.values()))
        work = np.array([latency.terms(profiles.load(network))[-1] for network in networks])
        for i, network in enumerate(networks):
            others = np.arange(len(networks)) != i
            error = fitted(work[others], times_s[others]) @ work[i] / times_s[i] - 1
            np.testing.assert_allclose(device.errors[network], error, atol=2e-3, err_msg=f"{name}, {network}")
            sizes.append(abs(error))
    # Four networks determine less than five, and some of these devices are the prior's own outliers.
    assert 0.05 < np.median(sizes) < 0.25
