"""Two plain boundary detectors, for scores that can be compared with published ones of their kind."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SIGMA = 2.0
"""Scale of the derivatives of a Gaussian, in pixels."""
FULL_SCALE = 0.2
"""Gradient of luminance in [0, 1] per pixel that becomes probability 1."""
HYSTERESIS = 0.4
"""Canny's lower threshold as a share of the upper one."""


def read_luminance(path: Path) -> np.ndarray:
    """Luminance `(H, W)` in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float64) / 255 @ (0.299, 0.587, 0.114)


def gradient_magnitude(luminance: np.ndarray) -> np.ndarray:
    """Gradient magnitude at one scale, with non-maximum suppression along the gradient; in [0, 1]."""
    along_y = ndimage.gaussian_filter(luminance, SIGMA, order=(1, 0))
    along_x = ndimage.gaussian_filter(luminance, SIGMA, order=(0, 1))
    magnitude = np.hypot(along_x, along_y)
    length = np.where(magnitude > 0, magnitude, 1)
    y, x = np.mgrid[: luminance.shape[0], : luminance.shape[1]].astype(float)
    beside = [
        ndimage.map_coordinates(
            magnitude, [y + side * along_y / length, x + side * along_x / length], order=1, mode="nearest"
        )
        for side in (-1, 1)
    ]
    ridge = (magnitude >= beside[0]) & (magnitude >= beside[1])
    return np.clip(np.where(ridge, magnitude, 0) / FULL_SCALE, 0, 1)


def canny(luminance: np.ndarray) -> np.ndarray:
    """Canny's detector (PAMI 1986) for every upper threshold at once: the largest k / 100 at which a pixel is kept."""
    ridge = gradient_magnitude(luminance)
    kept = np.zeros_like(ridge)
    for k in range(1, 101):
        parts, count = ndimage.label(ridge >= HYSTERESIS * k / 100, np.ones((3, 3)))
        strong = np.zeros(count + 1, bool)
        strong[np.unique(parts[ridge >= k / 100])] = True
        strong[0] = False
        kept[strong[parts]] = k / 100
    return kept


DETECTORS = {"gradient": gradient_magnitude, "canny": canny}


def write_maps(name: str, images: list[Path], folder: Path) -> None:
    """The maps of a detector as 8-bit PNG, rounded up so that k / 100 passes the threshold k / 100."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in images:
        probability = DETECTORS[name](read_luminance(path))
        Image.fromarray(np.ceil(255 * probability).astype(np.uint8)).save(folder / f"{path.stem}.png")
