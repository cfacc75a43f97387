"""What does more bandwidth change? Nine bandwidths, 32 systems each, 60 slots, as one vmapped program.

    python docs/examples/bandwidth_sweep.py

Cuts follow the closed form, shares are exact. With more band more users send their input, delay falls, and devices that
were over their energy budgets come to be under them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxmec
from jaxmec.policies import make_policy
from jaxmec.rollout import rollout

BANDWIDTHS_HZ = np.geomspace(0.5e6, 64e6, 9)
MEASURED = ("delay_s", "edge", "middle", "local", "device_energy")


def main(num_systems: int = 32, num_slots: int = 60) -> dict[str, np.ndarray]:
    """Sweep, print and return the means: name -> [9]."""
    env, params = jaxmec.make("coinfer4")
    policy = make_policy("closed_form", env)

    def system(bandwidth_hz, key):
        own = params.replace(bandwidth_hz=bandwidth_hz)
        key_reset, key_run = jax.random.split(key)
        _, state = env.reset(key_reset, own)
        metrics = rollout(
            env, policy, key_run, state, own, num_slots,
            lambda slot: env.metrics(slot.state, slot.reward, slot.info, own),
        )[1]  # fmt: skip
        return {name: metrics[name].mean() for name in MEASURED}

    keys = jax.random.split(jax.random.key(0), num_systems)  # the same systems at every bandwidth
    sweep = jax.jit(jax.vmap(jax.vmap(system, (None, 0)), (0, None)))
    found = {
        name: np.asarray(value.mean(axis=1)) for name, value in sweep(jnp.asarray(BANDWIDTHS_HZ), keys).items()
    }
    print("  MHz   delay, s   edge  middle  local   device energy over budget")
    for index, bandwidth_hz in enumerate(BANDWIDTHS_HZ):
        delay, edge, middle, local, energy = (found[name][index] for name in MEASURED)
        print(f"{bandwidth_hz / 1e6:5.1f} {delay:10.4f} {edge:6.2f} {middle:7.2f} {local:6.2f} {energy:11.2f}")
    return found


if __name__ == "__main__":
    main()
