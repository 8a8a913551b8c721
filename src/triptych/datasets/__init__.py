"""Datasets by name."""

from collections.abc import Callable

from triptych.datasets.base import DenseDataset

DATASETS: dict[str, Callable[..., DenseDataset]] = {}
