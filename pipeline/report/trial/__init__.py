"""The trial on the report's page and as Markdown."""
