"""Mutated inputs for every reader, in child processes with limits: `python -m tests.fuzz OUT`."""
