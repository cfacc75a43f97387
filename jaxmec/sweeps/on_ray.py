"""The same sweep on Ray Tune: on every core and device of one machine or of a cluster.

Of a grid or random search the unit of work is a chunk, of an adaptive search a setting with all of its seeds.
Workers keep what they have compiled. The driver alone writes the folder, so the table and the way to resume it
are those of a sweep without Ray. Every machine needs jaxmec and the files that the sweep names.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray
import yaml
from ray import tune

from jaxmec.evaluation import interquartile_mean
from jaxmec.sweeps.chunks import Chunk, chunks, facts, failed_rows, run_chunk, unfinished
from jaxmec.sweeps.config import Resources, Space, SweepConfig, build_sweep, cell, parse
from jaxmec.sweeps.folder import FINISHED, Folder, Row, dump
from jaxmec.sweeps.plan import Builder, Group
from jaxmec.sweeps.progress import Progress
from jaxmec.sweeps.vectorised import Program, compile_group, even_chunk

WORST = 1e30  # what an adaptive search is told of a setting that diverged or failed: it knows no infinity


class ChunkWorker(tune.Trainable):
    """Runs one chunk per trial; lives through many."""

    def setup(self, config: dict[str, Any], **data: Any) -> None:
        """Take the first chunk, and the driver's `groups`, `sweep` (as a file's text) and `sizes` of chunks."""
        self._where = config
        self._groups: Sequence[Group] = data["groups"]
        self._sweep = build_sweep(yaml.safe_load(data["sweep"]), "sweep.yaml")
        self._sizes: dict[int, int] = data["sizes"]
        self._programs: dict[int, Program] = {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next chunk."""
        self._where = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Run the chunk."""
        group, number = self._where["chunk"]
        size, seeds = self._sizes[group], self._sweep.seeds
        if group not in self._programs:
            self._programs[group] = compile_group(self._groups[group], seeds, self._sweep.evaluation, size)
        part = chunks(self._groups[group], seeds, size)[number]
        program = self._programs[group]
        return {"rows": run_chunk(program, part, seeds), "facts": facts(program, seeds), "done": True}


class PointWorker(tune.Trainable):
    """Runs one suggested setting, all seeds at once, per trial; lives through many."""

    def setup(self, config: dict[str, Any], **data: Any) -> None:
        """Take the first setting, and the driver's `sweep` (as a file's text)."""
        self._point = config
        self._sweep = build_sweep(yaml.safe_load(data["sweep"]), "sweep.yaml")
        self._builder = Builder(self._sweep)
        self._programs: dict[Any, Program] = {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next setting."""
        self._point = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Run the setting."""
        sweep = self._sweep
        group = Group(0, (self._builder.setting(0, parse(self._point, sweep.space)),))
        kind = group.settings[0].kind()
        if kind not in self._programs:
            self._programs[kind] = compile_group(group, sweep.seeds, sweep.evaluation, sweep.seeds)
        program = dataclasses.replace(self._programs[kind], group=group)
        rows = run_chunk(program, chunks(group, sweep.seeds, sweep.seeds)[0], sweep.seeds)
        return {"rows": rows, "score": _score(rows, sweep), "facts": facts(program, sweep.seeds), "done": True}


class Listener(tune.Callback):
    """Hands every ended trial's result, or None and its error, to a function of the driver."""

    def __init__(self, on_end: Callable[[dict[str, Any], dict[str, Any] | None, str], None]) -> None:
        self._on_end = on_end

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a copy for a way of resuming that is not used here."""
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker has returned."""
        self._on_end(trial.config, trial.last_result, "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker has died or raised."""
        self._on_end(trial.config, None, "a worker raised or died; Ray's own messages tell why")


def start(resources: Resources) -> None:
    """Connect to the cluster, or start one on this machine."""
    # Tune's own loggers would copy every row into files.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)  # which misses those files
    options: dict[str, Any] = {"address": resources.address, "log_to_driver": False}
    if resources.address is None:
        options["include_dashboard"] = False
    if 0 < resources.gpus < 1:  # workers that share a GPU must not each take most of it at their start
        options["runtime_env"] = {"env_vars": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}}
    with warnings.catch_warnings():
        # JAX fears a fork that never returns to Python; Ray only starts other programs.
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        ray.init(logging_level=logging.WARNING, **options)


def run_chunks(
    config: SweepConfig, groups: Sequence[Group], folder: Folder, progress: Progress, resources: Resources
) -> None:
    """Run all unfinished chunks of a grid or random search; each is saved as it ends.

    Without a chunk size in the file, a group is spread evenly over what the cluster runs at once.
    """
    sizes: dict[int, int] = {}
    parts: dict[tuple[int, int], Chunk] = {}
    for group in groups:
        trials = len(group.settings) * config.seeds
        share = math.ceil(trials / slots(resources))
        sizes[group.index] = folder.chunk(group.index) or even_chunk(trials, config.chunk or share)
        folder.note_group(group.index, {"trials": trials, "chunk": sizes[group.index]})
        whole = chunks(group, config.seeds, sizes[group.index])
        left = unfinished(whole, config.seeds, folder.finished())
        parts |= {(group.index, whole.index(part)): part for part in left}
    if not parts:
        return
    announced = set()

    def on_end(where: dict[str, Any], result: dict[str, Any] | None, error: str) -> None:
        part = parts[tuple(where["chunk"])]
        if result is None:
            rows = failed_rows(part, config.seeds, error)
        else:
            rows = result["rows"]
            if part.group not in announced:
                announced.add(part.group)
                folder.note_group(part.group, result["facts"])
                progress.compiled(part.group, result["facts"])
        folder.add(rows)
        progress.chunk(rows, sum(row.get("seconds", 0.0) for row in rows))

    worker = tune.with_parameters(ChunkWorker, groups=tuple(groups), sweep=dump(config), sizes=sizes)
    space = {"chunk": tune.grid_search(list(parts))}
    _fit(worker, space, tune.TuneConfig(reuse_actors=True), on_end, resources)


