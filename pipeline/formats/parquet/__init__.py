"""Tables of scenes in Parquet: the format of the house."""
