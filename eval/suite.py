"""The whole study of the system, and one's own policies in it: tables, figures and a report.

python eval/suite.py [--quick] [--policy mine.py:by_battery]      # make results

Everything that has been found is kept by content in OUT/cache, and training runs in OUT/runs, so that an interrupted
study goes on with the same command, and what changes is computed anew. OUT/report.html needs no network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from studies import learning, present
from studies.cache import Cache, digest, foundation
from studies.pages import draw, main_table, write_page
from studies.plan import PARTS, PLAYERS, QUICK_PLAYERS, REFERENCE, full, quick
from studies.study import Found, Study

import jaxmec
from jaxmec.compilation import keep_compiled
from jaxmec.config import LARGEST_SEED, ConfigError, check_limits, number
from jaxmec.env import EdgeInferenceEnv, EnvParams
from jaxmec.extras import optional
from jaxmec.policies import make_policies, make_policy
from jaxmec.policies.own import split_own
from jaxmec.reporting.console import STOPPED, fail, say, stopping_at_once, terminal
from jaxmec.reporting.files import write_csv
from jaxmec.reporting.report import write_report
from jaxmec.reporting.tables import table
from jaxmec.scenario import DEFAULT, files

QUICK_SCENARIO = "coinfer4"
AGAIN = "stopped; the same command goes on from here"


@dataclasses.dataclass(frozen=True)
class Flags:
    """Run the study and write its report."""

    quick: bool = False
    """A small study of a small scenario, in minutes; its numbers are for looking, not for print."""
    scenario: str | None = None
    """Name or YAML file; district10, or coinfer4 for a quick study."""
    policy: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A policy of one's own, FILE.py:FUNCTION, in every part; may be given several times."""
    parts: tuple[str, ...] = tuple(PARTS)
    """Which parts."""
    seeds: int | None = number(None, at_least=0, at_most=100)
    """Training runs of every learner; the plan's own numbers if absent, and no learner with 0."""
    seed: int = number(2**20, at_least=0, at_most=LARGEST_SEED)
    """Of the episodes that all are compared in."""
    mix: Path | None = None
    """Folder of a run of `python eval/transfer.py`, trained on a mix of systems."""
    docs: Path | None = None
    """Folder of study.md, whose results are replaced by these."""
    out: Path = Path("runs/suite")
    """Folder of the report, the CSV files, the cache and the training runs."""


@dataclasses.dataclass
class Display:
    """The one display of the study: a live bar, or a line for every step where no terminal shows it."""

    console: Console
    total: int
    bar: Progress
    done: int = 0
    part: str = ""
    started: float = 0.0

    def tell(self, what: str) -> None:
        """What is being done now."""
        if self.console.is_terminal:
            self.bar.update(self.bar.task_ids[0], line=f"{self.part}: {what}")

    def begin(self, part: str) -> None:
        """A part begins."""
        self.part, self.started = part, time.perf_counter()
        self.tell("…")
        if not self.console.is_terminal:
            say(self.console, f"{self.done + 1} of {self.total}: {part}")

    def end(self) -> None:
        """It has ended."""
        self.done += 1
        if not self.console.is_terminal:
            say(self.console, f"  {time.perf_counter() - self.started:.0f} s")
        self.bar.update(self.bar.task_ids[0], completed=self.done)


