"""LVIS annotations."""