def run_adaptive(
    config: SweepConfig, builder: Builder, folder: Folder, progress: Progress, resources: Resources
) -> None:
    """Let Optuna suggest one setting after another, learning from all that the folder's table holds."""
    kinds: dict[Any, int] = {}
    for row in folder.rows:
        point = parse({path: row[path] for path in config.space}, config.space)
        kinds.setdefault(builder.setting(0, point).kind(), int(row["group"]))
    known = [rows for rows in _by_setting(folder.rows) if len(rows) == config.seeds]
    left = config.samples - len(known)
    if left < 1:
        return
    most = min(slots(resources), left)
    following = max((int(row["setting"]) for row in folder.rows), default=-1) + 1

    def on_end(encoded: dict[str, Any], result: dict[str, Any] | None, error: str) -> None:
        nonlocal following
        setting = builder.setting(following, parse(encoded, config.space))
        new_kind = setting.kind() not in kinds
        group = Group(kinds.setdefault(setting.kind(), len(kinds)), (setting,))
        (part,) = chunks(group, config.seeds, config.seeds)
        rows = failed_rows(part, config.seeds, error)
        if result is not None:
            ids = ("trial", "setting", "group")
            rows = [
                {**new, **{name: old[name] for name in ids}} for new, old in zip(result["rows"], rows, strict=True)
            ]
            if new_kind:
                folder.note_group(group.index, result["facts"])
                progress.compiled(group.index, result["facts"])
        following += 1
        folder.add(rows)
        progress.chunk(rows, sum(row.get("seconds", 0.0) for row in rows))

    _fit(
        tune.with_parameters(PointWorker, sweep=dump(config)),
        {},
        tune.TuneConfig(
            search_alg=_optuna(config, known),
            num_samples=left,
            max_concurrent_trials=most,
            reuse_actors=True,
        ),
        on_end,
        resources,
    )


def _optuna(config: SweepConfig, known: Sequence[Sequence[Row]]) -> Any:
    """The search, told what is known: the rows of every finished setting."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(
        space={path: distribution(space) for path, space in config.space.items()},
        metric="score",
        mode=config.mode,
        points_to_evaluate=[
            {path: rows[0][path] if space.choice else float(rows[0][path]) for path, space in config.space.items()}
            for rows in known
        ]
        or None,
        evaluated_rewards=[_score(rows, config) for rows in known] or None,
        # Another seed after a resumption, or the first suggestions would be drawn again.
        seed=config.search_seed + len(known),
    )


def distribution(space: Space) -> Any:
    """A swept field for Optuna; choices go by their cells, since it takes no lists and mappings."""
    import optuna

    if space.choice is not None:
        return optuna.distributions.CategoricalDistribution([cell(value) for value in space.choice])
    if space.uniform is not None:
        return optuna.distributions.FloatDistribution(*space.uniform)
    assert space.log_uniform is not None
    return optuna.distributions.FloatDistribution(*space.log_uniform, log=True)


def _by_setting(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that did not fail, together by setting."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] in FINISHED:
            found.setdefault(row["setting"], []).append(row)
    return list(found.values())


def _score(rows: Sequence[Mapping[str, Any]], config: SweepConfig) -> float:
    """What the search is told of a setting: the interquartile mean over its seeds, if all ran well."""
    if any(row["status"] != "ok" for row in rows):
        return WORST if config.mode == "min" else -WORST
    return float(interquartile_mean(np.array([float(row[config.metric]) for row in rows])))


def slots(resources: Resources) -> int:
    """Units of work that the cluster can run at once."""
    total = ray.cluster_resources()
    by_kind = [(resources.cpus, total.get("CPU", 0.0)), (resources.gpus, total.get("GPU", 0.0))]
    return max(min((int(there / each) for each, there in by_kind if each > 0), default=1), 1)


def _fit(
    worker: Any,
    space: dict[str, Any],
    how: tune.TuneConfig,
    on_end: Callable[[dict[str, Any], dict[str, Any] | None, str], None],
    resources: Resources,
) -> None:
    occupied = {"cpu": resources.cpus} | ({"gpu": resources.gpus} if resources.gpus else {})
    # The sweep's own table is what a resumed sweep reads; Tune's notes are not kept.
    with tempfile.TemporaryDirectory() as notes:
        tune.Tuner(
            tune.with_resources(worker, occupied),
            param_space=space,
            tune_config=how,
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=notes,
                callbacks=[Listener(on_end)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
