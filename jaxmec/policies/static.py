"""A lookup table: one cut per network and device class, fitted to a system and then fixed.

It is the cheapest policy to deploy and the first one that a learned policy has to beat: where it is as good, nothing
that changes from slot to slot matters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmec import long_run
from jaxmec.config import ConfigError, quoted, read_json
from jaxmec.reporting.files import replace_file

if TYPE_CHECKING:
    from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
    from jaxmec.environment import Policy

MAX_SWEEPS = 6
POPULATIONS, ASCENT_SLOTS = 512, 250  # that a table is fitted to, and how long their multipliers are looked for
SEED = 2**21  # of those populations: neither training's nor the held-out ones'


def static(env: EdgeInferenceEnv) -> Policy:
    """The table that is fitted to the environment's own numbers; takes some seconds. It is the policy's `table`."""
    params = env.default_params
    states, _ = long_run.ascend(env, jax.random.key(SEED), params, POPULATIONS, ASCENT_SLOTS)
    return lookup(fit_static(env, params, states))


def lookup(table: np.ndarray) -> Policy:
    """The cuts of a table, int[M, D], by what each user runs on what; the policy keeps it as its `table`."""
    cuts = jnp.asarray(table, jnp.int32)

    def policy(key: Array, state: EnvState, params: EnvParams) -> Array:
        return cuts[state.network, state.device]

    policy.table = table  # type: ignore[attr-defined]
    return policy


def fit_static(
    env: EdgeInferenceEnv, params: EnvParams, states: EnvState, start: np.ndarray | None = None
) -> np.ndarray:
    """The table of least mean slot objective at given states, by coordinate descent.

    At states whose queues stand for the multipliers of the long-run problem (see `jaxmec.long_run`), that
    is the least long-run delay plus multipliers times excess energy. One entry after the other takes its best cut, the
    others as they are, until a round changes nothing.

    Args:
      env: the environment.
      params: of the system.
      states: [S, ...].
      start: int[M, D] first table; all on the server if absent.

    Returns:
      int32[M, D].
    """
    num_networks, num_devices = params.device_work_s.shape[:2]
    last = np.asarray(params.valid_cut).sum(axis=-1) - 1

    table = np.zeros((num_networks, num_devices), np.int32) if start is None else np.array(start, np.int32)
    for _ in range(MAX_SWEEPS):
        before = table.copy()
        for network, device in np.ndindex(table.shape):
            found = np.asarray(_costs(env, jnp.asarray(table), network, device, states, params))
            table[network, device] = int(np.argmin(found[: last[network] + 1]))
        if (table == before).all():
            break
    return table


@partial(jax.jit, static_argnames="env")
def _costs(
    env: EdgeInferenceEnv, table: Array, network: Array, device: Array, states: EnvState, params: EnvParams
) -> Array:
    """Mean objective with every cut in one entry of a table: [K]."""

    def at(cut: Array) -> Array:
        changed = table.at[network, device].set(cut)

        def one(state: EnvState) -> Array:
            return env.objective(state, changed[state.network, state.device], params)

        return jnp.mean(jax.vmap(one)(states))

    return jax.lax.map(at, jnp.arange(env.num_cuts, dtype=jnp.int32))


def save_table(path: Path, table: np.ndarray, networks: Sequence[str], devices: Sequence[str]) -> None:
    """Write a table as JSON: network -> device class -> cut."""
    rows = {
        network: {device: int(cut) for device, cut in zip(devices, row, strict=True)}
        for network, row in zip(networks, table, strict=True)
    }
    replace_file(path, json.dumps(rows, indent=1) + "\n")


def load_table(path: Path, networks: Sequence[str], devices: Sequence[str]) -> np.ndarray:
    """Read a table for these networks and device classes.

    Raises:
      ConfigError: naming what is missing or wrong.
    """
    rows = read_json(path)
    table = np.zeros((len(networks), len(devices)), np.int32)
    for m, d in np.ndindex(table.shape):
        try:
            cut = rows[networks[m]][devices[d]]
        except (KeyError, TypeError):
            raise ConfigError(f"{path}: no cut for {networks[m]} on {devices[d]}") from None
        if not isinstance(cut, int) or isinstance(cut, bool) or not 0 <= cut < 2**31:
            raise ConfigError(
                f"{path}: {networks[m]}.{devices[d]}: got {quoted(cut)}; allowed is a whole number at least 0"
            )
        table[m, d] = cut
    return table
