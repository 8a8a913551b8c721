"""Depth on another camera: a factor, and a power, that bring predicted metres to measured ones.

A network trained on one camera errs on another mostly by a factor (the same object is larger on a longer lens), and by
a power where it stretches near and far. log D = a log d + b holds both; b alone, or a and b, are least squares in
closed form, over frames of equal weight.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from triptych.files import hash_file, write_text
from triptych.lookup import parse_json
from triptych.recipes.config import Recipe
from triptych.tasks import Task

FILE = "calibration.json"
"""In a run folder."""
MOST = 50_000
"""Pixels of a frame that take part, spread over it."""


NEAR = 0.05
"""Relative difference up to which sizes count as equal."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Scale:
    """Metres d become `factor` d ** `power`, of images that the network sees as large as those that it was fitted on.

    >>> import torch
    >>> Scale(2.0, 0.5)(torch.tensor([9.0])).tolist()
    [6.0]
    """

    factor: float = 1.0
    power: float = 1.0
    frame: Size | None = None
    """Size of the frames that it was fitted on; `None` where it is not known, in files of older versions."""
    seen: Size | None = None
    """Size at which the network saw these frames."""

    def __call__(self, metres: Tensor) -> Tensor:
        return self.factor * (metres if self.power == 1 else metres.clamp(min=0) ** self.power)

    def inverse(self) -> "Scale":
        """The inverse scale.

        >>> import torch
        >>> Scale(2.0, 0.5).inverse()(torch.tensor([6.0])).tolist()
        [9.0]
        """
        return Scale(self.factor ** (-1 / self.power), 1 / self.power)

    def at(self, frame: Size, seen: Size, *, zooms: bool = True) -> "Scale | None":
        """The scale of images of size `frame` that the network sees at size `seen`; `None` where it is not known.

        Frames of one camera that are resized for the network by another factor look nearer by it where values zoom
        (`Task.scales_with_zoom`). Other sizes are ambiguous: a crop, or another resolution.

        >>> Scale(2.0, 1.0, (480, 640), (480, 640)).at((480, 640), (240, 320)).factor
        1.0
        """
        if self.frame is None or self.seen is None or _near(min(seen), min(self.seen)):
            return self
        (low, high), (fitted_low, fitted_high) = sorted(seen), sorted(self.seen)
        same_camera = all(map(_near, sorted(frame), sorted(self.frame)))
        if not (zooms and same_camera and _near(low / fitted_low, high / fitted_high)):
            return None
        return replace(self, factor=self.factor * (low / fitted_low) ** self.power, seen=seen)

    def content(self) -> dict[str, Any]:
        """Fields for JSON, without unknown sizes."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def describe(self) -> str:
        """In words."""
        return f"depth x {self.factor:.4g}" if self.power == 1 else f"{self.factor:.4g} x depth ^ {self.power:.3g}"


def _near(one: int | float, other: int | float) -> bool:
    return abs(one / other - 1) <= NEAR


def describe_mismatch(name: str, scale: Scale, seen: Size, *, resizes: bool = True) -> str:
    """One line about a scale that was fitted where the network saw things at another size; `resizes` says whether the
    network can be shown images at another size than their own.
    """
    assert scale.seen is not None, "a scale without a size fits all"
    option = f"--shorter-side {min(scale.seen)}" if resizes else "export --size {} {}".format(*scale.seen)
    return (
        f"{name} was calibrated on images that the network saw at {scale.seen[0]} x {scale.seen[1]}, and it sees "
        f"others at {seen[0]} x {seen[1]}: of the same camera, metres are off by the zoom; let it see them alike "
        f"({option}), or calibrate again on frames of this size."
    )


def describe_unscaled(recipe: Recipe | None, scales: Mapping[str, Scale]) -> str:
    """One line about depth learned from video alone, in unknown units, where it has no scale; else empty."""
    name = "" if recipe is None else recipe.video.unscaled
    if not name or name in scales:
        return ""
    return (
        f"{name} was learned from video without labels: it is right up to one factor, and not in metres; `triptych "
        "calibrate` finds the factor from a few frames with depth."
    )


def describe_metric_score(recipe: Recipe, tasks: Mapping[str, Task]) -> str:
    """One line about depth that video alone taught and that is scored in metres, as its task is built; else empty."""
    name = recipe.video.unscaled
    if name not in tasks or tasks[name].options.get("aligned"):
        return ""
    return (
        f"{name} is learned from video without labels and right up to one factor, and its score, "
        f"{tasks[name].metric().primary}, is in metres: it ranks weights and settings by a factor that they happen "
        f"upon. Training with --recipe.data.task-options {name}.aligned=true scores each image after scaling it."
    )


@dataclass(frozen=True)
class Fitted:
    """Result of a fit: the scale to keep, and by kind of scale the mean of |log D - log d| on held-out frames."""

    scale: Scale
    kept: str
    errors: dict[str, float]
    frames: int


Frame = tuple[np.ndarray, np.ndarray]
"""Logarithms of predicted and of true depth, at the same pixels."""


def logarithms(predicted: np.ndarray, true: np.ndarray) -> Frame | None:
    """The logarithms of two depth maps where both are known and above 0; `None` where there is no such pixel.

    >>> x, y = logarithms(np.array([[1.0, 0.0, 3.0]]), np.array([[2.0, 5.0, np.nan]]))
    >>> x.tolist(), y.round(2).tolist()
    ([0.0], [0.69])
    """
    known = np.isfinite(predicted) & np.isfinite(true) & (predicted > 0) & (true > 0)
    if not known.any():
        return None
    step = -(-int(known.sum()) // MOST)
    return np.log(predicted[known][::step].astype(np.float64)), np.log(true[known][::step].astype(np.float64))


def _factor(frames: Sequence[Frame]) -> Scale:
    """b = mean(log D - log d)."""
    return Scale(math.exp(np.mean([(y - x).mean() for x, y in frames])))


def _power(frames: Sequence[Frame]) -> Scale:
    """a = cov(log d, log D) / var(log d), b = mean(log D) - a mean(log d)."""
    x, y, xx, xy = (
        float(np.mean([values(*frame).mean() for frame in frames]))
        for values in (lambda x, y: x, lambda x, y: y, lambda x, y: x * x, lambda x, y: x * y)
    )
    variance = xx - x * x
    power = (xy - x * y) / variance if variance > 1e-9 else 1.0
    return Scale(math.exp(y - power * x), power)


KINDS = {"as predicted": lambda frames: Scale(), "factor": _factor, "factor and power": _power}
"""Fits by kind of scale, the simplest first: a later one is kept where it does better on held-out frames."""


def fit_scale(frames: Sequence[Frame]) -> Fitted:
    """The scale that does best on frames left out one by one; the simplest of equals.

    >>> x = np.log(np.array([1.0, 2.0, 4.0]))
    >>> fitted = fit_scale([(x, x + np.log(3.0)), (x[:2], x[:2] + np.log(3.0))])
    >>> fitted.kept, round(fitted.scale.factor, 6)
    ('factor', 3.0)
    """
    if len(frames) < 2:
        raise ValueError(
            f"{len(frames)} frames with depth to calibrate on; at least 2 are needed, so that each is tried on others."
        )
    errors = {
        kind: float(
            np.mean(
                [_error(fit([*frames[:i], *frames[i + 1 :]]), frame) for i, frame in enumerate(frames)],
            )
        )
        for kind, fit in KINDS.items()
    }
    kept = next(iter(KINDS))
    for kind, error in errors.items():
        if error < errors[kept] - 1e-9 and (fit := KINDS[kind](frames)).power > 0 and math.isfinite(fit.factor):
            kept = kind
    return Fitted(KINDS[kept](frames), kept, errors, len(frames))


def _error(scale: Scale, frame: Frame) -> float:
    x, y = frame
    return float(np.abs(y - scale.power * x - math.log(scale.factor)).mean())


def write_calibration(run: Path, scales: Mapping[str, Scale], weights_sha256: str, facts: Mapping[str, Any]) -> Path:
    """Store scales by task in a run folder, with the hash of the weights that they are of and what they come from."""
    content = {name: scale.content() for name, scale in scales.items()}
    stored = {"format": 1, "scales": content, "weights_sha256": weights_sha256, "from": facts}
    write_text(run / FILE, json.dumps(stored, indent=2) + "\n")
    return run / FILE


def read_calibration(run: Path, weights: Path | None = None) -> dict[str, Scale]:
    """The scales of a run folder by task; none where it has no such file.

    `ValueError` where it is damaged, or says that it is not of the weights in the file `weights`.
    """
    path = run / FILE
    if not path.is_file():
        return {}
    try:
        stored = parse_json(path.read_text(encoding="utf-8"))
        scales, fitted = scales_from(stored["scales"]), stored.get("weights_sha256")
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is no calibration ({error}); delete it, or run `triptych calibrate` again."
        ) from error
    if fitted and weights and weights.is_file() and fitted != hash_file(weights):
        raise ValueError(
            f"{path} was made with other weights than {weights} has now; run `triptych calibrate` again, or delete it."
        )
    return scales


def scales_from(content: Mapping[str, Mapping[str, Any]]) -> dict[str, Scale]:
    """Scales by task from JSON."""
    scales = {
        name: Scale(float(one["factor"]), float(one["power"]), *(_read_size(one.get(key)) for key in ("frame", "seen")))
        for name, one in content.items()
    }
    for scale in scales.values():
        if not (math.isfinite(scale.factor) and scale.factor > 0 and math.isfinite(scale.power) and scale.power > 0):
            raise ValueError(f"factor {scale.factor} and power {scale.power} are not above 0")
    return scales


def _read_size(stored: Any) -> Size | None:
    if stored is None:
        return None
    height, width = map(int, stored)
    if min(height, width) < 1:
        raise ValueError(f"{height} x {width} is no size")
    return height, width
