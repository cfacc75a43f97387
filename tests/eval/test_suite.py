"""The study: its cache by content, its own rows by hand, its report in a real browser, its numbers as committed."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import made_up
import numpy as np
import pytest

import jaxmec
from jaxmec.config import ConfigError

pytest.importorskip("plotly", reason="an extra: pip install 'jaxmec[report]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def cache(command):
    return command("studies.cache")


@pytest.fixture(scope="module")
def suite(command):
    return command("suite")


def test_what_was_found_is_computed_once_and_anew_for_anything_else(cache, tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return [{"value": np.float32(0.5), "name": "a", "none": float("nan")}]

    kept = cache.Cache(tmp_path, {"source": "1"})
    first, again = (kept.get("cuts", {"factor": 1}, compute) for _ in range(2))
    assert (len(calls), first[0]["value"], again[0]["name"]) == (1, 0.5, "a")
    kept.get("cuts", {"factor": 2}, compute)
    kept.get("users", {"factor": 1}, compute)
    cache.Cache(tmp_path, {"source": "2"}).get("cuts", {"factor": 1}, compute)
    assert len(calls) == 4


def test_a_damaged_file_is_computed_anew(cache, tmp_path):
    kept = cache.Cache(tmp_path, {})
    assert kept.get("cuts", {}, lambda: 1) == 1
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text()[:-3])
    assert kept.get("cuts", {}, lambda: 2) == 2
    path.write_text(json.dumps({"wanted": {}, "found": 3}))  # another's content under this name
    assert kept.get("cuts", {}, lambda: 4) == 4


def test_a_parts_own_file_decides_what_it_has_found(cache, tmp_path, monkeypatch):
    (tmp_path / "cuts.py").write_text("1")
    monkeypatch.setattr(cache, "STUDIES", tmp_path)
    assert cache.Cache(tmp_path / "cache", {}).get("cuts", {}, lambda: 1) == 1
    (tmp_path / "cuts.py").write_text("2")
    assert cache.Cache(tmp_path / "cache", {}).get("cuts", {}, lambda: 2) == 2


def test_the_source_that_computes_counts_and_what_only_shows_does_not(cache, tmp_path, monkeypatch):
    (tmp_path / "reporting").mkdir()
    (tmp_path / "reporting" / "style.py").write_text("1")
    (tmp_path / "delay.py").write_text("1")
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    before = cache.source_digest()
    (tmp_path / "reporting" / "style.py").write_text("2")
    assert cache.source_digest() == before
    (tmp_path / "delay.py").write_text("2")
    assert cache.source_digest() != before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"parts": ("nope",)}, "parts: got 'nope'; allowed are policies, learning"),
        ({"seeds": -1}, "seeds: got -1; allowed is a number at least 0"),
        ({"scenario": "nope"}, "scenario: got 'nope'"),
        ({"policy": ("nowhere.py:f",)}, "nowhere.py: cannot be read"),
    ],
)
def test_what_cannot_run_is_told_in_a_line_before_anything_is_traced(suite, flags, message, tmp_path, capsys):
    assert suite.main(suite.Flags(quick=True, out=tmp_path / "out", **flags)) == 2
    assert message in capsys.readouterr().err


def test_shares_of_work_are_by_quarters_with_intervals_over_episodes(command):
    cuts = command("studies.cuts")
    shape = (2, 4, 1)  # episodes, slots, users
    value = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]]).reshape(shape)
    share = np.array([[1.0, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]).reshape(shape)
    chosen = (2 * share).astype(int)
    nothing = np.zeros(shape, int)
    rows = cuts.cell_rows(nothing, nothing, chosen, share, {"channel": value})
    assert [row["on_device"] for row in rows] == [0.75, 0.5, 0.0, 0.0]
    assert rows[0]["on_device_ci95"] == pytest.approx(12.706 * 0.25, rel=1e-4)  # Student's t of two episodes
    assert [(row["cut"], row["count"]) for row in rows[1:]] == [(1, 2), (0, 2), (0, 2)]
    # Of two values there are a lowest and a highest quarter.
    rows = cuts.cell_rows(nothing, nothing, chosen, share, {"arrivals": np.where(value < 2.0, 0.3, 6.0)})
    assert [(row["quarter"], row["low"], row["high"], row["on_device"]) for row in rows] == [
        (1, 0.3, 0.3, 0.625),
        (4, 6.0, 6.0, 0.0),
    ]


def test_trajectories_are_means_between_points_and_energies_are_means_so_far(command):
    trajectories = command("studies.trajectories")
    curve = np.array([4.0, 2.0, 1.0, 1.0])
    rows = trajectories.curve_rows("a", dict.fromkeys(trajectories.CURVES, curve), 2)
    assert [row["slot"] for row in rows] == [2, 4]
    assert [row["delay_s"] for row in rows] == [3.0, 1.0]
    assert [row["device_energy"] for row in rows] == [3.0, 2.0]


def test_systems_are_paired_with_the_first_one_of_their_policy(command):
    study = command("studies.study")
    rows = [
        {"policy": policy, "delays_s": delays}
        for policy, delays in (("a", [1.0, 3.0]), ("b", [2.0, 2.0]), ("a", [0.5, 2.5]), ("b", [2.0, 4.0]))
    ]
    found = study.over_first(rows)
    assert [row["delay_over_first"] for row in found] == [
        0.0,
        0.0,
        -0.25,
        0.5,
    ]  # half a second less of two, always
    assert [row["delay_over_first_ci95"] for row in found[:3]] == [0.0, 0.0, 0.0]
    assert found[3]["delay_over_first_ci95"] == pytest.approx(12.706 * 1.0 / 2.0, rel=1e-4)
    assert "delays_s" not in found[0]


def test_pooled_gaps_are_interquartile_means_of_the_seeds(command):
    learning = command("studies.learning")
    gaps = [np.full(100, gap) for gap in (0.01, 0.02, 0.03, 0.9)]
    *runs, pooled = learning.final_rows([("learned", seed) for seed in range(4)], gaps)
    assert [row["gap_mean"] for row in runs] == pytest.approx([0.01, 0.02, 0.03, 0.9])
    assert pooled["gap_mean"] == pytest.approx(0.025)  # without the least and the greatest
    assert pooled["gap_mean_low"] < 0.025 < pooled["gap_mean_high"]


@pytest.fixture(scope="module")
def system():
    env, params = jaxmec.make("coinfer4")
    _, state = jax.jit(env.reset)(jax.random.key(3), params)
    queues = {"device_queue": jnp.full(4, 20.0), "server_queue": jnp.asarray(20.0)}
    return env, params, state.replace(**queues)


def test_equal_shares_are_equal_among_those_who_use_the_stage(command, system):
    ablations = command("studies.ablations")
    env, params, state = system
    last = jnp.sum(env.action_mask(state, params), axis=-1) - 1
    cuts = jnp.where(jnp.arange(4) < 3, 0, last).astype(jnp.int32)  # three send their raw input
    found = jax.jit(ablations.as_kind(ablations.EqualShares, env).decide)(state, cuts, params)
    np.testing.assert_allclose(found.allocation.bandwidth_share, [1 / 3] * 3 + [0], rtol=1e-6)
    np.testing.assert_allclose(found.allocation.server_share, [1 / 3] * 3 + [0], rtol=1e-6)
    problem = found.problem
    rate = problem.bandwidth_hz / 3 * np.log2(1 + 3 * problem.snr[:3])
    np.testing.assert_allclose(found.stage_times[:3, 1], problem.uplink_bits[:3] / rate, rtol=1e-5)
    exact = jax.jit(env.decide)(state, cuts, params)
    assert found.outcome.objective >= exact.outcome.objective


def test_a_budget_per_slot_is_kept_in_every_slot_that_can(command, system):
    ablations = command("studies.ablations")
    env, params, state = system
    slot_env = ablations.as_kind(ablations.BudgetPerSlot, env)
    cuts = (
        jnp.sum(env.action_mask(state, params), axis=-1, dtype=jnp.int32) - 1
    )  # all on the devices, at any speed
    outcome = jax.jit(slot_env.decide)(state, cuts, params).outcome
    use = outcome.device_energy_j / env.device_budget_j(state, params)
    assert (use <= 1.01).all()
    assert use.max() == pytest.approx(1.0, abs=0.01)  # no more than needed is saved by whoever is limited


def test_every_variant_plays_from_the_full_systems_states(command, system):
    ablations = command("studies.ablations")
    env, params, state = system
    study = SimpleNamespace(env=env, params=params, scenario="coinfer4")
    for name, make in ablations.VARIANTS.items():
        variant = make(study)
        cuts = jax.eval_shape(variant.policy, jax.random.key(0), state, variant.params)
        assert (cuts.shape, cuts.dtype) == ((4,), jnp.int32), name
        _, after, *_, info = jax.eval_shape(variant.env.step_env, jax.random.key(0), state, cuts, variant.params)
        assert jax.tree.structure(after) == jax.tree.structure(state), name
        assert info["delay_s"].shape == (4,), name


def test_two_cuts_are_the_first_and_the_last(command):
    ablations = command("studies.ablations")
    _, params = jaxmec.make("coinfer4")
    two = ablations.ends_of(params)
    last = np.asarray(params.valid_cut).sum(-1) - 1
    work = np.asarray(params.device_work_s)
    np.testing.assert_array_equal(two.device_work_s[..., 0], work[..., 0])
    np.testing.assert_array_equal(
        two.device_work_s[..., 1], np.take_along_axis(work, last[:, None, None], -1)[..., 0]
    )
    assert two.valid_cut.all()


@pytest.fixture(scope="module")
def report(command, tmp_path_factory):
    """The page of made-up rows of every part, with a policy whose name is markup."""
    present, study = command("studies.present"), command("studies.study")
    from jaxmec.reporting.report import write_report

    order = [*made_up.POLICIES, "<b>mine</b>"]
    sections = []
    for part, rows in made_up.PARTS.items():
        facts = made_up.size(seeds={"learned": 2}) if part == "learning" else made_up.size()
        sections.append(present.section(part, study.Found(rows(), facts), order, "learned"))
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, "A study of <i>everything</i>", "A lead.", sections, order, {"scenario": "</script>"})
    return path


def test_the_report_is_one_file_that_asks_for_nothing(report):
    page = report.read_text()
    own = re.sub(
        r"<script>.*?</script>", "", page, flags=re.DOTALL
    )  # Plotly's text has addresses that are not fetched
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert "@import" not in own
    assert "&lt;i&gt;everything" in own
    assert "<b>mine" not in own
    for part in made_up.PARTS:
        assert f'id="{part}"' in own


def test_a_page_gets_new_results_between_what_it_says_itself(command, tmp_path):
    pages, study = command("studies.pages"), command("studies.study")
    told = SimpleNamespace(
        players=made_up.POLICIES, learned="learned", reference="best_response", env=SimpleNamespace(name="a-v1")
    )
    found = {part: study.Found(made_up.PARTS[part](), made_up.size()) for part in (*pages.NEEDED, "ablations")}
    page = tmp_path / "study.md"
    page.write_text(f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n")
    pages.write_page(tmp_path, told, found, "python eval/suite.py")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| closed_form | 0.1030 ± 0.0100 | 3.00 ± 0.50 |" in text
    assert "- The mean delay of best_response falls by 67 ± 5 %" in text
    assert "- Slower than the full system at equal energy: " in text
    assert (tmp_path / "study" / "ablations.csv").exists()
    assert all((tmp_path / "study" / picture).exists() for picture in pages.PICTURES)
    pages.write_page(tmp_path, told, found, "python eval/suite.py")
    assert page.read_text() == text
    with pytest.raises(ConfigError, match="parts: got none of cuts; allowed are at least policies"):
        pages.write_page(tmp_path, told, {part: one for part, one in found.items() if part != "cuts"}, "")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_draws_every_figure_and_toggles_a_policy_without_an_error(report, tmp_path):
    tried = """<script>
    const seen = () => plots.flatMap(id => document.getElementById(id).data)
      .filter(trace => trace.meta === "learned" && trace.visible !== "legendonly").length;
    addEventListener("load", () => {
      const before = seen(), box = document.querySelector("input[value=learned]");
      box.click();
      const hidden = seen();
      box.click();
      const drawn = document.querySelectorAll(".plot .main-svg").length > 0
        && [...document.querySelectorAll(".plot")].every(plot => plot.querySelector("svg"));
      document.body.dataset.tried = [before, hidden, seen(), drawn].join(" ");
    });
    </script>"""
    page = tmp_path / "tried.html"
    page.write_text(report.read_text().replace("</body>", f"{tried}</body>"))
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1100,900",
        "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    before, hidden, after, drawn = re.search(r'data-tried="([^"]*)"', done.stdout)[1].split()
    assert int(before) == int(after) > 5
    assert (hidden, drawn) == ("0", "true")
    assert "CONSOLE" not in done.stderr
