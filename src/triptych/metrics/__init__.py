"""Metrics, usable without the rest of the library."""
