"""Spaces: what they hold, and what they draw."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmec.spaces import Box, Discrete, MultiDiscrete


def test_a_box_contains_what_it_draws_and_nothing_of_another_shape_or_size(key):
    box = Box(-2.0, 3.0, (4, 5))
    draws = np.asarray(jax.vmap(box.sample)(jax.random.split(key, 1000)))
    assert draws.dtype == np.float32
    assert jax.vmap(box.contains)(draws).all()
    # Uniform over [-2, 3]: mean 1/2, variance 25/12.
    assert abs(draws.mean() - 0.5) < 4 * np.sqrt(25 / 12 / draws.size)
    assert np.isclose(draws.var(), 25 / 12, rtol=0.05)
    assert not box.contains(jnp.zeros((5, 4)))
    assert not box.contains(jnp.zeros((4, 5)).at[1, 1].set(3.1))
    assert not box.contains(jnp.zeros((4, 5)).at[1, 1].set(-2.1))


def test_a_box_without_bounds_draws_from_one_to_minus_one(key):
    box = Box(-float("inf"), float("inf"), (1000,))
    draws = np.asarray(box.sample(key))
    assert (draws >= -1).all()
    assert (draws < 1).all()
    assert draws.min() < -0.9
    assert draws.max() > 0.9
    assert box.contains(1e30 * draws)
    assert not box.contains(box.sample(key).at[0].set(jnp.nan))


def test_choices_are_whole_numbers_below_their_limit_and_all_alike(key):
    space = MultiDiscrete(3, 4)
    assert space.shape == (3,)
    draws = np.asarray(jax.vmap(space.sample)(jax.random.split(key, 4000)))
    assert draws.dtype == np.int32
    assert jax.vmap(space.contains)(draws).all()
    shares = np.bincount(draws.ravel(), minlength=4) / draws.size
    assert (np.abs(shares - 0.25) < 4 * np.sqrt(0.25 * 0.75 / draws.size)).all()
    for wrong in ([0, 1, 4], [0, -1, 2], [0, 1]):
        assert not space.contains(jnp.array(wrong))


def test_one_whole_number_is_drawn_uniformly_and_told_from_others(key):
    space = Discrete(3)
    draws = np.asarray(jax.vmap(space.sample)(jax.random.split(key, 3000)))
    counts = np.bincount(draws, minlength=3)
    assert len(counts) == 3
    assert (np.abs(counts - 1000) < 4 * np.sqrt(3000 * 2 / 9)).all()
    assert [bool(space.contains(jnp.asarray(x))) for x in (-1, 0, 2, 3)] == [False, True, True, False]
    assert not space.contains(jnp.zeros(1, jnp.int32))
