"""A small share of the fuzz command and of the kill command."""

from tests.robustness.fuzz_files import LONGEST_S, fuzz
from tests.robustness.kill_runs import kill_runs


def test_damaged_files_are_refused_in_one_line_or_read_as_what_they_say():
    tally, wrong, longest_s = fuzz(count=200, seed=20)
    assert not wrong, "\n".join(wrong)
    assert sum(tally.values()) == 200
    assert longest_s < LONGEST_S


def test_killed_and_resumed_training_ends_as_if_nothing_had_happened():
    kills, runs, wrong = kill_runs(count=2, seed=0)
    assert not wrong, "\n".join(wrong)
    assert sum(kills.values()) == 2
    assert runs == 1
