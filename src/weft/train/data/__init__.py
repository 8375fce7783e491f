"""From files to the slices that a training step runs: tokenized once, packed, shuffled, prepared ahead."""
