"""A package by name, so that `python -m tests.parity` finds it before a library's own `tests`."""
