"""Scores of pixels: mIoU, accuracy, mask IoU."""
