"""The examples of docs/extending.md run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/extending.md"


def test_every_block_runs_after_the_ones_before(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 5
    checks = """
assert float(env.reset(jax.random.key(0), params)[1].device_queue.sum()) == 0
assert result.metrics["policy_loss"][-1] < 0.7 * result.metrics["policy_loss"][0]
_, state = fair.reset(jax.random.key(0), params)
after = fair.step_env(jax.random.key(1), state, jnp.zeros(4, jnp.int32), params)
assert float(after[2]) == -float(after[4]["delay_s"].max())
ramp, ramp_params = jaxmec.make("coinfer4", arrivals={"process": "ramp", "slots": 10})
_, state = ramp.reset(jax.random.key(0), ramp_params)
rates = ramp.slot_problem(state, jnp.zeros(4, jnp.int32), ramp_params).arrival_rate_hz
assert jnp.allclose(rates, ramp_params.workload.low_hz)
"""
    script = tmp_path / "extending.py"
    script.write_text("\n".join([*blocks, checks]))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
