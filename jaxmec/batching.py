"""How a batch of problems is computed when `jax.vmap` is asked for one: two better rules than the default.

`batch_last` puts the batch last. A problem's own axes (users, cuts) are short; with the batch as the contiguous
axis every operation runs over rows of problems, which a CPU's vector units take at full speed. `only_where`
computes what few problems need for those few. Both may be nested in any number of `jax.vmap`, and both have the
derivatives of the function that they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_FEWEST = 64  # problems that are worth computing at once
_CHUNK = 8192  # numbers per array that a CPU holds in its cache, at some sixty arrays
_FEWEST_IN_CHUNK = 64  # problems, whatever they take: rows of fewer are not worth an operation's start


def batch_last(function: Callable[..., Any], size: int, **static: Any) -> Callable[..., Any]:
    """The function with a batching rule under which the batch is the last axis.

    Args:
      function: of pytrees of arrays. It must take and return leaves with one more axis, the batch, at their end.
      size: numbers in a problem's typical array, at least 1. A CPU computes as many problems at once as its cache
        holds.
      **static: further arguments of the function, hashable.

    Returns:
      The function of leaves without a batch axis.
    """
    chunk = max(_CHUNK // size, _FEWEST_IN_CHUNK)
    # The ways to call it below, and further programmes, share what JAX has traced for the same shapes.
    function = partial(jax.jit(function, static_argnames=tuple(static), inline=True), **static)

    def single(*args: Any) -> Any:
        own_axes = jax.tree.map(jnp.ndim, args)

        @jax.custom_batching.custom_vmap
        def run(*args: Any) -> Any:
            leaf, own = jax.tree.leaves(args)[0], jax.tree.leaves(own_axes)[0]
            batch = leaf.shape[: leaf.ndim - own]
            flat = jax.tree.map(lambda leaf, own: leaf.reshape(-1, *leaf.shape[leaf.ndim - own :]), args, own_axes)
            result = _in_chunks(function, chunk, alike(flat, flat))
            return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), result)

        @run.def_vmap
        def rule(size: int, batched: list, *args: Any) -> tuple[Any, Any]:
            def to_all(leaf: Array, is_batched: bool) -> Array:
                return leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))

            result = run(*jax.tree.map(to_all, args, tuple(batched)))
            return result, jax.tree.map(lambda _: True, result)

        return _differentiable(run, function)(*args)

    return single


def only_where(needed: Array, function: Callable[..., Any], otherwise: Any, *args: Any) -> Any:
    """`function(*args)` where it is needed, and `otherwise` elsewhere.

    In a batch only those problems are gathered and computed that need it, a sixteenth of the batch at a time.

    Args:
      needed: bool[].
      function: of `args`, without tracers of its own.
      otherwise: of the structure, shapes and dtypes that the function returns.
      args: pytrees of arrays.
    """

    def plain(needed: Array, otherwise: Any, *args: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(needed, new, old), function(*args), otherwise)

    run = _only_where(function, jax.tree.map(lambda _: (), args))
    return _differentiable(run, plain)(needed, otherwise, *args)


def alike(example: Any, leaves: Any) -> Any:
    """The leaves, varying over all mesh axes over which a leaf of the example varies, too.

    Inside `jax.shard_map` the type of an array tells over which axes devices may hold different values, and what
    enters a loop or leaves a branch must have one type, constants as well. Elsewhere nothing is done.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return leaves
    always = reduce(jnp.logical_and, (jnp.ones_like(leaf, bool, shape=()) for leaf in jax.tree.leaves(example)))
    return jax.tree.map(lambda leaf: jnp.where(always, leaf, leaf), leaves)


def _only_where(function: Callable[..., Any], batch_axes: Any) -> Callable[..., Any]:
    """Of needed [...], otherwise [..., own] and args, whose leaves have those of the batch axes that are told."""

    @jax.custom_batching.custom_vmap
    def run(needed: Array, otherwise: Any, *args: Any) -> Any:
        batch, total = needed.shape, needed.size
        given = needed, otherwise, args
        needed, otherwise, args = alike(given, given)
        if not batch:
            return lax.cond(needed, lambda: alike(needed, function(*args)), lambda: otherwise)
        size = min(total, max(_FEWEST, total // 16)) if isinstance(total, int) else total  # of a symbolic batch
        in_axes = jax.tree.map(lambda _, axes: 0 if any(axes) else None, args, batch_axes)
        if not jax.tree.leaves(in_axes):  # all problems have the same result, or keep what they have
            return lax.cond(
                jnp.any(needed),
                lambda: alike(needed, _chosen(needed, function(*args), otherwise)),
                lambda: otherwise,
            )

        def compute(state: tuple[Array, Any]) -> tuple[Array, Any]:
            needed, result = state
            chosen = jnp.nonzero(needed, size=size, fill_value=total)[0]
            index = jnp.unravel_index(jnp.minimum(chosen, total - 1), batch)

            def pick(leaf: Array, axes: tuple[bool, ...]) -> Array:
                return leaf[tuple(i for i, has in zip(index, axes, strict=True) if has)]

            new = jax.vmap(function, in_axes)(*jax.tree.map(pick, args, batch_axes))
            result = jax.tree.map(lambda old, new: old.at[chosen].set(new, mode="drop"), result, new)
            return needed.at[chosen].set(False, mode="drop"), result

        flat = jax.tree.map(lambda leaf: leaf.reshape(total, *leaf.shape[len(batch) :]), otherwise)
        _, result = lax.while_loop(lambda state: jnp.any(state[0]), compute, (needed.reshape(-1), flat))
        return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), result)

    @run.def_vmap
    def rule(size: int, batched: list, needed: Array, otherwise: Any, *args: Any) -> tuple[Any, Any]:
        def to_all(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))

        needed, otherwise = jax.tree.map(to_all, (needed, otherwise), tuple(batched[:2]))
        axes = jax.tree.map(lambda _, is_batched, axes: (is_batched, *axes), args, tuple(batched[2:]), batch_axes)
        result = _only_where(function, axes)(needed, otherwise, *args)
        return result, jax.tree.map(lambda _: True, result)

    return run


