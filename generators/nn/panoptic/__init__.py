"""Panoptic-aware convolution and upsampling (Dundar et al. 2020)."""
