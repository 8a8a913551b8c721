"""Checks of a few saved maps before they are scored: ranges of probabilities, units of depth, axes of normals."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from triptych.data.errors import DataError
from triptych.evaluation.map_encodings import Encodings
from triptych.labels.axes import CAMERA, agreement
from triptych.labels.depth import Depth
from triptych.labels.depth_guesses import unit_of_names
from triptych.labels.masks import BoundaryMask

Pairs = Sequence[tuple[Path, Path | None]]
"""Predictions with their ground truth, which is `None` where a dataset says what its files mean."""


class ReadPair(NamedTuple):
    """A prediction and its target as they were read, and where they come from, in words."""

    prediction: Tensor
    target: Tensor
    sources: tuple[str, str]


SCALE, PREDICTION_SCALE = "--depth-scale", "--prediction-depth-scale"
MILLIMETRES = 0.001
"""Metres per unit of whole numbers of which nothing is said."""


LIKELY = (0.05, 300.0)
"""Metres between which the median of a depth map lies, whatever the scene."""


FAINT = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 255}
"""The largest value of a smaller range, by number type: a mask of 0 and 1 in bytes, bytes in 16 bits."""


def check_probabilities(pairs: Pairs, encodings: Encodings) -> str:
    """Check that predicted probabilities use the range of their number type, whose largest value is 1. Returns "", as
    nothing is assumed; raises `DataError` where all values fit a smaller range, such as 0 and 1 in bytes.
    """
    highest: dict[np.dtype, tuple[int, Path]] = {}
    for path, _ in pairs:
        stored = np.ma.getdata(replace(BoundaryMask(), key=encodings.key).read(path))
        if stored.dtype in FAINT:
            here = int(stored.max(initial=0)), path
            highest[stored.dtype] = max(highest.get(stored.dtype, here), here)
    for kind, (high, path) in highest.items():
        if 0 < high <= FAINT[kind]:  # maps of zeros alone say nothing
            whole = np.iinfo(kind).max
            text = f"predictions such as {path} are whole numbers of at most {high}, and {whole} is a probability of 1"
            raise DataError(text, f"save 0 and {whole}, booleans or floats in [0, 1]")
    return ""


def describe_millimetres(pairs: Pairs, encodings: Encodings) -> str:
    """Describe the unit assumed for depth in whole numbers, "" where none is; `DataError` where the files contradict
    it.
    """
    predicted, true = [path for path, _ in pairs], [path for _, path in pairs if path is not None]
    _check_floats(predicted, true, encodings)
    sides = (
        (predicted, encodings.prediction_depth_scale or encodings.depth_scale, PREDICTION_SCALE if true else SCALE),
        (true, encodings.depth_scale, SCALE),
    )
    assumed = [_take_for_millimetres(paths, option, encodings.key) for paths, scale, option in sides if not scale]
    return f"millimetres ({SCALE} says otherwise)" if any(assumed) else ""


def _check_floats(predicted: Sequence[Path], true: Sequence[Path], encodings: Encodings) -> None:
    """Raise `DataError` where depth is stored as floats, which are metres, and a unit was given for whole numbers, or
    medians speak against metres.
    """
    if encodings.prediction_depth_scale and encodings.depth_scale:  # someone looked at both
        return
    stored = {path: np.ma.compressed(replace(Depth(), key=encodings.key).read(path)) for path in (*predicted, *true)}
    floats = {path: values for path, values in stored.items() if values.dtype.kind == "f"}
    if encodings.depth_scale and len(floats) == len(stored):
        text = f"{SCALE} {encodings.depth_scale:g} has no effect on floats such as {predicted[0]}, which are metres"
        raise DataError(text, "leave it out, and save metres or whole numbers")
    for path, values in floats.items() if true else ():
        known = values[(values > 0) & np.isfinite(values)]
        scaled = encodings.prediction_depth_scale and path in predicted
        if known.size and not scaled and not LIKELY[0] <= (median := float(np.median(known))) <= LIKELY[1]:
            cure = (
                f"save metres; where it is right, give {SCALE} 1 and {PREDICTION_SCALE} 1: both together are believed"
            )
            raise DataError(f"depth {path} has a median of {median:.4g} m, as floats are metres", cure)


def _take_for_millimetres(paths: Sequence[Path], option: str, key: str) -> bool:
    """Check depth files whose unit was not given: whole numbers are read as millimetres. Returns whether there are any.

    Raises `DataError` where names, number types or medians speak against it; `option` is what gives the unit.
    """
    assumed, (scale, reason) = False, unit_of_names(paths) or (MILLIMETRES, "")
    told = float(Fraction(scale))
    for path in paths:
        values = np.ma.compressed(replace(Depth(), key=key).read(path))
        if values.dtype.kind == "f":
            continue
        assumed, known = True, values[values > 0]
        if values.dtype.itemsize < 2:
            raise DataError(f"depth {path} is {values.dtype}", f"give {option}, the metres per unit")
        if told != MILLIMETRES:
            cure = f"give {option} {told:.9g}, or {MILLIMETRES} where they are millimetres"
            raise DataError(f"depth {path}: {reason}", cure)
        median = float(np.median(known)) * MILLIMETRES if known.size else np.nan
        if known.size and not LIKELY[0] <= median <= LIKELY[1]:
            text = f"depth {path} has a median of {median:.3g} m in millimetres"
            raise DataError(text, f"give {option}, the metres per unit ({MILLIMETRES} where that is right)")
    return assumed


APART = 8.0
"""Factor between the medians of a prediction and its ground truth from which on their units are in doubt."""


def check_units(pairs: Iterable[ReadPair], encodings: Encodings) -> None:
    """Raise `DataError` where predicted depth and its ground truth seem to have two units, unless both were given."""
    if encodings.depth_scale and encodings.prediction_depth_scale:  # someone looked at both
        return
    for pair in pairs:
        both = (pair.prediction > 0) & (pair.target > 0)
        if not both.any():
            continue
        medians = [float(depth[both].median()) for depth in (pair.prediction, pair.target)]
        if max(medians) > APART * min(medians):
            stated = [
                f"{name} has a median of {median:.3g} m" for name, median in zip(pair.sources, medians, strict=True)
            ]
            cure = (
                f"give {SCALE}, the metres per unit of whole numbers, and {PREDICTION_SCALE}, that of the predictions "
                "(1 where they are metres): both together are believed"
            )
            raise DataError(f"depth in one of two units: {' and '.join(stated)}", cure)


AGREED, APART_BY = 0.75, 0.15
"""Normals are refused where other axes reach this mean cosine between prediction and truth, and exceed the cosine of
the present axes by this much: trained networks have 0.9.
"""


def check_axes(pairs: Iterable[ReadPair], encodings: Encodings) -> None:
    """Raise `DataError` where predicted normals point along other axes than their ground truth."""
    if encodings.prediction_normals_axes:  # someone looked
        return
    cosine = agreement((pair.prediction, pair.target) for pair in pairs)
    best = max(cosine, key=cosine.__getitem__)
    if cosine[best] >= AGREED and cosine[best] - cosine[CAMERA] >= APART_BY:
        text = (
            f"normals of predictions and ground truth point along other axes: their mean cosine is {cosine[CAMERA]:.2f}"
        )
        cure = (
            "say where the components point, of the ground truth with --normals-axes (axes in its dataset.toml) and of "
            f"the predictions with --prediction-normals-axes ({' '.join(CAMERA)} is what triptych predicts)"
        )
        raise DataError(f"{text}, and {cosine[best]:.2f} with the predictions' turned to {', '.join(best)}", cure)
