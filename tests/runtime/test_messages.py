"""Messages: what goes in comes out, and nothing else is taken."""

import asyncio
import pickle

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

from jaxmec.runtime import ProtocolError
from jaxmec.runtime.messages import (
    HEADER,
    MAGIC,
    PROTOCOL,
    Answer,
    Bye,
    Hello,
    Prepare,
    Ready,
    Refusal,
    Request,
    Tensor,
    Welcome,
    encode,
    receive,
)


def received(data, max_bytes=2**20):
    async def read():
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await receive(reader, "a test", max_bytes)

    return asyncio.run(read())


def framed(fields):
    body = msgpack.packb(fields)
    return HEADER.pack(MAGIC, PROTOCOL, len(body)) + body


TENSOR = Tensor("int8", b"\x01\x02", (2,))


@pytest.mark.parametrize(
    "message",
    [
        Hello("me", "abc"),
        Welcome(window=3),
        Prepare(cut=5, repeats=0),
        Ready(cut=5),
        Ready(cut=5, service_s=0.25),
        Request((TENSOR,), id=7, cut=5, acknowledged=6),
        Answer(1.0, 1.5, 2.5, (TENSOR, None), id=7),
        Refusal("no"),
        Bye(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_arrives_as_it_was(message):
    assert received(encode(message)) == message


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "bfloat16", "float16", "float32", "complex64"]
)
def test_arrays_of_every_dtype_take_their_bytes(dtype):
    array = np.asarray(jnp.array([[0, 1, 2], [3, 4, 5]]).astype(dtype) if dtype != "int64" else np.arange(6))
    sent = Tensor.of(array)
    assert len(sent.data) == array.nbytes
    back = received(encode(Answer(0.0, 0.0, 0.0, (sent,), id=0))).tensors[0].array()
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_objects_are_not_sent():
    with pytest.raises(ValueError, match="dtype: got object; allowed are bfloat16"):
        Tensor.of(np.array([{}], object))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak"),
        (HEADER.pack(MAGIC, PROTOCOL + 1, 0), "protocol version: got 2; allowed is 1"),
        (HEADER.pack(MAGIC, PROTOCOL, 2**20 + 1), "length: got 1048577 bytes; allowed are at most 1048576"),
        (HEADER.pack(MAGIC, PROTOCOL, 3) + b"\xc1\xff\x00", "not readable"),
        (framed([1, 2]), "not readable"),
        (framed({"kind": "Hello"}), "client: missing"),
        (framed({"kind": "Exec", "code": "1"}), "not readable: KeyError: 'Exec'"),
        (framed({"kind": ["Hello"]}), "not readable"),
        (framed({"kind": "Bye", "more": 1}), "more: unknown field"),
        (framed({"kind": "Prepare", "cut": -1, "repeats": 0}), "cut: got -1; allowed is a number at least 0"),
        (framed({"kind": "Prepare", "cut": "one", "repeats": 0}), "Prepare.cut: got 'one'; allowed is a whole number"),
        (framed({"kind": "Welcome", "window": True}), "Welcome.window: got True; allowed is a whole number"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_its_reason(data, message):
    with pytest.raises(ProtocolError, match=message.replace("(", r"\(")):
        received(data)


def test_a_pickle_is_not_opened():
    body = pickle.dumps(Touch())
    with pytest.raises(ProtocolError, match="not readable"):
        received(HEADER.pack(MAGIC, PROTOCOL, len(body)) + body)


class Touch:
    def __reduce__(self):
        return pytest.fail, ("the pickle was opened",)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("object", b"", (0,)), "dtype: got 'object'"),
        (Tensor("float32", b"123", (1,)), r"data: got 3 bytes; float32\(1,\) takes 4"),
        (Tensor("int8", b"", (0, 2**62, 2**62)), "shape: got"),
    ],
)
def test_arrays_whose_parts_do_not_fit(tensor, message):
    with pytest.raises(ProtocolError, match=message):
        tensor.array()
