"""The reference that every network must beat: per task, the best prediction that does not look at the image."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.data.base import DenseDataset
from triptych.data.loading import OnBadSample, evaluation_loader
from triptych.data.subset import Subset, spread_evenly
from triptych.tasks import Task
from triptych.types import valid_pixels

PIXELS = 4096
"""Pixels of one image that are kept, evenly spread; medians need the values themselves."""
TRIAL_IMAGES = 20
"""Images that candidates are compared on, and the fewest with a label that are looked for."""


class ConstantPredictor:
    """Predicts the same value everywhere, in the layout of `Predictor.predict`.

    `values` holds, by task, a class id (a scalar integer tensor) or the channels of a map `(C,)`. Those of `unknown`
    tasks follow from no label.
    """

    def __init__(self, values: Mapping[str, Tensor], *, unknown: Sequence[str] = ()) -> None:
        self.values, self.unknown = dict(values), tuple(unknown)

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
        """Fit every task on `images` labelled samples spread over a training set; pseudo-labels do not count.

        Where files do not tell which samples have a label, `images` samples are read, and more until `TRIAL_IMAGES`
        labelled ones are found. Classes: the most frequent one. Maps: of the mean, the median and, for probabilities, 1
        everywhere, the one with the best primary number of the task's own metric on `TRIAL_IMAGES` of them; directions
        are brought to unit length. A task without any label there predicts class 0 or zeros, and is `unknown`.
        """
        read = partial(evaluation_loader, on_bad_sample=on_bad_sample)
        left = {name: _may_be_true(dataset, name) for name in tasks}
        # Labels of 100 photographs take gigabytes: only some of their pixels are kept.
        pixels: dict[str, dict[str, Tensor]] = {name: {} for name in tasks}
        places: dict[str, int] = {}
        fewest = min(images, TRIAL_IMAGES)
        while searched := [name for name in tasks if left[name] and len(pixels[name]) < fewest]:
            chosen = {name: {left[name][i] for i in spread_evenly(len(left[name]), images)} for name in searched}
            indices = sorted(set().union(*chosen.values()))
            places |= {dataset.key(index): index for index in indices}
            for sample in read(Subset(dataset, indices)):
                key = sample.image_keys[0]
                for name in searched:
                    if places[key] in chosen[name] and valid_pixels(sample.targets[name]).any():
                        pixels[name][key] = _pixels(sample.targets[name])
            left |= {name: [index for index in left[name] if index not in chosen[name]] for name in searched}
        trials = {name: _Trial(tasks[name], found) for name, found in pixels.items()}
        again = sorted({places[key] for trial in trials.values() for key in trial.keys})
        for sample in read(Subset(dataset, again)) if again else ():
            for name, trial in trials.items():
                if sample.image_keys[0] in trial.keys:
                    trial.update(sample.targets[name])
        values = {name: trial.best() for name, trial in trials.items()}
        return cls(values, unknown=[name for name in tasks if not pixels[name]])


def _may_be_true(dataset: DenseDataset, name: str) -> Sequence[int]:
    """Indices of the samples that may have a label of a task that no network predicted."""
    made = dataset.pseudo_weights.get(name)
    found = dataset.may_be_labelled(name)
    return [index for index in found if dataset.key(index) not in made] if made else found


class _Trial:
    """Scores of several candidates for one task on some of the images that they were made from."""

    def __init__(self, task: Task, pixels: Mapping[str, Tensor]) -> None:
        self.candidates = _candidates(task, list(pixels.values()))
        keys = list(pixels)[:: max(1, len(pixels) // TRIAL_IMAGES)][:TRIAL_IMAGES]
        self.keys = set(keys if len(self.candidates) > 1 else ())
        self.metrics = [task.metric() for _ in self.candidates]

    def update(self, target: Tensor) -> None:
        """Score one image."""
        image = target.new_zeros((1, 3, *target.shape[-2:]))
        for value, metric in zip(self.candidates, self.metrics, strict=True):
            metric.update(ConstantPredictor({"": value}).predict(image)[""], target)

    def best(self) -> Tensor:
        """The candidate with the best primary number; the first of equal ones."""
        if len(self.candidates) == 1:
            return self.candidates[0]
        scores = []
        for metric in self.metrics:
            number = metric.comparable(float(metric.compute()[metric.primary]))
            scores.append(number if metric.better[metric.primary] else -number)
        return self.candidates[max(range(len(scores)), key=scores.__getitem__)]


def _pixels(target: Tensor) -> Tensor:
    """Valid values of one target `(1, *C, H, W)` as `(pixels, *C)`, at most `PIXELS`."""
    valid = valid_pixels(target)
    values = target[valid][:, None] if target.dim() == 3 else target.movedim(1, -1)[valid[:, 0]]
    return values[:: -(-len(values) // PIXELS)].clone()  # a view would keep them all


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
