"""rejax's PPO and SAC, unmodified, on the box of rounded cuts.

python docs/examples/stacks/rejax_learners.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import rejax
from common import arguments, judge, make_system

from jaxmec.wrappers import FiveTupleEnv, Rounded

BOTH = {"num_envs": 64, "gamma": 0.0}  # prices carry the future
SETTINGS = {
    "PPO": {
        "learning_rate": 3e-4,  # with larger steps means run far out of the box, where nothing pulls them back
        "normalize_observations": True,
        "num_steps": 16,
        "num_minibatches": 4,
        "num_epochs": 4,
        "ent_coef": 0.0,
    },
    "SAC": {"learning_rate": 1e-3, "fill_buffer": 1024, "buffer_size": 65536, "batch_size": 256, "num_epochs": 8},
}


def main() -> None:
    """Train both, and judge them."""
    options = arguments(slots=200_000)
    env, params = make_system()
    view = FiveTupleEnv(env, params, actions=Rounded())
    learned = {}
    for name, settings in SETTINGS.items():
        algorithm = getattr(rejax, name).create(
            env=view, total_timesteps=options.slots, eval_freq=options.slots, **BOTH, **settings
        )
        algorithm = algorithm.replace(eval_callback=lambda *_: jnp.zeros(()), skip_initial_evaluation=True)
        state, _ = jax.jit(algorithm.train)(jax.random.key(0))
        act = jax.vmap(algorithm.make_act(state), (0, None))

        def cuts(observations, act=act):
            actions = act(jax.vmap(view.seen)(observations), jax.random.key(1))
            return jax.vmap(view.actions.decode)(actions, env.unpack(observations).mask)

        learned[f"rejax {name}"] = jax.jit(cuts)
    judge("rejax", learned, options.built_in)


if __name__ == "__main__":
    main()
