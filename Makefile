# `make train`, `make test` and `make lint` set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test results lint types docs wheel examples clean

train: $(VENV)/.ready
	$(RUN) train/main.py

test: $(VENV)/.ready
	$(RUN) -m pytest

# The whole study and its report, runs/suite/report.html. FLAGS="--quick", or "--policy mine.py:by_battery".
results: $(VENV)/.ready
	$(RUN) eval/suite.py $(FLAGS)

lint: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.ready
	$(RUN) -m mypy

docs: $(VENV)/.ready
	$(RUN) -m sphinx -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

wheel: $(VENV)/.ready
	.ci/wheel

# The examples at their full length, with the built-in learner beside those of other stacks: tens of minutes.
EXAMPLES := bandwidth_sweep layer_in_a_model next_megahertz own_parts split_spectrum foreign_environment
STACKS := evosax_search flashbax_loop jaxmarl_loop purejaxrl_loop rejax_learners sb3_learners

examples: $(VENV)/.stacks
	test -d build/built_in || $(RUN) train/main.py --scenario coinfer4 --total-steps 200000 --num-envs 256 --out build/built_in
	set -e; for name in $(EXAMPLES); do echo "== $$name"; $(RUN) docs/examples/$$name.py; done
	set -e; for name in $(STACKS); do echo "== $$name"; $(RUN) docs/examples/stacks/$$name.py --built-in build/built_in; done
	$(RUN) docs/examples/export_policy.py closed_form build
	$(RUN) docs/examples/gateway.py build/gateway.jaxexport build/measured.npz

$(VENV)/.stacks: $(VENV)/.ready
	$(RUN) -m pip install --quiet -e ".[stacks]"
	touch $@

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "jaxmec needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build docs/_build docs/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache
