"""Checkpoints of a run: written aside, checksummed, made visible by one rename."""
