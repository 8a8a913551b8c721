"""Label files: what their numbers mean, class tables of published sets, labels derived from others."""
