"""Execution of work: pools of workers, Ray, the training loop, progress."""
