"""A folder of the user's own: the `dataset.toml` that describes it, and how it is guessed from names and contents."""
