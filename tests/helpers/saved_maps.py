"""Images, labels and predictions as files, as people and code bases save them."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image


def save(path: Path, values: np.ndarray) -> Path:
    """By suffix: .npy, .npz (one entry), .mat (one entry, called as the folder) or a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, values)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {path.parent.name: values})
    else:
        Image.fromarray(values).save(path)
    return path


def save_bsds(path: Path, segmentations: list[np.ndarray], boundaries: list[np.ndarray]) -> Path:
    """Ground truth as BSDS500 distributes it: a cell array of structs."""
    cells = np.empty((1, len(segmentations)), object)
    for i, (regions, lines) in enumerate(zip(segmentations, boundaries, strict=True)):
        cells[0, i] = {"Segmentation": regions, "Boundaries": lines}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": cells})
    return path
