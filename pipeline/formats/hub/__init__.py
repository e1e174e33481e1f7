"""Parquet data sets of the Hugging Face hub."""
