"""Shared parts of datasets: base class, loading, files and photographs, lists of names, frames of videos, cameras."""
