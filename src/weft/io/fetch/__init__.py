"""Models fetched from where they are published, and those at hand."""
