"""jaxmec: cooperative edge inference in JAX.

env, params = jaxmec.make("coinfer10")
obs, state = env.reset(key, params)
obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)
"""

from jaxmec.env import EdgeInferenceEnv, EnvParams, EnvState
from jaxmec.scenarios import make, scenarios

__all__ = ["EdgeInferenceEnv", "EnvParams", "EnvState", "make", "scenarios"]
