"""Delay against energy: interpolation and weights by hand, and curves of a small system."""

import numpy as np

import jaxmec
from jaxmec.evaluation.equal_energy import Curve, delay_against_energy, weighted_energy
from jaxmec.policies import make_policy


def test_delay_is_interpolated_episode_by_episode():
    curve = Curve(
        multiples=(0.5, 1.0, 2.0),
        energy=np.array([[1.4, 0.9], [1.1, 0.8], [0.7, 0.6]]),
        delay_s=np.array([[0.1, 0.2], [0.2, 0.3], [0.4, 0.5]]),
    )
    # A quarter of the way from 1.1 (0.2 s) to 0.7 (0.4 s); the second episode never uses its budgets up.
    np.testing.assert_allclose(curve.delay_at(1.0), [0.25, np.nan])
    np.testing.assert_allclose(curve.delay_at(0.85), [0.325, 0.25])


def test_budgets_count_by_their_multipliers():
    use = {"device_energy": np.array([[2.0, 1.0]]), "server_energy": np.array([[0.5]])}
    multipliers = {"device_energy": np.array([[1.0, 2.0]]), "server_energy": np.array([[1.0]])}
    np.testing.assert_allclose(weighted_energy(use, multipliers), [(2.0 + 2.0 + 0.5) / 4.0])


def test_dearer_energy_is_saved_and_a_policy_per_multiple_takes_its_turn():
    env, params = jaxmec.make("coinfer4")
    closed, fast, thrifty = (make_policy(name, env) for name in ("closed_form", "edge_only", "local_only"))
    policies = {"closed_form": closed, "fast": fast, "thrifty": thrifty, "in turn": [fast, thrifty]}
    curves = delay_against_energy(env, params, policies, (0.5, 2.0), num_episodes=4, num_slots=50, seed=3)
    dear = curves["closed_form"]
    assert (dear.energy[1] < dear.energy[0]).all()
    assert (dear.delay_s[1] > dear.delay_s[0]).all()
    for point, name in enumerate(("fast", "thrifty")):
        np.testing.assert_allclose(curves["in turn"].delay_s[point], curves[name].delay_s[point], rtol=1e-6)
        np.testing.assert_allclose(curves["in turn"].energy[point], curves[name].energy[point], rtol=1e-6)
