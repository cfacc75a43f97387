"""What policies are judged by.

comparison.py   every policy on the same episodes and at the same states
equal_energy.py delay against energy, by multiples of the budgets' multipliers
vary.py         policies against one field of a scenario
tables.py       the comparison as rows and tables
statistics.py   means and confidence intervals
"""

from jaxmec.evaluation.comparison import (
    Comparison,
    EvaluationConfig,
    LongRun,
    Slots,
    at_equal_energy,
    compare,
    decision_seconds,
    evaluate_policies,
    long_runs,
    objectives_at,
)
from jaxmec.evaluation.statistics import (
    bootstrap_interval,
    holm,
    interquartile_mean,
    mean_and_interval,
    paired_difference,
    paired_p_value,
)

__all__ = [
    "Comparison",
    "EvaluationConfig",
    "LongRun",
    "Slots",
    "at_equal_energy",
    "bootstrap_interval",
    "compare",
    "decision_seconds",
    "evaluate_policies",
    "holm",
    "interquartile_mean",
    "long_runs",
    "mean_and_interval",
    "objectives_at",
    "paired_difference",
    "paired_p_value",
]
