"""Measure a job's scores: extract per image, store records, reduce."""
