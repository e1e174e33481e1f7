"""The embedded toy data set, drawn from an index."""
