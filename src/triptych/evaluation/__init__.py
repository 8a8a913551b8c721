"""Evaluation: scores of networks and of saved maps, their files, tables and comparisons."""
