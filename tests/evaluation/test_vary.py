"""Policies against one field: each system's result is its own evaluation's, and wrong fields are told at once."""

import csv
import io

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.console import Console

import jaxmec
from jaxmec.commands.eval import main
from jaxmec.config import ConfigError
from jaxmec.evaluation import EvaluationConfig, compare, evaluate_policies
from jaxmec.evaluation.vary import parse_variation, variation_rows, variation_table
from jaxmec.reporting.figures.variation import policies_against_field

CONFIG = EvaluationConfig(num_envs=2, num_slots=4, state_every=2, ascent_slots=50, reference="edge")
VARIATION = parse_variation("radio.bandwidth_hz=5e6,40e6")


@pytest.fixture(scope="module")
def study(compilations):
    """Two policies in two systems, and how many programmes were compiled until each system and in all."""
    env, _ = jaxmec.make("coinfer4", num_users=2)
    until = {}

    def tell(what):
        until.setdefault(what.partition(":")[0], len(compiled))

    def edge(key, state, params):
        return jnp.zeros(env.num_users, jnp.int32)

    def local(key, state, params):
        return jnp.sum(env.action_mask(state, params), axis=-1, dtype=jnp.int32) - 1

    policies = {"edge": edge, "local": local}
    batch = [jaxmec.make("coinfer4", num_users=2, radio={"bandwidth_hz": value})[1] for value in VARIATION.values]
    with compilations() as compiled:
        found = compare(env, batch, policies, CONFIG, tell)
    return env, batch, policies, found, [*until.items(), ("in all", len(compiled))]


def test_systems_share_a_compilation_and_equal_their_own_evaluations(study):
    env, batch, policies, found, compiled = study
    assert [of for of, _ in compiled] == ["system 1 of 2", "system 2 of 2", "in all"]
    assert 0 < compiled[1][1] == compiled[2][1]
    alone = evaluate_policies(env, batch[1], policies, CONFIG)
    for name, run in alone.long_run.items():
        for metric, values in run.metrics.items():
            np.testing.assert_array_equal(values, found[1].long_run[name].metrics[metric])
        np.testing.assert_array_equal(alone.objectives[name], found[1].objectives[name])
    np.testing.assert_array_equal(alone.bound, found[1].bound)
    assert (found[1].long_run["edge"].metrics["delay_s"] < found[0].long_run["edge"].metrics["delay_s"]).all()


def test_rows_table_and_figure_hold_the_means_and_paired_differences(study, tmp_path, monkeypatch):
    *_, found, _ = study
    rows = variation_rows(VARIATION, found)
    assert [(row["radio.bandwidth_hz"], row["policy"]) for row in rows] == [
        ("5e6", "edge"), ("5e6", "local"), ("4e7", "edge"), ("4e7", "local"),
    ]  # fmt: skip
    edge, local = (found[1].long_run[name].metrics for name in ("edge", "local"))
    assert rows[2]["over_reference"] == rows[2]["delay_over_reference_s"] == 0
    np.testing.assert_allclose(rows[3]["delay_over_reference_s"], np.mean(local["delay_s"] - edge["delay_s"]))
    ratio = local["equal_energy"].mean() / edge["equal_energy"].mean() - 1
    np.testing.assert_allclose(rows[3]["over_reference"], ratio, rtol=1e-5)
    out = io.StringIO()
    Console(file=out, width=200).print(variation_table(VARIATION, rows, found[0]))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    shown = [line.split() for line in lines if "edge " in line or "local" in line]
    assert [words[:2] for words in shown[::2]] == [["5e6", "edge"], ["4e7", "edge"]]
    assert shown[3][:2] == ["local", f"{local['delay_s'].mean():.4g}"]
    assert f"{100 * ratio:+.1f}" in shown[3]
    kept = []
    monkeypatch.setattr("jaxmec.reporting.style.plt.close", kept.append)
    policies_against_field(tmp_path / "vary.png", rows, "radio.bandwidth_hz", "edge")
    delay, over = kept[0].axes
    assert delay.get_xscale() == over.get_xscale() == "log"
    line = delay.containers[1].lines[0]
    means = [run.long_run["local"].metrics["delay_s"].mean() for run in found]
    np.testing.assert_allclose(line.get_xydata().astype(float), np.stack([VARIATION.values, means], axis=1))
    (only,) = over.containers
    ratios = [rows[1]["over_reference"], rows[3]["over_reference"]]
    np.testing.assert_allclose(only.lines[0].get_ydata().astype(float), ratios)
    monkeypatch.undo()
    plt.close(kept[0])


