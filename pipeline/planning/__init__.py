"""Planning of layouts: statistics, exchange of objects, placement, maps."""
