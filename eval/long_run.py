"""Does a learner of the long-run problem beat the myopic optimum of drift-plus-penalty?

python eval/long_run.py [--scenario coinfer10] [--seeds 2] [--total-steps 800000] [--episodes 64]

The long-run problem: least mean delay such that the mean energy of every device and of the server is within its
budget. Its Lagrangian adds a multiplier, in seconds, times (energy over budget - 1) for each of them. Cuts move
neither channel nor arrivals, so at constant multipliers every slot is a problem of its own, and its minimum, slot
by slot, bounds the delay of all policies that keep the budgets on the same channels and arrivals, far-sighted or
clairvoyant (weak duality). A virtual queue over V is a multiplier under dual ascent with steps 1/V: the held-out
episodes' multipliers are mean queues over a growing V, in slots before the evaluated ones.

From there, and under the same random numbers, run best_response with queues for several V and with the
multipliers; the default learner, with queues; and two direct learners, with a discount. One has queues, which
keep the budgets whatever the cuts, and the delay alone as reward; it starts from the default learner's weights.
The other has constant multipliers, which move between updates by what the queues have measured; it is trained
without a discount, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import figures
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import struct
from jax import Array
from rich import box
from rich.table import Table

import jaxmec
from jaxmec.agents import PPOConfig, ppo
from jaxmec.agents.networks import make_network
from jaxmec.agents.policy import learned
from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.evaluation import bounds_at, mean_and_interval, terminal, write_csv
from jaxmec.lyapunov import SlotPrices
from jaxmec.policies import Policy, make_policy

ASCENT = (1.0, 4.0, 16.0, 64.0)  # V of the phases of dual ascent, over the scenario's
ASCENT_SLOTS = 2000  # of each phase


@dataclasses.dataclass(frozen=True)
class Flags:
    """Compare learners of the long-run problem with drift-plus-penalty."""

    scenario: str = "coinfer10"
    """Name or YAML file."""
    tradeoffs: tuple[float, ...] = (0.25, 4.0, 16.0, 64.0)
    """Further V of drift-plus-penalty, over the scenario's."""
    discount: float = 0.95
    """Of the direct learners."""
    seeds: int = 2
    """Runs of each learner."""
    total_steps: int = 800_000
    """Slots of each run."""
    episodes: int = 64
    """Held-out episodes, each with its own population."""
    slots: int = 300
    """Of each episode."""
    seed: int = 2**20
    """Of the held-out episodes."""
    out: Path = Path("runs/long_run")
    """Folder of long_run.csv and long_run.png."""


class DelayEnv(EdgeInferenceEnv):
    """The environment whose reward is the mean weighted delay alone, negative, in seconds."""

    def _play(self, key: Array, state: EnvState, action: Array, params: EnvParams) -> tuple:
        next_state, _, terminated, info = super()._play(key, state, action, params)
        return next_state, -jnp.mean(params.delay_weight * info["delay_s"]), terminated, info


class DualState(EnvState):
    """A state with multipliers. They are V times as large as in seconds: dimensionless, as the queues are."""

    multiplier: Array  # [N]
    server_multiplier: Array  # []


class LagrangianEnv(EdgeInferenceEnv):
    """The environment with constant multipliers as prices: its slot objective is V N times the Lagrangian, up to a
    constant. The queues go on measuring energy.
    """

    def slot_prices(self, state: EnvState, params: EnvParams) -> SlotPrices:
        """As the environment's own, of the multipliers."""
        assert isinstance(state, DualState)
        priced = state.replace(device_queue=state.multiplier, server_queue=state.server_multiplier)
        return super().slot_prices(priced, params)

    def _draw_state(self, key: Array, params: EnvParams) -> DualState:
        return ascended(super()._draw_state(key, params))


def ascended(state: EnvState, scale: Array | float = 1.0) -> DualState:
    """The state after a step of dual ascent: queues and multipliers are the queues so far, times `scale`."""
    leaves = {field.name: getattr(state, field.name) for field in dataclasses.fields(EnvState)}
    leaves |= {name: scale * leaves[name] for name in ("device_queue", "server_queue")}
    return DualState(**leaves, multiplier=leaves["device_queue"], server_multiplier=leaves["server_queue"])


def recast(cls: type[EdgeInferenceEnv], env: EdgeInferenceEnv) -> EdgeInferenceEnv:
    """The same system as another kind of environment."""
    return cls(**{field.name: getattr(env, field.name) for field in dataclasses.fields(env)})


