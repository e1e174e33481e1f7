"""Detector, generator and discriminator trained together (docs/joint.md)."""
