"""Where the components of stored normals point, for archives that do not say it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from triptych.data.cameras import CameraFiles
from triptych.data.files import read_array
from triptych.labels.derived import normals_from_depth
from triptych.labels.encoding import Encoding
from triptych.labels.guessing_normals import FOV, all_axes, guess_normals
from triptych.labels.measures import DIRECTIONS, Normals
from triptych.types import Camera

Axes = tuple[str, str, str]
FindCamera = Callable[[str, tuple[int, int]], Camera | None]
FRAMES = 4
"""Frames compared with their depth: each gives ten thousands of vectors."""
LEAST, MARGIN = 0.6, 0.02
"""Mean cosine that the right axes reach at least, and by how much they surpass the next choice."""


def measure_axes(
    normals: Mapping[str, Path], depth: Mapping[str, Path], encoding: Encoding, *, camera: FindCamera
) -> Axes:
    """The axes of normals files by agreement with the normals of depth files of the same keys.

    Of all ways in which components can point, the one of the largest mean cosine, over a few files that can be read.
    `camera(key, size)` gives the camera of an image, or `None`: 60 degrees of view are assumed then. Raises
    `ValueError` where no choice fits, or two do nearly as well.
    """
    total, count = np.zeros((3, 3)), 0
    both = [key for key in normals if key in depth]
    for key in both[:: max(1, len(both) // FRAMES)][:FRAMES]:
        try:
            stored = torch.from_numpy(Normals().stored_vectors(read_array(normals[key]))).permute(2, 0, 1)
            measured = encoding.decode(read_array(depth[key]), None)
        except (OSError, ValueError):
            continue  # told when that sample is read
        size = (measured.shape[1], measured.shape[2])
        view = camera(key, size) or CameraFiles(fov=FOV).camera(size, None)
        if view is None or stored.shape[1:] != measured.shape[1:]:
            continue
        derived = normals_from_depth(measured, view, reach=max(1, round(size[0] / 60)))  # 8 pixels for noise of 480
        known = derived.isfinite().all(0) & stored.isfinite().all(0)
        total += (derived[:, known].double() @ stored[:, known].double().T).numpy()
        count += int(known.sum())
    cosine = {
        axes: sum(DIRECTIONS[axis][1] * total[DIRECTIONS[axis][0], i] for i, axis in enumerate(axes))
        for axes in all_axes()
    }
    (best, first), (second, _) = sorted(
        ((value / max(count, 1), axes) for axes, value in cosine.items()), reverse=True
    )[:2]
    if best < LEAST or best - second < MARGIN:
        reason = f"of {count} pixels, {', '.join(first)} fits best with a mean cosine of {best:.2f}, then {second:.2f}"
        raise ValueError(
            f"cannot tell where the components of the normals point: {reason}; pass normals_axes, three of "
            f"{', '.join(DIRECTIONS)}."
        )
    return first


def axes_by_look(normals: Sequence[Path]) -> Axes:
    """The axes by what scenes look like: floors face up, walls face the middle, everything faces the camera."""
    guess = guess_normals(normals)
    if "axes" not in guess.values:
        raise ValueError(
            f"cannot tell where the components of the normals point: {guess.doubts[0]}; pass normals_axes."
        )
    first, second, third = guess.values["axes"]
    return first, second, third
