"""The bound against the dual's true maximum, over thousands of random systems.

    python tests/allocation/many_bounds.py --systems 1000

Told are, for every number of users, how far the bound stays below the maximum that grids find in float64, what it says
of that itself, and the time of one bound.
"""

import argparse
import time

import jax
import numpy as np
from small_systems import dual_maxima, random_systems

from jaxmec.allocation import lower_bound

USERS = (1, 2, 3, 5, 10)
SEED = 1000  # other systems than the tests'


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=int, default=1000, help="of every number of users")
    flags = parser.parse_args()
    print("users  systems  shortfall: mean      p99.9        max  told at most  µs per bound")
    for num_users in USERS:
        problems, masks = random_systems(num_users, flags.systems, seed=SEED + num_users)
        compiled = jax.jit(jax.vmap(lower_bound)).lower(problems, masks).compile()
        started = time.perf_counter()
        bound = jax.block_until_ready(compiled(problems, masks))
        microseconds = 1e6 * (time.perf_counter() - started) / flags.systems
        best, told = dual_maxima(problems, masks), np.asarray(bound.uncertainty).max()
        short = 1.0 - np.asarray(bound.value, np.float64)[best > 0] / best[best > 0]
        mean, p999, most = np.mean(short), np.percentile(short, 99.9), np.max(short)
        print(
            f"{num_users:5}  {flags.systems:7}  {mean:15.1e}  {p999:9.1e}  {most:9.1e}  {told:12.1e}"
            f"  {microseconds:12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
