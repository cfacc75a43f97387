"""A gateway decides every slot, on one core, with JAX, its file format flatbuffers, and NumPy alone.

    python docs/examples/export_policy.py runs/one      # where jaxmec is installed
    python docs/examples/gateway.py gateway.jaxexport measured.npz

`measured.npz` has the arrays that `jaxmec.export.export_policy` lists, each with a leading batch axis: what the radio
reports (snr), what was counted (arrival_rate_hz), the virtual queues that the gateway keeps, and the tables of what
each cut demands.
"""

import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np

DECISIONS = 200


def main(program_file: str, measured_file: str) -> None:
    """Load, decide, and tell how long a decision takes."""
    with open(program_file, "rb") as file:
        decide = jax.jit(jax.export.deserialize(bytearray(file.read())).call)
    with np.load(measured_file) as archive:
        measured = dict(archive)

    decision = jax.device_get(decide(measured))  # compiles
    for user, cut in enumerate(decision["cut"][0]):
        shares = ", ".join(
            f"{name} {decision[f'{name}_share'][0, user]:.3f}" for name in ("device", "bandwidth", "server")
        )
        print(f"user {user}: cut {cut}; {shares}")

    seconds, busy = [], time.process_time()
    for _ in range(DECISIONS):
        begin = time.perf_counter()
        jax.device_get(decide(measured))
        seconds.append(time.perf_counter() - begin)
    median, slow = np.percentile(seconds, [50, 95])
    busy = (time.process_time() - busy) / DECISIONS
    print(
        f"a decision takes {1e3 * median:.2f} ms (p95 {1e3 * slow:.2f} ms) on one core, busy {1e3 * busy:.2f} ms of it"
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
