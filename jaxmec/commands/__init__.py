"""The command `jaxmec`, a file per subcommand.

    jaxmec train --num-envs 4096
    jaxmec eval --run runs/district10-seed0
    jaxmec sweep --config sweep.yaml
    jaxmec profile resnet50 --device raspberry_pi_4

Each file has main(argv, program): the flags, the name under which they were called, and the exit status returned.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

import jaxmec

COMMANDS = {
    "train": "train a policy that cuts networks",
    "eval": "compare policies on held-out episodes",
    "sweep": "train with many settings and seeds",
    "profile": "tell where a network should be cut",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand with the rest of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="jaxmec",
        description="Cooperative edge inference in JAX.",
        epilog="commands:\n"
        + "\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items())
        + "\n\njaxmec COMMAND --help lists the flags of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=jaxmec.__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    command = importlib.import_module(f"jaxmec.commands.{chosen.command}")
    return command.main(chosen.flags, f"jaxmec {chosen.command}")
