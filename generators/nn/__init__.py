"""Layers that more than one paper system is built from."""
