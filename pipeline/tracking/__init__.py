"""Losses, rates and AP over steps for the trackers that people look at already."""
