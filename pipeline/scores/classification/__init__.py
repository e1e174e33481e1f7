"""Classification accuracy score (CAS)."""
