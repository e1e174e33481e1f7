"""Panoptic-aware convolution and upsampling (Dundar et al. 2020): reference, fast, fused and Triton forms."""
