"""Scenes and what everything else stands on: masks, images, seeds, storage, errors."""
