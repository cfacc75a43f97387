"""Many rows a block at a time, all blocks of one size, so that a compiled function serves them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np


def blocks(leaves: Any, size: int) -> Iterator[Any]:
    """Leaves [S, ...] as blocks [size, ...]; the last one is filled up with its last row."""
    number = jax.tree.leaves(leaves)[0].shape[0]
    for first in range(0, number, size):
        chosen = np.minimum(np.arange(first, first + size), number - 1)
        yield jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], leaves)


def joined(parts: list, number: int) -> Any:
    """What was found for the blocks of S = `number` rows, leaves [S, ...] of NumPy."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:number], *parts)
