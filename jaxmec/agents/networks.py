"""Actor-critics that score every cut of every user.

`SetActorCritic` treats users as a set: one encoder serves every user and every cut, a pooled context tells each
user about the others, and the output per cut is one score. It is equivariant to the order of users, takes any
number of users and cuts, and serves networks it has never seen. `MlpActorCritic` flattens everything, as papers in
this field commonly do, and is bound to one shape.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxmec.agents import normalise
from jaxmec.features import unpack

MASKED = -1e9  # logit of a cut that does not exist


class SetActorCritic(nn.Module):
    """Shared encoders with mean- and max-pooled context."""

    num_cuts: int
    width: int = 64

    @nn.compact
    def __call__(self, observation: Array, mask: Array) -> tuple[Array, Array]:
        """Score cuts and value the state.

        Args:
          observation: [..., N, F], normalised.
          mask: bool[..., N, K], the cuts that exist.

        Returns:
          Logits [..., N, K] and values [..., N], one of every user.
        """
        users, cuts = unpack(observation, self.num_cuts)
        user = nn.Dense(self.width, name="user")(users)
        cut = nn.relu(nn.Dense(self.width, name="cut")(cuts) + user[..., None, :])
        menu = jnp.max(jnp.where(mask[..., None], cut, 0.0), axis=-2)  # what a user could do
        own = nn.relu(nn.Dense(self.width, name="own")(menu) + user)
        everyone = jnp.concatenate([jnp.mean(own, axis=-2), jnp.max(own, axis=-2)], axis=-1)
        context = nn.Dense(self.width, name="context")(everyone)[..., None, :]
        joint = nn.relu(own + context)
        hidden = nn.relu(cut + nn.Dense(self.width, name="query")(joint)[..., None, :])
        # A cut's features lead to its score directly, too: the closed-form costs among them nearly decide.
        direct = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="direct")(cuts)
        score = direct + nn.Dense(1, kernel_init=nn.initializers.orthogonal(0.01), name="score")(hidden)
        value = nn.Dense(1, name="value")(nn.relu(nn.Dense(self.width, name="critic")(joint)))[..., 0]
        return jnp.where(mask, score[..., 0], MASKED), value


class MlpActorCritic(nn.Module):
    """Two hidden layers over all users at once."""

    num_cuts: int
    width: int = 256

    @nn.compact
    def __call__(self, observation: Array, mask: Array) -> tuple[Array, Array]:
        """As `SetActorCritic`, for one number of users."""
        num_users = observation.shape[-2]
        hidden = observation.reshape(*observation.shape[:-2], -1)
        for _ in range(2):
            hidden = nn.gelu(nn.Dense(self.width)(hidden))
        score = nn.Dense(num_users * self.num_cuts, kernel_init=nn.initializers.orthogonal(0.01))(hidden)
        value = nn.Dense(num_users)(hidden)
        return jnp.where(mask, score.reshape(mask.shape), MASKED), value


def valid_cuts(observation: Array, num_cuts: int) -> Array:
    """bool[..., N, K]: the mask that an observation carries."""
    return unpack(observation, num_cuts)[1][..., 0] > 0.5


def forward(network: Any, moments: normalise.Moments, weights: Any, observation: Array) -> tuple[Array, Array]:
    """Logits [..., N, K] and values [..., N] of raw observations [..., N, F].

    They are normalised where they are used, which is cheaper than to keep both.
    """
    return network.apply(weights, normalise.apply(moments, observation), valid_cuts(observation, network.num_cuts))


def make_network(kind: Literal["set", "mlp"], num_cuts: int, width: int) -> nn.Module:
    """The actor-critic of a configuration."""
    return {"set": SetActorCritic, "mlp": MlpActorCritic}[kind](num_cuts=num_cuts, width=width)
