"""The halves give what the whole gives: five architectures in four frameworks, at every cut."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxpr_as_fun

from jaxmec.profiles import profile, split

IMAGE = jax.random.normal(jax.random.key(0), (1, 6, 6, 3), jnp.float32)
SEQUENCE = IMAGE[:, :, 0, :]  # [1, 6, 3]


def residual(layer, x):
    x = jax.nn.relu(layer("conv", x, 4))
    x = jax.nn.relu(x + layer("conv", jax.nn.relu(layer("conv", x, 4)), 4))
    return layer("dense", x.mean(axis=(1, 2)), 3)


def inverted_residual(layer, x):
    y = jax.nn.relu6(layer("conv", x, 12))
    y = jax.nn.relu6(layer("depthwise", y, 12))
    return layer("dense", (x + layer("conv", y, 3)).mean(axis=(1, 2)), 3)


def dense_concatenation(layer, x):
    for _ in range(3):
        x = jnp.concatenate([x, jax.nn.relu(layer("conv", x, 2))], axis=-1)
    return layer("dense", x.mean(axis=(1, 2)), 3)


def attention(layer, x):
    x = layer("dense", x, 8)
    x = x + layer("attention", x, 8)
    x = x + layer("dense", jax.nn.gelu(layer("dense", x, 16)), 8)
    return x[:, 0]


def recurrent(layer, x):
    x = layer("recurrent", layer("dense", x, 5), 5)
    return layer("dense", layer("recurrent", x, 5)[:, -1], 3)


ARCHITECTURES = {  # function, input, arrays that may cross
    "residual": (residual, IMAGE, 1),
    "inverted residual": (inverted_residual, IMAGE, 2),
    "dense concatenation": (dense_concatenation, IMAGE, 1),
    "attention": (attention, SEQUENCE, 1),
    "recurrent": (recurrent, SEQUENCE, 1),
}


def filled(init, *arguments):
    """Parameters as `init` shapes them, without its many small compilations."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, jax.random.key(1), *arguments)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape), s.dtype), shapes)


def linen(architecture, x):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            layers = {
                "conv": lambda x, width: nn.Conv(width, (3, 3))(x),
                "depthwise": lambda x, width: nn.Conv(width, (3, 3), feature_group_count=width)(x),
                "dense": lambda x, width: nn.Dense(width)(x),
                "attention": lambda x, width: nn.MultiHeadDotProductAttention(2, qkv_features=width)(x),
                "recurrent": lambda x, width: nn.RNN(nn.GRUCell(width))(x),
            }
            return architecture(lambda kind, x, width: layers[kind](x, width), x)

    return Model().apply, filled(Model().init, x)


def built(make, architecture, x):
    """Layers as the architecture asks for them: made by the first call, then a function of them."""
    made = []

    def layer(kind, x, width):
        made.append(make(kind, x.shape[-1], width))
        return made[-1](x)

    architecture(layer, x)

    def fn(layers, x):
        remaining = iter(layers)
        return architecture(lambda kind, x, width: next(remaining)(x), x)

    return fn, made


def flax_nnx(architecture, x):
    rngs = nnx.Rngs(1)

    def make(kind, channels, width):
        if kind in ("conv", "depthwise"):
            groups = width if kind == "depthwise" else 1
            return nnx.Conv(channels, width, (3, 3), feature_group_count=groups, rngs=rngs)
        if kind == "attention":
            return nnx.MultiHeadAttention(2, channels, width, decode=False, rngs=rngs)
        if kind == "recurrent":
            return nnx.RNN(nnx.GRUCell(channels, width, rngs=rngs), rngs=rngs)
        return nnx.Linear(channels, width, rngs=rngs)

    fn, layers = built(make, architecture, x)
    graph, state = nnx.split(nnx.List(layers))
    return lambda state, x: fn(nnx.merge(graph, state), x), state


def equinox(architecture, x):
    eqx = pytest.importorskip("equinox")
    keys = iter(jax.random.split(jax.random.key(1), 8))

    class Over(eqx.Module):
        """A layer without a batch, over a batch."""

        layer: eqx.Module
        kind: str = eqx.field(static=True)

        def __call__(self, x):
            return jax.vmap(self.one)(x)

        def one(self, x):
            if self.kind == "conv":
                return jnp.moveaxis(self.layer(jnp.moveaxis(x, -1, 0)), 0, -1)
            if self.kind == "attention":
                return self.layer(x, x, x)
            if self.kind == "recurrent":
                zeros = jnp.zeros(self.layer.hidden_size, x.dtype)
                return jax.lax.scan(lambda h, x: (self.layer(x, h),) * 2, zeros, x)[1]
            return self.layer(x) if x.ndim == 1 else jax.vmap(self.layer)(x)

    def make(kind, channels, width):
        options = {"key": next(keys), "dtype": x.dtype}
        if kind in ("conv", "depthwise"):
            groups = width if kind == "depthwise" else 1
            return Over(eqx.nn.Conv2d(channels, width, 3, padding=1, groups=groups, **options), "conv")
        if kind == "attention":
            return Over(eqx.nn.MultiheadAttention(2, channels, **options), kind)
        made = {"recurrent": eqx.nn.GRUCell, "dense": eqx.nn.Linear}[kind]
        return Over(made(channels, width, **options), kind)

    fn, layers = built(make, architecture, x)
    arrays, rest = eqx.partition(layers, eqx.is_array)
    return lambda arrays, x: fn(eqx.combine(arrays, rest), x), arrays


