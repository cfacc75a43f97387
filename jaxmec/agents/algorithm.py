"""What a learning algorithm is. Runs, sharding, sweeps and commands speak only this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
from flax import struct
from jax import Array

from jaxmec.agents.actor_critic import ActorCritic
from jaxmec.environment import Environment, Params, Policy, State


class Learner(struct.PyTreeNode):
    """Everything that training carries from one update to the next.

    Environments lie in M groups, [M, E / M], so that nothing has to be copied to take one; devices share the second
    axis. What a group is, the algorithm says: a minibatch, or a member of a population.
    """

    model: ActorCritic
    optimiser: Any  # whatever the algorithm itself carries
    env_state: State  # [M, E / M, ...]
    key: Array
    updates: Array  # int32[]


class Algorithm(Protocol):
    """A learner's hyperparameters and what it does with them: a frozen pytree.

    Its floats are leaves, so that a sweep over them is one vmap; the rest are shapes and kinds. A new algorithm is
    one file and one line of `jaxmec.agents.ALGORITHMS`.
    """

    total_steps: int  # slots of the whole run
    num_envs: int  # E, environments that run side by side
    num_steps: int  # slots of each environment per update

    @property
    def num_groups(self) -> int:
        """M, a divisor of `num_envs`."""
        ...

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, at least one."""
        ...

    def check(self, env: Environment) -> None:
        """Raise a ValueError naming a field, its value and what is allowed, before anything is traced."""
        ...

    def init(self, env: Environment, key: Array, params: Params) -> Learner:
        """A fresh model among fresh episodes."""
        ...

    def update(self, env: Environment, state: Learner, params: Params) -> tuple[Learner, dict[str, Array]]:
        """One update; metrics are name -> [], those of `env.metrics` among them."""
        ...

    def policy(self, env: Environment, state: Learner, candidates: int = 1) -> Policy:
        """The policy that has been learned, see `jaxmec.agents.actor_critic.policy`."""
        ...

    def init_model(self, env: Environment, key: Array) -> ActorCritic:
        """A model with fresh weights, of the shapes that the environment needs."""
        ...


class Result(struct.PyTreeNode):
    """A finished run."""

    learner: Learner
    metrics: dict[str, Array]  # name -> [num_updates]


def make_train(env: Environment, algorithm: Algorithm) -> Callable[[Array, Params], Result]:
    """A whole training run as one pure function: train(key, params), to be jitted and vmapped at will.

    Raises:
      ValueError: for a configuration that cannot run.
    """
    algorithm.check(env)

    def train(key: Array, params: Params) -> Result:
        learner = algorithm.init(env, key, params)
        learner, metrics = run_updates(env, algorithm, learner, params, algorithm.num_updates)
        return Result(learner, metrics)

    return train


def run_updates(
    env: Environment, algorithm: Algorithm, learner: Learner, params: Params, num_updates: int
) -> tuple[Learner, dict[str, Array]]:
    """Some updates in one scan; metrics are [num_updates]. Two calls of n are one call of 2 n."""
    return jax.lax.scan(lambda one, _: algorithm.update(env, one, params), learner, None, length=num_updates)


def over_envs(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`jax.vmap` over both axes [M, E / M] of environments, where `in_axes` is 0.

    Devices share the second one. It is mapped outermost where there are several, as what is spread over devices
    stays spread if it leads; on one device the first leads, so that the batch is in the order of memory. How many
    there are says the mesh that the caller has set, see `jaxmec.agents.sharding`.
    """
    axis = 1 if jax.sharding.get_abstract_mesh().size > 1 else 0
    outer = tuple(None if own is None else axis for own in in_axes)
    return jax.vmap(jax.vmap(function, in_axes), outer, out_axes=axis)
