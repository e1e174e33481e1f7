"""Label Studio's JSON export."""