def train(
    env: EdgeInferenceEnv, config: PPOConfig, params: EnvParams, starts: list[ppo.Learner | None]
) -> list[ppo.Learner]:
    """Train seeds 0, 1, ..., with the weights of `starts` if any; multipliers, if any, move after every update."""

    @jax.jit
    def update(learner: ppo.Learner) -> ppo.Learner:
        learner, _ = ppo.run_updates(env, config, learner, params, 1)
        if not isinstance(env, LagrangianEnv):
            return learner
        return learner.replace(env_state=ascended(learner.env_state))

    learners = []
    for seed, start in enumerate(starts):
        learner = jax.jit(ppo.init, static_argnums=0)(env, config, jax.random.key(seed), params)
        if start is not None:
            learner = learner.replace(params=start.params, moments=start.moments)
        for _ in range(config.num_updates):
            learner = update(learner)
        learners.append(learner)
    return learners


class Episodes(struct.PyTreeNode):
    """A policy on E episodes of T slots: means over the slots. Energies are over their budgets."""

    delay_s: Array  # [E, N]
    device_energy: Array  # [E, N]
    server_energy: Array  # [E]
    device_queue: Array  # [E, N]
    server_queue: Array  # [E]
    states: EnvState  # [E, T, ...] at the start of every slot
    end: EnvState  # [E, ...]


@partial(jax.jit, static_argnames=("env", "policy", "num_slots"))
def rollout(
    env: EdgeInferenceEnv, policy: Policy, key: Array, start: EnvState, params: EnvParams, num_slots: int
) -> Episodes:
    """Run a policy from given states [E, ...]; the same key gives the same channels and arrivals."""

    def episode(start: EnvState, key: Array) -> Episodes:
        budget_j = env.device_budget_j(start, params)

        def slot(state: EnvState, key: Array) -> tuple[EnvState, tuple]:
            _, next_state, _, _, info = env.step_env(key, state, policy(key, state, params), params)
            measured = {
                "delay_s": info["delay_s"],
                "device_energy": info["device_energy_j"] / budget_j,
                "server_energy": info["server_energy_j"] / params.server_budget_j,
                "device_queue": state.device_queue,
                "server_queue": state.server_queue,
            }
            return next_state, (measured, state)

        end, (measured, states) = jax.lax.scan(slot, start, jax.random.split(key, num_slots))
        means = jax.tree.map(lambda values: jnp.mean(values, axis=0), measured)
        return Episodes(**means, states=states, end=end)

    return jax.vmap(episode)(start, jax.random.split(key, len(start.slot)))


def dual_ascent(env: EdgeInferenceEnv, key: Array, params: EnvParams, num_episodes: int) -> DualState:
    """Episodes [E, ...] that have run for a while; queues and multipliers in seconds, by closed_form's cuts."""
    key_reset, key = jax.random.split(key)
    _, drawn = jax.vmap(env.reset_env, (0, None))(jax.random.split(key_reset, num_episodes), params)
    dual = ascended(drawn)
    policy = make_policy("closed_form", env)
    for phase, factor in enumerate(ASCENT):
        changed = params.replace(tradeoff=factor * params.tradeoff)
        start = ascended(dual, changed.tradeoff)
        run = rollout(env, policy, jax.random.fold_in(key, phase), start, changed, ASCENT_SLOTS)
        mean = run.end.replace(device_queue=run.device_queue, server_queue=run.server_queue)
        dual = ascended(mean, 1.0 / changed.tradeoff)
    return dual


def lagrangian_s(run: Episodes, dual: DualState, params: EnvParams) -> np.ndarray:
    """Delay plus multipliers times (energy over budget - 1), mean over users: [E]. The delay at equal energy."""
    devices = params.delay_weight[None] * run.delay_s + dual.multiplier * (run.device_energy - 1.0)
    server = dual.server_multiplier * (run.server_energy - 1.0)
    return np.asarray((devices.sum(-1) + server) / run.delay_s.shape[-1])


