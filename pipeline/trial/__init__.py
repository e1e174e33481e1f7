"""Does the data help a detector: arms, paired tests, conclusions."""
