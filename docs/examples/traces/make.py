"""Write the synthetic recordings of this folder: python docs/examples/traces/make.py [FOLDER].

capacity.{txt,csv,up}   half a minute of a fading uplink, in the three formats that a channel reads
requests.csv            ten minutes of requests that come in bursts
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

STEPS_PER_S = 4
DURATION_S = 30
MEAN_MBPS = 2.0
BURST_S, LULL_S = 8.0, 24.0  # mean durations
BURST_HZ, LULL_HZ = 4.0, 0.25
PACKET_MBIT = 0.012


def main(folder: Path) -> None:
    """Write every file."""
    random = np.random.default_rng(0)
    time_s, rate_mbps = capacity(random)
    lines = [f"{t:.2f} {r:.4f}" for t, r in zip(time_s, rate_mbps, strict=True)]
    (folder / "capacity.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{1000 * t:.0f},{1000 * r:.1f}" for t, r in zip(time_s, rate_mbps, strict=True)]
    (folder / "capacity.csv").write_text("\n".join(["time_ms,uplink_kbps", *rows]) + "\n")
    packets = [f"{ms}" for ms in packet_times_ms(time_s, rate_mbps)]
    (folder / "capacity.up").write_text("\n".join(packets) + "\n")
    times = [f"{t:.3f}" for t in request_times_s(random)]
    (folder / "requests.csv").write_text("\n".join(["time_s", *times]) + "\n")


def capacity(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Times [T] and the rate [T] since the time before: a log-normal process with a memory of two seconds."""
    time_s = np.arange(DURATION_S * STEPS_PER_S + 1) / STEPS_PER_S
    memory = np.exp(-1 / (2.0 * STEPS_PER_S))
    level = np.zeros(len(time_s))
    for step in range(1, len(time_s)):
        level[step] = memory * level[step - 1] + np.sqrt(1 - memory**2) * random.normal()
    return time_s, MEAN_MBPS * np.exp(0.6 * level - 0.18)


def packet_times_ms(time_s: np.ndarray, rate_mbps: np.ndarray) -> np.ndarray:
    """When another packet of 1,500 bytes has become possible; the last time is the recording's end."""
    sent_mbit = np.append(0.0, np.cumsum(np.diff(time_s) * rate_mbps[1:]))
    packets = np.arange(1, int(sent_mbit[-1] / PACKET_MBIT)) * PACKET_MBIT
    return np.append(np.interp(packets, sent_mbit, time_s) * 1000, 1000 * DURATION_S).astype(int)


def request_times_s(random: np.random.Generator) -> np.ndarray:
    """Poisson requests at two rates, each held for exponential times."""
    times, start, burst = [], 0.0, False
    while start < 600.0:
        length = random.exponential(BURST_S if burst else LULL_S)
        number = random.poisson(length * (BURST_HZ if burst else LULL_HZ))
        times.append(start + length * np.sort(random.random(number)))
        start, burst = start + length, not burst
    return np.concatenate(times)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
