"""Parts of the study that `eval/suite.py` runs: each computes plain rows, and neither draws nor words anything.

study.py         the system, who plays in it, and what a part needs of both
cache.py         what has been found, kept by content
plan.py          how much of everything: quick and full
policies.py      everyone in the scenario as it is
learning.py      learners over seeds, against slots and seconds
tradeoff.py      the Lyapunov trade-off constant over three decades
sensitivity.py   band, arrivals, server, energy budgets and distance
users.py         the number of users
trajectories.py  slot by slot, from empty queues
cuts.py          which cut, by network, device, channel, queue and arrivals
percentiles.py   what requests meet
ablations.py     the system without one of its parts
generality.py    a learned policy in other systems
findings.py      sentences from rows
present.py       tables and figures from rows
pages.py         still pictures, and results in the documentation
"""
