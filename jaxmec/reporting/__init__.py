"""What commands show and leave behind.

console.py    the terminal: messages, errors, progress
tables.py     tables for it
style.py      the one style of every figure
figures/      the figures, one file per subject
files.py      files that are replaced whole, CSV
interactive.py  figures that answer to the mouse
report.py     findings, tables and figures in one HTML file
loggers.py    a training run's metrics, row by row
"""
