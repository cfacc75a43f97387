"""What crosses: as many bits as the table says, quantised without harm to what is beside."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxmec.profiles import profile, split

DTYPES = (
    "bool",
    "int4",
    "uint8",
    "int16",
    "int32",
    "float8_e4m3fn",
    "float16",
    "bfloat16",
    "float32",
    "complex64",
)


def sent_bits(crossing):
    return 8 * sum(leaf.nbytes for leaf in jax.tree.leaves(crossing))


def through(x, **options):
    """An array after the wire: the identity is cut behind a product with the unit matrix."""
    w = jnp.eye(x.shape[-1], dtype=x.dtype)
    halves = split(lambda w, x: x + 0, w, x, cut=0, **options)
    return halves.tail(w, halves.head(w, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wire_bits", [None, 8, 16, 32])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_table_has_the_bits_that_are_sent(dtype, wire_bits, per_channel):
    x = jnp.ones((4, 16), dtype)
    head = split(lambda _, x: x[0], (), x, cut=0, wire_bits=wire_bits, per_channel=per_channel).head
    bits = profile(lambda _, x: x[0], (), x).uplink_bits(wire_bits, per_channel=per_channel)
    assert bits[0] == sent_bits(head((), x))


def test_bits_by_hand():
    def bits(dtype, wire_bits):
        return profile(lambda _, x: x[:1], (), jnp.ones(64, dtype)).uplink_bits(wire_bits)[0]

    assert bits(bool, None) == bits(bool, 8) == 64 * 8
    assert bits(jnp.bfloat16, 32) == bits(jnp.bfloat16, None) == 64 * 16
    assert bits(jnp.bfloat16, 8) == bits(jnp.float32, 8) == 64 * 8 + 32  # and a scale
    assert bits(jnp.float32, 32) == 64 * 32
    with jax.enable_x64(True):
        assert bits(jnp.float64, 32) == 64 * 32
        assert bits(jnp.float64, None) == 64 * 64
    key = jax.random.key(0)
    assert profile(lambda _, key: jax.random.bits(key), (), key).uplink_bits()[0] == 2 * 32


@pytest.mark.parametrize(("bits", "codes", "dtype"), [(8, 126, jnp.int8), (16, 32766, jnp.int16)])
def test_quantised_crossing_errs_by_at_most_half_a_level(bits, codes, dtype):
    w = jnp.eye(6)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    halves = split(lambda w, x: (x @ w) @ w, w, x, cut=1, wire_bits=bits)
    ((numbers, scale),) = halves.head(w, x)
    assert numbers.dtype == dtype
    error = np.asarray(halves.tail(w, ((numbers, scale),)) - x)
    assert 0 < np.abs(error).max() <= 0.5 * float(jnp.abs(x).max()) / codes * 1.001
    # After the cut stands the identity, so that the crossing's error is the output's.
    relative = np.sqrt((error**2).mean() / (np.asarray(x) ** 2).mean())
    np.testing.assert_allclose(halves.wire_error(w, x), relative, rtol=1e-4)
    zeros = jnp.zeros_like(x)
    np.testing.assert_array_equal(halves.tail(w, halves.head(w, zeros)), zeros)


@pytest.mark.parametrize("bits", [8, 16])
def test_infinities_and_nan_cross_and_spoil_nothing(bits):
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    clean = np.asarray(through(jnp.asarray(x), wire_bits=bits))
    spoilt = x.copy()
    spoilt[0, 1], spoilt[3, 3], spoilt[5, 0] = -np.inf, np.nan, np.inf
    got = np.asarray(through(jnp.asarray(spoilt), wire_bits=bits))
    untouched = np.isfinite(spoilt)
    np.testing.assert_array_equal(got[~untouched], spoilt[~untouched])
    np.testing.assert_array_equal(got[untouched], clean[untouched])


def test_an_outlier_costs_its_own_channel_only():
    x = np.tile(np.linspace(-1, 1, 8, dtype=np.float32)[:, None], (1, 4))
    x[2, 3] = 1e6
    together = np.asarray(through(jnp.asarray(x), wire_bits=8))
    apart = np.asarray(through(jnp.asarray(x), wire_bits=8, per_channel=True))
    assert (together[:, :3] == 0).all()  # half a level of 1e6 / 126 is more than any of them
    np.testing.assert_allclose(apart[:, :3], x[:, :3], rtol=0, atol=0.5 / 126 * 1.001)


@pytest.mark.parametrize("magnitude", [1e-22, 1.0, 1e20])
def test_relative_errors_at_any_magnitude(magnitude):
    x = jnp.array([[3.0, 4.0, 0.01, 1.0]], jnp.float32) * magnitude
    w = jnp.eye(4, dtype=jnp.float32)
    levels = 4.0 / 126
    error = np.array([3.0, 4.0, 0.01, 1.0]) - levels * np.round(np.array([3.0, 4.0, 0.01, 1.0]) / levels)
    expected = np.sqrt((error**2).sum() / (9 + 16 + 1e-4 + 1))
    got = split(lambda w, x: x @ w, w, x, cut=0, wire_bits=8).wire_error(w, x)
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_imaginary_parts_count_in_the_error():
    x = jnp.array([[3.0, 4.0, 0.01, 1.0]])
    halves = split(lambda _, x: 1j * x, (), x, cut=0, wire_bits=8)
    plain = split(lambda _, x: 2 * x, (), x, cut=0, wire_bits=8)
    error = halves.wire_error((), x)
    assert error > 0
    np.testing.assert_allclose(error, plain.wire_error((), x), rtol=1e-5)


def test_infinite_outputs_that_arrive_are_no_error():
    x = jnp.array([[1.0, -jnp.inf, 0.5, jnp.nan]])
    halves = split(lambda _, x: 2 * x, (), x, cut=0, wire_bits=16)
    assert 0 <= float(halves.wire_error((), x)) < 1e-4


def test_bfloat16_comes_back_as_it_was():
    x = jnp.asarray(np.linspace(-3, 3, 12).reshape(3, 4), jnp.bfloat16)
    for wire_bits in (None, 16, 32):
        got = through(x, wire_bits=wire_bits)
        assert got.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(np.asarray(got), np.asarray(x))