def test_params_that_are_left_out_where_neutral_are_told_in_all_systems():
    env, _ = jaxmec.make("coinfer4")
    none, some = parse_variation("wire.round_trip_s=0,0.03").systems("coinfer4", env)
    assert jax.tree.structure(none) == jax.tree.structure(some)
    assert not none.return_s.any()
    np.testing.assert_allclose(some.return_s[:, 0], 0.03, rtol=1e-6)
    ones, twos = parse_variation("waiting_scale=1,2").systems("coinfer4", env)
    np.testing.assert_array_equal([ones.waiting_scale, twos.waiting_scale], [[1.0] * 4, [2.0] * 4])
    assert parse_variation("tradeoff=1,2").systems("coinfer4", env)[0].return_s is None


def test_other_shapes_are_told_with_the_leaf(study):
    env, batch, policies, *_ = study
    other = batch[0].replace(bandwidth_hz=jnp.ones(2))
    with pytest.raises(
        ValueError, match=r"params_batch\[1\]: bandwidth_hz: got float(32|64)\[2\]; allowed is float\1\[\]"
    ):
        compare(env, [batch[0], other], policies, CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("radio.bandwidth_hz", "vary: got 'radio.bandwidth_hz'; allowed is FIELD=VALUE,VALUE"),
        ("radio.bandwidth_hz=", "allowed is FIELD=VALUE,VALUE"),
        ("radio.bandwidth_hz=5e6,nan", "allowed is FIELD=VALUE,VALUE"),
        ("radio.bandwidth_hz=5e6,5.0e6", "vary: radio.bandwidth_hz: got 5e6 twice"),
        ("radio.bandwith_hz=5e6", "vary: radio.bandwith_hz=5e6: .*did you mean 'bandwidth_hz'"),
        ("radio.bandwidth_hz=5e6,-1", "vary: radio.bandwidth_hz=-1: .*got -1"),
        ("users[7].count=2", r"vary: users\[7\].count=2: .*no item \[7\]"),
        (
            "users[0].count=4,5",
            "vary: users.0..count=5: num_users: got 5; allowed is 4: only what changes no shape and no kind",
        ),
        ("wire.prune=true,false", "vary: wire.prune=False: num_cuts: got .*; allowed is .*: only what changes no"),
        (
            "arrivals.process=uniform,constant",
            "vary: arrivals.process=constant: a process: got another kind; allowed is the same: only what",
        ),
    ],
)
def test_wrong_fields_and_values_are_told(text, message):
    env, _ = jaxmec.make("coinfer4")
    with pytest.raises(ConfigError, match=message):
        parse_variation(text).systems("coinfer4", env)


def test_the_command_writes_what_was_found_and_refuses_two_fields(study, tmp_path, monkeypatch, capsys):
    *_, found, _ = study
    monkeypatch.setattr("jaxmec.commands.eval.keep_compiled", lambda: None)
    monkeypatch.setattr("jaxmec.commands.eval.compare", lambda *_, **__: found)
    flags = ["--scenario", "coinfer4", "--policies", "edge_only", "--out", str(tmp_path)]
    assert main([*flags, "--vary", "radio.bandwidth_hz=5e6,40e6"]) == 0
    with (tmp_path / "radio_bandwidth_hz.csv").open(newline="") as file:
        assert [float(row["radio.bandwidth_hz"]) for row in csv.DictReader(file)] == [5e6, 5e6, 40e6, 40e6]
    assert (tmp_path / "radio_bandwidth_hz.png").read_bytes().startswith(b"\x89PNG")
    assert main([*flags, "--vary", "tradeoff=1,2", "--vary", "slot_s=1,2"]) == 2
    assert capsys.readouterr().err.endswith("error: vary: got 2 fields; allowed is one\n")
