"""What a device and a server say to each other: typed messages in msgpack, each behind a short header.

A header is four fixed bytes, the protocol's version and the length of the body: a stranger, another version and a
message beyond the size limit are known before a body is read. A body is a msgpack mapping whose fields are checked
against the dataclasses below. Nothing in it can name code.

    device                          server
    Hello      ------------------>
               <------------------  Welcome
    Prepare    ------------------>          once per cut
               <------------------  Ready
    Request    ------------------>          any number, in order
               <------------------  Answer
    Bye        ------------------>          or from the server
               <------------------  Refusal  instead of any answer; the connection ends
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import struct
from typing import Any

import jax.numpy as jnp
import msgpack
import numpy as np

from jaxmec.config import ConfigError, build, number

MAGIC = b"jmec"
PROTOCOL = 1
HEADER = struct.Struct("!4sHI")
MAX_BYTES = 64 * 2**20  # of one message, unless told otherwise

_DTYPES = frozenset(
    ["bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"]
    + [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
)


class ProtocolError(ValueError):
    """What arrived is no message of this protocol, version or size; the text says which."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array: its dtype's name, its bytes in C order, its shape."""

    dtype: str
    data: bytes
    shape: tuple[int, ...] = number(at_least=0)

    @classmethod
    def of(cls, array: Any) -> Tensor:
        """The message form of a NumPy or JAX array.

        Raises:
          ValueError: for a dtype that cannot be sent.
        """
        array = np.asarray(array)
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"dtype: got {array.dtype.name}; allowed are {', '.join(sorted(_DTYPES))}")
        return cls(array.dtype.name, array.tobytes(), array.shape)

    def array(self) -> np.ndarray:
        """The array, read only.

        Raises:
          ProtocolError: if dtype, shape and bytes do not belong together.
        """
        if self.dtype not in _DTYPES:
            raise ProtocolError(f"dtype: got {self.dtype!r}; allowed are {', '.join(sorted(_DTYPES))}")
        dtype = jnp.dtype(self.dtype)
        expected = math.prod(self.shape) * dtype.itemsize
        if len(self.data) != expected:
            raise ProtocolError(f"data: got {len(self.data)} bytes; {self.dtype}{self.shape} takes {expected}")
        try:
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        except ValueError as error:
            raise ProtocolError(f"shape: got {self.shape}: {error}") from None


@dataclasses.dataclass(frozen=True)
class Hello:
    """A device's first message."""

    client: str  # the same after a reconnection
    model: str  # digest of what it runs, see `jaxmec.runtime.Model`


@dataclasses.dataclass(frozen=True)
class Welcome:
    """The server runs the same network."""

    window: int = number(at_least=1)  # requests that one device may have unanswered


@dataclasses.dataclass(frozen=True)
class Prepare:
    """The server shall compile a tail and, if asked, time it alone."""

    cut: int = number(at_least=0)
    repeats: int = number(at_least=0, at_most=1000)


@dataclasses.dataclass(frozen=True)
class Ready:
    """The tail is compiled."""

    cut: int = number(at_least=0)
    service_s: float | None = None  # seconds of one request, if timed


@dataclasses.dataclass(frozen=True)
class Request:
    """What crosses at the cut."""

    tensors: tuple[Tensor, ...]
    id: int = number(at_least=0)
    cut: int = number(at_least=0)
    acknowledged: int = number(at_least=0)  # all requests below this one have been answered


@dataclasses.dataclass(frozen=True)
class Answer:
    """Outputs, None where the device has computed one; times are of the server's own monotonic clock."""

    received_s: float
    start_s: float
    end_s: float
    tensors: tuple[Tensor | None, ...]
    id: int = number(at_least=0)


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why the connection ends; trying again would not help."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Bye:
    """This side stops in good order."""


Message = Hello | Welcome | Prepare | Ready | Request | Answer | Refusal | Bye
_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Hello, Welcome, Prepare, Ready, Request, Answer, Refusal, Bye)
}


def encode(message: Message) -> bytes:
    """Header and body."""
    body = msgpack.packb({"kind": type(message).__name__, **vars(message)}, default=vars)
    return HEADER.pack(MAGIC, PROTOCOL, len(body)) + body


def decode(body: bytes, source: str) -> Message:
    """A message from its body.

    Args:
      body: without the header.
      source: who sent it, for errors.

    Raises:
      ProtocolError: if it is none.
    """
    try:
        fields = msgpack.unpackb(body, strict_map_key=True)
        kind = _KINDS[fields.pop("kind")]
        return build(kind, fields, f"message from {source}", kind.__name__)
    except ConfigError as error:
        raise ProtocolError(str(error)) from None
    except (ValueError, TypeError, AttributeError, KeyError, msgpack.UnpackException) as error:
        raise ProtocolError(f"message from {source}: not readable: {type(error).__name__}: {error}") from None


async def receive(reader: asyncio.StreamReader, source: str, max_bytes: int = MAX_BYTES) -> Message:
    """The next message.

    Raises:
      ProtocolError: for a stranger, another version, a message that is too long or not readable.
      asyncio.IncompleteReadError: if the connection ended.
    """
    magic, version, length = HEADER.unpack(await reader.readexactly(HEADER.size))
    if magic != MAGIC:
        raise ProtocolError(f"message from {source}: it does not speak the jaxmec runtime's protocol")
    if version != PROTOCOL:
        raise ProtocolError(f"message from {source}: protocol version: got {version}; allowed is {PROTOCOL}")
    if length > max_bytes:
        raise ProtocolError(f"message from {source}: length: got {length} bytes; allowed are at most {max_bytes}")
    return decode(await reader.readexactly(length), source)
