"""Damaged files of every kind: each is refused in one line, or read as what it says.

    python -m tests.robustness.fuzz_files --count 10000

Scenario, run, sweep and profile files that are whole are changed at random: bytes, lines, names and numbers. Of a
change that no reader may accept the file must be refused; of any other, whatever is accepted must hold every value
that the file has. A refusal is a ConfigError of one line that names the file. Nothing takes longer than `LONGEST_S`.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import jaxmec
from jaxmec import devices
from jaxmec.agents.run import build_run
from jaxmec.config import ConfigError, build, read_yaml
from jaxmec.profiles import PartitionProfile
from jaxmec.scenario import Scenario
from jaxmec.sweeps.config import load, points
from jaxmec.sweeps.plan import Builder

# The reader's own scanner where PyYAML has it: the one in Python is stricter, with a tab inside a text for instance.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLAIN_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

ROOT = Path(__file__).parents[2]
LONGEST_S = 2.0  # of processor time; compiling for a new number of users takes longest
FEW_SETTINGS = 8  # of a sweep are built

SCENARIO = """\
description: Two kinds of users.
users:
  - count: 3
    networks: {alexnet: 1, resnet18: 2}
    devices: {raspberry_pi_4: 1, jetson_nano: 1}
    energy_budget_j: {raspberry_pi_4: 0.06, jetson_nano: 0.09}
    initial_queue: {raspberry_pi_4: 50}
    distance_m: [20, 150]
    arrival_rate_hz: [1, 3]
    delay_weight: 2.0
server: {device: epyc_7742, energy_budget_j: 1.5, power_w: 200}
radio:
  process: mobility
  bandwidth_hz: 20e6
  path_loss: {process: log_distance, path_loss_exponent: 3.0}
  movement: {process: random_waypoint, speed_m_s: [0.5, 1.2]}
  fading_floor_db: -10
arrivals: {process: markov, stay_probability: 0.95}
wire: {activation_bits: 8}
slot_s: 1.0
episode_slots: 200
tradeoff: 10.0
"""
RUN = """\
scenario: coinfer4
seed: 3
ppo:
  total_steps: 2e5
  num_envs: 1024
  num_minibatches: 4
  learning_rate: 3e-3
  discount: 0.9
  network: mlp
"""
SWEEP = """\
scenario: coinfer4
ppo: {total_steps: 800, num_envs: 16, num_minibatches: 2}
space:
  ppo.learning_rate: {grid: [1e-3, 1e-2]}
  tradeoff: {uniform: [5, 20]}
samples: 2
seeds: 3
evaluation: {num_envs: 4, num_slots: 20, state_every: 5}
metric: eval_gap
"""

# In the place of a number none of these is one that any field takes.
NO_NUMBERS = (
    *(
        "much",
        "'x'",
        "[]",
        "{}",
        "{a: 1}",
        "[[1]]",
        "true",
        ".nan",
        "nan",
        ".inf",
        "-.inf",
        "1e30",
        "-1e30",
        "9" * 400,
    ),
    *(
        "9" * 5000,
        "2020-13-45",
        "2020-01-01",
        "!!python/object/apply:os.getcwd []",
        "!!python/name:os.system ",
        "!x 1",
    ),
    *("&a [*a, *a]", "*a", "[" * 600 + "]" * 600, "[" + "0," * 20_000 + "0]", "!!binary aGVsbG8=", "!!set {1, 2}"),
)
NO_JSON_NUMBERS = ("NaN", "-Infinity", '"x"', "[]", "{}", "true", "-1", "1e30", "9" * 400, "9" * 5000, "[" * 5000)
ODD_NUMBERS = ("0", "-1", "1", "2e2", "1e-320", "2147483648", "4294967296", "0x10", "1_000", "1:30", "null", "0.5")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    text: str
    read: Callable[[Path], Any]  # what a command does with it; returns what was built


def kinds() -> list[Kind]:
    """All of them."""
    env, _ = jaxmec.make("coinfer4")

    def read_scenario(path: Path) -> Any:
        jaxmec.make(path)
        return build(Scenario, read_yaml(path), path)

    def read_run(path: Path) -> Any:
        run = build_run(read_yaml(path), path)
        jaxmec.make(run.scenario)
        try:
            run.algorithm.check(env)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        return run

    def read_sweep(path: Path) -> Any:
        sweep = load(path)
        builder = Builder(sweep)
        for index, point in enumerate(points(sweep)[:FEW_SETTINGS]):
            try:
                builder.setting(index, point)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
        return sweep

    def read_profile(path: Path) -> Any:
        profile = PartitionProfile.read(path)
        stages = devices.stage_seconds(profile, devices.load("jetson_nano"), devices.load("epyc_7742"))
        assert np.isfinite(stages.device_work_s).all()
        return profile

    profile = (ROOT / "jaxmec/profiles/zoo/alexnet.json").read_text()
    return [
        Kind("scenario.yaml", SCENARIO, read_scenario),
        Kind("run.yaml", RUN, read_run),
        Kind("sweep.yaml", SWEEP, read_sweep),
        Kind("profile.json", profile, read_profile),
    ]


def mutate(kind: Kind, rng: random.Random) -> tuple[bytes, bool]:
    """A changed file, and whether it must be refused."""
    how = rng.randrange(8)
    if how < 3:
        return _other_number(kind, rng)
    if how == 3:
        return _other_name(kind, rng)
    if how == 4:
        return _twice(kind, rng)
    return _bytes(kind.text.encode(), rng), False


def _other_number(kind: Kind, rng: random.Random) -> tuple[bytes, bool]:
    is_json = kind.name.endswith(".json")
    # Not within a name such as resnet18 or a text such as "float32[1,64]".
    place = rng.choice([*re.finditer(r"(?<=[\[ ,])-?\d[\d.e+-]*(?=[\],}\n])(?![^\n]*\]\")", kind.text)])
    wrong = rng.random() < 0.8
    other = rng.choice((NO_JSON_NUMBERS if is_json else NO_NUMBERS) if wrong else ODD_NUMBERS)
    return (kind.text[: place.start()] + other + kind.text[place.end() :]).encode(), wrong


def _other_name(kind: Kind, rng: random.Random) -> tuple[bytes, bool]:
    """A field, a class or a network that there is not."""
    place = rng.choice([*re.finditer(r"\w+(?=\"?: )", kind.text)])
    where = rng.randrange(place.start(), place.end())
    return (kind.text[:where] + "q" + kind.text[where:]).encode(), True


def _twice(kind: Kind, rng: random.Random) -> tuple[bytes, bool]:
    """A field that is given twice."""
    if kind.name.endswith(".json"):
        lines = kind.text.splitlines()[1:-1]
        return ("{\n" + rng.choice(lines).rstrip(",") + ",\n" + "\n".join(lines) + "\n}\n").encode(), True
    lines = [line for line in kind.text.splitlines() if re.match(r"\w+: \S", line)]
    return (kind.text + rng.choice(lines) + "\n").encode(), True


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of bytes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        b = min(b, a + rng.choice((1, 1, 8, 200)))
        tokens = (b"\x00", b"\xff\xfe", b"\t", b"\n", b"[", b"{", b"}", b": ", b"- ", b", ", b"*a", b"0", b"9")
        noise = rng.choice((rng.randbytes(rng.randint(1, 8)), *tokens))
        data = (
            rng.choice(
                (
                    data[:a] + noise + data[b:],
                    data[:a] + data[b:],
                    data[:b] + data[a:],
                    data[:a] + noise + data[a:],
                    data[: max(a, 1)],
                )
            )
            or b"\n"
        )
    return data


def disagreement(data: Any, built: Any, where: str = "") -> str | None:
    """The first value of plain data that was built into something else."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if name == "process":
                continue
            if isinstance(built, Mapping):
                inner = built[name]
            elif name in ("ppo", "white_box", "imitation", "evolution", "algorithm"):
                inner = built.algorithm
            else:
                inner = getattr(built, name)
            if name != "algorithm" and (found := disagreement(value, inner, f"{where}.{name}")):
                return found
        return None
    if isinstance(data, list):
        if len(data) != len(built):
            return f"{where}: {len(data)} items became {len(built)}"
        pairs = enumerate(zip(data, built, strict=True))
        return next((bad for i, (a, b) in pairs if (bad := disagreement(a, b, f"{where}[{i}]"))), None)
    if isinstance(built, bool) or data is None:
        return None if data is built else f"{where}: {data!r} became {built!r}"
    if isinstance(built, int | float | np.number):
        return None if float(data) == built else f"{where}: {data!r} became {built!r}"
    return None if str(data) == str(built) else f"{where}: {data!r} became {built!r}"


