"""Plug-ins: modules that register parts of one's own, and what a file may ask of them."""
