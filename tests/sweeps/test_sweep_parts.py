"""Sweeps: settings by hand, grouping, one compilation per group, ranking, and what a folder keeps."""

import dataclasses
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import jaxmec
from jaxmec.agents import PPO, WhiteBox
from jaxmec.config import ConfigError, assign
from jaxmec.long_run import bounds_at
from jaxmec.sweeps import chunks, plan, report, vectorised
from jaxmec.sweeps.config import Evaluation, build_sweep, cell, load, parse, points
from jaxmec.sweeps.folder import Folder, dump
from jaxmec.sweeps.ranking import candidates, rank

SMALL = {"num_envs": 4, "num_steps": 2, "num_epochs": 1, "num_minibatches": 1, "width": 8, "total_steps": 8}


def sweep(**fields):
    return build_sweep({"scenario": "coinfer4", "ppo": SMALL, **fields}, "test.yaml")


def groups_of(config):
    builder = plan.Builder(config)
    return plan.group(builder.setting(i, point) for i, point in enumerate(points(config)))


# --- settings -------------------------------------------------------------------------------------------------


def test_a_grid_is_crossed_with_the_same_draws_at_every_point():
    config = sweep(
        space={
            "ppo.learning_rate": {"log_uniform": [1e-4, 1e-2]},
            "tradeoff": {"grid": [1, 10]},
            "ppo.network": {"choice": ["set", "mlp"]},
            "ppo.clip": {"uniform": [0.1, 0.3]},
        },
        samples=50,
    )
    found = points(config)
    assert len(found) == 100
    assert [list(point) for point in found] == [list(config.space)] * 100
    first, second = found[:50], found[50:]
    assert all(point["tradeoff"] == 1 for point in first)
    assert [point | {"tradeoff": 10} for point in first] == second
    rates = np.array([point["ppo.learning_rate"] for point in first])
    assert (rates >= 1e-4).all()
    assert (rates <= 1e-2).all()
    assert 10 < (rates < 1e-3).sum() < 40  # half of the draws lie below the geometric middle
    assert {point["ppo.network"] for point in first} == {"set", "mlp"}
    assert points(config) == found
    assert points(dataclasses.replace(config, search_seed=1)) != found


def test_values_lie_at_their_paths_and_the_rest_stays():
    data = {"users": [{"count": 1, "energy_budget_j": {"pi": 1.0}}, {"count": 2}], "tradeoff": 10.0}
    changed = assign(
        data,
        {
            "users[1].count": 3,
            "users[0].energy_budget_j.pi": 0.5,
            "wire.prune": False,
            "users[0].distance_m": (1, 2),
        },
    )
    assert changed == {
        "users": [{"count": 1, "energy_budget_j": {"pi": 0.5}, "distance_m": [1, 2]}, {"count": 3}],
        "tradeoff": 10.0,
        "wire": {"prune": False},
    }
    assert data["users"][1] == {"count": 2}


