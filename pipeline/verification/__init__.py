"""Does each object show what its label says: thresholds, verdicts, policy."""
