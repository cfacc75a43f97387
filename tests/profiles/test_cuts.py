"""Where functions can be cut, and what the messages say where they cannot."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxmec.profiles import profile, split

W = np.eye(4, dtype=np.float32)
X = np.ones((1, 4), np.float32)


def test_scanned_and_unrolled_layers_count_the_same_and_can_be_cut_alike():
    stack = jax.random.normal(jax.random.key(0), (4, 2, 6, 6)) / 3
    x = jnp.ones((2, 6))

    def scanned(stack, x):
        def block(h, pair):
            return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, pair, reverse=True)[0], None

        return lax.scan(block, x, stack)[0]

    def unrolled(stack, x):
        for pair in stack:
            for w in pair[::-1]:
                x = jnp.tanh(x @ w)
        return x

    a, b = profile(scanned, stack, x), profile(unrolled, stack, x)
    np.testing.assert_array_equal(a.macs, b.macs)
    np.testing.assert_array_equal(a.elements, b.elements)
    assert len(a) == 4 * 2 + 1
    expected = scanned(stack, x)
    for cut in range(len(a)):
        halves = split(scanned, stack, x, cut=cut)
        got = halves.tail(halves.tail_params, halves.head(halves.head_params, x))
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
        # Layers of the first block's stack that its side does not read are not among its weights.
        blocks = [0 if p is None else len(p) for p in (halves.head_params, halves.tail_params)]
        assert blocks == [-(-cut // 2), 4 - cut // 2]


def test_one_cut_is_kept_per_cost_and_it_sends_least():
    def fn(w, x):
        y = jnp.tile(x @ w, (1, 3))  # 12 numbers
        return y[:, :2].sum(axis=-1, keepdims=True) @ w[:1]

    table = profile(fn, W, X)
    assert table.macs.tolist() == [0, 16, 20]
    assert table.elements.tolist() == [4, 1, 4]


def test_more_tensors_give_more_cuts():
    def residual(w, x):
        return (x + jnp.tanh(x @ w) @ w) @ w

    assert len(profile(residual, W, X)) == 3
    assert profile(residual, W, X, max_tensors=2).elements.tolist() == [4, 8, 4, 4]


def test_small_side_inputs_are_free():
    width, tokens, layers = 32, 6, 4
    w = np.eye(width, dtype=np.float32)

    def encoder(w, tokens, mask):
        x = w[tokens]
        for _ in range(layers):
            scores = jnp.where(mask[:, None, :], x @ x.mT, -1e9)
            x = jnp.tanh(jax.nn.softmax(scores) @ x @ w)
        return x[:, 0]

    inputs = np.zeros((1, tokens), np.int32), np.ones((1, tokens), bool)
    with jax.numpy_rank_promotion("allow"):
        table = profile(encoder, w, *inputs)
    # A place between any two layers, and those in a layer where only one tensor and the mask cross.
    assert len(table) >= 2 + 2 * (layers - 1)
    assert [str(one) for one in table.crossing[0]] == ["int32[1,6]", "bool[1,6]"]
    between = [row for row in table.crossing if [str(one) for one in row][:1] == ["bool[1,6]"]]
    assert between  # the mask still crosses, and its bits are counted
    assert between[0][1].size == tokens * width
    np.testing.assert_array_equal(
        table.uplink_bits(8)[[table.crossing.index(between[0])]], 8 * tokens + 8 * tokens * width + 32
    )


def test_an_equal_second_tensor_is_not_free_and_what_it_would_open_is_told():
    def two(w, x, y):
        for _ in range(3):
            x, y = jnp.tanh(x @ w), jnp.tanh(y @ w)
        return x + y

    with pytest.warns(UserWarning, match="pass max_tensors=2"):
        table = profile(two, W, X, X)
    assert len(table) == 2
    assert table.more_cuts == ((2, 5),)
    assert "2 cuts (5 more with max_tensors=2)" in str(table)
    assert len(profile(two, W, X, X, max_tensors=2)) == 7
    assert profile(two, W, X, X, max_tensors=2).more_cuts == ()


@pytest.mark.filterwarnings("ignore:u_net. no cut lies inside")
def test_halves_of_a_cut_through_three_tensors_run():
    def u_net(w, x):
        skips = []
        for _ in range(3):
            skips.append(x)
            x = jnp.tanh(x @ w)
        for skip in skips[::-1]:
            x = jnp.tanh(x @ w) + skip
        return x

    x = jnp.linspace(-1, 1, 8).reshape(2, 4)
    w = jnp.linspace(-1, 1, 16).reshape(4, 4)
    lengths = [len(profile(u_net, w, x, max_tensors=limit)) for limit in (1, 2, 3, 4)]
    assert lengths == sorted(lengths)
    more = profile(u_net, w, x).more_cuts
    assert more == tuple((limit, lengths[limit - 1] - lengths[0]) for limit in (2, 3, 4))
    text = ", ".join(f"{number} with {limit}" for limit, number in more[1:])
    assert f"({more[0][1]} more with max_tensors=2, {text})" in str(profile(u_net, w, x))
    table = profile(u_net, w, x, max_tensors=np.int64(3))
    assert max(len(row) for row in table.crossing) == 3
    for cut in range(len(table)):
        head, tail = split(u_net, w, x, cut=np.int64(cut), max_tensors=3)[:2]
        np.testing.assert_array_equal(tail(w, head(w, x)), u_net(w, x))


def test_row_zero_sends_inputs_and_the_last_row_outputs_or_nothing():
    table = profile(lambda w, x, n: (x @ w, n + 1), W, X, np.ones(3, np.int8))
    assert table.uplink_bits(None)[[0, -1]].tolist() == [4 * 32 + 24, 4 * 32 + 24]
    some = profile(lambda w, x, n: (x @ w, n + 1), W, X, np.ones(3, np.int8), local_outputs=(1,))
    assert some.uplink_bits(None)[-1] == 4 * 32
    none = profile(lambda w, x: x @ w, W, X, local_outputs=True, input_bits=9)
    assert none.uplink_bits().tolist() == [9, 0]


def test_labels_are_the_frameworks_or_made_up():
    model = nn.Sequential([nn.Dense(4), nn.Dense(2)])
    table = profile(model.apply, jax.eval_shape(model.init, jax.random.key(0), X), X)
    assert table.labels == ("input", "Sequential/layers_0", "output")
    plain = profile(lambda w, x: jnp.tanh(jnp.tanh(x @ w) @ w) @ w, W, X)
    assert plain.labels == ("input", "stage1 matmul", "stage2 matmul", "output")


def test_what_cannot_be_traced_is_told():
    with pytest.raises(
        ValueError, match=r"(?s)cannot be traced .*test_cuts.py:\d+: .*x.sum\(\) > 0.*use jax.lax.cond"
    ):
        profile(lambda w, x: x if x.sum() > 0 else w, W, X)
    with pytest.raises(ValueError, match=r"cannot be traced .*\(4,\).* takes arguments of these shapes"):
        profile(lambda w, x: w[0] @ x.T, W[:3, :3], X)
    with pytest.raises(
        ValueError, match=r"params\['act'\]: got .*unction; allowed are arrays .*equinox.partition"
    ):
        profile(lambda p, x: p["act"](x @ p["w"]), {"act": jnp.tanh, "w": W}, X)
    with pytest.raises(ValueError, match="nothing to cut"):
        profile(lambda w, x: w, W, X)


def test_where_no_cut_lies_inside_the_reason_is_told():
    def ladder(w, x):
        a, b = x @ w, x @ w @ w
        return a @ w + b @ w

    with pytest.warns(UserWarning, match="ladder: no cut lies inside: .* the fewest, 2, after .*max_tensors=2"):
        profile(ladder, W, X)
    with pytest.raises(ValueError, match=r"cut: got 2; allowed is 0..1 \(no cut lies inside: .*max_tensors=2"):
        split(ladder, W, X, cut=2)
    rnn = functools.partial(lax.scan, lambda h, x: (jnp.tanh(h + x) @ W, h))
    with pytest.warns(UserWarning, match="all multiply-accumulates lie in one scan"):
        profile(lambda w, xs: rnn(X, xs), W, np.ones((3, 1, 4), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": 9}, "cut: got 9; allowed is 0..2"),
        ({"cut": 1, "wire_bits": 7}, "wire_bits: got 7; allowed are None, 8, 16 and 32"),
        ({"cut": 1.0}, "cut: got 1.0; allowed is 0..2"),
        ({"cut": 1, "max_tensors": 0}, "max_tensors: got 0; allowed is a whole number of at least 1"),
        ({"cut": 1, "resident": (1,)}, r"resident: got 1; allowed are positions of inputs, 0..0"),
        ({"cut": 1, "local_outputs": (2,)}, r"local_outputs: got 2; allowed are positions of outputs, 0..0"),
    ],
)
def test_wrong_arguments_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        split(lambda w, x: jnp.tanh(x @ w) @ w, W, X, **options)
