"""Datasets by name. `"folder.module:Class"` strings keep heavy imports out of `triptych list`."""
