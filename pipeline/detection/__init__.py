"""Run a detector over tables of scenes; calibrate, evaluate and store its detections."""
