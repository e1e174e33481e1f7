"""What is in a data set and what is wrong with it.

Every image is looked at, on all cores, in flat memory.
"""
