"""What operations cost: published totals, and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.sharding import AxisType, PartitionSpec as P

from jaxmec import profiles
from jaxmec.profiles import profile

GMAC = {  # published by torchvision for 224 x 224 images
    "alexnet": 0.714,
    "vgg16": 15.470,
    "resnet18": 1.814,
    "resnet50": 4.089,
    "mobilenet_v2": 0.301,
    "vit_b_16": 17.564,
    "squeezenet": 0.349,
    "mobilenet_v3": 0.217,
    "shufflenet_v2": 0.145,
    "mnasnet": 0.314,
    "efficientnet_b0": 0.386,
    "regnet_y_400mf": 0.402,
    "mobilenet_v1": 0.569,  # by its paper
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


def test_googlenet_has_the_papers_kernels():
    # torchvision publishes 1.498 GMAC with 3 x 3 kernels for the paper's 5 x 5: each has 25 taps instead of 9.
    sides = {28: (16 * 32, 32 * 96), 14: (16 * 48, 24 * 64, 24 * 64, 32 * 64, 32 * 128), 7: (32 * 128, 48 * 128)}
    further = sum(side**2 * sum(pairs) * (25 - 9) for side, pairs in sides.items())
    assert np.isclose(profiles.load("googlenet").macs[-1], 1.498e9 + further, rtol=1e-3)


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


def test_classes_of_convolutions():
    def classes(kernel, stride=1, **options):
        weights, image = np.zeros(kernel, np.float32), np.zeros((1, 8, 8, 4), np.float32)
        numbers = ("NHWC", "HWIO", "NHWC")

        def fn(_, x):
            return lax.conv_general_dilated(
                x, weights, (stride, stride), "SAME", dimension_numbers=numbers, **options
            )

        table = profile(fn, (), image)
        of_class = {
            name: getattr(table, f"{name}_macs")[-1] for name in ("winograd", "conv", "matmul", "depthwise")
        }
        return {name: macs for name, macs in of_class.items() if macs}

    assert classes((3, 3, 4, 2)) == {"winograd": 64 * 9 * 4 * 2}
    assert classes((3, 3, 4, 2), stride=2) == {"conv": 16 * 9 * 4 * 2}
    assert classes((5, 5, 4, 2)) == {"conv": 64 * 25 * 4 * 2}
    assert classes((1, 1, 4, 2)) == {"matmul": 64 * 4 * 2}
    assert classes((3, 3, 1, 4), feature_group_count=4) == {"depthwise": 64 * 9 * 4}
    assert classes((3, 3, 2, 4), feature_group_count=2) == {"winograd": 64 * 9 * 2 * 4}


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


def test_elementwise_operations_are_passes_of_their_own_only_without_a_kernel_before_them():
    w, x = np.zeros((16, 16), np.float32), np.zeros((8, 16), np.float32)
    size = x.nbytes

    def residual(w, x):  # the bias and the other branch are brought to the product, which is already there
        return x + jnp.tanh(x @ w + w[0][None])

    table = profile(residual, w, x)
    assert table.bytes_moved[-1] == (size + w.nbytes + size) + 16 * 4 + size
    assert table.kernels[-1] == 1
    alone = profile(lambda _, x: jnp.exp(jnp.tanh(x)), (), x)
    assert (alone.bytes_moved[-1], alone.kernels[-1]) == (2 * size, 1)


def test_a_cache_is_written_where_it_changes():
    cache = jnp.zeros((100, 8))
    table = profile(lambda _, x, c: lax.dynamic_update_slice(c, x, (3, 0)), (), jnp.zeros((1, 8)), cache)
    assert table.bytes_moved[-1] == 2 * 8 * cache.dtype.itemsize


def test_factorisations_by_their_leading_order():
    n, m = 128, 32
    square, tall = jnp.eye(n), jnp.ones((n, m))
    positive = square + 0 * square

    def operations(fn, *inputs):
        macs, other, heavy = total(fn, *inputs)
        assert heavy == 1
        return macs + other

    def about(expected):
        return pytest.approx(expected, rel=0.1)  # besides, masks and transposes of n² operations

    triangular = lambda _, b: jax.scipy.linalg.solve_triangular(positive, b)  # noqa: E731
    assert operations(triangular, square) == n**3
    assert operations(triangular, tall) == n * n * m
    assert operations(lambda _, a: lax.linalg.cholesky(a, symmetrize_input=False), square) == about(n**3 / 3)
    assert operations(lambda _, a: lax.linalg.lu(a)[0], square) == about(2 * n**3 / 3)
    reflections = 2 * m * m * (n - m / 3)
    assert operations(lambda _, a: jnp.linalg.qr(a)[0], tall) == about(2 * reflections)
    assert operations(lambda _, a: lax.linalg.eigh(a, symmetrize_input=False)[0], square) == about(9 * n**3)
    assert operations(lambda _, a: jnp.linalg.svd(a, full_matrices=False)[0], tall) == about(
        14 * n * m * m + 8 * m**3
    )
    assert operations(lambda _, a: jnp.linalg.svd(a, compute_uv=False), tall) == about(
        4 * n * m * m - 4 * m**3 / 3
    )
    batch = jnp.ones((3, n, n))
    assert operations(lambda _, a: lax.linalg.lu(a)[0], batch) == about(3 * 2 * n**3 / 3)


def test_linear_solves_are_looked_into():
    n = 64
    a, b = jnp.eye(n) + 0.1, jnp.ones(n)

    def richardson(_, b):
        def solve(matvec, b):
            return lax.fori_loop(0, 20, lambda i, x: x + 0.5 * (b - matvec(x)), jnp.zeros_like(b))

        return lax.custom_linear_solve(lambda x: a @ x, b, solve, symmetric=True)

    # The first of the 20 turns multiplies by zeros, which are known before any request.
    assert macs(richardson, b) == 19 * n * n
    with pytest.warns(UserWarning, match="a while loop is kept whole: .*the 20 turns that its condition allows"):
        found = macs(lambda _, b: jax.scipy.sparse.linalg.cg(lambda x: a @ x, b, maxiter=20)[0], b)
    assert found == 20 * n * n + 2 * n + 20 * 2 * n  # and two inner products before and in every turn
    # A dense solve: factors of a constant matrix are known; two triangular systems remain.
    table = profile(lambda _, b: jnp.linalg.solve(a, b), (), b[:, None])
    assert table.other_ops[-1] == pytest.approx(2 * n * n, rel=0.1)


def test_loops_that_count_to_a_known_limit_are_counted_in_full():
    def bounded(limit, x):
        return lax.while_loop(
            lambda s: (s[0] < limit) & (s[1].sum() < 10), lambda s: (s[0] + 2, s[1] @ W), (1, x)
        )[1]

    with pytest.warns(UserWarning, match="the 3 turns that its condition allows"):
        assert macs(lambda _, x: bounded(6, x), X) == 3 * 16  # 1, 3, 5
    with pytest.warns(UserWarning, match="the 3 turns that its condition allows"):
        assert macs(lambda _, x: lax.fori_loop(jnp.int32(2), jnp.int32(5), lambda i, h: h @ W, x), X) == 3 * 16
    with pytest.warns(UserWarning, match="counted once"):  # its limit comes with the request
        assert macs(lambda _, x: bounded(x[0, 0].astype(int), x) @ W, X) == 2 * 16


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (sine(x), x), lambda x, g: (g * x,))


def test_calls_are_looked_into():
    inner = jax.jit(lambda x: jax.checkpoint(lambda x: sine(x @ W) @ W)(jax.nn.relu(x)))
    assert total(lambda _, x: inner(x), X) == (2 * 16, 2 * 4, 2)


def test_unknown_operations_that_hold_a_program_are_looked_into():
    x, w = jnp.ones((16, 64)), jnp.ones((64, 64))
    composite = lax.composite(lambda x: jnp.tanh(x @ w), "test.layer")
    assert total(lambda _, x: composite(x), x) == (65_536, 16 * 64, 1)

    @custom_partitioning
    def product(x, w):
        return x @ w

    product.def_partition(
        partition=lambda *arguments: None,
        infer_sharding_from_operands=lambda *arguments: None,
        sharding_rule="i j, j k -> i k",
    )
    assert total(lambda w, x: product(x, w), x, params=w) == (65_536, 0, 1)

    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(lambda x: x @ w, mesh=mesh, in_specs=P(), out_specs=P())
    with pytest.warns(UserWarning, match="shard_map is kept whole: .* counted"):
        assert macs(lambda _, x: sharded(x) @ w, x) == 2 * 65_536


def test_what_cannot_be_counted_is_told():
    own = Primitive("own_kernel")
    own.def_abstract_eval(lambda x: x)
    with pytest.warns(UserWarning, match="own_kernel is kept whole: .*what it computes is not counted"):
        assert total(lambda _, x: own.bind(x @ W) @ W, X) == (2 * 16, 0, 3)


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
