"""Measures the data path against its targets: ``make bench``, or ``python -m tests.bench --help``."""