@contextlib.contextmanager
def displayed(console: Console, total: int) -> Iterator[Display]:
    """A display of so many steps."""
    bar = Progress(
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        bar.add_task("", total=total, line="")
        yield Display(console, total, bar)


def main(flags: Flags) -> int:
    """Run the study; returns the exit status."""
    console = terminal()
    keep_compiled()
    try:
        plan, scenario, env, params = checked(flags)
        if flags.quick:  # most of its time is compilation, which is then nearly twice as fast
            jax.config.update("jax_disable_most_optimizations", True)
        with stopping_at_once(console, AGAIN), displayed(console, len(flags.parts) + 1) as display:
            study = prepared(flags, plan, scenario, env, params, display)
            if study is None:
                say(console, AGAIN)
                return STOPPED
            found = {}
            for part in PARTS:
                if part in flags.parts:
                    display.begin(part)
                    found[part] = PARTS[part](study, plan[part])
                    if found[part].rows:
                        write_csv(flags.out / f"{part}.csv", found[part].rows)
                    display.end()
            write(flags, plan, study, found)
            draw(flags.out, found, study.learned or study.reference)
            if flags.docs is not None:
                write_page(flags.docs, study, found, _command())
    except (ValueError, OSError) as error:
        return fail(console, error)
    results = terminal(stderr=False)
    if "policies" in found:
        shown = main_table(study, found["policies"])
        results.print(table(study.env.name, shown.headers, shown.rows))
    written = ["report.html", *(f"{part}.csv" for part, one in found.items() if one.rows)]
    say(results, f"written to {flags.out}: {', '.join(written)}")
    return 0


def checked(flags: Flags) -> tuple[dict[str, Any], str, EdgeInferenceEnv, EnvParams]:
    """The plan, the scenario and its system, everything refused that can be before anything is traced.

    Raises:
      ConfigError: naming the flag, its value and what is allowed.
    """
    check_limits(flags)
    unknown = [part for part in flags.parts if part not in PARTS]
    if unknown or not flags.parts:
        raise ConfigError(f"parts: got {unknown[0] if unknown else 'none'!r}; allowed are {', '.join(PARTS)}")
    for module in ("jinja2", "plotly"):
        optional(module, "report")
    plan = quick() if flags.quick else full()
    if flags.seeds is not None:
        learners = tuple(dataclasses.replace(one, seeds=flags.seeds) for one in plan["learning"].learners)
        plan["learning"] = dataclasses.replace(plan["learning"], learners=learners)
    scenario = flags.scenario or (QUICK_SCENARIO if flags.quick else DEFAULT)
    env, params = jaxmec.make(scenario)
    for one in plan["learning"].learners:
        learning.run_config(one, scenario, 0).algorithm.check(env)
    if flags.mix is not None:
        make_policy(flags.mix, env)
    flags.out.mkdir(parents=True, exist_ok=True)
    return plan, scenario, env, params


def prepared(
    flags: Flags,
    plan: Mapping[str, Any],
    scenario: str,
    env: EdgeInferenceEnv,
    params: EnvParams,
    display: Display,
) -> Study | None:
    """The study with everybody in it: rules and searches, own policies, and learners, trained where they are not yet.

    None if training was told to stop.
    """
    display.begin("players")
    rests_on = foundation(files(scenario))
    own = make_policies(flags.policy, env)
    sources, identities, policies, further = {}, {}, {}, set()
    for name in QUICK_PLAYERS if flags.quick else PLAYERS:
        display.tell(f"making {name}")
        try:
            policies[name] = make_policy(name, env)
        except ValueError:  # a system too large for exhaustive search
            continue
        sources[name] = identities[name] = name
    for source, name in zip(flags.policy, own, strict=True):
        policies[name], sources[name] = own[name], source
        path, function = split_own(source)  # type: ignore[misc]
        identities[name] = digest(path.read_bytes(), function.encode())
    runs = [(one, seed) for one in plan["learning"].learners for seed in range(one.seeds)]
    on_requests = plan["percentiles"].learner if runs and "percentiles" in flags.parts else None
    for learner, seed in [*runs, *([(on_requests, 0)] if on_requests else ())]:
        name, config = learning.label(learner, seed), learning.run_config(learner, scenario, seed)
        system = jaxmec.make(scenario, fidelity=config.fidelity)
        folder = learning.trained(*system, config, flags.out / "runs", rests_on, name, display.tell)
        if folder is None:
            return None
        sources[name], identities[name] = str(folder), folder.name
        if learner is not on_requests:  # it sees what no other part has
            policies[name] = make_policy(folder, env)
        further |= {name} if seed else set()
    display.end()
    return Study(
        scenario=scenario,
        env=env,
        params=params,
        policies=policies,
        sources=sources,
        identities=identities,
        reference=REFERENCE,
        learned=next((one.name for one in plan["learning"].learners if one.seeds), None),
        own=tuple(own),
        further=frozenset(further),
        cache=Cache(flags.out / "cache", rests_on),
        seed=flags.seed,
        tell=display.tell,
        mix=flags.mix,
    )


def write(flags: Flags, plan: Mapping[str, Any], study: Study, found: Mapping[str, Found]) -> None:
    """The report."""
    sections = [present.section(part, one, study.players, study.learned) for part, one in found.items()]
    kind = "A quick look at" if flags.quick else "A study of"
    lead = (
        "Devices run the first layers of a network and a server the rest; in every slot somebody chooses where to "
        "cut, and the exact allocation shares band and server. All policies meet the same populations, channels and "
        "arrivals. Intervals are 95 %; differences are paired."
    )
    configuration = {
        "command": _command(),
        "scenario": f"{study.env.name} ({study.scenario})",
        **{part: _in_a_line(plan[part]) for part in found},
        **study.cache.foundation["versions"],
        "source": study.cache.foundation["source"],
    }
    write_report(
        flags.out / "report.html", f"{kind} {study.env.name}", lead, sections, study.players, configuration
    )


def _command() -> str:
    return f"python eval/suite.py {' '.join(sys.argv[1:])}".strip()


def _in_a_line(config: Any) -> str:
    return ", ".join(f"{name}: {value}" for name, value in dataclasses.asdict(config).items())


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Flags)))
