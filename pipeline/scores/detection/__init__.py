"""Detection AP, its intervals, and DAP."""
