"""The sweep command: its rows, its folder, resuming after a kill, and the same on Ray Tune."""

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

import jaxmec
from jaxmec.agents import PPOConfig, make_train
from jaxmec.agents.run import locked
from jaxmec.commands import sweep

ROOT = Path(__file__).parents[2]
PPO = {
    **{"num_envs": 4, "num_steps": 2, "num_epochs": 1, "num_minibatches": 1, "width": 8},
    "total_steps": 4 * 2 * 20,
}
SPACE = {"ppo.learning_rate": {"grid": [1e-3, 1e-2]}, "tradeoff": {"grid": [5, 20]}}
has_ray = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def command():
    """Runs the command."""

    def start(*flags):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train/sweep.py"), *map(str, flags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    return start


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The folder of an uninterrupted sweep, its file and what it told."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    file = write(folder.with_suffix(".yaml"), SPACE)
    return folder, file, finish(command("--config", file, "--out", folder))


def write(path, space, **fields):
    path.write_text(
        yaml.safe_dump({"scenario": "coinfer4", "ppo": PPO, "space": space, "seeds": 2, "chunk": 1} | fields)
    )
    return path


def finish(process, status=0):
    output = process.communicate(timeout=500)[0]
    assert process.returncode == status, output
    return output


def table(folder, name="trials.csv"):
    with (folder / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_every_row_is_the_separate_run_of_its_setting(whole):
    folder, _, output = whole
    rows = table(folder)
    assert [(r["trial"], r["setting"], r["group"], r["seed"]) for r in rows] == [
        (str(i), str(i // 2), "0", str(i % 2)) for i in range(8)
    ]
    assert "4 settings × 2 seeds in 1 group" in output
    assert "group 0: 8 trials in chunks of 1; compiled in" in output
    assert (folder / "winners.png").stat().st_size > 0
    ranking = table(folder, "ranking.csv")
    assert [r["rank"] for r in ranking] == ["1", "2", "3", "4"]

    env, params = jaxmec.make("coinfer4")

    def alone(key, rate, params):
        return make_train(env, PPOConfig(**PPO, learning_rate=rate))(key, params).metrics

    alone = jax.jit(alone)
    for row in (rows[1], rows[6]):
        rate, tradeoff, seed = float(row["ppo.learning_rate"]), float(row["tradeoff"]), int(row["seed"])
        changed = params.replace(tradeoff=jax.numpy.asarray(tradeoff))
        metrics = alone(jax.random.key(seed), rate, changed)
        for name, values in metrics.items():  # 20 updates, the last tenth is two
            np.testing.assert_allclose(float(row[name]), np.mean(values[-2:]), rtol=5e-3, atol=1e-5, err_msg=name)
    scores = {r["trial"]: float(r["objective"]) for r in rows}
    best = ranking[0]
    mine = [scores[r["trial"]] for r in rows if all(r[path] == best[path] for path in SPACE)]
    assert np.isclose(float(best["objective_iqm"]), np.mean(mine))
    assert np.isclose(float(best["objective_low95"]), min(mine))  # of two runs
    assert np.isclose(float(best["objective_high95"]), max(mine))


def test_a_killed_and_resumed_sweep_has_the_table_of_an_uninterrupted_one(whole, command, tmp_path):
    folder, file, _ = whole
    broken = tmp_path / "broken"
    process = command("--config", file, "--out", broken)
    while not (broken / "trials.csv").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = table(broken)
    assert 0 < len(before) < 8
    (broken / "trials.csv.part").write_text("0,0,torn")  # as if the kill had fallen into the writing of the table
    output = finish(command("--out", broken, "--resume"))
    assert f"resuming after {len(before)} of 8 trials" in output
    assert table(broken) == table(folder)
    assert table(broken, "ranking.csv") == table(folder, "ranking.csv")
    output = finish(command("--out", broken, "--resume"))
    assert "0 trials in" in output
    assert table(broken) == table(folder)


def test_an_interrupted_sweep_saves_and_stops(whole, command, tmp_path):
    _, file, _ = whole
    process = command("--config", file, "--out", tmp_path / "stopped")
    while not (tmp_path / "stopped" / "trials.csv").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    output = finish(process, status=130)
    last = output.splitlines()[-1]
    assert last == f"stopped; continue with: python train/sweep.py --out {tmp_path / 'stopped'} --resume"
    with locked(tmp_path / "stopped"):
        output = finish(command("--out", tmp_path / "stopped", "--resume"), status=2)
    assert "is in use by process" in output
    assert 0 < len(table(tmp_path / "stopped")) < 8


def test_wrong_use_is_told_before_anything_is_compiled(whole, tmp_path, capsys):
    folder, _, _ = whole
    cases = [
        ((), "config: missing"),
        (("--config", write(tmp_path / "a.yaml", {"ppo.lr": {"grid": [1]}})), "ppo.lr: unknown field"),
        (
            ("--config", write(tmp_path / "b.yaml", SPACE), "--out", folder),
            "holds a sweep; continue it with --resume",
        ),
        (
            ("--config", write(tmp_path / "c.yaml", SPACE, seeds=3), "--out", folder, "--resume"),
            "seeds was 2 and is now 3",
        ),
        (
            ("--config", write(tmp_path / "d.yaml", SPACE, metric="eval_gap"), "--out", tmp_path / "d"),
            "metric: got 'eval_gap'; allowed are",
        ),
        (
            ("--config", write(tmp_path / "e.yaml", {"knee": {"uniform": [0.5, 0.9]}}, search="optuna")),
            "search: got 'optuna', which needs --backend ray",
        ),
        (("--out", tmp_path / "nothing", "--resume"), "cannot be read"),
    ]
    for flags, message in cases:
        assert sweep.main([*map(str, flags)]) == 2
        assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "d").exists()


@pytest.mark.skipif(not has_ray, reason="Ray is an extra: pip install 'jaxmec[ray]'")
def test_ray_gives_the_same_table_and_goes_on_where_another_backend_stopped(whole, command, tmp_path):
    folder, file, _ = whole
    finish(command("--config", file, "--out", tmp_path / "ray", "--backend", "ray"))
    assert [drop(row, METRICS) for row in table(tmp_path / "ray")] == [drop(row, METRICS) for row in table(folder)]
    np.testing.assert_allclose(
        [[float(row[name]) for name in METRICS] for row in table(tmp_path / "ray")],
        [[float(row[name]) for name in METRICS] for row in table(folder)],
        rtol=5e-3,
    )
    lines = (tmp_path / "ray/trials.csv").read_text().splitlines()
    (tmp_path / "ray/trials.csv").write_text("\n".join(lines[:4]) + "\n")
    output = finish(command("--out", tmp_path / "ray", "--resume"))
    assert "resuming after 3 of 8 trials" in output
    assert len(table(tmp_path / "ray")) == 8


METRICS = ("objective", "delay_s", "device_energy")


def drop(row, names):
    return {name: row[name] for name in ("trial", "setting", "group", "seed", "status", *SPACE)}


@pytest.mark.skipif(
    not has_ray or importlib.util.find_spec("optuna") is None, reason="an extra: pip install 'jaxmec[ray]'"
)
def test_optuna_suggests_settings_and_learns_from_those_in_the_table(command, tmp_path):
    space = {"ppo.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "ppo.network": {"choice": ["set"]}}
    file = write(tmp_path / "optuna.yaml", space, samples=3, search="optuna")
    out = tmp_path / "optuna"
    finish(command("--config", file, "--out", out, "--backend", "ray"))
    rows = table(out)
    assert [(r["trial"], r["setting"], r["status"]) for r in rows] == [
        (str(i), str(i // 2), "ok") for i in range(6)
    ]
    rates = [float(r["ppo.learning_rate"]) for r in rows]
    assert rates[::2] == rates[1::2]
    assert len(set(rates)) == 3
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    best = float(table(out, "ranking.csv")[0]["ppo.learning_rate"])
    run = yaml.safe_load((out / "best.yaml").read_text())
    assert run["ppo"]["learning_rate"] == best
    lines = (out / "trials.csv").read_text().splitlines()
    (out / "trials.csv").write_text("\n".join(lines[:5]) + "\n")
    finish(command("--out", out, "--resume", "--backend", "ray"))
    assert table(out)[:4] == rows[:4]
    assert len(table(out)) == 6