def haiku(architecture, x):
    hk = pytest.importorskip("haiku")

    def recurrent(x, width):
        core = hk.GRU(width)
        return hk.dynamic_unroll(core, x, core.initial_state(1), time_major=False)[0]

    def layer(kind, x, width):
        layers = {
            "conv": lambda: hk.Conv2D(width, 3)(x),
            "depthwise": lambda: hk.Conv2D(width, 3, feature_group_count=width)(x),
            "dense": lambda: hk.Linear(width)(x),
            "attention": lambda: hk.MultiHeadAttention(2, width // 2, w_init=hk.initializers.VarianceScaling())(
                x, x, x
            ),
            "recurrent": lambda: recurrent(x, width),
        }
        return layers[kind]()

    model = hk.without_apply_rng(hk.transform(lambda x: architecture(layer, x)))
    return model.apply, filled(model.init, x)


@pytest.mark.parametrize("framework", [linen, flax_nnx, equinox, haiku], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_halves_give_what_the_whole_gives_at_every_cut(framework, name):
    architecture, x, tensors = ARCHITECTURES[name]
    with jax.numpy_rank_promotion("allow"):  # frameworks broadcast among ranks
        fn, params = framework(architecture, x)
        # The operations as traced, one after the other: called by itself, jnp.mean runs as one kernel.
        traced = jaxpr_as_fun(jax.make_jaxpr(fn)(params, x))
        (expected,) = traced(*jax.tree.leaves((params, x)))
        largest = float(jnp.abs(expected).max())
        np.testing.assert_allclose(expected, fn(params, x), rtol=0, atol=1e-6 * largest)
        number = len(profile(fn, params, x, max_tensors=tensors))
        assert number >= 4
        for cut in range(number):
            halves = split(fn, params, x, cut=cut, max_tensors=tensors)
            np.testing.assert_array_equal(
                halves.tail(halves.tail_params, halves.head(halves.head_params, x)), expected
            )
            if cut == number // 2:
                jitted = jax.jit(halves.tail)(params, jax.jit(halves.head)(params, x))
                np.testing.assert_allclose(jitted, expected, rtol=1e-6, atol=1e-6 * largest)


def test_each_half_knows_its_own_weights():
    w = [jnp.ones((6, 6), jnp.float32), jnp.ones((6, 3), jnp.float32)]
    halves = split(lambda w, x: jnp.tanh(x @ w[0]) @ w[1], w, jnp.ones((2, 6), jnp.float32), cut=1)
    assert halves.head_params[0] is w[0]
    assert halves.head_params[1] is None
    assert halves.tail_params[0] is None
    assert (halves.head_bytes, halves.tail_bytes) == (144, 72)
    with pytest.raises(ValueError, match=r"params: an array of shape \(6, 3\) is missing"):
        halves.tail(halves.head_params, halves.head(w, jnp.ones((2, 6), jnp.float32)))
    with pytest.raises(ValueError, match="params: the tree is not the one that the function was cut with"):
        halves.head(w[0], jnp.ones((2, 6)))


@pytest.mark.filterwarnings("ignore:.*a while loop is kept whole")
def test_programs_that_were_looked_into_run_in_two_halves():
    a = jnp.eye(4) + 0.1
    layer = jax.lax.composite(lambda x: jnp.tanh(jnp.tanh(x @ a) @ a), "test.layers")

    def fn(w, x):
        y = layer(x @ w)
        return jax.scipy.sparse.linalg.cg(lambda v: a @ v, y[0], maxiter=4)[0] + jnp.linalg.solve(a, y[1])

    w, x = a / 2, jnp.linspace(-1, 1, 8).reshape(2, 4)
    expected = fn(w, x)
    number = len(profile(fn, w, x, max_tensors=2))
    assert number >= 5
    for cut in range(number):
        halves = split(fn, w, x, cut=cut, max_tensors=2)
        got = halves.tail(halves.tail_params, halves.head(halves.head_params, x))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_told():
    w, x = jnp.eye(6), jnp.ones((2, 6))
    halves = split(lambda w, x: jnp.tanh(x @ w) @ w, w, x, cut=1)
    for crossing, got in (((), "0 arrays"), ((x, x), "2 arrays"), (x, "ArrayImpl")):
        with pytest.raises(ValueError, match=rf"crossing: got {got}; allowed is a tuple of 1: float\d+\[2,6\]"):
            halves.tail(w, crossing)
    with pytest.raises(ValueError, match=r"crossing: got an array of shape \(3, 6\); allowed are float\d+\[2,6\]"):
        halves.tail(w, (jnp.ones((3, 6)),))
    with pytest.raises(ValueError, match=r"input 0: got an array of shape \(5, 6\); allowed is \(2, 6\)"):
        halves.head(w, jnp.ones((5, 6)))
    with pytest.raises(ValueError, match=r"params: got an array of shape \(6, 7\); allowed is \(6, 6\)"):
        halves.head(jnp.ones((6, 7)), x)


def test_outputs_in_a_dictionary_stay_by_their_names():
    def fn(w, x):
        y = jnp.tanh(x @ w)
        return {"features": y, "label": jnp.tanh(y @ w), "aside": x + 1}

    w, x = jnp.eye(4) / 2, jnp.ones((2, 4))
    expected = fn(w, x)
    head, tail = split(fn, w, x, cut=1, local_outputs=("features", "aside"))[:2]
    crossing, kept = head(w, x)
    assert len(crossing) == 1
    assert kept.keys() == {"features", "aside"}
    outputs = tail(w, crossing)
    assert outputs["features"] is None
    for name, value in {**kept, "label": outputs["label"]}.items():
        np.testing.assert_array_equal(value, expected[name])
    whole = split(fn, w, x, cut=1, max_tensors=3)
    for name, value in whole.tail(w, whole.head(w, x)).items():
        np.testing.assert_array_equal(value, expected[name])
    with pytest.raises(ValueError, match="local_outputs: got 'logits'; allowed are keys of the outputs, 'aside',"):
        split(fn, w, x, cut=1, local_outputs=("logits",))
