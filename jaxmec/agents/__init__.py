"""Learning algorithms, the runs that they leave, and the policies of finished runs.

algorithm.py      what a learning algorithm is; a whole run as one function
gradient.py       what learners by gradients share
ppo.py, white_box.py, imitation.py, evolution.py    the algorithms
actor_critic.py   the learned policy
networks.py, running.py, distribution.py, advantage.py    its parts
sharding.py       many devices
run.py            a run's folder
trainer.py        a run from its first update to its last
"""

from jaxmec.agents.algorithm import Algorithm, Learner, Result, make_train
from jaxmec.agents.evolution import Evolution
from jaxmec.agents.imitation import Imitation
from jaxmec.agents.ppo import PPO, PPOConfig
from jaxmec.agents.run import ALGORITHMS, RunConfig, load_config, load_policy
from jaxmec.agents.white_box import WhiteBox

__all__ = [
    "ALGORITHMS",
    "PPO",
    "Algorithm",
    "Evolution",
    "Imitation",
    "Learner",
    "PPOConfig",
    "Result",
    "RunConfig",
    "WhiteBox",
    "load_config",
    "load_policy",
    "make_train",
]
