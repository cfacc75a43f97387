"""Delay against energy: interpolation and weights by hand, and curves of a small system."""

import jax
import numpy as np

import jaxmec
from jaxmec.evaluation.equal_energy import Curve, delay_against_energy, weighted_energy
from jaxmec.long_run import ascend
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
    policies = {"closed_form": closed, "one after the other": [fast, thrifty]}
    curves = delay_against_energy(env, params, policies, (0.5, 2.0), num_episodes=4, num_slots=50, seed=3)
    dear = curves["closed_form"]
    assert (dear.energy[1] < dear.energy[0]).all()
    assert (dear.delay_s[1] > dear.delay_s[0]).all()
    # Nothing runs on the devices, then everything: the server's energy is all, then none, of the two.
    _, multipliers = ascend(env, jax.random.split(jax.random.key(3))[0], params, 4)
    server = np.asarray(multipliers["server_energy"])[:, 0]
    total = server + np.asarray(multipliers["device_energy"]).sum(axis=1)
    other = curves["one after the other"]
    assert (other.delay_s[0] < other.delay_s[1]).all()
    assert (np.abs(other.energy[0] - other.energy[1]) * total > 0).all()
