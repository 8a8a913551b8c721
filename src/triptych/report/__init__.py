"""Pages to look at: one file each, which opens without a network."""
