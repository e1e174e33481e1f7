"""Synthetic training data for long-tailed detection."""
