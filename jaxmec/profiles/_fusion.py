"""Which elementwise operations are passes over memory of their own.

Compilers and inference engines fuse an elementwise operation into the kernel that makes its operand: what moves is
what further operands bring in. Without such a kernel it is one itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from jaxmec.profiles._cost import Cost, is_elementwise, is_free
from jaxmec.profiles._graph import Operation, Value


def fuse(operations: Sequence[Operation], values: Sequence[Value], needed: Iterable[int]) -> list[Operation]:
    """The operations, with the bytes and kernels of those elementwise ones that are needed.

    An elementwise operation joins the kernel that makes the last of its operands. It moves operands from
    elsewhere, each once per kernel, and its result if it starts a kernel.
    """
    fused = list(operations)
    kernel_of: dict[int, int] = {}  # value -> operation that starts the kernel which makes it
    read: set[tuple[int, int]] = set()  # values that a kernel has read
    for index in needed:
        operation = operations[index]
        if all(values[i].constant for i in operation.inputs):
            continue
        kernel = index
        if is_elementwise(operation.name) or is_free(operation.name):
            makers = [kernel_of[i] for i in operation.inputs if i in kernel_of]
            if not makers and is_free(operation.name):
                continue
            kernel = max(makers, default=index)
        if is_elementwise(operation.name):
            brought = {i for i in operation.inputs if kernel_of.get(i) != kernel and (kernel, i) not in read}
            read |= {(kernel, i) for i in brought}
            written = operation.outputs if kernel == index else ()
            cost = Cost(
                kernels=float(kernel == index), bytes_moved=sum(values[i].moved for i in (*brought, *written))
            )
            fused[index] = dataclasses.replace(operation, cost=operation.cost + cost)
        kernel_of |= dict.fromkeys(operation.outputs, kernel)
    return fused
