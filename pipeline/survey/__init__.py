"""What is in a data set and what is wrong with it: every image looked at, on all cores, in flat memory."""
