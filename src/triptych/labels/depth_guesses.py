"""Guess the unit of depth maps: from the names of the files, else from plausible distances."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.labels.depth import COLORED_DEPTH
from triptych.labels.guesses import Guess
from triptych.labels.readings import CURES_OF_READINGS, LOGARITHM, count_misreadings
from triptych.labels.summaries import layout, read_some, why_unreadable
from triptych.labels.words import WORDS

LENGTHS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("mm", "millimetres", "millimeters"), ("1/1000", "the name says millimetres")),
    **dict.fromkeys(("cm", "centimetres", "centimeters"), ("1/100", "the name says centimetres")),
    **dict.fromkeys(("dm", "decimetres", "decimeters"), ("1/10", "the name says decimetres")),
    **dict.fromkeys(("ft", "feet"), (0.3048, "the name says feet")),
}
"""Metres per stored unit, by words for lengths in a name."""
STEPS = dict.fromkeys(("zbuffer", "euclidean"), ("1/512", "Omnidata and Taskonomy store 512 per metre"))
"""The same for whole numbers, by words in the names of published data."""
PER_METRE = re.compile(rf"(?:{'|'.join(WORDS['depth'])})[^0-9/]*(5000|1000|512|256)(?![0-9a-z])")
"""Steps per metre of whole numbers, after a word for depth in one name: alone it is a frame, scene or size."""


def unit_of_names(paths: Sequence[Path], *, whole: bool = True) -> tuple[Any, str] | None:
    """Metres per stored unit according to the names of files and folders, with the reason.

    All names have to agree, as a number in one of them may be that of a frame. Floats (not `whole`) have no steps.

    >>> unit_of_names([Path("depth/000433_depth_5000.png")])
    ('1/5000', 'the name says 5000 per metre')
    >>> unit_of_names([Path("depth/512.png")]), unit_of_names([Path("depth_511.png"), Path("depth_512.png")])
    (None, None)
    """
    told = {_unit_of(path, whole) for path in paths}
    return told.pop() if len(told) == 1 else None


def _unit_of(path: Path, whole: bool) -> tuple[Any, str] | None:
    units = LENGTHS | STEPS if whole else LENGTHS
    steps = PER_METRE.search(_place_of(path)) if whole else None
    if steps:
        return f"1/{steps[1]}", f"the name says {steps[1]} per metre"
    return next((units[word] for word in _words_of(path) if word in units), None)


def percentile(values: np.ndarray, counts: np.ndarray | None, percent: float) -> float:
    """The value that `percent` of all do not exceed, where each value occurs `counts` times, or once.

    >>> percentile(np.array([4.0, 1.0]), np.array([1, 3]), 50.0), percentile(np.array([4.0, 1.0]), None, 60.0)
    (1.0, 4.0)
    """
    if counts is None:
        return float(np.percentile(values, percent, method="inverted_cdf"))
    order = np.argsort(values)
    below = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(below, percent / 100 * below[-1])])


def find_far_plane(values: np.ndarray, counts: np.ndarray | None = None) -> tuple[float, float] | None:
    """(value, share of all) of the highest value where many pixels have it and it lies far above all others.

    A sky or background at 1e10, 65504 or 1000 is no distance. `counts` says how often each value occurs; once if left
    out.

    >>> find_far_plane(np.array([1.0, 2.0, 3.0, 1000.0]))
    (1000.0, 0.25)
    """
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        values, counts = values[finite], None if counts is None else counts[finite]
    if not values.size:
        return None
    high = values.max(initial=0)
    highest = values == high
    share = float(highest.mean() if counts is None else counts[highest].sum() / counts.sum())
    if share < 0.005:
        return None
    rest = (values < high) & (values > 0)
    if not rest.any() or high < 3 * percentile(values[rest], None if counts is None else counts[rest], 99.5):
        return None
    return float(high), share


def guess_depth(paths: Sequence[Path], *, key: str = "") -> Guess:
    """Guess the unit by the names of the files, else as the one that gives plausible distances."""
    guess, read = Guess(), read_some(paths, 24, key=key)
    arrays = [array.squeeze() for _, array in read]
    if arrays and all(layout(array)[0] == "grey" for array in arrays):
        guess.say("channel", 0, "the channels of the pictures are equal", doubt=True)
        arrays = [layout(array)[1] for array in arrays]
    if any(array.ndim == 3 and min(array.shape) in (3, 4) for array in arrays):
        guess.doubts.append(f"colors, not (height, width): {COLORED_DEPTH}")
        return guess
    if not arrays or any(array.ndim != 2 for array in arrays):
        guess.doubts.append("they are not (height, width)" if arrays else why_unreadable(paths, key=key))
        return guess
    values = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays])
    if values.dtype.kind in "iu" and values.max(initial=0) == 65535:
        guess.say("invalid", [65535], "the largest 16-bit value marks missing or infinite depth")
        values = values[values != 65535]
    far = find_far_plane(values)
    if far is not None:
        reason = f"{far[1]:.0%} of the values are {far[0]:g}, far above all others"
        listed = guess.values.get("invalid", [])
        guess.say("invalid", [*listed, int(far[0]) if far[0] == int(far[0]) else far[0]], reason, doubt=True)
        values = values[values < far[0]]
    doubts = _doubt_depth(paths[0], arrays, values)
    highest = values.max(initial=0)
    at_end = float((values == highest).mean()) if far is None and values.size else 0.0
    total, values = sum(array.size for array in arrays), values[values > 0]
    if len(values) == 0:
        guess.doubts.append("no depth is positive")
        return guess
    median, share = float(np.median(values)), len(values) / total
    height, width = arrays[0].shape
    words = _words_of(paths[0])
    told = unit_of_names(paths, whole=values.dtype.kind != "f")
    if told:
        guess.say("scale", told[0], told[1], doubt=True)
    elif values.dtype.kind == "f":
        if 0.9 < values.max() <= 1:
            guess.say("unit", "m", "all floats are from 0 to 1: metres, or shares of a range?", doubt=True)
        elif 0.05 <= median <= 300:
            guess.say("unit", "m", f"floats with median {median:.2f}", doubt=median > 80)
        else:
            unit = "mm" if median > 300 else "m"
            guess.say("unit", unit, f"floats with median {median:.3g}", doubt=True)
    elif share < 0.4 and width > 2 * height:
        guess.say("scale", "1/256", f"{share:.0%} of a wide picture has a value: lidar points as KITTI has", doubt=True)
    elif width > 2 * height and guess.options:
        guess.say("unit", "cm", "a wide picture whose sky is 65535, as Virtual KITTI has", doubt=True)
    elif median > 12000:
        guess.say("scale", "1/5000", f"median {median:.0f} would be {median / 1000:.0f} m in millimetres", doubt=True)
    elif values.dtype.itemsize == 1:
        guess.say("unit", "m", "8-bit depth has no usual unit: set scale", doubt=True)
    else:
        guess.say("unit", "mm", f"whole numbers, median {median:.0f}: {median / 1000:.2f} m in millimetres", doubt=True)
    if {"inverse", "inv", "invdepth", "inversedepth", "idepth"} & set(words):
        guess.options = [option for option in guess.options if option[0] not in ("unit", "scale")]
        guess.doubts = [doubt for doubt in guess.doubts if not doubt.startswith(("unit", "scale"))]
        doubts = []
        guess.say("kind", "disparity", "the name says inverse depth: metres = numerator / stored", doubt=True)
        guess.say("numerator", 1.0, "inverse metres", doubt=True)
    if "euclidean" in words or "distance" in words:
        guess.say("kind", "distance", "the name says along the ray; a [camera] is needed", doubt=True)
    if 0.02 <= at_end < 0.9:
        guess.doubts.append(f"maximum: {at_end:.0%} of the values are the highest, {highest:g}: a sensor's limit?")
    guess.doubts += doubts
    return guess


LOGARITHMS = {"log", "logdepth", "depthlog", "logarithm", "logarithmic", "ln", "log2", "log10", "log1p"}
"""Words in names of files that store the logarithm of depth."""


def _doubt_depth(path: Path, arrays: Sequence[np.ndarray], values: np.ndarray) -> list[str]:
    """Evidence against depth in a unit of length: names, values below zero, surfaces that would be bent."""
    doubts = []
    if LOGARITHMS & set(_words_of(path)):
        doubts.append(f"{path.name} is called a logarithm, and is read as a length: {CURES_OF_READINGS[LOGARITHM]}")
    below = values[values < 0]
    if len(below) > 0.001 * values.size and len(np.unique(below[:100_000])) > 8:
        text = f"{len(below) / values.size:.0%} of the values are below 0, down to {below.min():.3g}"
        doubts.append(
            f"{text}, which is no depth: a logarithm, or scaled to a mean of 0? {CURES_OF_READINGS[LOGARITHM]}"
        )
    if not doubts:
        doubts += [
            f"{count} of {len(arrays)} files look like {reading}: surfaces are flat so, and bent as they are read; "
            + CURES_OF_READINGS[reading]
            for reading, count in count_misreadings(arrays).items()
        ]
    return doubts


def _place_of(path: Path) -> str:
    """The names of a file and of the two folders that it lies in."""
    return "/".join(path.parts[-3:]).lower()


def _words_of(path: Path) -> list[str]:
    return re.split(r"[^a-z0-9]+", _place_of(path))
