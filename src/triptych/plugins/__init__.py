"""Plug-ins: modules that register custom parts, and the requirement of plug-ins by files."""
