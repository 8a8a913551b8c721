"""Losses of dense tasks as pure functions: of pixels, of depth, and of pairs of places of coarse maps."""
