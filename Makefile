# `make train`, `make test` and `make lint` set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test lint types docs clean

train: $(VENV)/.ready
	$(RUN) train/main.py

test: $(VENV)/.ready
	$(RUN) -m pytest

lint: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.ready
	$(RUN) -m mypy

docs: $(VENV)/.ready
	$(RUN) -m sphinx -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "jaxmec needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build docs/_build docs/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache
