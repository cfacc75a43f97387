"""One run on many devices: the environments are spread over all of them, everything else is on each.

`jit` partitions the update by where its arguments lie: every device simulates its own environments, and gradients,
statistics and metrics, which are means over environments, become all-reduces. The numbers are those of one device up
to the order of summation.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxmec.agents.algorithm import Algorithm, Learner
from jaxmec.environment import Environment, Params


def all_devices() -> Mesh:
    """Every device of every process, in one axis of environments."""
    return jax.make_mesh((jax.device_count(),), ("environments",), axis_types=(AxisType.Auto,))


def check(algorithm: Algorithm, mesh: Mesh) -> None:
    """Sizes that the devices cannot share evenly, before anything is traced.

    Raises:
      ValueError: naming the field, its value and what is allowed.
    """
    multiple = mesh.size * algorithm.num_groups
    if algorithm.num_envs % multiple:
        raise ValueError(
            f"num_envs: got {algorithm.num_envs}; allowed on {mesh.size} devices with {algorithm.num_groups} "
            f"minibatches are multiples of {multiple}"
        )


def shardings(env: Environment, algorithm: Algorithm, params: Params, mesh: Mesh) -> Learner:
    """Where every leaf of a learner lies."""
    learner = jax.eval_shape(lambda key: algorithm.init(env, key, params), jax.random.key(0))

    def place(path: tuple, _: jax.ShapeDtypeStruct) -> NamedSharding:
        spread = path[0].name == "env_state"  # every group is spread over all devices
        return NamedSharding(mesh, PartitionSpec(None, "environments") if spread else PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, learner)


def compile_run(
    env: Environment, algorithm: Algorithm, params: Params, mesh: Mesh
) -> tuple[Callable[[jax.Array], Learner], Callable[[Learner], tuple[Learner, dict[str, jax.Array]]]]:
    """Compiled init(key) -> Learner and update(learner) -> (Learner, metrics), spread over a mesh.

    The update gives its input's memory away.
    """
    with jax.set_mesh(mesh):
        where, everywhere = shardings(env, algorithm, params, mesh), NamedSharding(mesh, PartitionSpec())
        init = jax.jit(lambda key: algorithm.init(env, key, params), out_shardings=where)
        update = jax.jit(
            lambda learner: algorithm.update(env, learner, params),
            in_shardings=(where,),
            out_shardings=(where, everywhere),
            donate_argnums=0,
        )
        shape = jax.eval_shape(init, jax.random.key(0))
        return init.lower(jax.random.key(0)).compile(), update.lower(shape).compile()


def gather(learner: Learner) -> Learner:
    """The whole learner in this process's memory; every process must call it."""
    learner = learner.replace(key=jax.random.key_data(learner.key))
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(learner, tiled=True)
    return jax.device_get(learner)


def scatter(learner: Learner, like: Learner) -> Learner:
    """What `gather` gave, laid out as `like`."""

    def put(leaf: jax.Array, old: jax.Array) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, old.sharding, lambda index: leaf[index])

    learner = jax.tree.map(put, learner, like.replace(key=jax.random.key_data(like.key)))
    return learner.replace(key=jax.random.wrap_key_data(learner.key))
