"""The studio over HTTP, on this machine alone."""
