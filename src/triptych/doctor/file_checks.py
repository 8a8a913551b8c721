"""Checks of one image or one label file: small functions, listed in the tables at the end.

Each takes what was read and yields problems with their cures. A check for another kind of data is one more function.
Long because there is one for each kind of fault.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from triptych.data.integrity import find_damage, is_lossy
from triptych.data.photos import StoredPhoto
from triptych.data.shapes import OTHER_SHAPE, TRANSPOSED, have_one_shape, have_swapped_sides
from triptych.doctor.findings import Edit, Problem, text_and_cure
from triptych.labels.base import Encoding
from triptych.labels.classes import Labels
from triptych.labels.depth import Depth
from triptych.labels.depth_guesses import find_far_plane, percentile
from triptych.labels.guesses import is_mark
from triptych.labels.masks import BoundaryMask, Mask
from triptych.labels.normals import Normals
from triptych.labels.readings import CURES_OF_READINGS, LOGARITHM, find_misreading
from triptych.labels.summaries import color_codes, color_of, count_values
from triptych.types import IGNORE, Camera, valid_pixels


@dataclass(frozen=True)
class ImageFile:
    """Some pixels of an image, spread evenly, and a function that reads all of it."""

    path: Path
    photo: StoredPhoto
    read: Callable[[], StoredPhoto]

    @cached_property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value relative to the largest of the number type; of all pixels where the sample is
        constant or dark."""
        lowest, highest = _range(self.photo)
        return (lowest, highest) if lowest < highest >= DARK else _range(self.read())


def _range(photo: StoredPhoto) -> tuple[float, float]:
    return float(photo.values.min()) / photo.largest, float(photo.values.max()) / photo.largest


