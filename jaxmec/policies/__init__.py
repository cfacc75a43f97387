"""Rules and searches that choose cuts, all of one signature: policy(key, state, params) -> int32[N].

Every policy is a pure function that works under jit and vmap, and every one is followed by the same exact
allocation of the slot's resources. A new policy is one file, a function from an environment to a policy, and one
line of `POLICIES`.

rules.py           local_only, edge_only, random, greedy, closed_form: no search
static.py          a lookup table by network and device class, fitted to the system
once.py            one search per episode
best_response.py   local search over single users' cuts
price.py           the rounding of the certified lower bound, polished
exhaustive.py      every combination of cuts, for small systems
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxmec.env import EdgeInferenceEnv
from jaxmec.environment import Policy
from jaxmec.policies.best_response import best_response
from jaxmec.policies.exhaustive import exhaustive
from jaxmec.policies.once import once
from jaxmec.policies.price import price
from jaxmec.policies.rules import closed_form, edge_only, greedy, local_only, random_cuts
from jaxmec.policies.static import static

POLICIES: dict[str, Callable[[EdgeInferenceEnv], Policy]] = {
    "local_only": local_only,
    "edge_only": edge_only,
    "random": random_cuts,
    "static": static,
    "once": once,
    "greedy": greedy,
    "closed_form": closed_form,
    "best_response": best_response,
    "price": price,
    "exhaustive": exhaustive,
}

# What a learned policy stands beside.
BASELINES = (
    "local_only", "edge_only", "random", "static", "once", "greedy", "closed_form", "best_response",
)  # fmt: skip

__all__ = ["BASELINES", "POLICIES", "Policy", "make_policy", "policy_names"]


def policy_names() -> tuple[str, ...]:
    """Names that `make_policy` knows."""
    return tuple(POLICIES)


def make_policy(name: str | Path, env: Any) -> Policy:
    """A policy for an environment.

    Args:
      name: one of `policy_names()`, or the folder of a training run.
      env: the environment whose shapes the policy serves; an `EdgeInferenceEnv` for all but a run's folder.

    Returns:
      policy(key, state, params) -> int32[N], valid cuts.

    Raises:
      ValueError: for a name that is neither, a folder without a run, or a system too large for `exhaustive`.
    """
    if name in POLICIES:
        return POLICIES[str(name)](env)
    if Path(name).is_dir():
        from jaxmec.agents import load_policy

        return load_policy(name, env)
    raise ValueError(f"policy: got {str(name)!r}; allowed are {', '.join(POLICIES)} or the folder of a run")
