"""Cut tables: published totals, counts by hand, and halves that give what the whole gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmec import devices, profiles
from jaxmec.profiles import PartitionProfile, profile, split
from jaxmec.profiles.zoo import networks

GMAC = {  # published by torchvision for 224 x 224 images
    "alexnet": 0.714,
    "vgg16": 15.470,
    "resnet18": 1.814,
    "resnet50": 4.089,
    "mobilenet_v2": 0.301,
    "vit_b_16": 17.564,
}


@pytest.mark.parametrize(("name", "gmac"), GMAC.items())
def test_totals_are_the_published_ones(name, gmac):
    assert np.isclose(profiles.load(name).macs[-1] / 1e9, gmac, rtol=5e-3)


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_stored_tables_are_what_the_profiler_makes(name):
    fn, params, image = networks.abstract(name)
    made = profile(fn, params, image, name=name, local_outputs=True, input_bits=8 * 150_528)
    stored = profiles.load(name)
    assert made.labels == stored.labels
    for column in ("macs", "other_ops", "heavy_ops", "bytes_moved", "elements"):
        np.testing.assert_array_equal(getattr(made, column), getattr(stored, column))


def macs(fn, *inputs):
    return profile(fn, (), *inputs).macs[-1]


def test_counts_by_hand():
    x = jnp.zeros((2, 8, 8, 6))
    conv = jax.lax.conv_general_dilated
    layout = ("NHWC", "HWIO", "NHWC")

    def counted(kernel, strides=(1, 1), padding="SAME", **kwargs):
        weights = np.zeros(kernel, np.float32)
        return macs(lambda _, x: conv(x, weights, strides, padding, dimension_numbers=layout, **kwargs), x)

    assert counted((3, 3, 6, 4)) == 2 * 8 * 8 * 4 * 3 * 3 * 6
    assert counted((3, 3, 6, 4), (2, 2)) == 2 * 4 * 4 * 4 * 3 * 3 * 6
    assert counted((3, 3, 2, 9), feature_group_count=3) == 2 * 8 * 8 * 9 * 3 * 3 * 2
    assert counted((3, 3, 6, 4), padding="VALID", rhs_dilation=(2, 2)) == 2 * 4 * 4 * 4 * 3 * 3 * 6
    # A transposed convolution does one product per input, tap and pair of channels.
    assert counted((2, 2, 6, 4), padding=[(1, 1), (1, 1)], lhs_dilation=(2, 2)) == 2 * 8 * 8 * 2 * 2 * 6 * 4
    q = jnp.zeros((3, 5, 7))
    assert macs(lambda _, q: jnp.einsum("bik,bjk->bij", q, q), q) == 3 * 5 * 5 * 7


def test_other_operations_and_bytes_by_hand():
    w = jnp.zeros((16, 4))
    table = profile(lambda w, x: jnp.sum(jnp.tanh(x @ w), axis=-1), w, jnp.zeros((8, 16)))
    assert table.macs[-1] == 8 * 16 * 4
    assert table.other_ops[-1] == 2 * 8 * 4  # tanh and the sum over 8 x 4 numbers
    assert table.bytes_moved[-1] == 4 * (8 * 16 + 16 * 4 + 8 * 4) + 4 * (8 * 4 + 8)
    assert table.heavy_ops[-1] == 1


def test_what_depends_on_parameters_alone_is_free_and_dead_code_is_dropped():
    w = jnp.zeros((6, 6))

    def fn(w, x):
        dead = x @ (w + 1)
        del dead
        return x @ (w @ w)

    table = profile(fn, w, jnp.zeros((2, 6)))
    assert table.macs[-1] == 2 * 6 * 6
    assert table.other_ops[-1] == 0


def test_scanned_and_unrolled_layers_count_the_same_and_can_be_cut_alike():
    stack = jnp.ones((4, 6, 6)) / 6
    x = jnp.ones((2, 6))

    def scanned(stack, x):
        return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, stack)[0]

    def unrolled(stack, x):
        for i in range(4):
            x = jnp.tanh(x @ stack[i])
        return x

    a, b = profile(scanned, stack, x), profile(unrolled, stack, x)
    np.testing.assert_array_equal(a.macs, b.macs)
    np.testing.assert_array_equal(a.elements, b.elements)
    assert len(a) == 5
    head, tail = split(scanned, stack, x, cut=2)[:2]
    np.testing.assert_array_equal(tail(stack, head(stack, x)), unrolled(stack, x))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.relu(x + nn.Conv(4, (3, 3))(nn.relu(nn.Conv(4, (3, 3))(x))))
        return nn.Dense(3)(x.mean(axis=(1, 2)))


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = jnp.concatenate([x, nn.relu(nn.Conv(2, (3, 3))(x))], axis=-1)
        return nn.Dense(3)(x.mean(axis=(1, 2)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x.reshape(x.shape[0], -1, x.shape[-1]))
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
            x = x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x))))
        return x[:, 0]


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.RNN(nn.GRUCell(features=5))(x[:, :3, :, 0])


def linen(module):
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 3))
    return module.apply, module.init(jax.random.key(1), x), x


def nnx_model():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(3, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
            self.c = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.a(x))
            return self.c(x + nnx.relu(self.b(x)))

    graph, state = nnx.split(Model(nnx.Rngs(0)))
    return lambda state, x: nnx.merge(graph, state)(x), state, jnp.ones((2, 3))


def equinox_model():
    eqx = pytest.importorskip("equinox")
    arrays, rest = eqx.partition(eqx.nn.MLP(3, 2, 8, 3, key=jax.random.key(0)), eqx.is_array)
    return lambda arrays, x: eqx.combine(arrays, rest)(x), arrays, jnp.ones(3)


MODELS = {
    "residual": lambda: linen(Residual()),
    "inverted residual": lambda: linen(networks._InvertedResidual(3, 1, 6)),
    "dense": lambda: linen(Dense()),
    "attention": lambda: linen(Attention()),
    "recurrent": lambda: linen(Recurrent()),
    "nnx": nnx_model,
    "equinox": equinox_model,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_halves_give_what_the_whole_gives_at_every_cut(make):
    fn, params, x = make()
    expected = fn(params, x)
    table = profile(fn, params, x, max_tensors=2)
    assert len(table) >= 3
    for cut in range(len(table)):
        halves = split(fn, params, x, cut=cut, max_tensors=2)
        np.testing.assert_allclose(halves.tail(params, halves.head(params, x)), expected, rtol=2e-5, atol=1e-6)
    jitted = jax.jit(halves.tail)(params, jax.jit(halves.head)(params, x))
    np.testing.assert_allclose(jitted, expected, rtol=1e-4, atol=1e-6)


def test_each_half_knows_its_own_weights():
    w = [jnp.ones((6, 6)), jnp.ones((6, 3))]
    halves = split(lambda w, x: jnp.tanh(x @ w[0]) @ w[1], w, jnp.ones((2, 6)), cut=1)
    assert halves.head_params[0] is w[0]
    assert halves.head_params[1] is None
    assert (halves.head_bytes, halves.tail_bytes) == (144, 72)


def test_quantised_crossing_errs_by_at_most_half_a_level():
    w = jnp.eye(6)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    halves = split(lambda w, x: (x @ w) @ w, w, x, cut=1, wire_bits=8)
    ((levels, scale),) = halves.head(w, x)
    assert levels.dtype == jnp.int8
    error = np.abs(halves.tail(w, ((levels, scale),)) - x).max()
    assert 0 < error <= 0.5 * float(jnp.abs(x).max()) / 127 * 1.001


def test_pruned_tables_send_less_and_less():
    table = profiles.load("mobilenet_v2").pruned()
    bits = table.elements * 8
    bits[0] = table.input_bits
    assert (np.diff(bits[:-1]) < 0).all()
    assert table.macs[-1] == profiles.load("mobilenet_v2").macs[-1]


def test_stages_by_hand():
    device, server = devices.load("raspberry_pi_4"), devices.load("epyc_7742")
    table = profiles.load("resnet18")
    stages = table.stages(device, server, wire_bits=16)
    assert stages.uplink_bits[0] == 8 * 150_528
    assert stages.uplink_bits[1] == 16 * table.elements[1]
    assert np.isclose(stages.device_work_s[-1], device.measured_s["resnet18"])
    assert np.isclose(stages.server_work_s[0], server.measured_s["resnet18"])
    assert stages.server_work_s[-1] == 0 == stages.device_work_s[0] == stages.uplink_bits[-1]


def test_a_table_survives_its_file_and_a_wrong_file_is_told(tmp_path):
    table = profiles.load("alexnet")
    table.save(tmp_path / "a.json")
    again = PartitionProfile.read(tmp_path / "a.json")
    assert str(again) == str(table)
    np.testing.assert_array_equal(again.bytes_moved, table.bytes_moved)
    (tmp_path / "b.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match=r"b.json: format: got 9; allowed is 1"):
        PartitionProfile.read(tmp_path / "b.json")


def test_loops_are_atomic_and_warned_about():
    def fn(w, x):
        x = jax.lax.while_loop(lambda v: v.sum() < 10, lambda v: v + 1, x)
        return x @ w

    with pytest.warns(UserWarning, match="a while loop is kept whole"):
        table = profile(fn, jnp.ones((3, 3)), jnp.ones((1, 3)))
    assert table.macs[-1] == 9


def test_what_cannot_be_traced_is_told():
    with pytest.raises(ValueError, match="cannot be traced with abstract values: .*use jax.lax.cond"):
        profile(lambda w, x: x if x.sum() > 0 else w, jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match="nothing to cut"):
        profile(lambda w, x: w, jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match=r"cut: got 9; allowed is 0..1"):
        split(lambda w, x: x @ w, jnp.ones((3, 3)), jnp.ones((1, 3)), cut=9)
