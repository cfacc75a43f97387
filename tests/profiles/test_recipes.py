"""The three lines that the README shows for every framework."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmec.profiles import profile, split

X = np.ones((2, 4), np.float32)


def check(fn, params, expected):
    """Profiles from shapes alone, cuts at the one place inside, and runs both halves."""
    shapes = jax.eval_shape(lambda p: p, params)
    table = profile(fn, shapes, X)
    assert table.macs.tolist() == [0, 2 * 4 * 5, 2 * 4 * 5 + 2 * 5 * 3]
    head, tail = split(fn, params, X, cut=1)[:2]
    np.testing.assert_array_equal(tail(params, head(params, X)), expected)


def test_linen():
    model = nn.Sequential([nn.Dense(5), jnp.tanh, nn.Dense(3)])
    variables = model.init(jax.random.key(0), X)
    check(model.apply, variables, model.apply(variables, X))


def test_nnx():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), jnp.tanh, nnx.Linear(5, 3, rngs=rngs))
    graph, state = nnx.split(model)
    check(lambda state, x: nnx.merge(graph, state)(x), state, model(X))


def test_equinox():
    eqx = pytest.importorskip("equinox")
    model = jax.vmap(eqx.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=jax.random.key(0)))
    arrays, rest = eqx.partition(model.__wrapped__, eqx.is_array)
    check(lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x), arrays, model(X))


def test_haiku():
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(3)(jnp.tanh(hk.Linear(5)(x)))))
    params = model.init(jax.random.key(0), X)
    check(model.apply, params, model.apply(params, X))


def test_keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras runs on another backend here")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)])
    variables = [[v.value for v in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    with jax.numpy_rank_promotion("allow"):  # Keras broadcasts biases
        check(lambda variables, x: model.stateless_call(*variables, x)[0], variables, model(X))


def test_plain_functions():
    def two_layers(p, x):
        return jnp.tanh(x @ p[0]) @ p[1]

    params = [jnp.ones((4, 5)), jnp.ones((5, 3))]
    check(two_layers, params, two_layers(params, X))
