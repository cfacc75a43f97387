"""`profile`: where a JAX function can be cut and what every cut costs."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np

from jaxmec.profiles._cost import Cost
from jaxmec.profiles._cuts import Cuts, find_cuts
from jaxmec.profiles._graph import Graph, Kind
from jaxmec.profiles._memory import memory
from jaxmec.profiles._trace import trace
from jaxmec.profiles.table import PartitionProfile


def profile(
    fn: Callable,
    params: Any,
    *inputs: Any,
    name: str | None = None,
    resident: Sequence[int] = (),
    local_outputs: bool | Sequence[Hashable] = False,
    max_tensors: int = 1,
    batch: int | None = None,
    input_bits: float | None = None,
    downlink_bits: float = 0.0,
    source: str = "",
) -> PartitionProfile:
    """Cut table of any JAX function, from abstract values: no weights are needed and nothing is run.

    Args:
      fn: called as fn(params, *inputs).
      params: its parameters, held on both sides: arrays or ShapeDtypeStructs in any tree.
      *inputs: what arrives with a request, likewise.
      name: of the profile; the function's own if absent.
      resident: positions of inputs that stay on their side and are never sent, such as a decoder's cache and
        position.
      local_outputs: outputs that stay on the side that computes them, such as a decoder's new cache: all, none, or
        their positions in the tuple, or keys in the dictionary, that fn returns. If all do, the last row sends
        nothing.
      max_tensors: at most so many arrays may cross at a cut. Side inputs such as masks and token numbers, which no
        convolution or matrix product has touched, do not count up to 5 % of the largest array's bytes.
      batch: requests that one run serves; if absent, the first axis that all inputs and the first output share, if
        any.
      input_bits: bits that row 0 sends, e.g. 8 per value of a camera image; like any activation if absent.
      downlink_bits: bits that return to the device wherever the server runs the last layer.
      source: where the model comes from.

    Returns:
      A row per cut, named by its position.

    Raises:
      ValueError: if the function cannot be traced or has nothing to cut; the message tells what to do.

    Warns:
      UserWarning: about loops of unknown length, data-dependent branches and whatever else stays whole or cannot
        be counted; and if no cut lies inside, with the reason.
    """
    graph, cuts = analyse(fn, params, inputs, resident, local_outputs, max_tensors)
    work = np.array([cut.before for cut in cuts.rows]).T
    table = PartitionProfile(
        name=name or str(getattr(fn, "__name__", "function")),
        labels=tuple(cut.label for cut in cuts.rows),
        crossing=tuple(cut.arrays for cut in cuts.rows),
        batch=_batch(graph) if batch is None else batch,
        input_bits=input_bits,
        downlink_bits=downlink_bits,
        more_cuts=cuts.more,
        source=source,
        **dict(zip(Cost._fields, work, strict=True)),
        **memory(graph, cuts.rows)._asdict(),
    )
    if cuts.reason and table.heavy_ops[-1] > 1:
        warnings.warn(f"{table.name}: no cut lies inside: {cuts.reason}", stacklevel=2)
    return table


def analyse(
    fn: Callable,
    params: Any,
    inputs: tuple,
    resident: Sequence[int],
    local_outputs: bool | Sequence[Hashable],
    max_tensors: int,
) -> tuple[Graph, Cuts]:
    """The traced program and its cuts; arguments and errors are those of `profile`."""
    limit = whole_number(max_tensors)
    if limit is None or limit < 1:
        raise ValueError(f"max_tensors: got {max_tensors!r}; allowed is a whole number of at least 1")
    if not jax.tree.leaves(inputs):
        raise ValueError("inputs: got none; a request needs at least one array")
    graph = trace(fn, params, inputs, resident, local_outputs)
    if all(graph.values[i].kind is not Kind.REQUEST for one in graph.outputs for i in one):
        raise ValueError("the outputs do not depend on the inputs of a request: there is nothing to cut")
    return graph, find_cuts(graph, limit)


def whole_number(value: Any) -> int | None:
    """Python's or NumPy's whole number as an int; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _batch(graph: Graph) -> int | None:
    """The first axis that all inputs of a request and the first output share."""
    sent = [leaf for i, one in enumerate(graph.input_leaves) if i not in graph.resident for leaf in one]
    shapes = [graph.values[leaf].shape for leaf in (*sent, *graph.outputs[0])]
    axes = {shape[0] if shape else None for shape in shapes}
    return axes.pop() if len(axes) == 1 else None
