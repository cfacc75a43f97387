"""Actor-critics that score every option of every user.

`SetActorCritic` treats users as a set: one encoder serves every user and every option, a pooled context tells each
user about the others, and the output per option is one score. It is equivariant to the order of users, takes any
number of users and options, and serves networks it has never seen. `MlpActorCritic` flattens everything, as papers in
this field commonly do, and is bound to one shape. Both take normalised views, see `jaxmec.observation.Views`.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxmec.observation import Views

MASKED = -1e9  # logit of an option that does not exist


class SetActorCritic(nn.Module):
    """Shared encoders with mean- and max-pooled context."""

    width: int = 64

    @nn.compact
    def __call__(self, views: Views) -> tuple[Array, Array]:
        """Score options and value the state.

        Returns:
          Logits [..., N, K] and values [..., N], one of every user.
        """
        users, options, mask = views
        user = nn.Dense(self.width, name="user")(users)
        option = nn.relu(nn.Dense(self.width, name="option")(options) + user[..., None, :])
        menu = jnp.max(jnp.where(mask[..., None], option, 0.0), axis=-2)  # what a user could do
        own = nn.relu(nn.Dense(self.width, name="own")(menu) + user)
        everyone = jnp.concatenate([jnp.mean(own, axis=-2), jnp.max(own, axis=-2)], axis=-1)
        context = nn.Dense(self.width, name="context")(everyone)[..., None, :]
        joint = nn.relu(own + context)
        hidden = nn.relu(option + nn.Dense(self.width, name="query")(joint)[..., None, :])
        # An option's features lead to its score directly, too: the closed-form costs among them nearly decide.
        direct = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="direct")(options)
        score = direct + nn.Dense(1, kernel_init=nn.initializers.orthogonal(0.01), name="score")(hidden)
        value = nn.Dense(1, name="value")(nn.relu(nn.Dense(self.width, name="critic")(joint)))[..., 0]
        return jnp.where(mask, score[..., 0], MASKED), value


class MlpActorCritic(nn.Module):
    """Two hidden layers over all users at once."""

    width: int = 256

    @nn.compact
    def __call__(self, views: Views) -> tuple[Array, Array]:
        """As `SetActorCritic`, for one number of users and options."""
        users, options, mask = views
        batch, (num_users, num_options) = mask.shape[:-2], mask.shape[-2:]
        hidden = jnp.concatenate([users.reshape(*batch, -1), options.reshape(*batch, -1)], axis=-1)
        for _ in range(2):
            hidden = nn.gelu(nn.Dense(self.width)(hidden))
        score = nn.Dense(num_users * num_options, kernel_init=nn.initializers.orthogonal(0.01))(hidden)
        value = nn.Dense(num_users)(hidden)
        return jnp.where(mask, score.reshape(mask.shape), MASKED), value


NETWORKS: dict[str, type[SetActorCritic] | type[MlpActorCritic]] = {"set": SetActorCritic, "mlp": MlpActorCritic}
