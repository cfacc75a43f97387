"""Training that is killed at random moments and resumed: the metrics and the policy of an uninterrupted run.

    python -m tests.robustness.kill_runs --count 100

Every kill is a SIGKILL of a real process of `train/main.py`: one in five while it starts or compiles, the others at
a random moment of its updates, in the middle of a checkpoint as often as not. A run is killed up to `KILLS_PER_RUN`
times before it may end.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
UPDATES = 300
KILLS_PER_RUN = 10
FLAGS = (
    *("--scenario", "coinfer4", "--num-envs", "16", "--num-steps", "2", "--num-minibatches", "2", "--width", "8"),
    *("--total-steps", str(16 * 2 * UPDATES)),
)
ALWAYS = ("--checkpoint-every", "1", "--no-evaluate")
LONGEST_START_S = 600.0


def start(folder: Path, cache: Path) -> subprocess.Popen:
    """The command, new or resumed."""
    flags = ("--resume",) if (folder / "config.yaml").exists() else FLAGS
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = compiled | os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train/main.py"), "--out", str(folder), *flags, *ALWAYS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finish(folder: Path, cache: Path) -> str | None:
    """Let a run end; returns what it said if it failed."""
    process = start(folder, cache)
    output = process.communicate()[0]
    return output if process.returncode else None


def kill(folder: Path, cache: Path, rng: random.Random) -> str:
    """Start, and kill at a random moment; returns in which part of the run that was, or "ended" if it came too late."""
    before = newest(folder)
    process = start(folder, cache)
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0.0, 8.0))
        phase = "starting"
    else:
        limit = time.monotonic() + LONGEST_START_S
        while newest(folder) == before and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.5))
        phase = "training"
    process.kill()
    process.communicate()
    return phase if process.returncode < 0 else "ended"


def newest(folder: Path) -> str:
    """Name of the newest checkpoint."""
    names = [path.name for path in (folder / "checkpoints").glob("*.msgpack")]
    return max(names, default="")


def differences(folder: Path, whole: Path) -> list[str]:
    """Files of a resumed run that are not those of an uninterrupted one."""
    names = ("metrics.csv", "policy.msgpack", f"checkpoints/{UPDATES:08d}.msgpack")
    return [name for name in names if (folder / name).read_bytes() != (whole / name).read_bytes()]


def kill_runs(count: int, seed: int, minutes: float = float("inf")) -> tuple[dict[str, int], int, list[str]]:
    """Kill and resume; returns kills by part of the run, runs that were compared, and what went wrong."""
    rng = random.Random(seed)
    kills: dict[str, int] = {}
    runs, wrong = 0, []
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "compiled"
        if said := finish(folder / "whole", cache):
            return kills, runs, [f"the uninterrupted run: {said}"]
        while sum(kills.values()) < count and time.monotonic() < until:
            run = folder / str(runs)
            for _ in range(min(KILLS_PER_RUN, count - sum(kills.values()))):
                phase = kill(run, cache, rng)
                if phase == "ended":
                    break
                kills[phase] = kills.get(phase, 0) + 1
                if time.monotonic() > until:
                    break
            said = finish(run, cache)
            wrong += [f"run {runs}: {said}"] if said else []
            wrong += [f"run {runs}: {file} differs" for file in differences(run, folder / "whole")]
            runs += 1
    return kills, runs, wrong


def main() -> int:
    """Run the command; returns 1 if a run was not what it would have been."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no further kills after so many")
    flags = parser.parse_args()
    kills, runs, wrong = kill_runs(flags.count, flags.seed, flags.minutes)
    print(*wrong, sep="\n")
    parts = ", ".join(f"{number} while {phase}" for phase, number in sorted(kills.items()))
    print(f"{sum(kills.values())} kills ({parts}) of {runs} runs of {UPDATES} updates; {len(wrong)} differences")
    return 1 if wrong or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
