"""Sweeps: many settings and seeds of a training run, in as few compilations as shapes allow.

config.py       what a file may say, and the settings that it stands for
plan.py         settings built and grouped by what can share a compilation
vectorised.py   a group's chunk of trials as one compiled call
chunks.py       running chunks here, on_ray.py on Ray Tune
folder.py       what a sweep leaves behind, and resuming it
ranking.py, report.py    what came of it
"""