def _chosen(needed: Array, new: Any, otherwise: Any) -> Any:
    """New [own] for the whole batch where it is needed [...], and otherwise [..., own] elsewhere."""

    def choose(new: Array, old: Array) -> Array:
        wide = needed.reshape(*needed.shape, *[1] * (old.ndim - needed.ndim))
        return jnp.where(wide, jnp.broadcast_to(new, old.shape), old)

    return jax.tree.map(choose, new, otherwise)


def _differentiable(run: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with the derivative of `plain`, which computes the same; a batching rule's has no reverse mode."""
    run = jax.custom_jvp(run)
    run.defjvp(lambda primals, tangents: (run(*primals), jax.jvp(plain, primals, tangents)[1]))
    return run


def _in_chunks(function: Callable[..., Any], chunk: int, args: tuple) -> Any:
    """The function of leaves [B, ...], the batch turned last for it; on a CPU in chunks, one after the other.

    A symbolic batch, as `jax.export` has it, is one of single problems, since the function may gather as many as
    the size of its batch suggests.
    """
    batch = jax.tree.leaves(args)[0].shape[0]
    if not isinstance(batch, int):
        return jax.vmap(lambda args: jax.tree.map(partial(jnp.squeeze, axis=-1), function(*_expanded(args))))(args)

    def at_once(*args: Any) -> Any:
        return _turned_back(function(*_turned(args)))

    if batch == 1:
        return at_once(*args)
    return lax.platform_dependent(*args, cpu=partial(_one_after_another, function, chunk), default=at_once)


def _one_after_another(function: Callable[..., Any], chunk: int, *args: Any) -> Any:
    """The function of leaves [B, ...], of at most about `chunk` of them at a time."""
    batch = jax.tree.leaves(args)[0].shape[0]
    fewest = max(-(-batch // chunk), 2 if batch >= 2 * _FEWEST else 1)
    parts = next((parts for parts in range(fewest, 2 * fewest) if batch % parts == 0), fewest)
    size = -(-batch // parts)
    # Chunks follow one another in memory; a batch that is spread over devices stays spread if a chunk takes every
    # so-manieth problem instead. Whether it is, says the mesh that the caller has set.
    spread = jax.sharding.get_abstract_mesh().size > 1

    def split(leaf: Array) -> Array:
        width = [(0, parts * size - batch)] + [(0, 0)] * (leaf.ndim - 1)
        padded = jnp.pad(leaf, width, mode="edge")
        if spread:
            return jnp.moveaxis(padded.reshape(size, parts, *leaf.shape[1:]), 1, 0)
        return padded.reshape(parts, size, *leaf.shape[1:])

    def join(leaf: Array) -> Array:
        ordered = jnp.moveaxis(leaf, 0, 1) if spread else leaf
        return ordered.reshape(parts * size, *leaf.shape[2:])[:batch]

    chunks = jax.tree.map(split, args)
    shapes = jax.eval_shape(function, *_turned(jax.tree.map(lambda leaf: leaf[0], chunks)))

    def one(numbered: tuple[Array, tuple]) -> Any:
        # Always true, but XLA does not know it, and what enters and leaves a branch it keeps in memory. Without it
        # every operation of the function reads the batch anew, in its old order, at twice the time in all.
        number, some = numbered
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        some = _turned(some)
        result = lax.cond(number < parts, lambda: alike(some, function(*some)), lambda: alike(some, nothing))
        return _turned_back(result)

    return jax.tree.map(join, lax.map(one, (jnp.arange(parts), chunks)))


def _expanded(leaves: Any) -> Any:
    """Leaves [...] as a batch of one, which is last."""
    return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, -1), leaves)


def _turned(leaves: Any) -> Any:
    """Leaves [B, ...] with the batch last."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), leaves)


def _turned_back(leaves: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), leaves)
