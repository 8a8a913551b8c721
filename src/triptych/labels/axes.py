"""Directions of the components of stored normals: measured by depth, or guessed by what scenes look like."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations, product
from pathlib import Path

import numpy as np
import torch

from triptych.data.arrays import read_array
from triptych.data.cameras import intrinsics_from_field_of_view
from triptych.data.errors import DataError
from triptych.labels.base import Encoding
from triptych.labels.derived import normals_from_depth
from triptych.labels.guesses import Guess
from triptych.labels.normals import DIRECTIONS, Normals
from triptych.labels.summaries import read_some
from triptych.types import Camera

FOV = 60.0
"""Degrees; assumed to compare normals with depth, which hardly depends on it."""


def assumed_camera(size: tuple[int, int]) -> Camera:
    """A camera of `FOV` across the width, for an image of `size` (height, width)."""
    return Camera(torch.from_numpy(intrinsics_from_field_of_view(size, FOV)).float())


def guess_normals(
    paths: Sequence[Path], *, key: str = "", depth_of: Callable[[Path], torch.Tensor | None] = lambda path: None
) -> Guess:
    """Guess the axes of the stored components: by agreement with depth where `depth_of` gives that of a file, else by
    the look of rooms and streets."""
    guess, pairs = Guess(), []
    files = [(path, array) for path, array in read_some(paths, 12, key=key) if _holds_vectors(array)]
    encoding = _guess_range(guess, [array for _, array in files])
    for path, stored in files:
        try:
            vectors = encoding.decode(stored).permute(1, 2, 0).numpy()
            if np.isfinite(vectors).any():
                pairs.append((vectors, depth_of(path)))
        except (OSError, ValueError):
            continue  # reported by the doctor
    if not pairs:
        guess.doubts.append("no file can be read and has three channels whose vectors have a length near 1")
        return guess
    compared = [_compare(vectors, depth) for vectors, depth in pairs if depth is not None]
    found = np.concatenate([both for both in compared if both is not None] or [np.empty((0, 2, 3))])
    if len(found):
        # Rounded to degrees: of choices that agree equally, the first, which is the usual one, wins.
        # The mean separates choices that agree at most pixels, as where a wall fills the picture.
        angles = {axes: _disagreement(found, axes) for axes in all_axes()}
        axes, other = sorted(angles, key=lambda choice: round(float(angles[choice].mean())))[:2]
        best, second = (round(float(np.median(angles[choice]))) for choice in (axes, other))
        gap = float(angles[other].mean() - angles[axes].mean())
        reason = f"{best} degrees (median) from the normals of the depth, the next choice {second}"
        guess.say("axes", list(axes), reason, doubt=best > 30 or gap < 5)
    else:
        axes = _axes_by_look([vectors for vectors, _ in pairs])
        guess.say("axes", list(axes), "floors face up, walls face the middle, all face us", doubt=True)
    return guess


def _holds_vectors(stored: np.ndarray) -> bool:
    try:
        return Normals().pick(stored, 3).ndim == 3
    except ValueError:
        return False


RANGES = ((1.0, 0.0), (2.0, -1.0), (2 / 255, -1.0), (2 / 65535, -1.0), (1 / 127, 0.0), (1 / 32767, 0.0))
"""Common (scale, offset) of stored components."""


def _guess_range(guess: Guess, arrays: Sequence[np.ndarray]) -> Normals:
    """Guess the scale and offset that give the most vectors unit length; the guess of the axes depends on them."""

    def share(encoding: Normals, stored: np.ndarray) -> float:
        try:
            length = np.linalg.norm(encoding.stored_vectors(stored), axis=-1)
        except ValueError:
            return 0.0
        told = np.isfinite(length) & encoding.pick(stored, 3).any(-1)
        return float((np.abs(length[told] - 1) < 0.1).mean()) if told.any() else 0.0

    usual = Normals()
    fits = float(np.mean([share(usual, array) for array in arrays])) if arrays else 1.0
    if fits > 0.9:
        return usual
    choices = [Normals(scale=scale, offset=offset) for scale, offset in RANGES]
    ranked = [(float(np.mean([share(choice, array) for array in arrays])), choice) for choice in choices]
    best, chosen = max(ranked, key=lambda pair: pair[0])
    vectors = [usual.pick(array, 3) for array in arrays]
    low, high = min(float(np.nanmin(v)) for v in vectors), max(float(np.nanmax(v)) for v in vectors)
    if best <= fits + 0.2:
        text = f"values from {low:.3g} to {high:.3g} give unit vectors at {max(best, fits):.0%} of the pixels"
        guess.doubts.append(f"scale, offset: {text}; components are stored * scale + offset, from -1 to 1")
        return usual
    reason = f"values from {low:.3g} to {high:.3g}: {best:.0%} of the vectors have unit length so, {fits:.0%} without"
    guess.say("scale", chosen.scale, reason, doubt=True)
    guess.say("offset", chosen.offset, "as above")
    return chosen


def all_axes() -> list[tuple[str, str, str]]:
    """The 48 ways in which three components can point along the axes of the camera."""
    pairs = (("right", "left"), ("down", "up"), ("forward", "backward"))
    return [axes for order in permutations(pairs) for axes in product(*order)]


def _compare(vectors: np.ndarray, depth: torch.Tensor) -> np.ndarray | None:
    """Pairs `(N, 2, 3)` of stored vectors and normals from depth, where both are valid, at every fourth pixel."""
    height, width = depth.shape[-2:]
    if vectors.shape[:2] != (height, width):
        return None
    derived = normals_from_depth(depth, assumed_camera((height, width)), reach=3).permute(1, 2, 0).numpy()
    both = np.stack([vectors, derived], axis=2)[::4, ::4].reshape(-1, 2, 3)
    return both[np.isfinite(both).all((1, 2))]


def _disagreement(both: np.ndarray, axes: tuple[str, str, str]) -> np.ndarray:
    """Angles in degrees between stored normals, read with `axes`, and the normals of depth."""
    turned = np.empty_like(both[:, 0])
    for component, axis in enumerate(axes):
        place, sign = DIRECTIONS[axis]
        turned[:, place] = sign * both[:, 0, component]
    cosine = (turned * both[:, 1]).sum(-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _axes_by_look(vectors: Sequence[np.ndarray]) -> tuple[str, str, str]:
    """Guess the axes: surfaces face the camera, the lower part of a picture faces up, its left part faces right."""
    mean = np.nanmean([np.nanmean(v, axis=(0, 1)) for v in vectors], axis=0)
    below = np.nanmean([np.nanmean(v[len(v) * 2 // 3 :], axis=(0, 1)) for v in vectors], axis=0)
    forward = int(np.abs(mean).argmax())
    others = [i for i in range(3) if i != forward]
    vertical = max(others, key=lambda i: abs(below[i] - mean[i]) + abs(below[i]))
    sideways = next(i for i in others if i != vertical)
    left = np.nanmean([np.nanmean(v[:, : v.shape[1] // 3, sideways]) for v in vectors])
    right = np.nanmean([np.nanmean(v[:, -(v.shape[1] // 3) :, sideways]) for v in vectors])
    axes = ["", "", ""]
    axes[forward] = "forward" if mean[forward] < 0 else "backward"
    axes[vertical] = "up" if below[vertical] > 0 else "down"
    axes[sideways] = "right" if left >= right else "left"
    return axes[0], axes[1], axes[2]


Axes = tuple[str, str, str]
CAMERA: Axes = Normals().axes
"""Directions of the components of normals in Triptych: right, down, forward."""
FindCamera = Callable[[str, tuple[int, int]], Camera | None]
FRAMES = 4
"""Frames compared with their depth: each gives tens of thousands of vectors."""
LEAST, MARGIN = 0.6, 0.02
"""Lowest mean cosine of the right axes, and their least margin over the next choice."""


def turn(vectors: torch.Tensor, axes: Axes) -> torch.Tensor:
    """Convert vectors `(3, H, W)`, whose components point along `axes`, to the camera frame.

    >>> turn(torch.tensor([1.0, 2.0, 3.0])[:, None, None], ("right", "forward", "up")).flatten().tolist()
    [1.0, -3.0, 2.0]
    """
    Normals(axes=axes)  # raises ValueError for invalid axes
    places = {DIRECTIONS[axis][0]: vectors[i] * DIRECTIONS[axis][1] for i, axis in enumerate(axes)}
    return torch.stack([places[place] for place in range(3)])


def agreement(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> dict[Axes, float]:
    """Mean cosine between maps `(3, H, W)` of vectors, read with each of `all_axes`, and of unit vectors.

    Pixels are NaN where invalid; the mean is NaN where no pixel is valid in both.
    """
    total, count = np.zeros((3, 3)), 0
    for vectors, units in pairs:
        known = vectors.isfinite().all(0) & units.isfinite().all(0)
        lengths = vectors[:, known].double().norm(dim=0).clamp(min=1e-12)
        total += (units[:, known].double() @ (vectors[:, known].double() / lengths).T).numpy()
        count += int(known.sum())
    return _mean_cosines(total, count)


def _mean_cosines(total: np.ndarray, count: int) -> dict[Axes, float]:
    """Mean cosine for each choice of axes, from summed products `(3, 3)` of unit vectors and stored vectors."""
    sums = {
        axes: sum(DIRECTIONS[axis][1] * total[DIRECTIONS[axis][0], i] for i, axis in enumerate(axes))
        for axes in all_axes()
    }
    return {axes: float(value) / count if count else np.nan for axes, value in sums.items()}


def measure_axes(
    normals: Mapping[str, Path], depth: Mapping[str, Path], encoding: Encoding, *, camera: FindCamera
) -> Axes:
    """Find the axes of normals files by agreement with normals from depth files of the same keys.

    Of `all_axes`, the choice with the largest mean cosine over a few readable files. `camera(key, size)` gives the
    camera of an image, or `None`: then a field of view of 60 degrees is assumed. Raises
    `ValueError` where no choice fits, or two do nearly as well.
    """
    total, count = np.zeros((3, 3)), 0
    both = [key for key in normals if key in depth]
    for key in both[:: max(1, len(both) // FRAMES)][:FRAMES]:
        try:
            stored = torch.from_numpy(Normals().stored_vectors(read_array(normals[key]))).permute(2, 0, 1)
            measured = encoding.decode(read_array(depth[key]), None)
        except (OSError, ValueError):
            continue  # reported when that sample is read
        size = (measured.shape[1], measured.shape[2])
        view = camera(key, size) or assumed_camera(size)
        if stored.shape[1:] != measured.shape[1:]:
            continue
        derived = normals_from_depth(measured, view, reach=max(1, round(size[0] / 60)))  # 8 pixels at height 480
        known = derived.isfinite().all(0) & stored.isfinite().all(0)
        total += (derived[:, known].double() @ stored[:, known].double().T).numpy()
        count += int(known.sum())
    cosine = _mean_cosines(total, max(count, 1))
    (best, first), (second, _) = sorted(((value, axes) for axes, value in cosine.items()), reverse=True)[:2]
    if best < LEAST or best - second < MARGIN:
        reason = f"of {count} pixels, {', '.join(first)} fits best with a mean cosine of {best:.2f}, then {second:.2f}"
        raise DataError(
            f"cannot tell where the components of the normals point: {reason}",
            f"pass normals_axes, three of {', '.join(DIRECTIONS)}",
        )
    return first


def axes_by_look(normals: Sequence[Path]) -> Axes:
    """Guess the axes by the look of scenes: floors face up, walls face the middle, everything faces the camera."""
    guess = guess_normals(normals)
    if "axes" not in guess.values:
        raise DataError(
            f"cannot tell where the components of the normals point: {guess.doubts[0]}", "pass normals_axes"
        )
    first, second, third = guess.values["axes"]
    return first, second, third
