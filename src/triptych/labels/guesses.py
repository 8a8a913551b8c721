"""Guessing what the numbers in label files mean, from a few of them, and saying why.

Each guess is a list of options for `[tasks.NAME]`, each with its reason, and of doubts: what a person should check.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.files import read_array
from triptych.types import IGNORE


@dataclass
class Guess:
    """Options of one task with their reasons, and what is doubtful about them."""

    options: list[tuple[str, Any, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    needs_options: bool = False
    """Whether a section without any says nothing: label maps need their classes, others have defaults."""

    def say(self, option: str, value: Any, reason: str, *, doubt: bool = False) -> None:
        """Add an option; a doubtful one is repeated to the user."""
        self.options.append((option, value, reason))
        if doubt:
            self.doubts.append(f"{option} = {value!r}: {reason}")

    @property
    def usable(self) -> bool:
        """Whether a descriptor can be made of it."""
        return bool(self.options) or not self.needs_options

    @property
    def values(self) -> dict[str, Any]:
        """The options without their reasons."""
        return {option: value for option, value, _ in self.options}


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Up to `count` of the paths, spread evenly."""
    count = min(count, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def read_some(paths: Sequence[Path], count: int) -> list[np.ndarray]:
    """The arrays of up to `count` files; unreadable ones are left to the doctor."""

    def read(path: Path) -> np.ndarray | None:
        try:
            return read_array(path)
        except OSError:
            return None

    with ThreadPoolExecutor(8) as pool:  # decoding releases the interpreter
        return [array for array in pool.map(read, spread(paths, count)) if array is not None]


def distinct(array: np.ndarray) -> np.ndarray:
    """The values of an array, sorted, each once; colours as 0xRRGGBB."""
    if array.ndim == 3 and array.dtype == np.uint8:
        array = array[..., :3].astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    if array.dtype in (np.uint8, np.uint16):
        return np.bincount(array.ravel(), minlength=1).nonzero()[0]
    return np.unique(array)


def guess_labels(paths: Sequence[Path], *, parts: bool = False) -> Guess:
    """Number of classes, invalid values, or the colours of a colour-coded map."""
    guess, arrays = Guess(needs_options=True), read_some(paths, 1000)
    if not arrays:
        guess.doubts.append("none of the files can be read")
        return guess
    values = np.unique(np.concatenate([distinct(array) for array in arrays]))
    if all(array.ndim == 3 for array in arrays):
        if len(values) > IGNORE:
            guess.doubts.append(f"pictures of more than {IGNORE} colours are no label maps")
            return guess
        colors = [[int(value) >> 16, int(value) >> 8 & 255, int(value) & 255] for value in values]
        guess.say("colors", colors, f"the {len(colors)} colours of {len(arrays)} files", doubt=True)
        guess.say("classes", len(colors), "one per colour, in the order above; names can be listed instead")
        return guess
    whole = np.isfinite(values).all() and (values == np.round(values)).all()
    highest = int(values[values != IGNORE].max(initial=0)) if whole else 0
    if not whole or values.min() < 0 or highest >= IGNORE:
        guess.doubts.append(f"values from {values.min()} to {values.max()} are no class ids, perhaps instances")
    elif values.tolist() == [0, IGNORE]:
        guess.say("map", {"0": 0, str(IGNORE): 1}, "a mask: all pixels are 0 or 255", doubt=True)
        guess.say("classes", ["background", "object"], "names of your choice")
    else:
        if IGNORE in values:
            guess.say("invalid", [IGNORE], f"{IGNORE} is the usual mark of unlabelled pixels")
        _say_classes(guess, paths, len(arrays), highest, parts)
    return guess


def _say_classes(guess: Guess, paths: Sequence[Path], count: int, highest: int, parts: bool) -> None:
    if parts and highest <= 6:
        guess.say("classes", 7, "background, head, torso, upper and lower arms, upper and lower legs")
        return
    guess.say("classes", highest + 1, f"the highest value in {count} files is {highest}; names can be listed instead")
    if count < len(paths):
        guess.doubts.append(f"classes = {highest + 1}: only {count} of {len(paths)} files were read")


def guess_mask(paths: Sequence[Path], *, votes: bool = False) -> Guess:
    """The threshold of a mask or of a map of strengths; small whole numbers of a boundary map are votes."""
    guess, arrays = Guess(needs_options=True), read_some(paths, 50)
    if not arrays:
        guess.doubts.append("none of the files can be read")
        return guess
    values = np.unique(np.concatenate([distinct(array) for array in arrays]))
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    highest = values.max(initial=0)
    if highest <= 1:
        threshold, why = (0.5, "values between 0 and 1") if values.dtype.kind == "f" else (1, "values are 0 and 1")
        guess.say("threshold", threshold, why)
    elif votes and highest <= 20 and len(values) > 2:
        guess.say("threshold", 2, f"values up to {highest} are taken as votes of annotators; two agree", doubt=True)
        guess.say("invalid", [1], "one vote alone: neither boundary nor background")
    elif len(values) == 2:
        guess.say("threshold", int(highest) // 2 + 1, f"values are {values[0]} and {highest}")
    else:
        guess.say("threshold", int(highest) // 2 + 1, f"values are shades up to {highest}; half of it", doubt=True)
    return guess


DEPTH_UNITS: dict[str, tuple[Any, str]] = {
    "5000": ("1/5000", "the name says 5000 per metre"),
    "1000": ("1/1000", "the name says 1000 per metre"),
    "512": ("1/512", "the name says 512 per metre"),
    "256": ("1/256", "the name says 256 per metre"),
    "mm": ("1/1000", "the name says millimetres"),
    "cm": ("1/100", "the name says centimetres"),
    "zbuffer": ("1/512", "Omnidata and Taskonomy store 512 per metre"),
    "euclidean": ("1/512", "Omnidata and Taskonomy store 512 per metre"),
}
"""Metres per stored unit, by what the name of a file may tell."""


def guess_depth(paths: Sequence[Path], **_: Any) -> Guess:
    """The unit, by the names of the files, then by which one makes plausible distances."""
    guess, arrays = Guess(), read_some(paths, 24)
    arrays = [array.squeeze() for array in arrays]
    if not arrays or any(array.ndim != 2 for array in arrays):
        guess.doubts.append("the files cannot be read, or are not (height, width)")
        return guess
    values = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays])
    if values.dtype.kind in "iu" and values.max(initial=0) == 65535:
        guess.say("invalid", [65535], "the largest 16-bit value marks missing or infinite depth")
        values = values[values != 65535]
    total, values = sum(array.size for array in arrays), values[values > 0]
    if len(values) == 0:
        guess.doubts.append("no depth is positive")
        return guess
    median, share = float(np.median(values)), len(values) / total
    height, width = arrays[0].shape
    words = re.split(r"[^a-z0-9]+", "/".join(paths[0].parts[-3:]).lower())
    told = next((DEPTH_UNITS[word] for word in words if word in DEPTH_UNITS), None)
    if told:
        guess.say("scale", told[0], told[1], doubt=True)
    elif values.dtype.kind == "f":
        if 0.05 <= median <= 300:
            guess.say("unit", "m", f"floats with median {median:.2f}")
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
    if "euclidean" in words or "distance" in words:
        guess.say("kind", "distance", "the name says along the ray; a [camera] is needed", doubt=True)
    return guess


GUESSES: dict[str, Callable[..., Guess]] = {
    "semseg": guess_labels,
    "human_parts": partial(guess_labels, parts=True),
    "saliency": guess_mask,
    "boundary": partial(guess_mask, votes=True),
    "depth": guess_depth,
}
"""How each kind of label is guessed; normals are, with depth beside them, in `axes.py`."""