def test_cells_of_a_table_lead_back_to_the_point():
    config = sweep(
        space={
            "ppo.learning_rate": {"uniform": [0.1, 0.3]},
            "users[0].networks": {"grid": [{"vgg16": 1}, {"resnet18": 1, "vgg16": 2}]},
            "ppo.network": {"choice": ["set", "mlp"]},
            "users[0].distance_m": {"choice": [[50, 60], [50, 150]]},
        },
        samples=3,
    )
    for point in points(config):
        assert parse({path: cell(value) for path, value in point.items()}, config.space) == point


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": {}}, "test.yaml: space: got an empty mapping"),
        (
            {"space": {"tradeoff": {"grid": [1], "uniform": [0, 1]}}},
            "space.tradeoff: got grid and uniform; allowed is exactly one of grid, choice, uniform, log_uniform",
        ),
        ({"space": {"tradeoff": {}}}, "space.tradeoff: got nothing; allowed is exactly one"),
        ({"space": {"tradeoff": {"grid": []}}}, "space.tradeoff.grid: got an empty list"),
        ({"space": {"tradeoff": {"log_uniform": [0, 1]}}}, "allowed is [low, high] with 0 < low < high"),
        ({"space": {"tradeoff": {"uniform": [2, 1]}}}, "got [2.0, 1.0]; allowed is [low, high] with low < high"),
        ({"space": {"tradeoff": {"gird": [1]}}}, "space.tradeoff.gird: unknown field"),
        ({"space": {"tradeoff": {"grid": [1]}}, "samples": 2}, "samples: got 2; allowed is 1"),
        ({"space": {"tradeoff": {"grid": [1]}}, "search": "optuna"}, "space.tradeoff: got grid; search 'optuna'"),
        (
            {"space": {"tradeoff": {"grid": [1]}}, "across": ["knee"]},
            "across: got 'knee'; allowed are grid",
        ),
        (
            {"space": {"tradeoff": {"grid": [1]}}, "evaluation": {"num_slots": 10, "state_every": 4}},
            "evaluation.state_every: got 4; allowed is a proper divisor of num_slots = 10",
        ),
        (
            {"space": {"tradeoff": {"grid": [1]}}, "curves": {"x": "knee", "y": ["objective"]}},
            "curves.x: got 'knee'; allowed are tradeoff",
        ),
    ],
)
def test_wrong_files_are_told_by_field_and_value(fields, message):
    with pytest.raises(ConfigError) as error:
        sweep(**fields)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("ppo.learning_rat", 1, "setting 0 (ppo.learning_rat=1): space: ppo.learning_rat: unknown field"),
        ("ppo.num_minibatches", 3, "num_minibatches: got 3; allowed is a divisor"),
        ("radio.bandwith_hz", 1, "radio.bandwith_hz: unknown field"),
        ("radio.bandwidth_hz", -1, "radio.bandwidth_hz: got -1.0; allowed is a number at least 1000"),
        ("users[3].count", 1, "users[3].count: no item [3]; there are 1"),
        ("tradeoff.more", 1, "tradeoff.more: step 2 leads into 10.0, which has no fields"),
        ("radio..x", 1, "radio..x: not a path"),
        ("scenario", "coinfer5", "scenario: got 'coinfer5'; allowed are"),
    ],
)
def test_wrong_points_are_told_before_anything_is_traced(path, value, message):
    with pytest.raises(ConfigError) as error:
        groups_of(sweep(space={path: {"grid": [value]}}))
    assert message in str(error.value)


# --- groups and chunks ----------------------------------------------------------------------------------------


def test_settings_are_grouped_by_shape_and_kind():
    config = sweep(
        space={
            "ppo.width": {"grid": [8, 16]},  # static: a group each
            "users[0].count": {"grid": [2, 4]},  # another shape
            "users[0].networks": {"grid": [{"vgg16": 1}, {"resnet18": 1}]},  # other numbers of cuts
            "tradeoff": {"grid": [1, 10]},  # a number
            "ppo.learning_rate": {"grid": [1e-3, 1e-2]},  # a number
        }
    )
    groups = groups_of(config)
    assert len(groups) == 8
    assert [group.index for group in groups] == list(range(8))
    for group in groups:
        assert len(group.settings) == 4
        assert len({(s.algorithm.width, s.env.num_users, s.env.num_cuts) for s in group.settings}) == 1
        params, learner = jax.tree.unflatten(
            jax.tree.structure((group.settings[0].params, group.settings[0].algorithm)), group.varied
        )
        assert params == jax.tree.map(lambda _: False, params).replace(tradeoff=True)
        assert learner == jax.tree.map(lambda _: False, learner).replace(learning_rate=True)
    assert sorted(s.index for group in groups for s in group.settings) == list(range(32))


def product(env, params, algorithm, evaluation, seed):
    """Stands in for training: a number that the settings and the seed give."""
    return {"objective": params.tradeoff * algorithm.learning_rate + 1000.0 * seed + params.bandwidth_hz / 1e6}


