"""Compare policies: tables, CSV files and figures.

jaxmec eval --run runs/district10-seed0 --candidates 1 4 16
jaxmec eval --scenario coinfer4 --policies greedy best_response exhaustive
jaxmec eval --vary radio.bandwidth_hz=5e6,10e6,20e6,40e6    # against one field of the scenario
jaxmec eval --policy mine.py:by_battery        # beside the usual ones, a policy of one's own
jaxmec eval --scenario coinfer10 --requests    # percentiles, deadline misses and backlog of every request
"""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path

import jax
import tyro
from rich.console import Console

import jaxmec
from jaxmec.agents import RunConfig, load_config, load_policy
from jaxmec.agents.run import scenario_of
from jaxmec.compilation import keep_compiled
from jaxmec.config import ConfigError
from jaxmec.environment import Policy
from jaxmec.evaluation import Comparison, EvaluationConfig, compare, evaluate_policies
from jaxmec.evaluation.tables import request_rows, request_table
from jaxmec.evaluation.vary import Variation, parse_variation, variation_rows, variation_table
from jaxmec.policies import BASELINES, LEARNED, make_policies
from jaxmec.reporting.console import fail, say, stopping_at_once, terminal
from jaxmec.reporting.figures import comparison as figures
from jaxmec.reporting.figures.requests import delay_distributions
from jaxmec.reporting.figures.variation import policies_against_field
from jaxmec.reporting.files import write_csv
from jaxmec.requests import RequestReport, StudyConfig, compare_requests
from jaxmec.scenario import DEFAULT, devices_of


@dataclasses.dataclass(frozen=True)
class Flags:
    """Compare policies on held-out episodes of one scenario."""

    run: Path | None = None
    """Folder of a training run: its policy joins as "learned", and its scenario is the default."""
    scenario: str | None = None
    """Name or YAML file; district10 without a run."""
    policies: tuple[str, ...] = (*BASELINES, "price")
    """Rules and searches to compare, by name, or further runs, by folder."""
    policy: tuple[str, ...] = ()
    """Policies of one's own beside them, FILE.py:FUNCTION."""
    candidates: tuple[int, ...] = (1,)
    """Draws of the run's policy that the exact allocation chooses from; each number joins on its own."""
    num_envs: int = EvaluationConfig.num_envs
    """Episodes, each with its own population."""
    num_slots: int | None = None
    """Slots per episode; the scenario's own if absent."""
    seed: int = EvaluationConfig.seed
    """Of the held-out episodes."""
    reference: str | None = None
    """The policy at whose states objectives are compared, and with whose; best_response if it takes part."""
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """One field of the scenario and its values, FIELD=VALUE,VALUE: a table and a figure against it."""
    requests: bool = False
    """Simulate every request, too, as many replications as there are episodes and a thousand slots of each."""
    out: Path | None = None
    """Where CSV files and figures go; RUN/evaluation or, of another scenario, RUN/evaluation-SCENARIO; without a
    run runs/evaluation-SCENARIO."""


def main(argv: list[str], program: str = "jaxmec eval") -> int:
    """Run the command; returns the exit status."""
    flags = tyro.cli(Flags, args=argv, prog=program)
    messages = terminal()
    keep_compiled()
    try:
        scenario = flags.scenario or (scenario_of(flags.run) if flags.run else DEFAULT)
        fidelity = load_config(flags.run).fidelity if flags.run else RunConfig.fidelity
        env, params = jaxmec.make(scenario, fidelity=fidelity)
        varied = _varied(flags.vary, flags.requests)
        systems = varied.systems(scenario, env, fidelity) if varied else []
        policies = make_policies((*flags.policies, *flags.policy), env, partial(say, messages))
        if flags.run:
            for number in flags.candidates:
                name = LEARNED if number == 1 else f"{LEARNED}, best of {number}"
                policies[name] = load_policy(flags.run, env, number)
        for device in devices_of(scenario):
            say(messages, device.error_text())
        own = flags.run is not None and flags.scenario is None
        evaluated = "evaluation" if own else f"evaluation-{Path(scenario).stem}"
        folder = flags.out or (flags.run or Path("runs")) / evaluated
        config = EvaluationConfig(
            num_envs=flags.num_envs,
            num_slots=flags.num_slots,
            seed=flags.seed,
            reference=flags.reference,
            time_decisions=varied is None,
        )
        if varied:
            with stopping_at_once(messages, "stopped; nothing was written"):
                found = compare(env, systems, policies, config, tell=partial(say, messages))
            _show(varied, found, folder)
            return 0
        with stopping_at_once(messages, "stopped; nothing was written"):
            comparison = evaluate_policies(env, params, policies, config, tell=partial(say, messages))
            reports = _simulate(scenario, policies, flags.num_envs, flags.seed, messages) if flags.requests else {}
        comparison.save(folder)
        if reports:
            write_csv(folder / "requests.csv", request_rows(reports))
    except (ValueError, OSError) as error:
        return fail(messages, error)
    results = terminal(stderr=False)
    for table in comparison.tables():
        results.print(table)
    shown = next((name for name in policies if name.startswith(LEARNED)), comparison.reference)
    files = figures.save_all(folder, comparison, env.network_names, env.device_names, shown)
    if reports:
        results.print(request_table(reports))
        files.append(folder / "request_delays.png")
        delay_distributions(files[-1], reports)
    say(results, f"written to {folder}: long_run.csv, same_states.csv, {', '.join(file.name for file in files)}")
    return 0


def _varied(texts: tuple[str, ...], requests: bool) -> Variation | None:
    """The field that is varied, if any."""
    if not texts:
        return None
    if len(texts) > 1:
        raise ConfigError(f"vary: got {len(texts)} fields; allowed is one")
    if requests:
        raise ConfigError("vary: got --requests, too; allowed is one of them")
    return parse_variation(texts[0])


def _show(varied: Variation, comparisons: list[Comparison], folder: Path) -> None:
    """Print the table against the field, and write it with its figure."""
    rows = variation_rows(varied, comparisons)
    results = terminal(stderr=False)
    results.print(variation_table(varied, rows, comparisons[0]))
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"\W+", "_", varied.field)
    write_csv(folder / f"{stem}.csv", rows)
    policies_against_field(folder / f"{stem}.png", rows, varied.field, comparisons[0].reference)
    say(results, f"written to {folder}: {stem}.csv, {stem}.png")


def _simulate(
    scenario: str | Path, policies: dict[str, Policy], replications: int, seed: int, messages: Console
) -> dict[str, RequestReport]:
    env, params = jaxmec.make(scenario, fidelity="requests")
    config = StudyConfig(replications=replications)
    key = jax.random.key(seed)
    return compare_requests(key, env, params, policies, config, tell=partial(say, messages))
