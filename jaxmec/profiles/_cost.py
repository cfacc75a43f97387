"""What one operation costs: multiply-accumulates, other operations, bytes moved.

Counts follow the shapes alone. Multiply-accumulates are those of convolutions and matrix products; positions that
a convolution pads are counted, as published figures do, and the zeros that a transposed convolution puts between
its inputs are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Cost(NamedTuple):
    """Counts of one operation, or sums of them."""

    macs: float = 0.0
    other_ops: float = 0.0
    heavy_ops: float = 0.0  # convolutions and matrix products, each a kernel of its own
    bytes_moved: float = 0.0  # operands and results of kernels that cannot be fused into a neighbour

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, number: int) -> Cost:
        """The counts of so many repetitions."""
        return Cost(*(number * count for count in self))


class Array(Protocol):
    """What counting needs to know of an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""

    @property
    def size(self) -> int:
        """Elements."""

    @property
    def bytes(self) -> int:
        """Bytes in memory."""


# Rearranging and relabelling: no arithmetic, and fused into a neighbour.
_FREE = {
    "bitcast_convert_type",
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "copy_p",
    "expand_dims",
    "iota",
    "optimization_barrier",
    "pad",
    "random_unwrap",
    "random_wrap",
    "reduce_precision",
    "reshape",
    "rev",
    "row",
    "sharding_constraint",
    "slice",
    "split",
    "squeeze",
    "stack",
    "stop_gradient",
    "transpose",
}
# Reads or writes its operands in an order of its own.
_MEMORY_BOUND = ("reduce", "cum", "arg", "top_k", "select_and")


def cost_of(name: str, params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> Cost:
    """Counts of one operation, by its primitive's name and parameters."""
    moved = sum(value.bytes for value in (*inputs, *outputs))
    if name == "conv_general_dilated":
        macs = _conv_macs(params, inputs[1].shape, outputs[0].shape)
        return Cost(macs=macs, heavy_ops=1, bytes_moved=moved)
    if name == "dot_general":
        (contracting, _), _ = params["dimension_numbers"]
        depth = math.prod(inputs[0].shape[d] for d in contracting)
        return Cost(macs=outputs[0].size * depth, heavy_ops=1, bytes_moved=moved)
    if name.startswith("ragged_dot"):  # rows of the left operand, each times the matrix of its group
        rows, depth = inputs[0].shape
        return Cost(macs=rows * depth * inputs[1].shape[-1], heavy_ops=1, bytes_moved=moved)
    if name in _FREE:
        return Cost()
    if name.startswith("reduce_window"):
        return Cost(other_ops=outputs[0].size * math.prod(params["window_dimensions"]), bytes_moved=moved)
    if name in ("gather", "dynamic_slice"):
        return Cost(bytes_moved=2 * outputs[0].bytes)
    if name == "dynamic_update_slice":  # the rest of the operand stays in place
        return Cost(bytes_moved=2 * inputs[1].bytes)
    if name.startswith("scatter"):
        adds = 0 if name == "scatter" else inputs[2].size
        return Cost(other_ops=adds, bytes_moved=2 * inputs[2].bytes)
    if name == "sort":
        return Cost(other_ops=inputs[0].size * _log2(inputs[0].shape[params["dimension"]]), bytes_moved=moved)
    if name == "fft":  # the usual 5 n log2 n
        transforms = math.prod(params["fft_lengths"])
        return Cost(
            other_ops=5 * max(inputs[0].size, outputs[0].size) * _log2(transforms), heavy_ops=1, bytes_moved=moved
        )
    if name.startswith(_MEMORY_BOUND):
        return Cost(other_ops=max(value.size for value in inputs), bytes_moved=moved)
    return Cost(other_ops=max((value.size for value in outputs), default=0))


def _log2(length: int) -> int:
    return math.ceil(math.log2(max(length, 1)))


def _conv_macs(params: Mapping[str, Any], kernel: tuple[int, ...], output: tuple[int, ...]) -> float:
    """Output elements times the products that each sums, by axis where inputs are dilated."""
    numbers = params["dimension_numbers"]
    macs = output[numbers.out_spec[0]] * kernel[numbers.rhs_spec[0]] * kernel[numbers.rhs_spec[1]]
    for axis, (stride, dilation, kernel_dilation, (before, _)) in enumerate(
        zip(
            params["window_strides"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            params["padding"],
            strict=True,
        )
    ):
        positions = np.arange(output[numbers.out_spec[2 + axis]])[:, None] * stride
        taps = np.arange(kernel[numbers.rhs_spec[2 + axis]])[None, :] * kernel_dilation
        macs *= int(np.count_nonzero((positions + taps - before) % dilation == 0))
    return float(macs)