def test_a_group_is_traced_once_and_each_trial_has_its_own_numbers(monkeypatch):
    monkeypatch.setattr(vectorised, "train_trial", chex.assert_max_traces(product, n=1))
    config = sweep(
        space={"tradeoff": {"grid": [1, 2, 3]}, "ppo.learning_rate": {"uniform": [0.1, 0.9]}}, samples=4, seeds=2
    )
    (group,) = groups_of(config)
    program = vectorised.compile_group(group, seeds=2, evaluation=None, chunk=7)
    assert program.chunk == 6  # 24 trials in the four chunks that chunks of seven would need
    rows = [row for part in chunks.chunks(group, 2, 6) for row in chunks.run_chunk(program, part, 2)]
    assert [row["trial"] for row in rows] == list(range(24))
    for row, point in zip(rows, [point for point in points(config) for _ in range(2)], strict=True):
        assert {path: row[path] for path in point} == point
        expected = point["tradeoff"] * point["ppo.learning_rate"] + 1000 * row["seed"] + 8.0
        assert np.isclose(row["objective"], expected, rtol=1e-6)
        assert row["status"] == "ok"


def test_the_last_chunk_is_padded_and_a_diverged_trial_is_told(monkeypatch):
    monkeypatch.setattr(
        vectorised, "train_trial", lambda *args: {"objective": jnp.where(args[-1] == 1, jnp.nan, args[1].tradeoff)}
    )
    (group,) = groups_of(sweep(space={"tradeoff": {"grid": [1, 2, 3]}}))
    program = vectorised.compile_group(group, seeds=3, evaluation=None, chunk=5)
    parts = chunks.chunks(group, 3, program.chunk)
    assert [len(part.trials) for part in parts] == [5, 4]
    rows = [row for part in parts for row in chunks.run_chunk(program, part, 3)]
    assert [row["status"] for row in rows] == ["ok", "diverged", "ok"] * 3


def test_chunks_fit_the_memory_that_is_allowed(monkeypatch):
    def hungry(env, params, algorithm, evaluation, seed):
        draws = jax.random.normal(jax.random.key(seed), (256, 256))
        return {"objective": jnp.linalg.norm(draws @ draws) * params.tradeoff}

    monkeypatch.setattr(vectorised, "train_trial", hungry)
    (group,) = groups_of(sweep(space={"tradeoff": {"grid": list(range(1, 13))}}, seeds=1))
    whole = vectorised.compile_group(group, seeds=1, evaluation=None, memory_bytes=1e12)
    assert whole.chunk == 12
    limit = whole.memory_bytes / 3
    some = vectorised.compile_group(group, seeds=1, evaluation=None, memory_bytes=limit)
    assert some.chunk in (3, 4)
    assert some.memory_bytes <= limit
    single = vectorised.compile_group(group, seeds=1, evaluation=None, memory_bytes=1)
    assert single.chunk == 1
    trials = group.trials(1)
    np.testing.assert_allclose(some.run(trials[:2])["objective"], whole.run(trials)["objective"][:2], rtol=1e-5)


@pytest.mark.parametrize(("trials", "largest", "size"), [(10, 4, 4), (9, 4, 3), (8, 8, 8), (3, 8, 3), (17, 16, 9)])
def test_chunks_are_even(trials, largest, size):
    assert vectorised.even_chunk(trials, largest) == size


