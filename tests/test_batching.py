"""Batching rules: the same values and derivatives as the default rule gives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec.batching import batch_last, only_where


def softened(x, scale):
    """Of x [3, ...] and scale [...]."""
    return jnp.tanh(x * jnp.expand_dims(scale, 0)), jnp.sum(x, axis=0)


@pytest.mark.parametrize("batch", [(), (7,), (257,), (3, 50)])
def test_batch_last_computes_what_the_function_does(batch):
    x = jax.random.normal(jax.random.key(0), (*batch, 3))
    single = batch_last(softened, size=64)
    for _ in batch:
        single = jax.vmap(single, (0, None))
    first, second = jax.jit(single)(x, jnp.asarray(2.0))
    np.testing.assert_allclose(first, np.tanh(2.0 * np.asarray(x)), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(second, np.asarray(x).sum(-1), rtol=1e-5, atol=1e-6)


def test_batch_last_has_the_derivative_of_the_function():
    x = jax.random.normal(jax.random.key(1), (100, 3))
    single = batch_last(softened, size=64)
    slope = jax.grad(lambda x: jnp.sum(jax.vmap(single, (0, None))(x, jnp.asarray(1.0))[0]))(x)
    np.testing.assert_allclose(slope, 1.0 - np.tanh(np.asarray(x)) ** 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.03, 1.0])
def test_only_where_computes_what_is_needed_and_keeps_the_rest(share):
    needed = jax.random.uniform(jax.random.key(0), (2, 400)) < share
    value, offset = jax.random.normal(jax.random.key(1), (2, 400, 3)), jnp.array([10.0, 20.0])

    def one(needed, value, offset, factor):
        return only_where(needed, lambda v, o, f: v * f + o, value, value, offset, factor)

    # the offset belongs to the outer axis alone, the factor to neither
    batched = jax.vmap(jax.vmap(one, (0, 0, None, None)), (0, 0, 0, None))
    result = jax.jit(batched)(needed, value, offset, jnp.asarray(3.0))
    expected = np.where(np.asarray(needed)[..., None], 3.0 * value + np.asarray(offset)[:, None, None], value)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_only_where_computes_nothing_else():
    def one(needed, value):  # where it is not needed, the loop would never end
        return only_where(needed, lambda v: jax.lax.while_loop(lambda v: v < 0, lambda v: v, v), value, value)

    value = jnp.array([1.0, -1.0])
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(jnp.array([False, False]), value), value)


def test_only_where_has_the_derivative_of_the_branch_that_is_taken():
    needed, value = jnp.array([True, False]), jnp.array([2.0, 2.0])

    def total(value):
        return jnp.sum(jax.vmap(lambda n, v: only_where(n, jnp.square, 5.0 * v, v))(needed, value))

    np.testing.assert_allclose(jax.grad(total)(value), [4.0, 5.0])  # of v² and of 5 v


@pytest.mark.parametrize("in_axes", list(itertools.product((0, None), repeat=4)))
def test_only_where_takes_every_combination_of_batched_arguments(in_axes):
    numbers = jnp.arange(6.0)
    whole = (
        numbers % 2 == 0,
        10.0 * jnp.stack([numbers, -numbers], 1),
        jnp.stack([numbers, 2 * numbers], 1),
        numbers,
    )
    args = [value if axis == 0 else value[2] for value, axis in zip(whole, in_axes, strict=True)]

    def one(needed, otherwise, value, factor):
        return only_where(needed, lambda v, f: jnp.sin(v) * f, otherwise, value, factor)

    def expected(needed, otherwise, value, factor):
        return jnp.where(needed, jnp.sin(value) * factor, otherwise)

    def batched(function):
        return function if in_axes == (None,) * 4 else jax.vmap(function, in_axes)

    def total(function):
        return lambda *floats: jnp.sum(jnp.cos(batched(function)(args[0], *floats)))

    np.testing.assert_allclose(jax.jit(batched(one))(*args), batched(expected)(*args), rtol=1e-6)
    found, wanted = (jax.grad(total(f), argnums=(0, 1, 2))(*args[1:]) for f in (one, expected))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
