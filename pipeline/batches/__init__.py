"""Batches of tensors from tables of scenes: a pure function of the step index."""
