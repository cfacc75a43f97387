"""Sections of `eval/benchmark.py`: each is a function from `Settings` to rows."""
