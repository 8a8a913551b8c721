"""Maps to colours: pure functions from one prediction or target to `(H, W, 3)` uint8."""

import colorsys
import math
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from triptych.types import IGNORE, MOST_CLASSES

INVALID = (0, 0, 0)
UNLABELLED = (INVALID, (255, 255, 255), (127, 127, 127), (255, 0, 255))
"""Colors of pixels without a class, in order of preference."""


def first_hue(task: str) -> float:
    """First hue of the palette of a task of class ids: another for each name, so that class 0 of one task is not taken
    for that of another.

    >>> round(first_hue("semseg"), 3), round(first_hue("human_parts"), 3)
    (0.547, 0.735)
    """
    return (0.61 + zlib.crc32(task.encode()) % 16 / 16) % 1.0


def label_palette(count: int, hue: float = 0.61) -> np.ndarray:
    """`(count, 3)` uint8 colours, distinct for neighboring ids, none of them black.

    Hues step by the golden ratio from `hue` on; value and saturation alternate.

    >>> label_palette(2).shape
    (2, 3)
    """
    rows = []
    for i in range(count):
        saturation, value = ((0.55, 0.90), (0.80, 0.70), (0.40, 0.75))[i % 3]
        rows.append([round(255 * c) for c in colorsys.hsv_to_rgb((hue + i * 0.61803398875) % 1.0, saturation, value)])
    return np.array(rows, np.uint8).reshape(count, 3)


def color_labels(labels: np.ndarray, shown: Sequence[Sequence[int]] = (), hue: float = 0.61) -> np.ndarray:
    """Label map `(H, W)` to colours: those `shown`, by class, else a palette of ours that starts at `hue`. `IGNORE` is
    black, or another color where a class is shown black.

    >>> color_labels(np.array([[1, 255]]), [[200, 9, 9], [0, 128, 255]]).tolist()
    [[[0, 128, 255], [0, 0, 0]]]
    >>> color_labels(np.array([[0, 255]]), [[0, 0, 0], [0, 128, 255]]).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    ids = np.clip(labels, 0, MOST_CLASSES).astype(np.intp)
    palette = label_palette(max(IGNORE, len(shown) - 1, int(ids.max(initial=0))) + 1, hue)
    palette[: len(shown)] = np.array(shown, np.uint8).reshape(-1, 3)
    palette[IGNORE] = unlabelled_color(shown)
    return palette[ids]


def unlabelled_color(shown: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """The first of black, white, grey and magenta that is far from every color of a class; else the farthest."""
    classes = np.array(shown, np.int64).reshape(-1, 3)
    far = [int(np.abs(classes - candidate).sum(axis=1).min(initial=765)) for candidate in UNLABELLED]
    return UNLABELLED[next((i for i, distance in enumerate(far) if distance >= 90), int(np.argmax(far)))]


# Turbo-like anchors, near (warm) to far (cool), interpolated linearly: readable in print and monotone in hue.
_DEPTH = np.array(
    [
        [122, 4, 3],
        [203, 42, 4],
        [245, 105, 24],
        [251, 185, 56],
        [182, 247, 53],
        [70, 248, 132],
        [27, 207, 212],
        [70, 134, 251],
        [48, 18, 59],
    ],
    np.float64,
)


def color_depth(depth: np.ndarray, near: float | None = None, far: float | None = None) -> np.ndarray:
    """Depth `(1, H, W)` or `(H, W)` in metres to colours by inverse depth, near is warm; invalid is black.

    The range defaults to the 2nd and 98th percentile of the map.
    """
    found = depth_range([depth]) if near is None or far is None else {}
    depth = np.asarray(depth, np.float64).reshape(depth.shape[-2:])
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    low = near if near is not None else found["near"]
    high = far if far is not None else found["far"]
    inverse = 1 / np.where(valid, depth, 1.0)
    span = max(1 / low - 1 / high, 1e-9)
    image = _through_ramp(np.clip((1 / low - inverse) / span, 0, 1))
    return np.where(valid[..., None], image, 0).astype(np.uint8)


def _through_ramp(share: np.ndarray) -> np.ndarray:
    """Colors of shares from 0 (near, warm) to 1 (far, cool)."""
    position = share * (len(_DEPTH) - 1)
    index = np.minimum(position.astype(int), len(_DEPTH) - 2)
    fraction = (position - index)[..., None]
    return _DEPTH[index] * (1 - fraction) + _DEPTH[index + 1] * fraction


def depth_range(strips: Iterable[np.ndarray]) -> dict[str, float]:
    """The range in which `color_depth` draws a map that comes in strips; empty where nothing is valid."""
    known = np.concatenate([strip[np.isfinite(strip) & (strip > 0)] for strip in strips])
    return dict(zip(("near", "far"), _middle(known), strict=True)) if known.size else {}


def values_range(strips: Iterable[np.ndarray]) -> dict[str, tuple[float, float]]:
    """The limits between which `color_values` draws a map `(C, H, W)` that comes in strips."""
    known = np.concatenate([strip[:, np.isfinite(strip).all(axis=0)].ravel() for strip in strips])
    return {"limits": _middle(known) if known.size else (0.0, 1.0)}


def _middle(values: np.ndarray) -> tuple[float, float]:
    """The 2nd and 98th percentile of values, which are partly sorted in place: a large map leaves no room for a copy.

    >>> _middle(np.arange(101.0))
    (2.0, 98.0)
    """
    places = [share * (len(values) - 1) for share in (0.02, 0.98)]
    lower = [math.floor(place) for place in places]
    upper = [min(place + 1, len(values) - 1) for place in lower]
    values.partition(sorted({*lower, *upper}))
    low, high = (
        float(values[a]) + (place - a) * (float(values[b]) - float(values[a]))
        for place, a, b in zip(places, lower, upper, strict=True)
    )
    return low, high


def color_normals(normals: np.ndarray) -> np.ndarray:
    """Normals `(3, H, W)`, x right, y down, z forward, in the usual colours; invalid is black.

    Right is red, up is green, towards the camera is blue.
    """
    shown = np.stack([normals[0], -normals[1], -normals[2]], axis=-1)
    image = np.clip((shown + 1) * 127.5, 0, 255)
    return np.where(np.isfinite(image).all(-1, keepdims=True), np.nan_to_num(image), 0).astype(np.uint8)


def color_probability(probability: np.ndarray) -> np.ndarray:
    """Probability `(1, H, W)`, or a 0/1 label map `(H, W)`, as grey; invalid is dark blue."""
    probability = probability.reshape(probability.shape[-2:])
    valid = np.isfinite(probability) & (probability <= 1)
    grey = (np.where(valid, np.nan_to_num(probability), 0) * 255).astype(np.uint8)
    return np.where(valid[..., None], grey[..., None].repeat(3, -1), np.array([20, 20, 60], np.uint8))


def color_values(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Any quantity `(C, H, W)` in colors, linear between the limits (of one channel: the 2nd and 98th percentile of
    the map unless given); invalid is black.

    One channel runs through the colors of depth, low is cool; of several the first three are red, green and blue.
    """
    valid = np.isfinite(values).all(axis=0)
    if limits is None:
        limits = values_range([values])["limits"]
    share = np.clip((np.where(valid, values, 0) - limits[0]) / max(limits[1] - limits[0], 1e-12), 0, 1)
    if len(values) == 1:
        image = _through_ramp(1 - share[0])
    else:
        image = np.zeros((*valid.shape, 3))
        image[..., : len(values[:3])] = 255 * share[:3].transpose(1, 2, 0)
    return np.where(valid[..., None], image, 0).astype(np.uint8)
