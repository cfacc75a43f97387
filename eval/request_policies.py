"""What requests meet under policies that know the formula alone, bursts and unfinished work, or that have learned.

python eval/request_policies.py --scenario overload
python eval/request_policies.py --scenario bursty --seeds 5 --discounts 0 0.9 --knowing formula price

`best_response` and `closed_form` play on the formula as it is, with a factor on the waiting time, with a price of
unfinished work and with both, and `best_response` with the price where cuts are chosen or where shares are computed
alone. Learners are the default one, trained on requests where the slot problem knows what `--knowing` says. All meet
the same populations, channels and requests, so differences from the formula, and of a learner from `best_response` that
knows the same, have paired intervals.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array
from rich.table import Table

import jaxmec
from jaxmec.agents import PPO, Learner, make_train
from jaxmec.compilation import keep_compiled
from jaxmec.config import ConfigError
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.environment import Policy
from jaxmec.evaluation.tables import REQUESTS_SHOWN, Row, request_rows, request_table
from jaxmec.policies import make_policy
from jaxmec.reporting.console import fail, say, terminal
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.tables import table
from jaxmec.requests import RequestReport, StudyConfig, compare_requests

FORMULA = "formula"  # the policy that others are compared with
PRICE = "price"
KNOWLEDGE = (FORMULA, "factor", PRICE, "both")  # of the slot problem


@dataclasses.dataclass(frozen=True)
class Flags:
    """Compare policies by what requests meet."""

    scenario: str = "overload"
    """Name or YAML file."""
    waiting_scale: float = 4.0
    """The factor on the waiting time, see `jaxmec.requests.fit_waiting_scale`."""
    backlog_weight: float = 2.0
    """The weight of unfinished work."""
    replications: int = 32
    """Independent systems, the same for every policy."""
    num_slots: int = 400
    """Slots of each, after the warm-up."""
    warm_up_slots: int = 100
    """Slots before them that do not count."""
    seeds: int = 0
    """Training runs with each discount."""
    discounts: tuple[float, ...] = (0.0, 0.9)
    """Of the learners, per slot."""
    knowing: tuple[str, ...] = (FORMULA,)
    """What the learners' slot problem knows: formula, factor, price or both; all are trained with each."""
    reward: str = "objective"
    """What they learn from: objective, the delays of requests, or late, their deadline misses."""
    total_steps: int = 400_000
    """Slots of each training run."""
    num_envs: int = 512
    """Environments of each, side by side."""
    out: Path | None = None
    """Folder of policies.csv and differences.csv; runs/requests-SCENARIO if absent."""


def main(flags: Flags) -> int:
    """Run the command; returns the exit status."""
    messages, results = terminal(), terminal(stderr=False)
    keep_compiled()
    try:
        if flags.seeds < 0 or not all(0 <= discount < 1 for discount in flags.discounts):
            raise ConfigError(
                f"seeds, discounts: got {flags.seeds}, {flags.discounts}; allowed are at least 0 seeds and discounts "
                "of at least 0 and below 1"
            )
        if unknown := set(flags.knowing) - set(KNOWLEDGE):
            raise ConfigError(f"knowing: got {sorted(unknown)[0]!r}; allowed are {', '.join(KNOWLEDGE)}")
        env, params = jaxmec.make(flags.scenario, fidelity="requests")
        config = StudyConfig(
            num_slots=flags.num_slots, replications=flags.replications, warm_up_slots=flags.warm_up_slots
        )
        compare = partial(compare_requests, jax.random.key(0), env, config=config, tell=partial(say, messages))
        known = variants(params, flags.waiting_scale, flags.backlog_weight)
        formula, price = known[FORMULA], known[PRICE]
        best, closed = (make_policy(policy, env) for policy in ("best_response", "closed_form"))
        reports: dict[str, RequestReport] = {}
        references: dict[str, str] = {}  # of learners
        for label, changed, policy in (
            *((named(flags, knowledge), changed, best) for knowledge, changed in known.items()),
            (f"{named(flags, PRICE)}, in cuts alone", formula, choosing(best, price)),
            (f"{named(flags, PRICE)}, in shares alone", price, choosing(best, formula)),
            *(
                (f"{named(flags, knowledge)}, closed form", changed, closed)
                for knowledge, changed in known.items()
            ),
        ):
            say(messages, label)
            reports[label] = compare(changed, {label: policy})[label]
        if flags.seeds:
            say(messages, f"training {flags.seeds} seeds with each of {len(flags.discounts)} discounts")
            for knowledge, policies in learned(env, {name: known[name] for name in flags.knowing}, flags).items():
                reports |= compare(known[knowledge], policies)
                references |= dict.fromkeys(policies, named(flags, knowledge))
        folder = flags.out or Path("runs") / f"requests-{Path(flags.scenario).stem}"
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "policies.csv", request_rows(reports))
        differences = difference_rows(reports, references)
        write_csv(folder / "differences.csv", differences)
    except (ValueError, OSError) as error:
        return fail(messages, error)
    results.print(request_table(reports))
    for reference in dict.fromkeys(str(row["over"]) for row in differences):
        results.print(difference_table(reports, differences, reference))
    say(results, f"written to {folder}: policies.csv, differences.csv")
    return 0


