"""Find images that stand in two splits, or were copied from training."""
