"""What commands show and leave behind.

console.py    the terminal: messages, errors, progress
tables.py     tables for it
style.py      the one style of every figure
figures/      the figures, one file per subject
files.py      files that are replaced whole, CSV
loggers.py    a training run's metrics, row by row
"""
