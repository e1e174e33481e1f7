"""From a job file to a data set, its scores and a report."""
