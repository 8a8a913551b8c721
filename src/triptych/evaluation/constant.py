"""The reference that every network must beat: per task, the best prediction that does not look at the image."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.data.base import DenseDataset
from triptych.data.loading import OnBadSample, evaluation_loader
from triptych.data.subset import without_pseudo_labels
from triptych.tasks import Task
from triptych.types import valid_pixels

PIXELS = 4096
"""Pixels of one image that are kept, evenly spread; medians need the values themselves."""
TRIAL_IMAGES = 20
"""Images that candidates are compared on."""


class ConstantPredictor:
    """Predicts the same value everywhere, in the layout of `Predictor.predict`.

    `values` holds, by task, a class id (a scalar integer tensor) or the channels of a map `(C,)`.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = dict(values)

    def predict(self, image: Tensor) -> dict[str, Tensor]:
        """The constant maps for a batch `(B, 3, H, W)`: `(B, H, W)` of classes or `(B, C, H, W)`."""
        batch, _, *size = image.shape
        return {
            name: value.to(image.device)[None, ..., None, None].expand(batch, *value.shape, *size)
            for name, value in self.values.items()
        }

    @classmethod
    def fit(
        cls,
        dataset: DenseDataset,
        tasks: Mapping[str, Task],
        *,
        images: int = 100,
        on_bad_sample: OnBadSample = "raise",
    ) -> "ConstantPredictor":
        """Fit on `images` samples spread over a training set; for a task with pseudo-labels, over its other images.

        Classes: the most frequent one. Maps: of the mean, the median and, for probabilities, 1 everywhere, the one with
        the best primary number of the task's own metric on `TRIAL_IMAGES` of them; directions are brought to unit
        length. A task without any label there predicts class 0 or zeros.
        """
        targets: dict[str, list[Tensor]] = {name: [] for name in tasks}
        guessed = [name for name in tasks if dataset.pseudo_weights.get(name)]
        parts = [(dataset, [name for name in tasks if name not in guessed])]
        parts += [(without_pseudo_labels(dataset, name), [name]) for name in guessed]
        for part, names in parts:
            for sample in evaluation_loader(part, limit=images, on_bad_sample=on_bad_sample) if names else ():
                for name in names:
                    # A task that learns from video may have no labels in this dataset at all.
                    if name in sample.targets and valid_pixels(sample.targets[name]).any():
                        targets[name].append(sample.targets[name])
        return cls({name: _best(task, targets[name]) for name, task in tasks.items()})


def _best(task: Task, targets: list[Tensor]) -> Tensor:
    candidates = _candidates(task, [_pixels(target) for target in targets])
    if len(candidates) == 1:
        return candidates[0]
    trial = targets[:: max(1, len(targets) // TRIAL_IMAGES)][:TRIAL_IMAGES]
    scores = [_score(task, candidate, trial) for candidate in candidates]
    return candidates[max(range(len(candidates)), key=scores.__getitem__)]


def _pixels(target: Tensor) -> Tensor:
    """Valid values of one target `(1, *C, H, W)` as `(pixels, *C)`, at most `PIXELS`."""
    valid = valid_pixels(target)
    values = target[valid][:, None] if target.dim() == 3 else target.movedim(1, -1)[valid[:, 0]]
    return values[:: -(-len(values) // PIXELS)]


def _candidates(task: Task, pixels: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        example = task.decode(torch.zeros(1, task.channels, 1, 1))
    if not pixels:
        return [torch.zeros(example.shape[1:-2], dtype=example.dtype)]
    values = torch.cat(pixels)
    if not example.is_floating_point():
        return [values[:, 0].mode().values]
    values = values.to(example)
    if task.kind == "probability":
        values = values.mean(dim=1, keepdim=True)  # several annotators
    candidates = [values.mean(dim=0), values.median(dim=0).values]
    if task.kind == "direction":
        return [F.normalize(candidate, dim=0) for candidate in candidates]
    return [*candidates, torch.ones(1)] if task.kind == "probability" else candidates


def _score(task: Task, value: Tensor, targets: list[Tensor]) -> float:
    metric = task.metric()
    predictor = ConstantPredictor({task.name: value})
    for target in targets:
        metric.update(predictor.predict(target.new_zeros((1, 3, *target.shape[-2:])))[task.name], target)
    number = float(metric.compute()[metric.primary])
    return number if metric.better[metric.primary] else -number
