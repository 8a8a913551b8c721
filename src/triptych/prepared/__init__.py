"""Prepared datasets: packed records that are read many times faster than the files they come from."""
