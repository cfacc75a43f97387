"""How much of everything: the full study, and a quick one for newcomers and tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studies import (
    ablations,
    cuts,
    generality,
    learning,
    percentiles,
    policies,
    sensitivity,
    tradeoff,
    trajectories,
    users,
)
from studies.learning import Learner
from studies.percentiles import ON_REQUESTS
from studies.study import Found, Size

# Part -> what computes it, in the order of the report.
PARTS: dict[str, Callable[..., Found]] = {
    "policies": policies.run,
    "learning": learning.run,
    "tradeoff": tradeoff.run,
    "sensitivity": sensitivity.run,
    "users": users.run,
    "trajectories": trajectories.run,
    "cuts": cuts.run,
    "percentiles": percentiles.run,
    "ablations": ablations.run,
    "generality": generality.run,
}

PLAYERS = (
    "local_only", "edge_only", "random", "static", "once", "greedy", "closed_form", "price", "best_response",
    "exhaustive",
)  # fmt: skip
QUICK_PLAYERS = ("edge_only", "greedy", "closed_form", "best_response")
CONTENDERS = ("closed_form", "price")  # beside the reference and the learner
REFERENCE = "best_response"

MLP = {"algorithm": "ppo", "ppo": {"network": "mlp", "width": 256}}


def full() -> dict[str, Any]:
    """Configurations of the full study, by part."""
    size = Size(16, 200)
    return {
        "policies": policies.Config(Size(32, 300)),
        "learning": learning.Config(
            (
                Learner("learned", {}, 5),
                Learner("learned, MLP", MLP, 3),
                Learner(
                    "learned, white box", {"algorithm": "white_box", "white_box": {"total_steps": 800_000}}, 3
                ),
            ),
            Size(32, 200),
            points=60,
        ),
        "tradeoff": tradeoff.Config(size, (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), CONTENDERS),
        "sensitivity": sensitivity.Config(
            size,
            {
                "bandwidth": (0.5, 0.75, 1.0, 2.0, 4.0),
                "arrival rate": (0.5, 0.75, 1.0, 1.25, 1.5),
                "server capacity": (0.25, 0.5, 1.0, 2.0, 4.0),
                "energy budgets": (0.5, 0.75, 1.0, 1.5, 2.0),
                "distance": (0.5, 0.75, 1.0, 1.25, 1.5),
            },
            ("closed_form",),
        ),
        "users": users.Config(Size(8, 100), (4, 10, 20, 50, 100, 200), ("closed_form",), (REFERENCE,), 20),
        "trajectories": trajectories.Config(Size(16, 600), ("edge_only", "closed_form"), points=150),
        "cuts": cuts.Config(Size(32, 200)),
        "percentiles": percentiles.Config(
            16,
            400,
            None,
            ("edge_only", "greedy", "closed_form"),
            Learner(ON_REQUESTS, {"fidelity": "requests", "ppo": {"total_steps": 1_000_000, "num_envs": 1024}}, 1),
        ),
        "ablations": ablations.Config(Size(16, 200), tuple(ablations.VARIANTS)[1:]),
        "generality": generality.Config(
            Size(8, 60), ("district10:4", "district10:20", "coinfer10", "coinfer4", "llm_split", "mobile")
        ),
    }


def quick() -> dict[str, Any]:
    """Configurations of the quick study, by part."""
    size = Size(8, 30, 250)
    learner = {"ppo": {"total_steps": 20_480, "num_envs": 256, "num_minibatches": 8}}
    return {
        "policies": policies.Config(size, timed=False),
        "learning": learning.Config((Learner("learned", learner, 2),), size, points=20),
        "tradeoff": tradeoff.Config(size, (0.1, 1.0, 10.0), ("closed_form",)),
        "sensitivity": sensitivity.Config(size, {"bandwidth": (0.5, 1.0, 2.0)}, ("closed_form",)),
        "users": users.Config(size, (), (), (), 0),
        "trajectories": trajectories.Config(Size(8, 60), ("closed_form",), points=30),
        "cuts": cuts.Config(size),
        "percentiles": percentiles.Config(4, 50, 50, ("closed_form",), None),
        "ablations": ablations.Config(size, ("energy ignored",)),
        "generality": generality.Config(size, ()),
    }