def test_held_out_metrics_are_those_of_a_long_run():
    env, params = jaxmec.make("coinfer4", num_users=2)
    algorithm = PPO(**SMALL)
    model = jax.jit(lambda key: algorithm.init_model(env, key))(jax.random.key(0))
    evaluation = Evaluation(num_envs=3, num_slots=6, state_every=2)

    def policy_of(model):
        return algorithm.policy(env, SimpleNamespace(model=model))

    found = jax.jit(lambda model: vectorised.evaluate_greedy(env, params, policy_of(model), evaluation))(model)
    key_episodes, _ = jax.random.split(jax.random.key(evaluation.seed))
    # The same episodes, one by one in Python.
    resets = jax.random.split(key_episodes, 3)
    pairs = [jax.random.split(key) for key in resets]
    start = jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))(jnp.stack([pair[0] for pair in pairs]))
    step = jax.jit(jax.vmap(lambda key, state: play(env, policy_of(model), key, state, params)))
    state, delays, objectives, states = start, [], [], []
    slot_keys = jnp.stack([jax.random.split(pair[1], 6) for pair in pairs])
    for slot in range(6):
        states.append(state)
        state, delay_s, objective = step(slot_keys[:, slot], state)
        delays.append(delay_s)
        objectives.append(objective)
    np.testing.assert_allclose(found["delay_s"], np.mean(delays), rtol=1e-3)
    np.testing.assert_allclose(found["objective"], np.mean(objectives), rtol=1e-3)
    # The gap is that of the states at the start of the second and the third pair of slots.
    bound = np.stack([bounds_at(env, states[slot], params) for slot in (2, 4)])
    expected_gap = np.mean([objectives[2], objectives[4]]) / bound.mean() - 1
    np.testing.assert_allclose(found["gap"], expected_gap, rtol=1e-2, atol=1e-5)
    assert found["gap"] > 0


def play(env, policy, key, state, params):
    key_policy, key_step = jax.random.split(key)
    _, after, _, _, info = env.step_env(key_step, state, policy(key_policy, state, params), params)
    return after, jnp.mean(info["delay_s"]), info["objective"]


# --- ranking --------------------------------------------------------------------------------------------------


def row(trial, rate, task, seed, score, status="ok"):
    return {
        "trial": str(trial), "ppo.learning_rate": rate, "tradeoff": task, "seed": str(seed),
        "status": status, "objective": str(score),
    }  # fmt: skip


def test_ranking_by_hand():
    config = sweep(
        space={"ppo.learning_rate": {"grid": [1, 2, 3]}, "tradeoff": {"grid": [5, 6]}}, across=["tradeoff"]
    )
    rows = [
        row(0, "1", "5", 0, 3.0), row(1, "1", "5", 1, 4.0), row(2, "1", "6", 0, 5.0), row(3, "1", "6", 1, 90.0),
        row(4, "2", "5", 0, 2.0), row(5, "2", "5", 1, 3.0), row(6, "2", "6", 0, 4.0), row(7, "2", "6", 1, "NaN"),
        row(8, "3", "5", 0, 1.0), row(9, "3", "5", 1, 1.0), row(10, "3", "6", 0, 1.0),
        row(11, "3", "6", 1, "", status="failed"),
    ]  # fmt: skip
    first, second, third = rank(rows, config)
    assert (first.values, first.estimate) == ({"ppo.learning_rate": "2"}, 3.5)  # of 2, 3, 4 and infinity
    assert (second.values, second.estimate) == ({"ppo.learning_rate": "1"}, 4.5)
    assert third.values == {"ppo.learning_rate": "3"}  # the best scores, but one trial failed
    assert [len(runs) for runs in second.strata] == [2, 2]
    assert rank(rows, dataclasses.replace(config, mode="max"))[0].values == {"ppo.learning_rate": "1"}
    twice = [row(0, "1", "5", 0, 3.0), row(1, "1", "5", 0, 3.0)]
    assert len(candidates(twice, list(config.space), "objective")[0].scores) == 1


# --- the folder -----------------------------------------------------------------------------------------------