@dataclass(frozen=True)
class LabelFile:
    """A label file as stored, and its target, if it could be decoded.

    Where the target of a pixel depends on the number stored there alone, `stored` `(1, N)` and `target` `(..., 1, N)`
    have one entry for each distinct number, and `counts` its number of pixels, so that checks are fast.
    """

    path: Path
    task: str
    encoding: Encoding
    stored: np.ndarray
    target: Tensor | None
    failure: Exception | None
    """Why there is no target."""
    image_size: tuple[int, int]
    size: tuple[int, int] | None = None
    """(height, width) of the target."""
    is_turned: bool = False
    """Whether its image was turned upright, as its file says."""
    counts: np.ndarray | None = None
    """Pixels of each entry of `stored`; one where it is `None`."""
    marked: np.ma.MaskedArray | None = None
    """Stored values in the type of the file where `valid` or transparency masks some; `stored` then has floats."""

    any_shape: bool = False
    """Whether its dataset resizes labels of any aspect ratio."""
    is_pseudo: bool = False
    """Whether it is a pseudo-label, whose number type and NaN are not checked, as `triptych data label` chose them."""

    @property
    def labels(self) -> np.ndarray:
        """All numbers that may be labels, in the type of the file."""
        return self.stored if self.marked is None else self.marked.compressed()

    @cached_property
    def known(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Valid values of a target of one channel, and the pixels of each; `None`: one each."""
        assert self.target is not None, "asked of files that became targets"
        values = self.target.numpy().reshape(-1)
        return values[self.valid], None if self.counts is None else self.counts[self.valid]

    @cached_property
    def median(self) -> float:
        """Median of the valid values."""
        return percentile(*self.known, 50.0)

    @cached_property
    def valid(self) -> np.ndarray:
        """`(N,)`: which pixels of the target have a label."""
        assert self.target is not None, "asked of files that became targets"
        return valid_pixels(self.target).numpy().reshape(-1)

    def share(self, mask: np.ndarray) -> float:
        """Share of the pixels where a mask like `stored` is set."""
        return float(mask.mean() if self.counts is None else self.counts[mask.reshape(-1)].sum() / self.counts.sum())


def check_constant(file: ImageFile) -> Iterator[Problem]:
    """Check that a picture is not of a single color, as after a failed recording."""
    lowest, brightest = file.range
    if lowest == brightest:
        yield Problem("warning", "constant image", "all pixels are equal", "remove it, or record it again")


def check_whole(file: "ImageFile | LabelFile") -> Iterator[Problem]:
    """Check the checksums of its parts, its length and its format against its headers and its name."""
    try:
        found = find_damage(file.path)
    except OSError:  # a sample that is no file of its own
        return
    if found:
        yield Problem("warning", "damaged", found, "copy or download it again, or save it anew")


DARK = 1 / 8
"""Share of the largest value of a file's type below which an image is nearly black."""


def check_brightness(file: ImageFile) -> Iterator[Problem]:
    """Check that a photograph is not nearly black, as one of 10 or 12 bits stored in 16, or of 0 and 1 stored in 8."""
    lowest, brightest = file.range
    if 0 < brightest < DARK and lowest < brightest:
        text = f"its brightest value is {brightest:.1%} of what its number type can hold"
        yield Problem("warning", "dark image", text, "if it has 10 or 12 bits, scale its values to the whole range")


def check_orientation(file: ImageFile) -> Iterator[Problem]:
    """Check for an EXIF orientation: labels may match the stored or the upright pixels."""
    turned = file.photo.orientation
    if turned != 1:
        yield Problem(
            "warning",
            "orientation",
            f"its EXIF orientation is {turned}: it is read upright, and its labels must be upright too",
            "look at them (`triptych data show`); if they were drawn on the stored pixels, drop the tag",
        )


OFF_CENTRE = 0.2
"""Largest offset of the principal point from the middle of an uncropped picture, as a share of its side."""
NARROW, WIDE = 5.0, 170.0
"""Plausible range of the horizontal field of view of a photograph, in degrees."""


def check_camera(camera: Camera, size: tuple[int, int]) -> Iterator[Problem]:
    """Check that intrinsics are finite, focal lengths positive, and the field of view plausible for this size."""
    matrix = camera.intrinsics.double()
    (height, width), (fx, fy) = size, (float(matrix[0, 0]), float(matrix[1, 1]))
    if not bool(matrix.isfinite().all()) or min(fx, fy) <= 0:
        text = f"its camera has focal lengths {fx:g}, {fy:g} and centre {matrix[0, 2]:g}, {matrix[1, 2]:g}"
        yield Problem("error", "camera", text, "intrinsics are finite, focal lengths positive")
        return
    degrees = math.degrees(math.atan(width / 2 / fx)) * 2
    if not NARROW <= degrees <= WIDE:
        text = f"its camera has a field of view of {degrees:.3g} degrees across {width} pixels"
        yield Problem("warning", "camera", text, "give intrinsics in pixels, and size where they are of another size")
    cx, cy = float(matrix[0, 2]), float(matrix[1, 2])
    if not (0 <= cx <= width and 0 <= cy <= height):
        text = f"its camera has its centre at {cx:.0f}, {cy:.0f}, outside of {width} x {height} pixels"
        yield Problem("warning", "camera", text, "give size in [camera], where intrinsics are of another size")
    elif max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > OFF_CENTRE:
        text = f"its camera has its centre at {cx:.0f}, {cy:.0f}, far from the middle of {width} x {height} pixels"
        yield Problem("warning", "camera", text, "give size in [camera], where intrinsics are of another size")


def check_decoded(file: LabelFile) -> Iterator[Problem]:
    """Check that the numbers fit the descriptor: classes in range, whole numbers, the right channels."""
    if file.failure is not None:
        text, cure = text_and_cure(file.failure, f"correct [tasks.{file.task}] or the file")
        yield Problem("error", "values", text, cure, _list_marks(file))


def _list_marks(file: LabelFile) -> Edit | None:
    """Edit that adds marks of missing labels to `invalid`, where nothing else is wrong; else `None`."""
    if not isinstance(file.encoding, Labels) or file.stored.ndim != 2:
        return None
    values = (value for value in count_values(file.stored)[0].tolist() if is_mark(value) or value == IGNORE)
    marks = tuple(int(value) for value in values if value not in file.encoding.invalid and float(value).is_integer())
    try:
        replace(file.encoding, invalid=(*file.encoding.marks, *marks)).decode(file.stored)
    except Exception:  # something else is wrong, which the finding names
        return None
    return Edit("invalid", marks)


def check_size(file: LabelFile) -> Iterator[Problem]:
    """Check that a label map has the size of its image, or its aspect ratio where it is resized."""
    found, expected = file.size, file.image_size
    if found is None or found == expected or (file.any_shape and file.encoding.resize):
        return
    text = f"it is {found[0]}x{found[1]}, its image {expected[0]}x{expected[1]}"
    if have_swapped_sides(found, expected):
        cure = "the image is turned upright by its EXIF orientation: drop that tag, or turn the label too"
        yield Problem("error", "size", text, cure if file.is_turned else TRANSPOSED)
    elif not have_one_shape(found, expected):
        yield Problem("error", "size", text, OTHER_SHAPE)
    elif not file.encoding.resize:
        cure = f"resize = true in [tasks.{file.task}] takes the nearest pixel, or replace the file"
        yield Problem("error", "size", text, cure, Edit("resize", True))


def check_type(file: LabelFile) -> Iterator[Problem]:
    """Check that format and number type of the file are suitable for such labels."""
    if not isinstance(file.encoding, Mask) and is_lossy(file.path):
        yield Problem("error", "type", "JPEG and WebP with loss change values near edges", "save labels as PNG or .npy")
    if isinstance(file.encoding, Depth) and file.labels.dtype == np.uint8:
        yield Problem("warning", "type", "depth has 8 bits: 256 steps", "save it as 16-bit PNG or float .npy")
    is_float = file.labels.dtype.kind == "f" and not file.is_pseudo
    if isinstance(file.encoding, Labels) and not file.encoding.colors and is_float:
        yield Problem("warning", "type", f"class ids are stored as {file.labels.dtype}", "save them as whole numbers")


def check_finite(file: LabelFile) -> Iterator[Problem]:
    """Check for NaN and infinity, which are taken as "no label", unless `invalid` lists them."""
    if file.labels.dtype.kind != "f" or file.is_pseudo:
        return
    declared = np.array(file.encoding.invalid, np.float64)
    for name, word, found, meant in (
        ("NaN", "nan", np.isnan(file.labels), np.isnan(declared).any()),
        ("infinite", "inf", np.isinf(file.labels), np.isinf(declared).any()),
    ):
        if found.any() and not meant:
            yield Problem(
                "warning",
                "not finite",
                f"{found.mean():.1%} of its values are {name}, which is taken as no label",
                f"if that is meant, add {word} to invalid in [tasks.{file.task}]",
                Edit("invalid", (float(word),)),
            )


def check_any_label(file: LabelFile) -> Iterator[Problem]:
    """Check that at least one pixel has a label."""
    if file.target is not None and not file.valid.any():
        yield Problem("warning", "empty", "no pixel has a label", "correct invalid and the unit, or remove the file")


def check_threshold(file: LabelFile, encoding: Mask, target: Tensor) -> Iterator[Problem]:
    """Check for masks of 0 and 1 that lie below the threshold."""
    known = valid_pixels(target)
    if known.any() and float(target[known].max()) == 0 and file.stored.max() == 1 != encoding.threshold:
        yield Problem(
            "warning",
            "threshold",
            "its values are 0 and 1, all below the threshold",
            f"threshold = 1 in [tasks.{file.task}]",
            Edit("threshold", 1),
        )


NEAR, FAR = 0.05, 300.0
"""Plausible range of the median depth of a photograph, in metres."""


def check_depth_unit(file: LabelFile, encoding: Depth, target: Tensor) -> Iterator[Problem]:
    """Check that the median depth is that of rooms or streets; the cure is the unit that would make it so."""
    if not file.valid.any():
        return
    if not NEAR <= file.median <= FAR:
        text, cure = f"its median depth is {file.median:.3g} m", f"set unit or scale: {_better_unit(file.median)}"
        yield Problem("warning", "depth unit", text, cure)
    may_mark = file.labels.dtype == np.uint16 and 65535 not in encoding.invalid
    share = file.share(file.stored == 65535) if may_mark else 0.0
    if share > 1e-3:
        yield Problem(
            "warning",
            "depth unit",
            f"{share:.1%} of its values are 65535, a usual mark of no depth",
            "invalid = [65535]",
            Edit("invalid", (65535,)),
        )


def check_far_plane(file: LabelFile, encoding: Depth, target: Tensor) -> Iterator[Problem]:
    """Check for a sky or background at one value far above the rest, which is no distance."""
    far = find_far_plane(*file.known) if encoding.kind != "disparity" else None
    if far is not None:
        # As stored: a float of 32 bits differs from its decimal number.
        value = encoding.pick(file.stored).ravel()[int(target.nan_to_num().argmax())].item()
        yield Problem(
            "warning",
            "far plane",
            f"{far[1]:.0%} of its values are one value, {far[0]:.6g} m, far above the rest",
            f"list the stored value in invalid of [tasks.{file.task}], or set maximum in metres",
            Edit("invalid", (value,)) if encoding.kind == "z" else None,
        )


def check_reading(file: LabelFile, encoding: Depth, target: Tensor) -> Iterator[Problem]:
    """Check that no other reading than depth (logarithm, inverse) makes surfaces far flatter (`find_misreading`)."""
    if encoding.kind != "z" or file.labels.dtype.kind != "f":
        return
    found = find_misreading(encoding.pick(file.stored))
    if found:
        text = f"its values look like {found}: surfaces are flat so, and bent as it is read"
        yield Problem("warning", "depth reading", text, CURES_OF_READINGS[found])


def check_below_zero(file: LabelFile, encoding: Depth, target: Tensor) -> Iterator[Problem]:
    """Check for many different negative values, which are no lengths; a single one marks pixels without depth."""
    if file.stored.dtype.kind not in "if" or encoding.offset > 0:
        return
    below = file.stored[file.stored < 0]
    if len(below) > 0.001 * file.stored.size and len(np.unique(below[:100_000])) > 8:
        text = f"{file.share(file.stored < 0):.1%} of its values are of many sizes below 0, which is taken as no label"
        yield Problem("warning", "depth reading", text, f"is it {LOGARITHM}, or scaled? Save metres")


def check_colors(file: LabelFile, encoding: Labels, target: Tensor) -> Iterator[Problem]:
    """Check for unlisted colors, which are left unlabelled; black and white may be intended, others rarely."""
    if not encoding.colors:
        return
    listed = [*color_codes(np.array(encoding.colors)), 0, *color_codes(np.full((1, 3), 255))]
    share, code = _most_unlisted(color_codes(encoding.pick(file.stored, 3)), listed)
    if share > 0.02:
        color = color_of(int(code))
        yield Problem(
            "warning",
            "colours",
            f"{share:.0%} of its pixels have colours that are not listed, most of them {color}",
            f"list it in colors of [tasks.{file.task}]; labels that were resized or compressed with loss have many",
        )


def check_mapped(file: LabelFile, encoding: Labels, target: Tensor) -> Iterator[Problem]:
    """Check for values that `map` and `invalid` do not list, which are left unlabelled; 0 and 255 may be intended."""
    if not encoding.map:
        return
    listed = [0, IGNORE, *map(int, encoding.map), *encoding.invalid]
    share, value = _most_unlisted(encoding.pick(file.stored), listed)
    if share > 0.02:
        yield Problem(
            "warning",
            "values",
            f"{share:.0%} of its pixels have values that map does not list, most of them {value:g}, and are no label",
            f"list it in map of [tasks.{file.task}], or in invalid",
        )


def _most_unlisted(stored: np.ndarray, listed: Sequence[Any]) -> tuple[float, float]:
    """The share of pixels whose value is not listed, and the most frequent such value; 0 and NaN without any."""
    values, counts = count_values(stored)
    unknown = ~np.isin(values, listed)
    if not unknown.any():
        return 0.0, math.nan
    return float(counts[unknown].sum() / counts.sum()), float(values[unknown][counts[unknown].argmax()])


def _better_unit(median: float) -> str:
    """The unit that would bring the median to a few metres."""
    factors = {
        "millimetres": 1e-3,
        "centimetres": 1e-2,
        "1/256 m": 1 / 256,
        "kilometres": 1e3,
        "metres read as mm": 1e3,
    }
    name, factor = min(factors.items(), key=lambda item: abs(math.log(median * item[1] / 3)))
    return f"it looks like {name} (times {factor:g})"


def check_unit_length(file: LabelFile, encoding: Normals, target: Tensor) -> Iterator[Problem]:
    """Check that stored normals have length 1, except grey, black and white pixels, which are no normals."""
    lengths = np.linalg.norm(encoding.stored_vectors(file.stored if file.marked is None else file.marked), axis=-1)
    zero = (file.stored == file.stored[..., :1]).all(-1) if file.stored.shape[-1] == 3 else ~np.isfinite(lengths)
    lengths = lengths[np.isfinite(lengths) & ~zero]
    share = (np.abs(lengths - 1) > 0.1).mean() if len(lengths) else 0.0
    if share > 0.05:
        yield Problem(
            "warning",
            "normals length",
            f"{share:.0%} of its vectors are not unit length (median {np.median(lengths):.2f})",
            f"set scale and offset in [tasks.{file.task}]: components are stored * scale + offset, from -1 to 1",
        )


def check_facing(file: LabelFile, encoding: Normals, target: Tensor) -> Iterator[Problem]:
    """Check that normals face the camera: z is negative, except near the edge of a wide picture."""
    z = target[2][valid_pixels(target)[0]]
    if z.numel() and float((z > 0.2).float().mean()) > 0.2:
        yield Problem(
            "warning",
            "normals axes",
            f"{float((z > 0.2).float().mean()):.0%} of its normals point away from the camera",
            f"set axes in [tasks.{file.task}]: where the stored components point (`triptych data init` guesses it)",
        )


def check_boundary_share(file: LabelFile, encoding: BoundaryMask, target: Tensor) -> Iterator[Problem]:
    """Check that boundaries do not fill the picture, as with an inverted mask or too low a threshold."""
    values, counts = file.known
    share = float(np.average(values, weights=counts)) if values.size else 0.0
    if share > 0.5:
        yield Problem(
            "warning",
            "boundary share",
            f"{share:.0%} of its pixels are boundary",
            "raise threshold, or invert the files",
        )


IMAGE_CHECKS: tuple[Callable[[ImageFile], Iterator[Problem]], ...] = (
    check_whole,
    check_constant,
    check_brightness,
    check_orientation,
)
"""Checks of every image."""

LABEL_CHECKS: tuple[Callable[[LabelFile], Iterator[Problem]], ...] = (
    check_whole,
    check_decoded,
    check_size,
    check_type,
    check_finite,
    check_any_label,
)
"""Checks of every label file."""

TARGET_CHECKS: tuple[tuple[type[Encoding], Callable[..., Iterator[Problem]]], ...] = (
    (Mask, check_threshold),
    (Depth, check_depth_unit),
    (Depth, check_far_plane),
    (Depth, check_reading),
    (Depth, check_below_zero),
    (Labels, check_colors),
    (Labels, check_mapped),
    (Normals, check_unit_length),
    (Normals, check_facing),
    (BoundaryMask, check_boundary_share),
)
"""Checks of decoded label files, by encoding: each takes the file, its encoding and the target."""


def histogram(num_classes: int, values: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Pixels of each class, int64, from valid `values` and `counts` as those of `LabelFile.known`."""
    return np.bincount(values.astype(np.int64), counts, num_classes).astype(np.int64)
