"""Which layouts are worth making: statistics, exchange of objects, placement, maps."""
