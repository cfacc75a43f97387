"""A network, a scenario, a trace and a policy of one's own, together.

    python docs/examples/own_parts.py [FOLDER]

Writes the network's table and the scenario's file into the folder (by default build/own_parts), with one of the traces
of docs/examples/traces beside them, and runs the policy beside three of the package's.
"""

from __future__ import annotations

import shutil
import sys
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxmec
from jaxmec.policies import make_policy
from jaxmec.profiles import profile
from jaxmec.rollout import rollout

SCENARIO = """
description: Three cameras with a network of one's own; requests as a recording has them.
users:
  - {count: 3, networks: {my_network.json: 1}, devices: {raspberry_pi_4: 1}, energy_budget_j: {raspberry_pi_4: 0.15}}
server: {device: epyc_7742, energy_budget_j: 0.5}
radio: {bandwidth_hz: 2e6}
arrivals: {process: trace, trace_file: requests.csv, trace_column: time_s}
tradeoff: 100
"""
NUM_SYSTEMS, NUM_SLOTS = 16, 100
SOON_S = 0.05


def my_network(weights, image):
    """A small convolutional network; any JAX function of (weights, input) will do."""
    x = image
    for kernel in weights["kernels"]:
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x)
    return x.mean(axis=(1, 2)) @ weights["head"]


def my_table():
    """Where it can be cut, and at what cost: shapes suffice."""
    channels = (3, 64, 128, 256, 512)
    kernels = [jax.ShapeDtypeStruct((3, 3, *pair), jnp.float32) for pair in pairwise(channels)]
    weights = {"kernels": kernels, "head": jax.ShapeDtypeStruct((channels[-1], 10), jnp.float32)}
    return profile(my_network, weights, jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32), name="my_network")


def send_if_soon(env):
    """A policy of one's own: a user sends its input if an equal share of the band takes it soon, or computes it all."""

    def policy(key, state, params):
        problem = env.cut_problems(state, params)
        rate_bps = problem.bandwidth_hz / env.num_users * jnp.log2(1 + problem.snr * env.num_users)
        last_cut = jnp.sum(env.action_mask(state, params), axis=-1) - 1
        return jnp.where(problem.uplink_bits[:, 0] / rate_bps < SOON_S, 0, last_cut).astype(jnp.int32)

    return policy


def main(folder: Path = Path("build/own_parts")) -> None:
    """Make everything, run every policy on the same requests and channels, and print what they reached."""
    folder.mkdir(parents=True, exist_ok=True)
    table = my_table()
    table.save(folder / "my_network.json")
    shutil.copy(Path(__file__).parent / "traces/requests.csv", folder)
    (folder / "scenario.yaml").write_text(SCENARIO)
    print(table)

    env, params = jaxmec.make(folder / "scenario.yaml")
    policies = {name: make_policy(name, env) for name in ("edge_only", "local_only", "closed_form")}
    policies["send_if_soon"] = send_if_soon(env)

    def run(number, key):
        """Means over an episode of the policy with this number."""
        key_reset, key_run = jax.random.split(key)
        _, state = env.reset(key_reset, params)
        metrics = rollout(
            env, lambda *seen: jax.lax.switch(number, list(policies.values()), *seen), key_run, state, params,
            NUM_SLOTS, lambda slot: env.metrics(slot.state, slot.reward, slot.info, params),
        )[1]  # fmt: skip
        return jax.tree.map(jnp.mean, metrics)

    every = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))
    found = every(jnp.arange(len(policies)), jax.random.split(jax.random.key(0), NUM_SYSTEMS))
    print("              delay, s   energy over budget: device, server    sent")
    for number, name in enumerate(policies):
        delay_s, device, server, sent = (
            found[metric][number].mean() for metric in ("delay_s", "device_energy", "server_energy", "edge")
        )
        print(f"{name:12} {delay_s:9.4f} {device:28.3f} {server:7.3f} {sent:7.2f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
