"""From a job file to checked, frozen dataclasses."""
