"""Where work runs: pools of workers, Ray, the training loop, progress."""
