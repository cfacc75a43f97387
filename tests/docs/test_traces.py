"""The page on traces: its example runs, and its numbers are what the example prints."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def test_the_example_gives_the_numbers_of_the_table():
    page = (ROOT / "docs/traces.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.S).group(1)
    names = {}
    exec(code.replace('"docs/', f'"{ROOT}/docs/'), names)
    fit = names["fit"]
    low, high, stay_low, stay_high, share = map(
        float, re.search(r"\| ([\d.]+), ([\d.]+) \| ([\d.]+), ([\d.]+) \| ([\d.]+) \| 0.68", page).groups()
    )
    np.testing.assert_allclose([fit.low_hz, fit.high_hz, fit.high_share], [low, high, share], atol=6e-3)
    np.testing.assert_allclose(fit.stay_probability, [stay_low, stay_high], atol=6e-4)


def test_the_script_makes_the_shipped_files(tmp_path):
    script = ROOT / "docs/examples/traces/make.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for name in ("capacity.txt", "capacity.csv", "capacity.up", "requests.csv"):
        assert (tmp_path / name).read_text() == (script.parent / name).read_text()