def variants(params: EnvParams, waiting_scale: float, backlog_weight: float) -> dict[str, EnvParams]:
    """By what the slot problem knows. All have the same leaves, so that they share a compilation."""

    def knowing(scale: float, weight: float) -> EnvParams:
        like = jnp.ones_like(params.deadline_s)
        return params.replace(waiting_scale=scale * like, backlog_weight=weight * like)

    numbers = ((1.0, 0.0), (waiting_scale, 0.0), (1.0, backlog_weight), (waiting_scale, backlog_weight))
    return dict(zip(KNOWLEDGE, (knowing(*pair) for pair in numbers), strict=True))


def named(flags: Flags, knowledge: str) -> str:
    """What the slot problem knows, in a table."""
    return {
        FORMULA: FORMULA,
        "factor": f"factor {flags.waiting_scale:g}",
        PRICE: f"price {flags.backlog_weight:g}",
        "both": "factor and price",
    }[knowledge]


def choosing(policy: Policy, params: EnvParams) -> Policy:
    """A policy that chooses cuts as if these were the environment's numbers; shares are computed with its own."""
    return lambda key, state, _: policy(key, state, params)


def learned(env: EdgeInferenceEnv, known: Mapping[str, EnvParams], flags: Flags) -> dict[str, dict[str, Policy]]:
    """Policies by name for everything that the slot problem knows, each trained side by side in one call."""
    base = PPO(
        reward=flags.reward,
        total_steps=flags.total_steps,
        num_envs=flags.num_envs,
        num_steps=4,  # over which advantages are estimated where there is a discount
        num_minibatches=16,
    )
    runs = [(discount, seed) for discount in flags.discounts for seed in range(flags.seeds)]
    discounts, seeds = (np.array(column) for column in zip(*runs, strict=True))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None))
    def train(discount: Array, seed: Array, params: EnvParams) -> Learner:
        return make_train(env, base.replace(discount=discount))(jax.random.key(seed), params).learner

    def policies(params: EnvParams, beside: str) -> dict[str, Policy]:
        learners = train(jnp.asarray(discounts, float), jnp.asarray(seeds, jnp.uint32), params)
        return {
            f"learned{beside}, discount {discount:g}, seed {seed}": base.policy(
                env, jax.tree.map(lambda leaf, index=index: leaf[index], learners)
            )
            for index, (discount, seed) in enumerate(runs)
        }

    return {
        knowledge: policies(params, "" if knowledge == FORMULA else f" beside {named(flags, knowledge)}")
        for knowledge, params in known.items()
    }


def difference_rows(reports: Mapping[str, RequestReport], references: Mapping[str, str]) -> list[Row]:
    """Every estimate less a reference's, and half the width of its paired interval.

    Args:
      reports: by policy.
      references: policy -> what it is compared with, beside the formula.
    """
    pairs = [(policy, FORMULA) for policy in reports if policy != FORMULA]
    pairs += [(policy, reference) for policy, reference in references.items() if reference != FORMULA]
    rows: list[Row] = []
    for policy, reference in pairs:
        row: Row = {"policy": policy, "over": reference}
        for name, difference in reports[policy].over(reports[reference]).items():
            row[name], row[f"{name}_half_width"] = difference
        rows.append(row)
    return rows


def difference_table(reports: Mapping[str, RequestReport], rows: Sequence[Row], reference: str) -> Table:
    """The differences from a reference for a terminal, over what it reaches."""
    reached, body = reports[reference].estimates, []
    for row in rows:
        if row["over"] == reference:
            parts = [(float(row[name]), float(row[f"{name}_half_width"]), name) for name in REQUESTS_SHOWN]
            cells = [
                f"{value / reached[n].value:+.1%} ± {half / reached[n].value:.1%}" for value, half, n in parts
            ]
            body.append([str(row["policy"]), *cells])
    headers = ["policy", *(header for header, _ in REQUESTS_SHOWN.values())]
    return table(f"Less that of {reference}, over it, with paired intervals", headers, body)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))
