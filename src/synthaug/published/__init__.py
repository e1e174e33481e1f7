"""Weights that others published: their files, read without running anything."""

NAMES = ("alexnet", "vgg16")  # of convolutions that a package has (convolutions.py)
