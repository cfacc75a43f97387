"""`profile`: where a JAX function can be cut and what every cut costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxmec.profiles._cuts import Cuts, find_cuts
from jaxmec.profiles._graph import Graph, Kind, trace
from jaxmec.profiles.table import PartitionProfile


def profile(
    fn: Callable,
    params: Any,
    *inputs: Any,
    name: str | None = None,
    resident: Sequence[int] = (),
    local_outputs: bool | Sequence[int] = False,
    max_tensors: int = 1,
    input_bits: float | None = None,
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
        their positions in the tuple that fn returns. If all do, the last row sends nothing.
      max_tensors: at most so many arrays may cross at a cut.
      input_bits: bits that row 0 sends, e.g. 8 per value of a camera image; like any activation if absent.
      source: where the model comes from.

    Returns:
      A row per cut, named by its position.

    Raises:
      ValueError: if the function cannot be traced or has nothing to cut; the message tells what to do.

    Warns:
      UserWarning: about loops of unknown length, data-dependent branches and foreign kernels, which stay whole;
        and if no cut lies inside, with the reason.
    """
    graph, cuts = analyse(fn, params, inputs, resident, local_outputs, max_tensors)
    before = np.array([cut.before for cut in cuts.rows])
    table = PartitionProfile(
        name=name or str(getattr(fn, "__name__", "function")),
        labels=tuple(cut.label for cut in cuts.rows),
        macs=before[:, 0],
        other_ops=before[:, 1],
        heavy_ops=before[:, 2],
        bytes_moved=before[:, 3],
        elements=np.array([cut.elements(graph) for cut in cuts.rows]),
        integer_bits=np.array([cut.integer_bits(graph) for cut in cuts.rows]),
        input_bits=input_bits,
        source=source,
    )
    if cuts.reason and table.heavy_ops[-1] > 1:
        warnings.warn(f"{table.name}: no cut lies inside: {cuts.reason}", stacklevel=2)
    return table


def analyse(
    fn: Callable,
    params: Any,
    inputs: tuple,
    resident: Sequence[int],
    local_outputs: bool | Sequence[int],
    max_tensors: int,
) -> tuple[Graph, Cuts]:
    """The traced program and its cuts; arguments and errors are those of `profile`."""
    if not isinstance(max_tensors, int) or max_tensors < 1:
        raise ValueError(f"max_tensors: got {max_tensors!r}; allowed is a whole number of at least 1")
    if not jax.tree.leaves(inputs):
        raise ValueError("inputs: got none; a request needs at least one array")
    graph = trace(fn, params, inputs, resident, local_outputs)
    if all(graph.values[i].kind is not Kind.REQUEST for one in graph.outputs for i in one):
        raise ValueError("the outputs do not depend on the inputs of a request: there is nothing to cut")
    return graph, find_cuts(graph, max_tensors)
