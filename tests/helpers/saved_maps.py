"""Predictions and ground truth as files, as code bases save them."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image


def save_png(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def save_array(path: Path, values: np.ndarray) -> Path:
    """By suffix: .npy, .npz (one entry) or .mat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, values)
    else:
        scipy.io.savemat(path, {path.parent.name: values})
    return path


def save_bsds(path: Path, segmentations: list[np.ndarray], boundaries: list[np.ndarray]) -> Path:
    """Ground truth as BSDS500 distributes it: a cell array of structs."""
    cells = np.empty((1, len(segmentations)), object)
    for i, (regions, lines) in enumerate(zip(segmentations, boundaries, strict=True)):
        cells[0, i] = {"Segmentation": regions, "Boundaries": lines}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": cells})
    return path
