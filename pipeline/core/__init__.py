"""Scenes, and what all else stands on: masks, images, seeds, storage, errors."""
