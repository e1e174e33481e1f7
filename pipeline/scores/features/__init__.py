"""Scores of feature distributions.

FID, KID, IS, PRDC, LPIPS diversity, nearest images.
"""
