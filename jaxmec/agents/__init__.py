"""The learner: Flax actor-critics, PPO, and policies from finished runs."""

from jaxmec.agents.ppo import PPOConfig, make_train

__all__ = ["PPOConfig", "make_train"]
