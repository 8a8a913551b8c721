"""Generated indoor scenes with exact labels: layout, light, cameras, and the files that keep them."""
