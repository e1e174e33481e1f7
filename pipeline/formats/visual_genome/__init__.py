"""Visual Genome objects."""
