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
best_of.py         whichever of several policies is best in a slot
own.py             a function of one's own file, FILE.py:FUNCTION
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxmec.config import ConfigError
from jaxmec.env import EdgeInferenceEnv
from jaxmec.environment import Policy
from jaxmec.policies.best_of import best_of
from jaxmec.policies.best_response import best_response
from jaxmec.policies.exhaustive import exhaustive
from jaxmec.policies.once import once
from jaxmec.policies.own import load_own, split_own
from jaxmec.policies.price import price
from jaxmec.policies.rules import closed_form, edge_only, greedy, local_only, random_cuts
from jaxmec.policies.static import load_table, lookup, static

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

LEARNED = "learned"  # what commands call a run's policy

__all__ = ["BASELINES", "LEARNED", "POLICIES", "Policy", "best_of", "make_policies", "make_policy", "policy_names"]


def policy_names() -> tuple[str, ...]:
    """Names that `make_policy` knows."""
    return tuple(POLICIES)


def make_policy(name: str | Path, env: Any) -> Policy:
    """A policy for an environment.

    Args:
      name: one of `policy_names()`, the folder of a training run, a fitted table's file (JSON, see
        `jaxmec.policies.static`), or FILE.py:FUNCTION, a function of one's own from an environment to a policy, which
        is tried at once (see `jaxmec.policies.own`).
      env: the environment whose shapes the policy serves; an `EdgeInferenceEnv` for those of `policy_names()`.

    Returns:
      policy(key, state, params) -> int32[N], valid cuts.

    Raises:
      ValueError: for a name that is none of them, a folder without a run, a system too large for `exhaustive`, or a
        function whose policy has a wrong signature, shape, type or cut.
    """
    if name in POLICIES:
        return POLICIES[str(name)](env)
    if Path(name).is_dir():
        from jaxmec.agents import load_policy

        return load_policy(name, env)
    if Path(name).suffix == ".json":
        return lookup(load_table(Path(name), env.network_names, env.device_names))
    if own := split_own(str(name)):
        return load_own(*own, env)
    raise ValueError(
        f"policy: got {str(name)!r}; allowed are {', '.join(POLICIES)}, the folder of a run, a table's JSON file or "
        "FILE.py:FUNCTION"
    )


def make_policies(
    names: Iterable[str], env: Any, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Policy]:
    """Policies by what tables call them: a name or folder itself, a function of one's own by its name.

    Args:
      names: of policies, see `make_policy`.
      env: that they act in.
      tell: is told which rule or search is being made; a table takes some seconds.

    Raises:
      ValueError: as `make_policy`, and for a function that is called as another policy.
    """
    labels: dict[str, str] = {}
    for name in names:
        own = split_own(name)
        label = own[1] if own else name
        if labels.setdefault(label, name) != name or (own and label in (*POLICIES, LEARNED)):
            raise ConfigError(f"{name}: got {label!r}; allowed is a name that no other policy has")
    made = {}
    for label, name in sorted(labels.items(), key=lambda labelled: labelled[1] in POLICIES):
        if name in POLICIES:  # after everything that may be refused
            tell(f"making {label}")
        made[label] = make_policy(name, env)
    return {label: made[label] for label in labels}