def bound_s(env: EdgeInferenceEnv, states: EnvState, dual: DualState, params: EnvParams) -> np.ndarray:
    """Certified lower bound [E] of `lagrangian_s` over all policies, from `LagrangianEnv`'s states [E, T, ...]."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
    value_s = bounds_at(env, params, flat).reshape(states.slot.shape).mean(-1) / params.tradeoff
    return np.asarray((value_s - dual.multiplier.sum(-1) - dual.server_multiplier) / env.num_users)


def summarise(
    runs: Mapping[str, list[Episodes]],
    dual: DualState,
    bound: np.ndarray,
    params: EnvParams,
    classes: tuple[str, ...],
) -> list[dict[str, float | str]]:
    """One row per policy: means over seeds, users and episodes, and half-widths of 95 % intervals over episodes.

    `equal_energy_s` is `lagrangian_s`; `over_bound` and `over_myopic` compare it with the bound and with the first
    policy, whose queues have the scenario's V, and have the intervals of paired differences. `priced_energy` is
    energy over budget, every budget weighted by its multiplier.
    """
    myopic = lagrangian_s(next(iter(runs.values()))[0], dual, params)
    weight_s = np.mean(dual.multiplier.sum(-1) + dual.server_multiplier) / dual.multiplier.shape[-1]
    rows = []
    for policy, seeds in runs.items():
        delay_s, energy = (
            np.mean([getattr(run, name) for run in seeds], 0) for name in ("delay_s", "device_energy")
        )
        by_seed = np.stack([lagrangian_s(run, dual, params) for run in seeds])
        equal, delay = by_seed.mean(0), (np.asarray(params.delay_weight) * delay_s).mean(-1)
        row: dict[str, float | str] = {"policy": policy, "seeds": len(seeds)}
        for name, values in {
            "delay_s": delay,
            "device_energy": energy.mean(-1),
            "server_energy": np.mean([run.server_energy for run in seeds], 0),
            "violation": np.maximum(energy - 1.0, 0.0).mean(-1),
            "priced_energy": 1.0 + (equal - delay) / weight_s,
            "equal_energy_s": equal,
            "delay_over_bound": (delay - bound) / bound.mean(),
            "over_bound": (equal - bound) / bound.mean(),
            "over_myopic": (equal - myopic) / myopic.mean(),
        }.items():
            row[name], row[f"{name}_ci95"] = mean_and_interval(values)
        row["over_bound_least"], row["over_bound_greatest"] = (
            np.sort(by_seed.mean(1))[[0, -1]] / bound.mean() - 1.0
        )
        for index, name in enumerate(classes):
            mine = np.asarray(dual.device) == index
            row[f"delay_s_{name}"], row[f"energy_{name}"] = float(delay_s[mine].mean()), float(energy[mine].mean())
        rows.append(row)
    return rows


def show(rows: list[dict[str, float | str]], classes: tuple[str, ...]) -> Table:
    """The rows for a terminal."""
    relative = {"over_bound": "equal energy,\nover bound", "over_myopic": "equal energy,\nover first row"}
    table = Table(title="Long run (energies over budgets, ± 95 % interval)", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("policy", no_wrap=True)
    for header in ("delay [s]", "energy: devices\n/ server", *(f"{name}:\ns / energy" for name in classes)):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("excess of\ndevices", *relative.values()):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["policy"]),
            f"{row['delay_s']:.4f} ± {row['delay_s_ci95']:.4f}",
            f"{row['device_energy']:.3f} / {row['server_energy']:.3f}",
            *(f"{row[f'delay_s_{name}']:.4f} / {row[f'energy_{name}']:.2f}" for name in classes),
            f"{row['violation']:.2%}",
            *(f"{100 * float(row[name]):+.1f} ± {100 * float(row[f'{name}_ci95']):.1f} %" for name in relative),
        )
    return table


def draw(rows: list[dict[str, float | str]]) -> plt.Figure:
    """Delay over the certified bound against energy over budget, with paired 95 % intervals."""
    swept = sorted((row for row in rows if ", V = " in str(row["policy"])), key=lambda row: row["delay_s"])
    with plt.rc_context(figures.STYLE):
        figure, axis = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
        for i, part in enumerate([swept, *([row] for row in rows if row not in swept)]):
            x, y, dx, dy = (
                np.array([float(row[name]) for row in part])
                for name in ("priced_energy", "delay_over_bound", "priced_energy_ci95", "delay_over_bound_ci95")
            )
            label = "best_response, queues" if i == 0 else str(part[0]["policy"])
            marker = "o-" if i == 0 else "sD^vP"[i % 5]
            colour = figures.COLOURS[i]
            axis.errorbar(x, 100 * y, 100 * dy, dx, marker, label=label, color=colour, ms=5, lw=1.2, capsize=2)
        for row in swept:
            at = (
                float(row["priced_energy"]) + float(row["priced_energy_ci95"]),
                100 * float(row["delay_over_bound"]),
            )
            name = str(row["policy"]).split(", ")[1]
            axis.annotate(name, at, (4, -3), textcoords="offset points", fontsize=8)
        # At equal Lagrangian, delay and energy trade at the same rate for all.
        energy, delay, equal = (
            np.array([float(row[name]) for row in rows])
            for name in ("priced_energy", "delay_over_bound", "over_bound")
        )
        slope = np.dot(equal - delay, energy - 1.0) / np.dot(energy - 1.0, energy - 1.0)
        reach = np.array(axis.get_xlim())
        axis.plot(reach, -100 * slope * (reach - 1.0), color="0.4", lw=1, ls="--", label="certified bound")
        axis.axvline(1.0, color="0.4", lw=0.8, ls=":")
        axis.set(
            xlabel="energy over budget, weighted by multipliers",
            ylabel="mean delay over the bound [%]",
            xlim=reach,
        )
        axis.set_yscale("symlog", linthresh=10, subs=range(2, 10))
        axis.set_yticks([*range(-4, 11, 2), 20, 40])
        axis.set_ylim(bottom=min(-1.0, 100 * delay.min() - 2.0))  # the ticks have widened it
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(fontsize=8)
    return figure


def main(flags: Flags) -> None:
    """Train, evaluate, print, write and draw."""
    env, params = jaxmec.make(flags.scenario)
    lagrangian, delay = recast(LagrangianEnv, env), recast(DelayEnv, env)
    fine = params.replace(tradeoff=ASCENT[-1] * params.tradeoff)
    key_dual, key = jax.random.split(jax.random.key(flags.seed))
    dual = dual_ascent(env, key_dual, params, flags.episodes)
    runs: dict[str, list[Episodes]] = {}

    def evaluate(name: str, env: EdgeInferenceEnv, params: EnvParams, policies: list[Policy]) -> None:
        start = ascended(dual, params.tradeoff)
        runs[name] = [rollout(env, policy, key, start, params, flags.slots) for policy in policies]
        terminal().print(f"{name}: {np.mean([lagrangian_s(run, dual, params) for run in runs[name]]):.4f} s")

    def learn(
        name: str, env: EdgeInferenceEnv, params: EnvParams, config: PPOConfig, starts: list[ppo.Learner | None]
    ) -> list[ppo.Learner]:
        learners = train(env, config, params, starts)
        network = make_network(config.network, env.num_cuts, config.width)
        evaluate(name, env, params, [learned(env, network, one.params, one.moments) for one in learners])
        return learners

    best = make_policy("best_response", env)
    for factor in dict.fromkeys((1.0, *flags.tradeoffs)):
        changed = params.replace(tradeoff=factor * params.tradeoff)
        evaluate(f"best_response, V = {changed.tradeoff:g}", env, changed, [best])
    evaluate("best_response, multipliers", lagrangian, fine, [make_policy("best_response", lagrangian)])
    bound = bound_s(lagrangian, runs["best_response, multipliers"][0].states, dual, fine)

    fresh: list[ppo.Learner | None] = [None] * flags.seeds
    default = PPOConfig(total_steps=flags.total_steps)
    myopic = learn("learner, queues, myopic", env, params, default, fresh)
    direct = default.replace(num_envs=1024, num_steps=8, num_minibatches=64)
    far = direct.replace(discount=flags.discount)
    tuned = far.replace(teacher="environment", learning_rate=1e-3, entropy_weight=1e-3)
    learn(f"learner, queues, γ = {flags.discount:g}", delay, params, tuned, [*myopic])
    endless = fine.replace(episode_slots=jnp.full_like(fine.episode_slots, 10**6))
    for config in (far, direct):
        learn(f"learner, multipliers, γ = {config.discount:g}", lagrangian, endless, config, fresh)

    rows = summarise(runs, dual, bound, params, env.device_names)
    flags.out.mkdir(parents=True, exist_ok=True)
    write_csv(flags.out / "long_run.csv", rows)
    draw(rows).savefig(flags.out / "long_run.png")
    terminal(stderr=False).print(show(rows, env.device_names))


if __name__ == "__main__":
    main(tyro.cli(Flags))
