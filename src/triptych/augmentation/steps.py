"""Steps of augmentation: small functions of a sample and a generator.

A step is called as `step(sample, generator)` and returns a new sample that has exactly the targets of its `tasks`, in
their order. Nothing draws from global random state, so that a sample depends on (seed, epoch, index) alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from triptych.augmentation.kernels import count_classes
from triptych.augmentation.view import PAD_COLOR, View, affine, apply_view, rotate
from triptych.data.base import Transform
from triptych.tasks import Task
from triptych.types import IGNORE, Sample

Tasks = Mapping[str, Task]
Size = tuple[int, int]
Draw = Callable[[np.random.Generator], float]


def uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """A number drawn evenly from [low, high)."""
    return float(generator.uniform(low, high))


def choose(generator: np.random.Generator, choices: tuple[float, ...]) -> float:
    """One of `choices`, all equally likely."""
    return choices[generator.integers(len(choices))]


@dataclass(frozen=True)
class Chain:
    """Steps one after the other.

    >>> import torch
    >>> from triptych.tasks import semseg
    >>> tasks = {"semseg": semseg(3)}
    >>> sample = Sample(torch.rand(3, 20, 30), {"semseg": torch.zeros(20, 30, dtype=torch.int64)})
    >>> moved = Chain((Flip(tasks), Pad(tasks, (24, 32))))(sample, np.random.default_rng(0))
    >>> tuple(moved.image.shape), tuple(moved.targets["semseg"].shape)
    ((3, 24, 32), (24, 32))
    """

    steps: tuple[Transform, ...]

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        for step in self.steps:
            sample = step(sample, generator)
        return sample


@dataclass(frozen=True)
class Select:
    """Keep the targets of `tasks`, in their order; one that is missing is all invalid."""

    tasks: Tasks

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        size = _size(sample)
        targets = {
            name: sample.targets[name] if name in sample.targets else task.invalid_target(size)
            for name, task in self.tasks.items()
        }
        neighbors = tuple(self(frame, generator) for frame in sample.neighbors)
        return replace(sample, targets=targets, neighbors=neighbors)


INSIDE = "inside"
"""The extra of `mark_inside`."""


def mark_inside(sample: Sample, generator: np.random.Generator) -> Sample:
    """Add a mask of the image's own pixels, `extras["inside"]`: ones (uint8) that move with it; later steps fill pixels
    from outside with 0. For what learns without targets, whose invalid pixels would show the same.

    >>> sample = mark_inside(Sample(torch.rand(3, 1, 2), {}), np.random.default_rng(0))
    >>> Pad({}, (1, 4))(sample, np.random.default_rng(0)).extras["inside"].tolist()
    [[0, 1, 1, 0]]
    """
    return replace(sample, extras={**sample.extras, INSIDE: torch.ones(_size(sample), dtype=torch.uint8)})


def image_pixels(batch: Sample) -> Bool[Tensor, "batch 1 height width"]:
    """Mask of the pixels of a batch that show its images: without those that a transform padded. All of them, where the
    batch was not marked (`mark_inside`).
    """
    inside = batch.extras.get(INSIDE)
    return torch.ones_like(batch.image[:, :1], dtype=torch.bool) if inside is None else inside[:, None] > 0


@dataclass(frozen=True)
class Flip:
    """Mirror left and right; the x components of normals change sign."""

    tasks: Tasks
    probability: float = 0.5

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        if generator.random() >= self.probability:
            return Select(self.tasks)(sample, generator)
        height, width = _size(sample)
        view = View(affine(scale=(-1.0, 1.0), offset=(width, 0.0)), (height, width), mirrored=True)
        return apply_view(sample, view, self.tasks)


@dataclass(frozen=True)
class ScaleCrop:
    """Magnify by a random factor, then cut out at most `size` at a random place; depth is divided by the factor.

    The place is drawn again, up to `redraws` times, until the most frequent class of the `balance` target covers less
    than `max_share` of the crop's valid pixels. That label map need not be a task; without it the first place is used.
    An image smaller than `size` stays smaller: `Pad` follows.
    """

    tasks: Tasks
    size: Size
    scale: Draw
    max_share: float = 0.75
    redraws: int = 10
    balance: str = "semseg"

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        scale = self.scale(generator)
        height, width = (max(int(side * scale), 1) for side in _size(sample))
        crop = min(height, self.size[0]), min(width, self.size[1])
        labels = sample.targets.get(self.balance)
        for _ in range(1 + self.redraws):
            top = int(generator.integers(height - crop[0] + 1))
            left = int(generator.integers(width - crop[1] + 1))
            view = View(affine(scale=(scale, scale), offset=(-left, -top)), crop, zoom=scale)
            if labels is None or self._is_balanced(labels, view):
                break
        return apply_view(sample, view, self.tasks)

    def _is_balanced(self, labels: Tensor, view: View) -> bool:
        (left, top), (right, bottom) = ((view.inverse @ [x, y, 1])[:2] for x, y in ((0, 0), view.size[::-1]))
        bottom, right = max(int(bottom), int(top) + 1), max(int(right), int(left) + 1)
        ends = min(bottom, labels.shape[0]), min(right, labels.shape[1])
        counts = count_classes(labels.contiguous().numpy(), int(top), ends[0], int(left), ends[1])
        counts[IGNORE] = 0
        return bool(np.count_nonzero(counts) > 1 and counts.max() < self.max_share * counts.sum())


@dataclass(frozen=True)
class ScaleRotate:
    """Magnify by a random factor and turn by a random angle (degrees) about the image's center, keeping the size.

    Depth is divided by the factor, normals turn with the image. Pixels that come from outside get the color `fill`;
    targets there are invalid, or class 0 with `zero_outside`, a quirk of the survey's pipeline.
    """

    tasks: Tasks
    scale: Draw
    degrees: Draw
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    zero_outside: bool = False

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        scale, angle = self.scale(generator), float(np.deg2rad(self.degrees(generator)))
        size = _size(sample)
        view = View(rotate(angle, scale, (size[1] / 2, size[0] / 2)), size, zoom=scale, angle=angle)
        outside = {name: 0.0 for name, task in self.tasks.items() if task.classes} if self.zero_outside else {}
        return apply_view(sample, view, self.tasks, fill=self.fill, outside=outside)


@dataclass(frozen=True)
class ZoomCrop:
    """Cut out a random part that is a random factor smaller than the image, and magnify it back; depth is divided."""

    tasks: Tasks
    scale: Draw

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        scale, (height, width) = self.scale(generator), _size(sample)
        top, left = (int(generator.integers(int(side * (scale - 1)) + 1)) for side in (height, width))
        view = View(affine(scale=(scale, scale), offset=(-left, -top)), (height, width), zoom=scale)
        return apply_view(sample, view, self.tasks)


@dataclass(frozen=True)
class Pad:
    """Pad on all sides alike to at least `size`: the image with `fill`, targets invalid."""

    tasks: Tasks
    size: Size
    fill: tuple[float, float, float] = PAD_COLOR

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        height, width = _size(sample)
        size = max(height, self.size[0]), max(width, self.size[1])
        if size == (height, width):
            return Select(self.tasks)(sample, generator)
        offset = (size[1] - width) // 2, (size[0] - height) // 2
        return apply_view(sample, View(affine(offset=offset), size), self.tasks, fill=self.fill)


@dataclass(frozen=True)
class CenterCrop:
    """Cut out at most `size` around the center."""

    tasks: Tasks
    size: Size

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        height, width = _size(sample)
        size = min(height, self.size[0]), min(width, self.size[1])
        if size == (height, width):
            return Select(self.tasks)(sample, generator)
        offset = -((width - size[1]) // 2), -((height - size[0]) // 2)
        return apply_view(sample, View(affine(offset=offset), size), self.tasks)


@dataclass(frozen=True)
class Stretch:
    """Resize to exactly `size`, whatever the aspect ratio.

    The image is filtered (`mode`, antialiased). Stretching is a change of the camera, not of the scene: intrinsics
    follow, depth and normals keep their values.
    """

    tasks: Tasks
    size: Size
    mode: str = "bilinear"

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        height, width = _size(sample)
        if self.size == (height, width):
            return Select(self.tasks)(sample, generator)
        view = View(affine(scale=(self.size[1] / width, self.size[0] / height)), self.size)

        def filtered(frame: Sample, moved: Sample) -> Sample:
            image = F.interpolate(frame.image[None], self.size, mode=self.mode, align_corners=False, antialias=True)[0]
            pairs = zip(frame.neighbors, moved.neighbors, strict=True)
            return replace(moved, image=image.clamp(0, 1), neighbors=tuple(filtered(*pair) for pair in pairs))

        return filtered(sample, apply_view(sample, view, self.tasks))


@dataclass(frozen=True)
class FitHeight:
    """Resize to the height of `size`, keeping the aspect ratio; the scene keeps its distances, as in `Stretch`."""

    tasks: Tasks
    size: Size

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        height, width = _size(sample)
        fitted = self.size[0], max(round(width * self.size[0] / height), 1)
        return Stretch(self.tasks, fitted)(sample, generator)


@dataclass(frozen=True)
class FitShorterSide:
    """Resize to a shorter side of `side` pixels, keeping the aspect ratio, as `Predictor` does; the scene keeps its
    distances.

    >>> fitted = FitShorterSide({}, 2)(Sample(torch.rand(3, 9, 6), {}), np.random.default_rng(0))
    >>> tuple(fitted.image.shape)
    (3, 3, 2)
    """

    tasks: Tasks
    side: int

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        size = _size(sample)
        factor = self.side / min(size)
        height, width = (max(round(length * factor), 1) for length in size)
        return Stretch(self.tasks, (height, width))(sample, generator)


def _size(sample: Sample) -> Size:
    return int(sample.image.shape[-2]), int(sample.image.shape[-1])
