"""Interactive editing of layouts and styles."""
