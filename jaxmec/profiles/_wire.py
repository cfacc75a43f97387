"""What crosses a cut as it is sent: whole numbers instead of floats, and how many bits that makes.

Quantised floats become whole numbers of 8 or 16 bits with one scale per array or per channel (last axis), a
float32. The largest code and its negative stand for infinities and the smallest for NaN, so that these cross
unharmed and spoil nothing beside them.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

WIRE_BITS = (None, 8, 16, 32)  # per float that crosses; None sends every float as it is
_SCALE_BITS = 32


class Crossing(NamedTuple):
    """An array that crosses a cut."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: Any) -> Crossing:
        """By shape and dtype; random keys by the whole numbers that they are."""
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, dtype))
            shape, dtype = data.shape, data.dtype
        return cls(str(dtype), tuple(shape))

    @classmethod
    def parse(cls, text: str) -> Crossing:
        """Read what `str` writes.

        Raises:
          ValueError: for any other text.
        """
        if not re.fullmatch(r"[a-z_0-9]{1,30}\[(\d{1,9}(,\d{1,9}){0,9})?\]", text):
            raise ValueError(
                f"crossing: got {text[:40]!r}; allowed is a dtype and a shape, such as 'float32[1,64]'"
            )
        name, _, lengths = text.removesuffix("]").partition("[")
        try:
            dtype = jnp.dtype(name)
        except TypeError:
            raise ValueError(f"crossing: got {text[:40]!r}; there is no such dtype") from None
        return cls(str(dtype), tuple(int(length) for length in lengths.split(",") if length))

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether `wire_bits` may change it: real floating-point numbers."""
        return bool(jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating))

    def bits(self, wire_bits: int | None = None, per_channel: bool = False) -> int:
        """Bits of what `to_wire` makes of it."""
        own = 8 * jnp.dtype(self.dtype).itemsize
        if wire_bits is None or not self.is_float or own <= wire_bits:
            return self.size * own
        scales = 0 if wire_bits == 32 else self.shape[-1] if _has_channels(self.shape, per_channel) else 1
        return self.size * wire_bits + _SCALE_BITS * scales


def check_wire_bits(wire_bits: int | None) -> None:
    """Raise a ValueError unless they are among WIRE_BITS."""
    if wire_bits not in WIRE_BITS:
        raise ValueError(f"wire_bits: got {wire_bits!r}; allowed are None, 8, 16 and 32")


def to_wire(x: jax.Array, wire_bits: int | None, per_channel: bool = False) -> Any:
    """An array as it is sent.

    Args:
      x: any array.
      wire_bits: 8 or 16 makes wider floats whole numbers of so many bits, 32 makes them float32, None leaves them.
      per_channel: a scale per index of the last axis, where there are two axes or more.

    Returns:
      The array, or its codes int8 or int16 of the same shape and their scale, float32[] or float32[C].
    """
    crossing = Crossing.of(x.shape, x.dtype)
    if wire_bits is None or not crossing.is_float or 8 * x.dtype.itemsize <= wire_bits:
        return x
    x = x.astype(jnp.float32)
    if wire_bits == 32:
        return x
    largest_code = 2 ** (wire_bits - 1) - 1
    finite = jnp.isfinite(x)
    over = range(x.ndim - 1) if _has_channels(x.shape, per_channel) else range(x.ndim)
    largest = jnp.max(jnp.where(finite, jnp.abs(x), 0.0), axis=tuple(over), initial=0.0)
    # Below the smallest normal number a quotient would be none.
    scale = jnp.maximum(largest / (largest_code - 1), jnp.finfo(jnp.float32).tiny)
    codes = jnp.round(jnp.where(finite, x, 0.0) / jnp.expand_dims(scale, tuple(over)))
    codes = jnp.where(jnp.isinf(x), jnp.sign(x) * largest_code, codes)
    codes = jnp.where(jnp.isnan(x), -largest_code - 1, codes)
    return codes.astype(jnp.int8 if wire_bits == 8 else jnp.int16), scale


def from_wire(sent: Any, dtype: Any) -> jax.Array:
    """The array of the given dtype that `to_wire` has sent."""
    if not isinstance(sent, tuple | list):
        return sent.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else sent
    codes, scale = sent
    largest_code = jnp.iinfo(codes.dtype).max
    scale = jnp.reshape(scale, (1,) * (codes.ndim - jnp.ndim(scale)) + jnp.shape(scale))
    x = codes.astype(jnp.float32) * scale
    x = jnp.where(jnp.abs(codes.astype(jnp.int32)) == largest_code, jnp.sign(codes) * jnp.inf, x)
    return jnp.where(codes == -largest_code - 1, jnp.nan, x).astype(dtype)


def relative_error(approximate: jax.Array, true: jax.Array) -> jax.Array:
    """Root mean square of the difference over that of the truth, at any magnitude; complex numbers included."""
    number = jnp.promote_types(jnp.promote_types(jnp.result_type(approximate), jnp.result_type(true)), jnp.float32)
    a, b = (jnp.asarray(x).astype(number) for x in (approximate, true))
    same = (a == b) | (jnp.isnan(a) & jnp.isnan(b))  # infinities and NaN that arrive are no error
    difference = jnp.abs(jnp.where(same, 0, a - b))
    size = jnp.abs(jnp.where(jnp.isfinite(b), b, 0))
    # Squares of 1e-22 or 1e20 leave the range of float32.
    largest = jnp.max(size, initial=0.0)
    unit = jnp.where(largest > 0, largest, 1.0)
    error, power = (jnp.mean((x / unit) ** 2) for x in (difference, size))
    return jnp.sqrt(error / jnp.where(power > 0, power, 1.0))


def _has_channels(shape: tuple[int, ...], per_channel: bool) -> bool:
    return per_channel and len(shape) >= 2
