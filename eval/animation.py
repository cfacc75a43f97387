"""An animated picture of a policy at work over an episode: cuts, shares and queues of every user.

python eval/animation.py --run runs/district10-seed0 --out docs/episode.gif
python eval/animation.py --policy closed_form --scenario coinfer4
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import jaxmec
from jaxmec.agents.run import scenario_of
from jaxmec.compilation import keep_compiled
from jaxmec.environment import Policy
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.figures.episode import Episode, animate
from jaxmec.rollout import Slot, rollout
from jaxmec.scenario import DEFAULT


@dataclasses.dataclass(frozen=True)
class Flags:
    """Draw a policy at work."""

    run: Path | None = None
    """Folder of a training run, whose policy is shown."""
    policy: str = "closed_form"
    """Rule or search that is shown without a run."""
    scenario: str | None = None
    """Name or YAML file; the run's, or district10."""
    slots: int = 60
    """Frames."""
    seed: int = 0
    """Of the episode."""
    out: Path = Path("episode.gif")
    """The picture."""


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    console = terminal()
    keep_compiled()
    flags = tyro.cli(Flags, args=argv, prog="python eval/animation.py")
    try:
        if flags.slots < 1:
            raise ValueError(f"slots: got {flags.slots}; allowed is at least 1")
        env, params = jaxmec.make(flags.scenario or (scenario_of(flags.run) if flags.run else DEFAULT))
        policy = make_policy(flags.run or flags.policy, env)
        name = "learned policy" if flags.run else flags.policy
        episode = watch(env, params, policy, flags.slots, flags.seed)
        animate(flags.out, episode, f"{name} on {env.name}")
    except (ValueError, OSError) as error:
        return fail(console, error)
    say(console, f"written: {flags.out}, {flags.out.stat().st_size / 1e6:.2f} MB")
    return 0


def watch(
    env: jaxmec.EdgeInferenceEnv, params: jaxmec.EnvParams, policy: Policy, slots: int, seed: int
) -> Episode:
    """Run an episode and keep what its picture shows."""

    def measure(slot: Slot) -> dict[str, Any]:
        state, info = slot.state, slot.info
        users = np.arange(env.num_users)
        work_s = params.device_work_s[state.network, state.device]  # [N, K]; masked rows repeat the last
        return {
            "on_device": work_s[users, slot.action] / work_s[:, -1],
            "rate_hz": params.workload.rate_hz(state.workload),
            "bandwidth_share": info["bandwidth_share"],
            "server_share": info["server_share"],
            "queue": state.device_queue,
            "delay_s": info["delay_s"],
        }

    @jax.jit
    def play(key: jax.Array) -> tuple[Any, dict[str, Any]]:
        key_reset, key_slots = jax.random.split(key)
        _, state = env.reset(key_reset, params)
        return state, rollout(env, policy, key_slots, state, params, slots, measure)[1]

    state, seen = jax.device_get(play(jax.random.key(seed)))
    users = [
        f"{env.network_names[network]}, {env.device_names[device]}".replace("_", " ")
        for network, device in zip(state.network, state.device, strict=True)
    ]
    return Episode(users, **seen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