def test_a_folder_keeps_rows_and_refuses_another_sweep(tmp_path):
    config = sweep(space={"tradeoff": {"grid": [1, 2]}, "ppo.network": {"grid": ["set"]}}, seeds=2)
    folder = Folder(tmp_path / "a", config, "digest", resume=False)
    folder.note_group(0, {"chunk": 3})
    folder.add([{"trial": 2, "tradeoff": 2, "status": "failed", "error": "no, memory"}])
    folder.add([{"trial": 0, "tradeoff": 1, "status": "ok", "objective": 0.1 + 0.2, "error": ""}])
    folder.add([{"trial": 10, "tradeoff": 1, "status": "diverged", "objective": float("nan"), "error": ""}])
    again = Folder(tmp_path / "a", config, "digest", resume=True)
    assert [r["trial"] for r in again.rows] == ["0", "2", "10"]
    assert float(again.rows[0]["objective"]) == 0.1 + 0.2
    assert again.rows[1]["error"] == "no, memory"
    assert again.finished() == {0, 10}
    assert again.chunk(0) == 3
    assert again.chunk(1) is None
    again.add([{"trial": 2, "tradeoff": 2, "status": "ok", "error": ""}])
    assert again.finished() == {0, 2, 10}
    assert load(tmp_path / "a" / "sweep.yaml") == config == build_sweep(yaml.safe_load(dump(config)), "")
    with pytest.raises(ConfigError, match="holds a sweep; continue it with --resume"):
        Folder(tmp_path / "a", config, "digest", resume=False)
    with pytest.raises(ConfigError, match="holds another sweep .seeds was 2 and is now 3.; name another folder"):
        Folder(tmp_path / "a", dataclasses.replace(config, seeds=3), "digest", resume=True)
    with pytest.raises(ConfigError, match="built from other numbers"):
        Folder(tmp_path / "a", config, "another", resume=True)


