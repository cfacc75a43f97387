"""Actions as other stacks have them, and the option of every user that they mean."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax.numpy as jnp
from jax import Array

from jaxmec import spaces
from jaxmec.environment import Environment

LARGEST_JOINT = 2**16  # actions of one number: beyond, no network should have one output for each


class Actions(Protocol):
    """A form of actions: frozen and hashable."""

    def space(self, env: Environment) -> spaces.MultiDiscrete | spaces.Box | spaces.Discrete:
        """What they look like.

        Raises:
          ValueError: if the environment has none of this form.
        """
        ...

    def decode(self, action: Array, mask: Array) -> Array:
        """The option of every user, int32[N], where mask bool[N, K] tells the options that exist."""
        ...

    def allowed(self, mask: Array) -> Array:
        """Which actions mean options that exist, flat, as sb3-contrib reads it: of mask bool[N, K]."""
        ...


@dataclasses.dataclass(frozen=True)
class PerUser:
    """int32[N], each user's own option: `MultiDiscrete`. The mask is bool[N K], users one after the other."""

    def space(self, env: Environment) -> spaces.MultiDiscrete:
        """See `Actions`."""
        return spaces.MultiDiscrete(env.num_users, env.num_options)

    def decode(self, action: Array, mask: Array) -> Array:
        """See `Actions`."""
        return action.astype(jnp.int32)

    def allowed(self, mask: Array) -> Array:
        """See `Actions`."""
        return mask.reshape(-1)


@dataclasses.dataclass(frozen=True)
class Rounded:
    """float32[N] in [-1, 1]: `Box`. -1 is a user's first option, 1 its last, and what is between is rounded.

    The range is that of the options that the user has, so no part of it means the same as another for want of options.
    The mask is all true, [N K].
    """

    def space(self, env: Environment) -> spaces.Box:
        """See `Actions`."""
        return spaces.Box(-1.0, 1.0, (env.num_users,))

    def decode(self, action: Array, mask: Array) -> Array:
        """See `Actions`."""
        last = jnp.sum(mask, axis=-1) - 1
        place = jnp.round((jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0 * last).astype(jnp.int32)
        number = jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1  # of every option among those that exist
        return jnp.argmax(mask & (number == place[:, None]), axis=-1).astype(jnp.int32)

    def allowed(self, mask: Array) -> Array:
        """See `Actions`."""
        return jnp.ones(mask.size, bool)


@dataclasses.dataclass(frozen=True)
class Joint:
    """int32[] that numbers the combinations of all users' options: `Discrete`, for small systems.

    Its digits to base K are the options, the last user's the fastest. The mask is bool[K^N].
    """

    def space(self, env: Environment) -> spaces.Discrete:
        """See `Actions`."""
        combinations = env.num_options**env.num_users
        if combinations > LARGEST_JOINT:
            raise ValueError(
                f"actions: got Joint() of {env.num_options}^{env.num_users} combinations; allowed are at most "
                f"{LARGEST_JOINT}, or PerUser() or Rounded()"
            )
        return spaces.Discrete(combinations)

    def decode(self, action: Array, mask: Array) -> Array:
        """See `Actions`."""
        num_users, num_options = mask.shape
        places = jnp.asarray([num_options**power for power in reversed(range(num_users))], jnp.int32)
        return action.astype(jnp.int32) // places % num_options

    def allowed(self, mask: Array) -> Array:
        """See `Actions`."""
        every = jnp.ones(1, bool)
        for own in mask:
            every = (every[:, None] & own[None, :]).reshape(-1)
        return every
