"""The network that the tests cut, as the module of `conftest` has it."""

import jax.numpy as jnp
import numpy as np

from jaxmec.runtime import Model


def network(weights, x):
    """Four layers of width 16."""
    for w in weights:
        x = jnp.tanh(x @ w)
    return x


def small(**options):
    weights = [np.random.default_rng(i).normal(0, 0.5, (16, 16)).astype("float32") for i in range(4)]
    x = np.random.default_rng(9).normal(0, 1, (1, 16)).astype("float32")
    return Model(network, weights, (x,), **{"wire_bits": None, **options})