def test_a_sweep_may_simulate_every_request():
    config = sweep(fidelity="requests", space={"backlog_weight": {"grid": [0, 2, 4]}})
    found = groups_of(config)
    assert build_sweep(yaml.safe_load(dump(config)), "sweep.yaml") == config
    assert [len(group.settings) for group in found] == [1, 2]  # without a price the problem has no leaf for it
    assert "late" in vectorised.metric_names(found[0].settings[0], None)
    assert found[1].settings[1].params.backlog_weight.tolist() == [4.0] * 4
    with pytest.raises(ConfigError, match="fidelity: got 'events'; allowed is one of 'stationary', 'requests'"):
        sweep(fidelity="events", space={"tradeoff": {"grid": [1, 2]}})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("plan.json", "{", "plan.json: not valid JSON"),
        ("plan.json", "[]", "plan.json: must hold an object, but holds list"),
        ("plan.json", "{}", "plan.json: fingerprint: missing"),
        (
            "plan.json",
            '{"fingerprint": "digest", "groups": {"0": 3}}',
            "groups.0: must be a mapping of fields, got 3",
        ),
        ("plan.json", '{"fingerprint": "digest", "groups": {"0": {"chunk": -1}}}', "groups.0.chunk: got -1"),
        ("trials.csv", "", "trials.csv: damaged"),
        ("trials.csv", "trial,status\n1,ok\n2", "trials.csv: line 3: damaged"),
        ("trials.csv", "trial,status\nx,ok\n", "trials.csv: line 2: damaged"),
        ("trials.csv", "trial,status\n1,running\n", "trials.csv: line 2: damaged"),
        ("trials.csv", b"trial,status\n\xff,ok\n", "trials.csv: damaged"),
        ("sweep.yaml", "space: [", "sweep.yaml: not valid YAML"),
    ],
)
def test_damage_is_told_in_a_line_and_nothing_is_changed(tmp_path, name, content, message):
    config = sweep(space={"tradeoff": {"grid": [1, 2]}})
    folder = Folder(tmp_path, config, "digest", resume=False)
    folder.add([{"trial": 0, "tradeoff": 1, "status": "ok", "error": ""}])
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError) as error:
        Folder(tmp_path, config, "digest", resume=True)
    assert message in str(error.value)
    assert (tmp_path / name).read_bytes() == data


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no sweep"):
        Folder(tmp_path, sweep(space={"tradeoff": {"grid": [1]}}), "digest", resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("fields", [{"samples": 10**9}, {"seeds": 10**9}])
def test_more_trials_than_memory_holds_are_refused_before_they_are_listed(fields):
    with pytest.raises(ConfigError, match=r"trials, whose table would take .* GB; allowed are 1,000,000 trials"):
        sweep(space={"tradeoff": {"uniform": [1, 2]}}, **fields)


def test_fingerprints_tell_settings_apart():
    one = sweep(space={"tradeoff": {"grid": [1, 2]}})
    two = sweep(space={"tradeoff": {"grid": [1, 3]}})
    assert plan.fingerprint(groups_of(one)) == plan.fingerprint(groups_of(one))
    assert plan.fingerprint(groups_of(one)) != plan.fingerprint(groups_of(two))


@pytest.mark.parametrize("name", ["bandwidth_hz", "uplink_bits", "server_budget_j"])
def test_fingerprints_tell_numbers_apart_that_no_point_names(name):
    # The scenario's file, a profile or a default may change between a sweep and its resumption.
    (group,) = groups_of(sweep(space={"tradeoff": {"grid": [1]}}))
    (setting,) = group.settings
    params = setting.params.replace(**{name: getattr(setting.params, name) * 1.001})
    changed = plan.Group(0, (dataclasses.replace(setting, params=params),))
    assert plan.fingerprint([changed]) != plan.fingerprint([group])


def test_a_sweep_of_another_algorithm_reads_its_section():
    config = build_sweep(
        {"scenario": "coinfer4", "white_box": SMALL, "space": {"white_box.width": {"grid": [8]}}}, "a"
    )
    assert type(config.algorithm) is WhiteBox
    assert groups_of(config)[0].settings[0].algorithm == WhiteBox(**SMALL)
    with pytest.raises(ConfigError, match=r"space.ppo.width: got a field of ppo; the algorithm is white_box"):
        build_sweep({"white_box": SMALL, "space": {"ppo.width": {"grid": [8]}}}, "a")


def test_a_device_failure_is_a_row_and_not_the_end(monkeypatch):
    monkeypatch.setattr(vectorised, "train_trial", product)
    (group,) = groups_of(sweep(space={"tradeoff": {"grid": [1, 2]}}, seeds=1))

    def out_of_memory(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED:\nout of memory")

    program = dataclasses.replace(vectorised.compile_group(group, 1, None), call=out_of_memory)
    (part,) = chunks.chunks(group, 1, 2)
    rows = chunks.run_chunk(program, part, 1)
    assert [(r["trial"], r["status"], r["error"]) for r in rows] == [
        (0, "failed", "RESOURCE_EXHAUSTED: out of memory"),
        (1, "failed", "RESOURCE_EXHAUSTED: out of memory"),
    ]


def test_reports_of_many_few_and_no_winners(tmp_path):
    config = sweep(
        space={"ppo.learning_rate": {"grid": [1, 2]}, "tradeoff": {"grid": [1, 100]}},
        curves={"x": "tradeoff", "y": ["objective"], "lines": "ppo.learning_rate"},
    )
    rows = [row(i, rate, task, 0, i + 1) for i, (rate, task) in enumerate([("1", "1"), ("1", "100"), ("2", "1")])]
    diverged = [row(0, "1", "1", 0, "NaN", status="diverged")]
    for name, part in {"many": rows, "single": rows[:1], "diverged": diverged}.items():
        folder = Folder(tmp_path / name, config, "digest", resume=False)
        folder.add(part)
        ranking = report.write_report(folder, config)
        assert [float(one["objective_iqm"]) for one in ranking] == sorted(
            float(one["objective"]) if one["status"] == "ok" else np.inf for one in part
        )
        for figure in ("winners.png", "curves.png"):
            assert (tmp_path / name / figure).read_bytes().startswith(b"\x89PNG")
