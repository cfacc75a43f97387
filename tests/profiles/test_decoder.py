"""A decoder whose halves each keep the cache of their own layers, and its tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmec import profiles
from jaxmec.profiles import profile, split
from jaxmec.profiles.zoo import decoder

SMALL = decoder.Decoder(layers=3, width=8, heads=2, vocabulary=11, longest=16)
OPTIONS = {"resident": (decoder.POSITION, decoder.CACHE), "local_outputs": (decoder.NEW_CACHE,)}
TOKENS = (3, 5, 7, 1)


@pytest.fixture(scope="module")
def small():
    """Parameters, and the logits of prefilling two tokens and decoding two more."""
    cache = SMALL.empty_cache(1, 8)
    params = SMALL.init(jax.random.key(0), jnp.zeros((1, 1), int), 0, cache)
    logits = []
    for position, tokens in ((0, TOKENS[:2]), (2, TOKENS[2:3]), (3, TOKENS[3:])):
        out, cache = SMALL.apply(params, jnp.array([tokens]), jnp.array(position), cache)
        logits.append(out)
    return params, logits


def test_the_cache_gives_what_reading_everything_at_once_gives(small):
    params, logits = small
    at_once, _ = SMALL.apply(params, jnp.array([TOKENS]), jnp.array(0), SMALL.empty_cache(1, 8))
    np.testing.assert_allclose(logits[-1], at_once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", range(8))
def test_halves_that_keep_their_own_cache_write_the_same_text(small, cut):
    params, expected = small
    cache = SMALL.empty_cache(1, 8)
    first = jnp.array([TOKENS[:2]]), jnp.array(0), cache
    prefill = split(SMALL.apply, params, *first, cut=cut, **OPTIONS)
    decode = split(SMALL.apply, params, jnp.array([[0]]), jnp.array(0), cache, cut=cut, **OPTIONS)
    layers = [0 if c["key"] is None else len(c["key"]) for _, c in (prefill.head_resident, prefill.tail_resident)]
    assert layers == [min(-(-cut // 2), 3), 3 - min(-(-cut // 2), 3)]

    (_, device_cache), (_, server_cache) = prefill.head_resident, prefill.tail_resident
    for halves, position, tokens, logits in zip(
        (prefill, decode, decode), (0, 2, 3), (TOKENS[:2], TOKENS[2:3], TOKENS[3:]), expected, strict=True
    ):
        position = jnp.array(position)
        crossing, (device_cache,) = halves.head(halves.head_params, jnp.array([tokens]), position, device_cache)
        got, server_cache = halves.tail(halves.tail_params, crossing, position, server_cache)
        # A cut inside a compiled scan groups what is rounded together in another way.
        np.testing.assert_allclose(got, logits, rtol=0, atol=1e-6 * float(jnp.abs(logits).max()))


def test_a_state_is_read_and_updated_on_one_side():
    def fn(w, x, state):
        y = jnp.tanh(jnp.tanh(x @ w + state) @ w)
        state = state + y
        return jnp.tanh(y @ w), state

    w, x = jnp.eye(4), jnp.ones((1, 4))
    options = {"resident": (1,), "local_outputs": (1,)}
    # The state is read behind the first product and its new value made behind the second.
    assert profile(fn, w, x, x, **options).macs.tolist() == [0, 16, 32, 48]
    for cut, head_reads in ((1, False), (2, True)):
        halves = split(fn, w, x, x, cut=cut, **options)
        assert [one is not None for (one,) in (halves.head_resident, halves.tail_resident)] == [
            head_reads,
            not head_reads,
        ]
        (on_head,), (on_tail,) = halves.head_resident, halves.tail_resident
        state = x
        for _ in range(2):
            expected, state = fn(w, x, state)
            crossing, (on_head,) = halves.head(w, x, on_head)
            got, on_tail = halves.tail(w, crossing, on_tail)
            np.testing.assert_array_equal(got, expected)


def test_tables_of_the_two_phases_by_hand():
    prefill, decode = (profiles.load(f"decoder_{phase}") for phase in ("prefill", "decode"))
    layers, width, context, vocabulary = 12, 768, decoder.CONTEXT, 50_257
    for table, tokens in ((prefill, decoder.PROMPT), (decode, 1)):
        weights = tokens * layers * 12 * width**2
        attention = tokens * layers * 2 * context * width
        assert table.macs[-1] == weights + attention + width * vocabulary  # only the last token's logits
        assert table.uplink_bits()[0] == 16 * tokens
        assert table.uplink_bits(8)[1:24].tolist() == [8 * 768 * tokens + 32] * 23
        assert table.uplink_bits()[-1] == 0
        assert len(table) == 2 + 2 * layers
    assert prefill.labels == decode.labels


def test_stored_tables_are_what_the_profiler_makes():
    for made in decoder.tables():
        stored = profiles.load(made.name)
        assert made.labels == stored.labels
        np.testing.assert_array_equal(made.macs, stored.macs)
        np.testing.assert_array_equal(made.elements, stored.elements)


def test_parameters_are_those_of_the_published_model():
    _, params, *_ = decoder.abstract(1)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 124_439_808  # GPT-2 small
