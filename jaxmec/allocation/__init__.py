"""The allocation layer: exact, differentiable shares of device speed, band and server for given cuts.

It stands alone: nothing here knows the environment.
"""

from jaxmec.allocation._allocate import MIN_GAIN, Allocation, Status, allocate
from jaxmec.allocation._bound import LowerBound, cut_costs, lower_bound
from jaxmec.allocation._certify import Certificate, CertifyStatus, certify
from jaxmec.allocation._problem import (
    CUT_LEAVES,
    DOMAIN,
    OPTIONAL_LEAVES,
    SHARED_LEAVES,
    USER_LEAVES,
    Outcome,
    SlotProblem,
    evaluate,
    objective,
    stage_times,
)
from jaxmec.allocation._rounding import Rounding, round_bound
from jaxmec.allocation._solver import SolverConfig

__all__ = [
    "CUT_LEAVES",
    "DOMAIN",
    "MIN_GAIN",
    "OPTIONAL_LEAVES",
    "SHARED_LEAVES",
    "USER_LEAVES",
    "Allocation",
    "Certificate",
    "CertifyStatus",
    "LowerBound",
    "Outcome",
    "Rounding",
    "SlotProblem",
    "SolverConfig",
    "Status",
    "allocate",
    "certify",
    "cut_costs",
    "evaluate",
    "lower_bound",
    "objective",
    "round_bound",
    "stage_times",
]
