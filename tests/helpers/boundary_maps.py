"""Boundary maps of the shared golden folder, and random ones."""

import json
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from shared import shared_path

IMAGES = ("2018", "36046", "71076", "103006")


@cache
def expected(protocol: str, max_dist: str) -> dict[str, Any]:
    """Recorded counts by image."""
    return json.loads(shared_path("golden/boundary/boundary.json").read_text())["protocols"][protocol][max_dist][
        "images"
    ]


def golden_map(image: str, kind: str) -> np.ndarray:
    """`kind`: prediction (8 bit), boundaries (annotators stacked vertically) or segmentation1 (labels)."""
    return np.array(Image.open(shared_path(f"golden/boundary/{image}_{kind}.png")))


def golden_annotators(image: str) -> np.ndarray:
    """The annotators' boundary maps `(annotators, H, W)`."""
    height, width = golden_map(image, "prediction").shape
    return golden_map(image, "boundaries").astype(bool).reshape(-1, height, width)


def smooth_map(seed: int, height: int, width: int) -> np.ndarray:
    """A random map in [0, 1] with structures a few pixels wide, `(H, W)` float64."""
    noise = np.random.default_rng(seed).standard_normal((height, width))
    for axis in (0, 1):
        for _ in range(3):
            noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
    low, high = noise.min(), noise.max()
    return (noise - low) / (high - low)
