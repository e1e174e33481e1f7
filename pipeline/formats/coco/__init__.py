"""COCO instances, panoptic, stuff and results."""
