"""YOLO text labels and data.yaml."""
