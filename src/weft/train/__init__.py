"""Training: data to slices, the loop, the optimizer, checkpoints, adapters, and what a run leaves behind."""
