"""The learner: Flax actor-critics, PPO, and the policies of finished runs."""

from jaxmec.agents.ppo import PPOConfig, make_train
from jaxmec.agents.run import RunConfig, load_config, load_policy

__all__ = ["PPOConfig", "RunConfig", "load_config", "load_policy", "make_train"]
