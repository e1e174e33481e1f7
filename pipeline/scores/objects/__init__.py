"""Scores of single objects.

Whether made ones can be told from real ones, and whether they were copied.
"""
