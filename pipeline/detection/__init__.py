"""Detectors over tables of scenes: calibration, evaluation, stored detections."""
