"""What one operation costs: multiply-accumulates by class, other operations, bytes moved.

Counts follow the shapes alone. Multiply-accumulates are those of convolutions and matrix products; positions that
a convolution pads are counted, as published figures do, and the zeros that a transposed convolution puts between
its inputs are not. Factorisations count floating-point operations to leading order, by the formulas of Golub and
Van Loan, "Matrix Computations", 4th edition 2013, which are named below by section.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Cost(NamedTuple):
    """Counts of one operation, or sums of them."""

    winograd_macs: float = 0.0  # multiply-accumulates of 3 x 3 convolutions of stride 1
    conv_macs: float = 0.0  # of other convolutions wider than one position
    matmul_macs: float = 0.0  # of matrix products and of convolutions of one position
    depthwise_macs: float = 0.0  # of convolutions whose every output channel reads one input channel
    other_ops: float = 0.0
    heavy_ops: float = 0.0  # convolutions, matrix products and the like
    kernels: float = 0.0  # passes over memory: all operations but those fused into a neighbour
    bytes_moved: float = 0.0  # that kernels read and write

    @property
    def macs(self) -> float:
        """All multiply-accumulates."""
        return self.winograd_macs + self.conv_macs + self.matmul_macs + self.depthwise_macs

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
    def moved(self) -> int:
        """Bytes in memory; of what was broadcast, those before."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Relabelling: neither arithmetic nor a copy.
