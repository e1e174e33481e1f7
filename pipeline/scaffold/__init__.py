"""From data sets as a user has them to a commented job: `synthaug init`."""
