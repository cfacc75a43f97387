"""What one operation costs: multiply-accumulates, other operations, bytes moved."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxmec.profiles._graph import Graph, Operation


class Cost(NamedTuple):
    """Counts of one operation, or sums of them."""

    macs: float = 0.0
    other_ops: float = 0.0
    heavy_ops: float = 0.0  # convolutions and matrix products, each a kernel of its own
    bytes_moved: float = 0.0  # operands and results of kernels that cannot be fused into a neighbour

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


# Rearranging and relabelling: no arithmetic, and fused into a neighbour.
_FREE = {
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "copy_p",
    "expand_dims",
    "iota",
    "pad",
    "reduce_precision",
    "reshape",
    "rev",
    "row",
    "slice",
    "split",
    "squeeze",
    "stack",
    "stop_gradient",
    "transpose",
}
# Reads or writes its operands in an order of its own.
_MEMORY_BOUND = ("reduce", "cum", "arg", "gather", "scatter", "sort", "dynamic", "top_k", "select_and")


def cost_of(graph: Graph, operation: Operation) -> Cost:
    """Counts of one operation.

    Padded positions of a convolution are counted, as published figures do; the zeros that a transposed
    convolution puts between its inputs are not.
    """
    inputs = [graph.values[i] for i in operation.inputs]
    outputs = [graph.values[i] for i in operation.outputs]
    moved = sum(value.bytes for value in (*inputs, *outputs))
    if operation.name == "conv_general_dilated":
        return Cost(macs=_conv_macs(operation, inputs, outputs[0]), heavy_ops=1, bytes_moved=moved)
    if operation.name == "dot_general":
        (contracting, _), _ = operation.params["dimension_numbers"]
        depth = math.prod(inputs[0].shape[d] for d in contracting)
        return Cost(macs=outputs[0].size * depth, heavy_ops=1, bytes_moved=moved)
    if operation.name in _FREE:
        return Cost()
    if operation.name.startswith("reduce_window"):
        window = math.prod(operation.params["window_dimensions"])
        return Cost(other_ops=outputs[0].size * window, bytes_moved=moved)
    if operation.name.startswith(("gather", "scatter", "dynamic")):
        touched = 2 * min(value.bytes for value in (inputs[0], *outputs))
        return Cost(bytes_moved=touched)
    if operation.name.startswith(_MEMORY_BOUND):
        return Cost(other_ops=max(value.size for value in inputs), bytes_moved=moved)
    return Cost(other_ops=max((value.size for value in outputs), default=0))


def _conv_macs(operation: Operation, inputs: list, output) -> float:
    params = operation.params
    numbers = params["dimension_numbers"]
    kernel = inputs[1].shape
    batch = output.shape[numbers.out_spec[0]]
    features_in, features_out = kernel[numbers.rhs_spec[1]], kernel[numbers.rhs_spec[0]]
    taps = 1
    for axis, (stride, dilation, kernel_dilation, (before, _)) in enumerate(
        zip(
            params["window_strides"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            params["padding"],
            strict=True,
        )
    ):
        width = kernel[numbers.rhs_spec[2 + axis]]
        positions = output.shape[numbers.out_spec[2 + axis]]
        if dilation == 1:
            taps *= width * positions
        else:
            taps *= sum(
                (position * stride + tap * kernel_dilation - before) % dilation == 0
                for position in range(positions)
                for tap in range(width)
            )
    return float(batch * features_in * features_out * taps) / params["batch_group_count"]