def judge(kind: Kind, content: bytes, must_refuse: bool, path: Path) -> tuple[str, str]:
    """ "accepted", "refused", or what is wrong, and the details."""
    path.write_bytes(content)
    try:
        built = kind.read(path)
    except ConfigError as error:
        text = str(error)
        if "\n" in text or len(text) > 300 or not text.isprintable():
            return "not one line of at most 300 characters", text
        return ("refused", text) if kind.name in text else ("does not name the file", text)
    except Exception:
        return "traceback", traceback.format_exc()
    if must_refuse:
        return "accepted what is wrong", repr(built)
    if kind.name.endswith(".yaml"):
        plain = yaml.load(content, Loader=PLAIN_LOADER if b"!!" in content else LOADER)
    else:
        plain = json.loads(content)
        del plain["format"], plain["crossing"]
        plain = {name: list(value) if isinstance(value, list) else value for name, value in plain.items()}
    try:
        found = disagreement(plain, built)
    except Exception:
        found = traceback.format_exc()
    return ("read as something else", found) if found else ("accepted", "")


def fuzz(count: int, seed: int) -> tuple[collections.Counter, list[str], float]:
    """Read mutated files; returns how many of each kind ended how, what went wrong, and the longest time in s."""
    tally: collections.Counter = collections.Counter()
    wrong: list[str] = []
    longest_s = 0.0
    files = kinds()

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"longer than {LONGEST_S} s")

    previous = signal.signal(signal.SIGPROF, too_long)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                rng = random.Random(f"{seed}-{number}")
                kind = files[number % len(files)]
                content, must_refuse = mutate(kind, rng)
                started = time.process_time()
                signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
                verdict, details = judge(kind, content, must_refuse, Path(folder) / kind.name)
                signal.setitimer(signal.ITIMER_PROF, 0)
                longest_s = max(longest_s, time.process_time() - started)
                tally[kind.name, verdict] += 1
                if verdict not in ("accepted", "refused"):
                    wrong.append(
                        f"file {number} of seed {seed}, {kind.name}: {verdict}: {details}\n{content[:3000]!r}"
                    )
    finally:
        signal.signal(signal.SIGPROF, previous)
    return tally, wrong, longest_s


def main() -> int:
    """Run the command; returns 1 if a file did what none may do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="files")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    flags = parser.parse_args()
    started = time.process_time()
    tally, wrong, longest_s = fuzz(flags.count, flags.seed)
    print(*wrong[:20], sep="\n\n")
    for (kind, verdict), number in sorted(tally.items()):
        print(f"{kind:15} {verdict:40} {number:6}")
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    whole_s = time.process_time() - started
    print(
        f"{flags.count} files in {whole_s:.0f} s of processor time; longest {longest_s:.2f} s, peak {peak_gb:.2f} GB"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
