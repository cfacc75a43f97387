"""The scoreboard: its page is what its files give, and a result is what an evaluation left."""

import dataclasses
from pathlib import Path

import pytest

from jaxmec.agents import PPO, RunConfig, WhiteBox
from jaxmec.agents.run import write_config
from jaxmec.commands.train import parse
from jaxmec.config import ConfigError
from jaxmec.reporting.files import write_csv

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def board(command):
    return command("scoreboard")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "evaluation").mkdir(parents=True)
    write_config(folder, RunConfig(scenario="coinfer4", seed=3))
    same = {"scenario": "coinfer4-v2", "certified_gap_mean": 0.004, "certified_gap_p99": 0.03}
    write_csv(folder / "evaluation/same_states.csv", [{"policy": "learned", **same}])
    write_csv(folder / "evaluation/long_run.csv", [{"policy": "learned", "delay_s": 0.12}])
    return folder


def test_the_committed_page_is_what_the_committed_files_give(board):
    entries = board.read_entries(DOCS / "scoreboard")
    assert entries
    assert (DOCS / "scoreboard.md").read_text() == board.page(entries)


def test_a_result_stands_wherever_it_keeps_within_the_budget(board):
    entry = board.Entry("mine", "a-v1", "ppo", "two cores", "abc", "x", 2_000_000, 61.0, 0.0123, 0.1, 0.11, 0.3)
    cheap = dataclasses.replace(entry, name="cheap", slots=1_000_000, seconds=60.0, gap_mean=0.02)
    tables = {part.split("\n")[0]: part for part in board.page([entry, cheap]).split("## ")}
    assert ["| mine |" in tables[f"a-v1, at most {budget}"] for budget in board.BUDGETS] == [
        False,
        True,
        False,
        True,
    ]
    assert all("| cheap |" in tables[f"a-v1, at most {budget}"] for budget in board.BUDGETS)
    row = "| mine | 1.23 % | 10.0 % | 0.1100 | 0.300 | 2,000,000 | 61 | two cores | abc |"
    assert row in tables["a-v1, at most 6 million slots"]


def test_a_run_becomes_a_file_and_a_row(board, run, tmp_path):
    docs = tmp_path / "docs"
    (docs / "scoreboard").mkdir(parents=True)
    flags = board.Flags(run=run, name="Mine, seed 3", seconds=69.0, machine="two cores", commit="abc", docs=docs)
    assert board.main(flags) == 0
    (entry,) = board.read_entries(docs / "scoreboard")
    assert (docs / "scoreboard/mine-seed-3.json").exists()
    assert (entry.gap_mean, entry.gap_p99, entry.delay_s, entry.p95_s) == (0.004, 0.03, 0.12, None)
    assert (entry.slots, entry.command) == (2_000_000, "jaxmec train --algorithm ppo --seed 3 --scenario coinfer4")
    write_csv(run / "evaluation/requests.csv", [{"policy": "learned", "p95_s": 0.4}])
    assert board.entry_of(flags).p95_s == 0.4


def test_runs_and_searches_of_one_evaluation_are_told_apart(board, run, tmp_path):
    other = tmp_path / "other"
    write_config(other, RunConfig(scenario="coinfer4", seed=8, algorithm=WhiteBox(total_steps=512)))
    names = ("learned", str(other), "best_response")
    same = {"scenario": "coinfer4-v2", "certified_gap_p99": 0.03}
    evaluation = run / "evaluation"
    write_csv(evaluation / "same_states.csv",
              [{"policy": name, "certified_gap_mean": 0.1 * i, **same} for i, name in enumerate(names)])  # fmt: skip
    write_csv(evaluation / "long_run.csv", [{"policy": name, "delay_s": 0.1 + i} for i, name in enumerate(names)])
    flags = board.Flags(run=run, name="a", seconds=9.0, machine="m", commit="c")
    found = [board.entry_of(dataclasses.replace(flags, policy=name)) for name in names]
    assert [(one.gap_mean, one.delay_s, one.slots, one.seconds, one.algorithm) for one in found] == [
        (0.0, 0.1, 2_000_000, 9.0, "ppo"), (0.1, 1.1, 512, 9.0, "white_box"), (0.2, 2.1, 0, 0.0, "none"),
    ]  # fmt: skip
    assert found[1].command == "jaxmec train --algorithm white_box --seed 8 --scenario coinfer4 --total-steps 512"
    assert found[2].command == "jaxmec eval"


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (RunConfig(), "--algorithm ppo --seed 0"),
        (RunConfig(seed=2, algorithm=PPO(network="mlp")), "--algorithm ppo --seed 2 --network mlp"),
        (RunConfig(fidelity="requests", algorithm=WhiteBox(total_steps=5)),
         "--algorithm white_box --seed 0 --fidelity requests --total-steps 5"),
    ],
)  # fmt: skip
def test_a_result_says_what_trains_it(board, config, flags):
    assert board.training_command(config) == f"jaxmec train {flags}"
    asked = parse(flags.split(), "jaxmec train")
    assert RunConfig(asked.scenario, asked.seed, asked.algorithm, asked.fidelity) == config


def test_what_is_missing_is_named(board, run):
    flags = board.Flags(run=run, name="a", seconds=1.0, machine="m", commit="c")
    with pytest.raises(ConfigError, match="commit: got none"):
        board.entry_of(dataclasses.replace(flags, commit=None))
    with pytest.raises(ConfigError, match="policy: got 'price'; allowed are learned of"):
        board.entry_of(dataclasses.replace(flags, policy="price"))
    (run / "evaluation/long_run.csv").unlink()
    with pytest.raises(ConfigError, match="evaluate the run first"):
        board.entry_of(flags)
