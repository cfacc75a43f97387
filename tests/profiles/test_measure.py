"""Measured profiles: seconds of real runs, and the constants fitted to them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec import devices
from jaxmec.profiles import measure, measured_profile, split
from jaxmec.profiles.zoo import decoder

W = jnp.eye(4)
X = jnp.ones((1, 4))
LAYER_S = 0.25


@pytest.mark.filterwarnings("ignore:.*pure_callback is kept whole")
def test_seconds_are_those_that_the_layers_take(monkeypatch):
    now_s = [0.0]  # a clock that nothing but the layers moves, and reading it a little

    def layer(y):
        now_s[0] += LAYER_S
        return np.asarray(y)

    def read():
        now_s[0] += 0.01 * LAYER_S
        return now_s[0]

    def slow_layers(w, x):
        for _ in range(3):
            x = jax.pure_callback(layer, jax.ShapeDtypeStruct(x.shape, x.dtype), x @ w)
        return x

    with monkeypatch.context() as patch:
        patch.setattr("jaxmec.profiles._measure.time.perf_counter", read)
        table = measured_profile(slow_layers, W, X, name="slow", repeats=3)
    finished = np.round(table.device_s / LAYER_S)
    assert finished[0] == 0
    assert finished[-1] == 3
    np.testing.assert_array_equal(finished + np.round(table.server_s / LAYER_S), 3)
    device = devices.load("raspberry_pi_4")
    np.testing.assert_array_equal(devices.stage_seconds(table, device, device).device_work_s, table.device_s)
    joined = dataclasses.replace(table, server_s=table.server_s / 10)
    np.testing.assert_array_equal(devices.stage_seconds(joined, device, device).server_work_s, table.server_s / 10)
    model, errors = devices.fit_device([table])
    assert errors.keys() == {f"slow, head of cut {row}" for row in range(1, len(table))}
    np.testing.assert_allclose(
        model.latency_s(table)[-1], table.device_s[-1] * (1 + errors[f"slow, head of cut {len(table) - 1}"])
    )


def test_halves_with_resident_inputs_are_measured():
    small = decoder.Decoder(layers=2, width=8, heads=2, vocabulary=11, longest=16)
    inputs = jnp.zeros((1, 1), int), jnp.array(0), small.empty_cache(1, 8)
    params = small.init(jax.random.key(0), *inputs)
    options = {"resident": (1, 2), "local_outputs": True}
    head, tail = split(small.apply, params, *inputs, cut=2, **options)[:2]
    times = measure(head, tail, params, *inputs, repeats=3, **options)
    assert 0 < times.head_s < 1
    assert 0 < times.tail_s < 1


def test_wrong_arguments_are_told():
    head, tail = split(lambda w, x: jnp.tanh(x @ w) @ w, W, X, cut=1)[:2]
    with pytest.raises(ValueError, match="params: got shapes; measuring runs the network"):
        measure(head, tail, jax.ShapeDtypeStruct((4, 4), float), X)
    with pytest.raises(ValueError, match="repeats: got 0; allowed is a whole number of at least 1"):
        measure(head, tail, W, X, repeats=0)
