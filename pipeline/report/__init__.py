"""Pages: report, plan, scores, comparison of runs."""