_FREE = _names(
    """
    after_all bitcast_convert_type broadcast_in_dim convert_element_type copy copy_p create_token
    empty2 expand_dims iota name optimization_barrier pvary random_unwrap random_wrap reduce_precision
    reshape row sharding_constraint slice split squeeze stack stop_gradient
    """
)
# Copies into another order, without arithmetic.
_COPIES = _names("concatenate pad rev tile transpose")
# One operation per element of the result.
_ELEMENTWISE = _names(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
    complex conj cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to
    lu_pivots_to_permutation max min mul mulhi ne neg nextafter not or polygamma population_count pow
    random_bits random_fold_in random_gamma random_seed random_split real regularized_incomplete_beta rem
    rng_bit_generator rng_uniform round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical
    sign sin sinh sqrt square sub tan tanh threefry2x32 xor zeta
    """
)
# One operation per element of the largest operand.
_REDUCTIONS = ("reduce", "cum", "arg", "top_k", "approx_top_k", "select_and")


def is_known(name: str) -> bool:
    """Whether `cost_of` knows how to count a primitive."""
    return (
        name in _FREE | _COPIES | _ELEMENTWISE
        or name in _OTHERS
        or name in _FACTORISATIONS
        or name.startswith((*_REDUCTIONS, "scatter", "ragged_dot"))
    )


def is_free(name: str) -> bool:
    """Whether a primitive only relabels its operand."""
    return name in _FREE


def is_elementwise(name: str) -> bool:
    """Whether a primitive computes each element of its result from the same element of its operands."""
    return name in _ELEMENTWISE


def cost_of(name: str, params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> Cost:
    """Counts of one operation that `is_known`, by its primitive's name and parameters.

    Elementwise operations move no bytes here, as `jaxmec.profiles._fusion` tells which of them are kernels.
    """
    moved = sum(value.moved for value in (*inputs, *outputs))
    if name in _FREE:
        return Cost()
    if name in _ELEMENTWISE:
        return Cost(other_ops=max(value.size for value in outputs))
    if name in _COPIES:
        return Cost(kernels=1, bytes_moved=moved)
    if name in _OTHERS:
        return _OTHERS[name](params, inputs, outputs, moved)
    if name in _FACTORISATIONS:
        flop = _FACTORISATIONS[name](params, inputs, outputs)
        return Cost(other_ops=round(_matrices(inputs[0]) * flop), heavy_ops=1, kernels=1, bytes_moved=moved)
    if name.startswith("ragged_dot"):  # rows of the left operand, each times the matrix of its group
        rows, depth = inputs[0].shape
        macs = rows * depth * inputs[1].shape[-1]
        return Cost(matmul_macs=macs, heavy_ops=1, kernels=1, bytes_moved=moved)
    if name.startswith("reduce_window"):
        operations = outputs[0].size * math.prod(params["window_dimensions"])
        return Cost(other_ops=operations, kernels=1, bytes_moved=moved)
    if name.startswith("scatter"):
        adds = 0 if name == "scatter" else inputs[2].size
        return Cost(other_ops=adds, kernels=1, bytes_moved=2 * inputs[2].moved)
    return Cost(other_ops=max(value.size for value in inputs), kernels=1, bytes_moved=moved)  # a reduction


def _convolution(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array], moved: int) -> Cost:
    kernel = inputs[1].shape
    numbers = params["dimension_numbers"]
    window = [kernel[axis] for axis in numbers.rhs_spec[2:]]
    macs = _conv_macs(params, kernel, outputs[0].shape)
    if params["feature_group_count"] > 1 and kernel[numbers.rhs_spec[1]] == 1:
        macs_of_class = {"depthwise_macs": macs}
    elif set(window) == {1}:
        macs_of_class = {"matmul_macs": macs}
    elif window == [3, 3] and set(params["window_strides"]) | set(params["rhs_dilation"]) == {1}:
        macs_of_class = {"winograd_macs": macs}
    else:
        macs_of_class = {"conv_macs": macs}
    return Cost(**macs_of_class, heavy_ops=1, kernels=1, bytes_moved=moved)


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


def _matrix_product(
    params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array], moved: int
) -> Cost:
    (contracting, _), _ = params["dimension_numbers"]
    depth = math.prod(inputs[0].shape[d] for d in contracting)
    return Cost(matmul_macs=outputs[0].size * depth, heavy_ops=1, kernels=1, bytes_moved=moved)


def _sort(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array], moved: int) -> Cost:
    operations = inputs[0].size * _log2(inputs[0].shape[params["dimension"]])
    return Cost(other_ops=operations, kernels=1, bytes_moved=moved)


def _fft(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array], moved: int) -> Cost:
    """The usual 5 n log2 n."""
    operations = 5 * max(inputs[0].size, outputs[0].size) * _log2(math.prod(params["fft_lengths"]))
    return Cost(other_ops=operations, heavy_ops=1, kernels=1, bytes_moved=moved)


def _tridiagonal_solve(
    params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array], moved: int
) -> Cost:
    """Elimination and substitution, 8 operations per unknown (4.3)."""
    return Cost(other_ops=8 * outputs[0].size, heavy_ops=1, kernels=1, bytes_moved=moved)


def _log2(length: int) -> int:
    return math.ceil(math.log2(max(length, 1)))


_OTHERS: dict[str, Callable[..., Cost]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _matrix_product,
    "sort": _sort,
    "fft": _fft,
    "tridiagonal_solve": _tridiagonal_solve,
    "gather": lambda params, inputs, outputs, moved: Cost(kernels=1, bytes_moved=2 * outputs[0].moved),
    "dynamic_slice": lambda params, inputs, outputs, moved: Cost(kernels=1, bytes_moved=2 * outputs[0].moved),
    # The rest of the operand stays in place.
    "dynamic_update_slice": lambda params, inputs, outputs, moved: Cost(
        kernels=1, bytes_moved=2 * inputs[1].moved
    ),
}


def _matrices(operand: Array) -> int:
    """How many matrices an operand holds."""
    return math.prod(operand.shape[:-2])


def _triangular_solve(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """n² operations for each right-hand side (3.1)."""
    return inputs[0].shape[-1] * math.prod(outputs[0].shape[-2:])


def _lu(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """2 n³ / 3 of a square matrix (3.2)."""
    m, n = _long_and_short(inputs[0])
    return n * n * (m - n / 3)


def _qr(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Reflections, and as many operations again for the orthogonal factor's columns (5.2)."""
    m, n = _long_and_short(inputs[0])
    columns = m if params["full_matrices"] else n
    return _reflections(m, n) + _product(m, columns, n)


def _reflections(m: int, n: int) -> float:
    return 2 * n * n * (m - n / 3)


def _product(m: int, n: int, k: int) -> float:
    """K reflections, each on what it can still change of an m × n matrix."""
    return 4 * m * n * k - 2 * (m + n) * k * k + 4 * k**3 / 3


def _eigh(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """The symmetric QR algorithm with vectors (8.3)."""
    return 9 * inputs[0].shape[-1] ** 3


def _eig(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """The unsymmetric QR algorithm, without and with vectors (7.5)."""
    return (25 if len(outputs) > 1 else 10) * inputs[0].shape[-1] ** 3


def _svd(params: Mapping[str, Any], inputs: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Golub-Reinsch: values alone; with the short factors; with the full ones (8.6)."""
    m, n = _long_and_short(inputs[0])
    if not params["compute_uv"]:
        return 4 * m * n * n - 4 * n**3 / 3
    if params["full_matrices"]:
        return 4 * m * m * n + 8 * m * n * n + 9 * n**3
    return 14 * m * n * n + 8 * n**3


def _long_and_short(operand: Array) -> tuple[int, int]:
    low, high = sorted(operand.shape[-2:])
    return high, low


_FACTORISATIONS: dict[str, Callable[..., float]] = {
    "triangular_solve": _triangular_solve,
    "cholesky": lambda params, inputs, outputs: inputs[0].shape[-1] ** 3 / 3,  # (4.2)
    "lu": _lu,
    "qr": _qr,
    "geqrf": lambda params, inputs, outputs: _reflections(*_long_and_short(inputs[0])),
    "householder_product": lambda params, inputs, outputs: _product(
        inputs[0].shape[-2], inputs[0].shape[-1], inputs[1].shape[-1]
    ),
    "eigh": _eigh,
    "eig": _eig,
    "schur": lambda params, inputs, outputs: 25 * inputs[0].shape[-1] ** 3,  # (7.5)
    "svd": _svd,
    "hessenberg": lambda params, inputs, outputs: 10 * inputs[0].shape[-1] ** 3 / 3,  # (7.4)
    "tridiagonal": lambda params, inputs, outputs: 4 * inputs[0].shape[-1] ** 3 / 3,  # (8.3)
}
