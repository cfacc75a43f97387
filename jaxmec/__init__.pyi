"""What `import jaxmec` offers, listed once: type checkers read this file, and __init__.py loads by it."""

from jaxmec import (
    agents as agents,
    allocation as allocation,
    channel as channel,
    closed_form as closed_form,
    delay as delay,
    devices as devices,
    environment as environment,
    evaluation as evaluation,
    export as export,
    latency as latency,
    long_run as long_run,
    lyapunov as lyapunov,
    observation as observation,
    policies as policies,
    profiles as profiles,
    reporting as reporting,
    requests as requests,
    reward as reward,
    rollout as rollout,
    runtime as runtime,
    scenario as scenario,
    spaces as spaces,
    sweeps as sweeps,
    workload as workload,
    wrappers as wrappers,
)
from jaxmec.env import EdgeInferenceEnv as EdgeInferenceEnv, EnvParams as EnvParams, EnvState as EnvState
from jaxmec.scenario import make as make, scenarios as scenarios

__version__: str
