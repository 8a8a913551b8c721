"""Confidence: how sure a network is of each pixel, beside its predictions.

- Classes and probabilities: 1 - H(p) / log K, with the entropy H of the mean probabilities of several views.
- Lengths: 1 - deviation / mean of what several views predict, 0 where they differ by all of it.
- Directions: the length of the mean of the unit vectors, 1 where all views agree (Mardia and Jupp, "Directional
  Statistics", 2000).

The views are mirrored and resized images. Other values have no confidence: how far they may differ is unknown. Nothing
is learned or calibrated (0.9 need not be right nine times in ten): `triptych evaluate --confidence` says how large
errors are where confidence is low.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from triptych.prediction.predictor import Predictor, seen_raw, seen_values
from triptych.prediction.strips import Resized, Source, joined, resize, split_strips
from triptych.tasks import Task, boundary
from triptych.tasks.task import keep

ENDING = "_confidence"
SCALES = (0.8, 1.0, 1.25)
"""Scales of the views, where the predictor has a single scale."""


def entropy_confidence(probabilities: Tensor) -> Tensor:
    """1 - H(p) / log K of `(B, K, H, W)` as `(B, 1, H, W)`; one class is sure.

    >>> entropy_confidence(torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)).item()
    0.0
    >>> entropy_confidence(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).item()
    1.0
    """
    entropy = torch.special.entr(probabilities).sum(dim=1, keepdim=True)
    return (1 - entropy / math.log(max(probabilities.shape[1], 2))).clamp(0, 1)


def _of_events(views: Sequence[Tensor]) -> Tensor:
    likely = torch.stack(list(views)).mean(dim=0)
    return entropy_confidence(torch.cat([likely, 1 - likely], dim=1))


def _of_lengths(views: Sequence[Tensor]) -> Tensor:
    metres = torch.stack(list(views))
    mean = metres.mean(dim=0)
    return (1 - metres.std(dim=0, correction=0) / mean.clamp(min=1e-6)).clamp(0, 1)


MEASURES: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "labels": lambda views: entropy_confidence(torch.stack(list(views)).mean(dim=0)),
    "probability": _of_events,
    "length": _of_lengths,
    "direction": lambda views: torch.stack(list(views)).mean(dim=0).norm(dim=1, keepdim=True).clamp(0, 1),
}
"""By kind of task, confidence from the views' class probabilities, or else from their decoded maps."""


class Confident(Predictor):
    """A predictor whose maps come with `NAME_confidence` `(1, H, W)` in [0, 1] for each task that has one.

    Confidences are written and drawn like other tasks. They take a pass for each view and scale, of the whole image (or
    its tiles) at once. Raises `ValueError` for an exported file of decoded maps, which has no views.

    >>> from triptych.assemble import create_model
    >>> from triptych.tasks import depth, semseg
    >>> model = create_model("fcn", backbone="resnet18_half", tasks={"semseg": semseg(3), "depth": depth()})
    >>> maps = Confident(Predictor(model)).predict(torch.rand(1, 3, 32, 40))
    >>> list(maps)
    ['semseg', 'depth', 'semseg_confidence', 'depth_confidence']
    """

    def __init__(self, predictor: Predictor) -> None:
        if not has_views(predictor):
            raise ValueError(
                "confidence compares mirrored and resized views, and this file is of decoded maps or of one size; "
                "export the network with --outputs raw --dynamic, or use the run."
            )
        self.__dict__.update(vars(predictor))
        self.base = predictor
        self.sure = {name: task for name, task in predictor.tasks.items() if has_confidence(task)}
        if taken := [name + ENDING for name in self.sure if name + ENDING in predictor.tasks]:
            raise ValueError(
                f"the network has tasks called {', '.join(taken)}, as the confidences of others would be; leave "
                "confidences out, or train these tasks under other names."
            )
        self.tasks = predictor.tasks | {name + ENDING: confidence_task(name) for name in self.sure}

    def settings(self) -> dict[str, object]:
        """Settings of the predictor, and a flag for confidences."""
        return self.base.settings() | {"confidence": True}

    def raw(self, image: Tensor) -> dict[str, Tensor] | None:
        """Return `None`: several views are averaged."""
        return None

    def strips(
        self, image: Source, *, rows: int | None = None, frame: tuple[int, int] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Predictions, then confidences; the whole image is in memory."""
        whole = joined(self.base.strips(image, rows=rows, frame=frame)) | self.confidences(image)
        yield from map(dict, split_strips([whole], rows))

    @torch.no_grad()
    def confidences(self, image: Source) -> dict[str, Tensor]:
        """Confidence of each task that has one."""
        scales, taken = SCALES if self.scales == (1.0,) else self.scales, self.base.taken_size or image.size
        shown = image if taken == image.size else Resized(image, taken)
        seen: dict[str, list[Tensor]] = {name: [] for name in self.sure}
        for scale, mirrored in itertools.product(scales, (False, True)):
            view = self.base.view(shown, scale, mirrored)
            for name, task in self.sure.items():
                seen[name].append(_statement(task, view[name], scale, mirrored))
        found = {name + ENDING: MEASURES[self.sure[name].kind](views) for name, views in seen.items()}
        return {name: resize(confidence, image.size) for name, confidence in found.items()}


def has_views(predictor: Predictor) -> bool:
    """Whether mirrored and resized views can be compared: not of decoded maps, nor where one size alone is taken."""
    return not predictor.is_decoded and predictor.fixed_size is None


def has_confidence(task: Task) -> bool:
    """Whether views of a task can be compared: classes by their scores, all others but plain values as they are."""
    return task.kind in MEASURES and (task.kind != "labels" or task.is_categorical)


def confidence_task(name: str) -> Task:
    """Confidence in the predictions of a task as a map that is written and drawn like a probability."""
    return replace(boundary(), name=name + ENDING, decode=keep, classes=(), unit="")


def _statement(task: Task, raw: Tensor, scale: float, mirrored: bool) -> Tensor:
    if task.kind == "labels":
        return task.class_probabilities(seen_raw(task, raw, mirrored))
    return seen_values(task, task.decode(raw), scale, mirrored)


def split_confidences(predictor: Predictor, maps: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Predictions of a predictor, and the confidences among its maps by the name of their task."""
    names = {name + ENDING: name for name in predictor.sure} if isinstance(predictor, Confident) else {}
    sure = {names[name]: values for name, values in maps.items() if name in names}
    return {name: values for name, values in maps.items() if name not in names}, sure
