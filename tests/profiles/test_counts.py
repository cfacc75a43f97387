"""What operations cost: published totals, and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxmec import profiles
from jaxmec.profiles import profile

GMAC = {  # published by torchvision for 224 x 224 images
    "alexnet": 0.714,
    "vgg16": 15.470,
    "resnet18": 1.814,
    "resnet50": 4.089,
    "mobilenet_v2": 0.301,
    "vit_b_16": 17.564,
}
W = np.eye(4, dtype=np.float32)
X = np.ones((1, 4), np.float32)


def total(fn, *inputs, params=()):
    """Multiply-accumulates, other operations and heavy operations of the whole function."""
    table = profile(fn, params, *inputs, max_tensors=4)
    return table.macs[-1], table.other_ops[-1], table.heavy_ops[-1]


def macs(fn, *inputs):
    return total(fn, *inputs)[0]


@pytest.mark.parametrize(("name", "gmac"), GMAC.items())
def test_totals_are_the_published_ones(name, gmac):
    assert np.isclose(profiles.load(name).macs[-1] / 1e9, gmac, rtol=5e-3)


def conv(kernel, strides=(1, 1), padding="SAME", **options):
    """Counts of a convolution over an image [2, 8, 8, 6], by its kernel's shape [height, width, in, out]."""
    numbers = ("NHWC", "HWIO", "NHWC")

    def fn(_, x):
        weights = np.zeros(kernel, np.float32)
        return lax.conv_general_dilated(x, weights, strides, padding, dimension_numbers=numbers, **options)

    return macs(fn, np.zeros((2, 8, 8, 6), np.float32))


def test_convolutions_by_hand():
    assert conv((3, 3, 6, 4)) == 2 * 8 * 8 * 4 * 3 * 3 * 6
    assert conv((3, 3, 6, 4), (2, 2)) == 2 * 4 * 4 * 4 * 3 * 3 * 6
    assert conv((3, 3, 2, 9), feature_group_count=3) == 2 * 8 * 8 * 9 * 3 * 3 * 2
    assert conv((3, 3, 6, 4), padding="VALID", rhs_dilation=(2, 2)) == 2 * 4 * 4 * 4 * 3 * 3 * 6
    # Each half of the batch meets half of the kernels: one image of 8 channels comes out.
    assert conv((3, 3, 6, 8), padding="VALID", batch_group_count=2) == 6 * 6 * 8 * 3 * 3 * 6
    # A transposed convolution does one product per input, tap and pair of channels.
    assert conv((2, 2, 6, 4), padding=[(1, 1), (1, 1)], lhs_dilation=(2, 2)) == 2 * 8 * 8 * 2 * 2 * 6 * 4


def test_products_by_hand():
    q = jnp.zeros((3, 5, 7))
    assert macs(lambda _, q: jnp.einsum("bik,bjk->bij", q, q), q) == 3 * 5 * 5 * 7
    assert macs(lambda _, n: n @ n.T, jnp.zeros((2, 5), jnp.int32)) == 2 * 2 * 5
    # Two products of every pair of positions, in each of 3 heads.
    heads = jnp.zeros((2, 5, 3, 4))
    assert macs(lambda _, q: jax.nn.dot_product_attention(q, q, q), heads) == 2 * 2 * 3 * 5 * 5 * 4
    groups = jnp.array([1, 2, 3])
    assert macs(lambda _, x: lax.ragged_dot(x, jnp.ones((3, 4, 5)), groups), jnp.ones((6, 4))) == 6 * 4 * 5


def test_other_operations_and_bytes_by_hand():
    w = jnp.zeros((16, 4))
    table = profile(lambda w, x: jnp.sum(jnp.tanh(x @ w), axis=-1), w, jnp.zeros((8, 16)))
    assert table.macs[-1] == 8 * 16 * 4
    assert table.other_ops[-1] == 2 * 8 * 4  # tanh and the sum over 8 x 4 numbers
    itemsize = w.dtype.itemsize
    product, row_sums = 8 * 16 + 16 * 4 + 8 * 4, 8 * 4 + 8  # tanh is fused into the product
    assert table.bytes_moved[-1] == itemsize * (product + row_sums)
    assert (table.heavy_ops[-1], table.kernels[-1]) == (1, 2)
    assert total(lambda _, x: jnp.cumsum(x), jnp.zeros(16))[1] == 16
    assert total(lambda _, x: lax.reduce_window(x, -np.inf, lax.max, (3,), (1,), "VALID"), X[0])[1] == 2 * 3


def test_a_cache_is_written_where_it_changes():
    cache = jnp.zeros((100, 8))
    table = profile(lambda _, x, c: lax.dynamic_update_slice(c, x, (3, 0)), (), jnp.zeros((1, 8)), cache)
    assert table.bytes_moved[-1] == 2 * 8 * cache.dtype.itemsize


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (sine(x), x), lambda x, g: (g * x,))


def test_calls_are_looked_into():
    inner = jax.jit(lambda x: jax.checkpoint(lambda x: sine(x @ W) @ W)(jax.nn.relu(x)))
    assert total(lambda _, x: inner(x), X) == (2 * 16, 2 * 4, 2)


def test_what_depends_on_parameters_alone_is_free_and_dead_code_is_dropped():
    w = jnp.zeros((6, 6))

    def fn(w, x):
        dead = x @ (w + 1)
        del dead
        return x @ (w @ w)

    assert total(fn, jnp.zeros((2, 6)), params=w) == (2 * 6 * 6, 0, 1)


def test_loops_count_as_if_they_were_written_out():
    xs = jnp.ones((5, 1, 4))

    def step(h, x):
        return jnp.tanh(h @ W + x @ W), h

    def scanned(_, xs):
        return lax.scan(step, jnp.zeros((1, 4)), xs)

    def written(_, xs):
        h, hs = jnp.zeros((1, 4)), []
        for i in range(5):
            h, y = step(h, xs[i])
            hs.append(y)
        return h, jnp.stack(hs)

    # The state of the first turn is a constant, so its product is known before any request.
    assert total(scanned, xs) == total(written, xs) == (9 * 16, 2 * 5 * 4, 9)
    assert macs(lambda _, x: lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ W), x), X) == 3 * 16


def test_loops_of_unknown_length_count_once_and_branches_by_the_dearest():
    with pytest.warns(UserWarning, match="a while loop is kept whole: .* counted once"):
        assert macs(lambda _, x: lax.while_loop(lambda v: v.sum() < 10, lambda v: v @ W + 1, x) @ W, X) == 2 * 16
    with pytest.warns(UserWarning, match="a data-dependent branch is kept whole: .*its dearest side is counted"):
        assert macs(lambda _, x: lax.cond(x.sum() > 0, lambda v: v @ W @ W, lambda v: v, x) @ W, X) == 3 * 16


def test_a_long_scan_stays_whole_and_costs_the_same():
    stack = np.ones((600, 4, 4), np.float32)
    with pytest.warns(UserWarning, match="a scan of 600 turns is kept whole"):
        table = profile(lambda w, x: lax.scan(lambda h, w: (h @ w, None), x, w)[0] @ w[0], stack, X)
    assert len(table) == 3
    assert table.macs.tolist() == [0, 600 * 16, 601 * 16]
