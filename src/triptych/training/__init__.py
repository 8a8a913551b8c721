"""Training: the loop, one step of it, run folders, checkpoints and the log."""
