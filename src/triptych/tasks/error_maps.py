"""Errors of a prediction pixel by pixel: pure functions from two maps to one, for pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triptych.types import IGNORE


def measure_wrong_class(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """1 where the class is wrong, 0 where it is right, NaN where the target is `IGNORE`; `(H, W)` float32.

    >>> measure_wrong_class(np.array([[1, 2, 0]]), np.array([[1, 0, 255]])).tolist()
    [[0.0, 1.0, nan]]
    """
    return np.where(target == IGNORE, np.nan, prediction != target).astype(np.float32)


def measure_absolute(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`|prediction - target|` `(H, W)` float32, NaN where the target is invalid.

    Maps are `(C, H, W)`, averaged over channels; a target may also be labels `(H, W)` of 0, 1 and `IGNORE`, and the
    prediction their probability. Several annotators `(annotators, H, W)` of one channel are averaged.

    >>> measure_absolute(np.array([[[0.25, 2.0]]]), np.array([[1, 255]])).tolist()
    [[0.75, nan]]
    >>> measure_absolute(np.full((3, 1, 1), 0.5), np.array([0.5, 1.0, 1.5]).reshape(3, 1, 1)).item()
    0.5
    """
    size = target.shape[-2:]
    labels = np.issubdtype(target.dtype, np.integer)
    truth = np.where(target == IGNORE, np.nan, target) if labels else target
    shown, truth = prediction.reshape(-1, *size), truth.reshape(-1, *size)
    truth = truth.mean(axis=0, keepdims=True) if len(shown) == 1 else truth
    return np.abs(shown - truth).mean(axis=0).astype(np.float32)


def measure_angle(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Angle in degrees between unit vectors `(3, H, W)`; `(H, W)` float32, NaN where the target is.

    >>> measure_angle(np.array([1.0, 0, 0]).reshape(3, 1, 1), np.array([0, 0, -1.0]).reshape(3, 1, 1)).item()
    90.0
    """
    cosine = (prediction.astype(np.float64) * target).sum(axis=0)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))).astype(np.float32)


@dataclass(frozen=True)
class ErrorMap:
    """Error of a task pixel by pixel, and the value that is drawn in full color (`None`: large for the map)."""

    label: str
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray]
    unit: str = ""
    limit: float | None = None


WRONG_CLASS = ErrorMap("wrong class", measure_wrong_class, limit=1.0)
PROBABILITY = ErrorMap("absolute error", measure_absolute, limit=1.0)
DISTANCE = ErrorMap("absolute error", measure_absolute, unit="m")
ANGLE = ErrorMap("angular error", measure_angle, unit="°", limit=60.0)
BY_KIND = {
    "labels": WRONG_CLASS,
    "probability": PROBABILITY,
    "direction": ANGLE,
    "length": DISTANCE,
    "values": ErrorMap("absolute error", measure_absolute),
}
"""The error map of a kind of predictions."""
OF_ITS_KIND = ErrorMap("", measure_absolute)
"""Stands for the one of `BY_KIND` until the kind is known."""
