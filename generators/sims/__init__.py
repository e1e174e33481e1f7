"""SIMS (Qi et al. 2018): its networks, segments of maps and the canvas."""
