"""Make the files that docs/examples/gateway.py runs: a policy as StableHLO, and a slot's measurements.

    python docs/examples/export_policy.py [RUN or POLICY] [FOLDER]

A run is the folder of a training run on coinfer10; without one the closed form is exported.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np

import jaxmec
from jaxmec import export


def main(policy: str = "closed_form", folder: str = ".") -> None:
    """Write gateway.jaxexport and measured.npz."""
    env, params = jaxmec.make("coinfer10")
    program = export.export_policy(policy, env)
    export.save(Path(folder) / "gateway.jaxexport", program)
    _, state = env.reset(jax.random.key(0), params)
    np.savez(Path(folder) / "measured.npz", **export.measurements(env, state, params))
    print(f"{policy} for {', '.join(program.platforms)}: {Path(folder) / 'gateway.jaxexport'}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
