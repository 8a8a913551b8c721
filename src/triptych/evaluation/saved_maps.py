"""Reading saved predictions and ground truth of each task as tensors; every error names the file and the cure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from triptych.data.errors import DataError
from triptych.evaluation.map_encodings import Encodings
from triptych.evaluation.map_meaning import (
    MILLIMETRES,
    SCALE,
    Pairs,
    ReadPair,
    check_axes,
    check_probabilities,
    check_units,
    describe_millimetres,
)
from triptych.labels.axes import CAMERA, turn
from triptych.labels.base import Encoding, without_label
from triptych.labels.classes import Labels, PartLabels
from triptych.labels.depth import Depth
from triptych.labels.masks import BoundaryMask, SaliencyMask
from triptych.labels.normals import Normals
from triptych.metrics.base import ROUNDING
from triptych.metrics.boundary_protocols import GroundTruth
from triptych.types import IGNORE


@dataclass(frozen=True)
class StoredMap:
    """A prediction in the layout its metric takes, without batch; `integer`: the file already rounded it."""

    values: Tensor
    integer: bool


def read_prediction(path: Path, task: str, encodings: Encodings) -> StoredMap:
    """A prediction file. Raises `OSError` for what cannot be read, `ValueError` for numbers that cannot be right."""
    stored = np.ma.getdata(_read_stored(path, task, encodings.key))  # a transparent pixel is predicted, too
    try:
        return StoredMap(TASK_MAPS[task].prediction(stored, encodings), stored.dtype.kind != "f")
    except ValueError as error:
        raise ValueError(f"prediction {path}: {error}") from error


def read_target(path: Path, task: str, encodings: Encodings) -> Tensor:
    """A ground-truth file of any task but boundary: labels `(H, W)` with `IGNORE`, or floats `(C, H, W)` with NaN."""
    stored, reader = _read_stored(path, task, encodings.key), TASK_MAPS[task].target
    assert reader is not None, "boundaries have annotators"
    try:
        return reader(stored, encodings)
    except ValueError as error:
        raise ValueError(f"ground truth {path}: {error}") from error


def _read_stored(path: Path, task: str, key: str) -> np.ndarray:
    """The stored array as training reads it: palettes of ids by index, others as they look; masked where clear."""
    return replace(TASK_MAPS[task].encoding, key=key).read(path)


def read_annotators(
    path: Path, size: tuple[int, int], recipe: GroundTruth, key: str = "", *, stacked: bool = False
) -> Float[Tensor, "annotators height width"]:
    """Boundary ground truth for a prediction of `size`: one map per annotator.

    Takes one map `(H, W)`, several `(annotators, H, W)`, several in one picture one below the other if these may be
    `stacked` (else it is one map, of another size), and the .mat files of BSDS500. The recipes `stored` and `thin` take
    maps of two values only: for maps of labels or votes the recipe has to be named.
    """
    stored = _read_stored(path, "semseg" if recipe == "outline" else "boundary", key)
    stored = without_label(stored) if isinstance(stored, np.ma.MaskedArray) else stored
    maps = _bsds_maps(stored, recipe) if stored.dtype == object else _split_annotators(stored, size, stacked)
    if recipe != "outline":
        others = (maps != 0) & (maps != np.nanmax(maps, initial=1)) & (maps == maps)
        if others.any():
            raise ValueError(
                f"ground truth {path} has more than two values ({len(np.unique(maps))}); --ground-truth outline takes "
                "it as a map of labels, --dataset or a threshold of your own says otherwise."
            )
        maps = np.where(maps == maps, maps != 0, np.nan)
    return torch.from_numpy(maps.astype(np.float32))


def _split_annotators(stored: np.ndarray, size: tuple[int, int], stacked: bool) -> np.ndarray:
    stored = stored.astype(np.uint8) if stored.dtype == bool else stored
    if stacked and stored.ndim == 2 and stored.shape[1] == size[1] and stored.shape[0] % size[0] == 0:
        return stored.reshape(-1, *size)
    return stored[None] if stored.ndim == 2 else stored


def _bsds_maps(stored: np.ndarray, recipe: GroundTruth) -> np.ndarray:
    """`groundTruth` of BSDS500: a cell array with the regions and boundaries of every annotator."""
    entry = "Segmentation" if recipe == "outline" else "Boundaries"
    return np.stack([annotator[entry][0, 0] for annotator in stored.ravel()])


def check_finite(stored: StoredMap, valid: Tensor, path: Path) -> None:
    """`DataError` where a prediction of quantities has none, as NaN or the whole number 0, at a pixel with a label."""
    if stored.values.is_floating_point():
        wrong = int((~stored.values.isfinite().all(dim=0) & valid).sum())
        if wrong:
            found, cure = "NaN or infinite", ""
            if stored.integer:
                found, cure = (
                    "0, which is no value,",
                    "score floats, as `triptych predict` writes in arrays/ beside maps/",
                )
            raise DataError(f"prediction {path} is {found} at {wrong} pixels that have a label", cure)


def _read_probability(stored: np.ndarray, encodings: Encodings) -> Tensor:
    """`(1, H, W)` in [0, 1] from 8 or 16 bit, booleans or floats."""
    stored = _flat(stored)
    if stored.dtype == np.uint8:
        return torch.from_numpy(stored.astype(np.float32) / np.float32(255))[None]
    if stored.dtype == np.uint16:  # 257 v is v of 8 bit exactly
        return torch.from_numpy((stored // 257).astype(np.float32) / np.float32(255))[None]
    if stored.dtype == bool:
        return torch.from_numpy(stored.astype(np.float32))[None]
    if stored.dtype.kind != "f":
        raise ValueError(f"has {stored.dtype} values; save probabilities as 8 or 16 bit or as floats in [0, 1]")
    known = stored[~np.isnan(stored)]
    if known.size < stored.size:
        raise ValueError(f"has {stored.size - known.size} NaN pixels; probabilities are in [0, 1]")
    if known.size and (known.min() < -ROUNDING or known.max() > 1 + ROUNDING):
        raise ValueError(
            f"has values in [{known.min():g}, {known.max():g}]; probabilities are in [0, 1]: apply the sigmoid, or "
            "divide by the largest value of the format"
        )
    return torch.from_numpy(stored.astype(np.float32))[None]


def _read_classes(stored: np.ndarray, encodings: Encodings) -> Tensor:
    """Class ids `(H, W)`."""
    stored = _flat(stored)
    ids = np.asarray(np.nan_to_num(stored, nan=-1)).astype(np.int64)
    if stored.dtype.kind == "f" and not np.array_equal(ids, stored):
        raise ValueError("has values that are no whole numbers; semantic predictions are class ids")
    return torch.from_numpy(ids + encodings.prediction_offset)


def _metres(stored: np.ndarray, encodings: Encodings) -> float:
    """Metres per stored unit."""
    if stored.dtype.kind == "f":
        return 1.0
    if not encodings.depth_scale and stored.dtype.itemsize < 2:
        raise ValueError(f"is {stored.dtype} depth; give {SCALE}, the metres per unit")
    return encodings.depth_scale or MILLIMETRES


def _read_depth(stored: np.ndarray, encodings: Encodings) -> Tensor:
    """Metres `(1, H, W)`; NaN where whole numbers are 0 or less, as where `triptych predict` has no depth to write."""
    scale = encodings.prediction_depth_scale or _metres(stored, encodings)
    metres = torch.from_numpy(_flat(stored).astype(np.float32) * np.float32(scale))[None]
    return metres if stored.dtype.kind == "f" else metres.where(metres > 0, torch.nan)


def _read_normals(stored: np.ndarray, encodings: Encodings) -> Tensor:
    """Vectors `(3, H, W)` in the frame of the camera, of any length; NaN where those of pictures are black."""
    black = (0,) if stored.dtype.kind == "u" else ()
    vectors = Normals(invalid=black).stored_vectors(stored)
    return turn(torch.from_numpy(vectors.transpose(2, 0, 1)), encodings.prediction_normals_axes or CAMERA)


def settle_encodings(paths: Iterable[Path], task: str, encodings: Encodings) -> Encodings:
    """Complete encodings by what the ground truth of a whole folder shows and a single file may not."""
    return TASK_MAPS[task].settle(paths, encodings)


def _settle_masks(paths: Iterable[Path], encodings: Encodings) -> Encodings:
    found = (_holds_labels(_read_stored(path, "saliency", encodings.key)) for path in paths)
    return replace(encodings, labels=next((labels for labels in found if labels is not None), False))


def describe_unit(pairs: Pairs, task: str, encodings: Encodings) -> str:
    """Describe the unit assumed for whole numbers in files of a task; empty where nothing is assumed.

    Raises `ValueError` where the names of the files or their values contradict it: the unit has to be given.
    """
    return TASK_MAPS[task].unit(pairs, encodings)


def _describe_masks(pairs: Pairs, encodings: Encodings) -> str:
    check_probabilities(pairs, encodings)
    is_read = any(target is not None for _, target in pairs)
    return f"labels 0, 1 and {IGNORE} (unlabelled)" if encodings.labels and is_read else ""


def check_meaning(task: str, pairs: Iterable[ReadPair], encodings: Encodings) -> None:
    """Raise `ValueError` where a few predictions and their targets show that one of the two was read with a wrong
    encoding.
    """
    TASK_MAPS[task].check(pairs, encodings)


def _flat(stored: np.ndarray) -> np.ndarray:
    """`(H, W)`; a grey picture saved with three equal channels is one too."""
    if stored.ndim == 3 and 1 in (stored.shape[0], stored.shape[-1]):
        stored = stored.squeeze(0 if stored.shape[0] == 1 else -1)
    if stored.ndim == 3 and stored.shape[-1] == 3 and (stored == stored[..., :1]).all():
        stored = stored[..., 0]
    if stored.ndim != 2:
        raise ValueError(f"has shape {stored.shape}; a map of one value per pixel is (height, width)")
    return stored


def _saliency_mask(stored: np.ndarray, encodings: Encodings) -> SaliencyMask:
    """Labels 0, 1 and 255 (unlabelled), or else grey values that are salient from the middle of their range on."""
    own, settled = _holds_labels(stored), encodings.labels
    if own is not None and settled is not None and own != settled:
        raise ValueError(
            f"has {'labels' if own else 'grey values'}, and other files of its folder have "
            f"{'labels' if settled else 'grey values'}: what {IGNORE} means differs; save all as labels (0, 1 and "
            f"{IGNORE}), or all as grey values"
        )
    labels = own if settled is None else settled
    return SaliencyMask(threshold=1, invalid=(IGNORE,)) if labels else SaliencyMask()


def _holds_labels(stored: np.ndarray) -> bool | None:
    """Whether a mask has labels, or grey values; `None` where it may have either, as where no pixel is salient."""
    known = np.ma.compressed(stored)
    known = known[np.isfinite(known)] if known.dtype.kind == "f" else known
    if not np.isin(known, (0, 1, IGNORE)).all():
        return False
    is_scaled = stored.dtype == bool or (stored.dtype.kind == "f" and known.max(initial=0) <= 1)  # 1 is 1 in both
    return True if (known == 1).any() and not is_scaled else None


Reader = Callable[[np.ndarray, Encodings], Tensor]


@dataclass(frozen=True)
class TaskMaps:
    """Files of one task, by whatever program they were written."""

    folders: tuple[str, ...]
    """Names of their folder, ours first."""
    encoding: Encoding
    """How training reads such files by default."""
    prediction: Reader
    target: Reader | None = None
    """`None`: `read_annotators` reads ground truth."""
    settle: Callable[[Iterable[Path], Encodings], Encodings] = lambda paths, encodings: encodings
    """`settle_encodings` of this task."""
    unit: Callable[[Pairs, Encodings], str] = lambda pairs, encodings: ""
    """`describe_unit` of this task."""
    check: Callable[[Iterable[ReadPair], Encodings], None] = lambda pairs, encodings: None
    """`check_meaning` of this task."""


TASK_MAPS = {
    "semseg": TaskMaps(
        ("semseg", "segmentation", "seg", "semantic"),
        Labels(classes=1),
        _read_classes,
        lambda stored, how: Labels(classes=how.classes, offset=how.label_offset).decode(stored),
    ),
    "human_parts": TaskMaps(
        ("human_parts", "parts", "part"),
        PartLabels(),
        _read_classes,
        lambda stored, how: PartLabels(offset=how.label_offset).decode(stored),
    ),
    "saliency": TaskMaps(
        ("saliency", "sal"),
        SaliencyMask(),
        _read_probability,
        lambda stored, how: _saliency_mask(stored, how).decode(stored),
        settle=_settle_masks,
        unit=_describe_masks,
    ),
    "normals": TaskMaps(
        ("normals", "normal"),
        Normals(),
        _read_normals,
        lambda stored, how: Normals(axes=how.normals_axes or CAMERA).decode(stored),
        check=check_axes,
    ),
    "depth": TaskMaps(
        ("depth",),
        Depth(),
        _read_depth,
        lambda stored, how: Depth(scale=_metres(stored, how)).decode(stored),
        unit=describe_millimetres,
        check=check_units,
    ),
    "boundary": TaskMaps(
        ("boundary", "boundaries", "edge", "edges"), BoundaryMask(), _read_probability, unit=check_probabilities
    ),
}
