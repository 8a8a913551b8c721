"""Proof that a file computes what the network computes: on real images, task by task."""

import math
import statistics
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.export.program import PROBABILITY
from triptych.metrics.base import Metric
from triptych.prediction.strips import resize_image
from triptych.tasks import Task
from triptych.types import Sample, valid_pixels

Run = Callable[[Tensor], dict[str, Tensor]]
"""A network as a function of a batch: maps by name."""


@dataclass(frozen=True)
class Tolerances:
    """Limits on the difference between a file and torch.

    `difference`: of numbers, the largest difference relative to the largest value of the map; of class ids, the share
    of pixels that differ. `agreement`: how far any number of the task's metric may be from torch's where torch's own
    prediction is the target. `loss`: how much worse, relative to torch's, a task's primary number may be on the labels;
    where there are none, how far its prediction may be from torch's in the mean.
    """

    difference: float
    agreement: float
    loss: float


EXACT = Tolerances(difference=1e-3, agreement=1e-2, loss=1e-2)
"""For float32: rounding in another order. Measured: 1e-6 for numbers, no pixel or a few for class ids."""


@dataclass(frozen=True)
class TaskProof:
    """Measurements for one task.

    `difference`: the largest over all maps, images and sizes, as in `Tolerances`. `agreement`: numbers of the task's
    metric of the file against torch's prediction, and of torch against itself. `scores`: the same against the labels,
    at the size where the file loses most; nothing without labels. `loss`: how much worse the file's primary number
    there is, relative to torch's; 0 where it is better, and without labels. `unlabelled`: how far the prediction is
    from torch's in the mean, relative to the mean of torch's, of class ids the share of pixels that differ, at the size
    of those without labels where it is most; `None` where all have some.
    """

    difference: float
    agreement: dict[str, tuple[float, float]]
    scores: dict[str, tuple[float, float]]
    primary: str
    loss: float = 0.0
    unlabelled: float | None = None


@dataclass(frozen=True)
class Proof:
    """A comparison of a file with torch: by task, on which images, at which sizes."""

    tasks: dict[str, TaskProof]
    images: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    problems: tuple[str, ...] = field(default=())
    """Violations of the limits, one line each; empty where every task agrees."""


def compare(
    file: Run,
    network: Run,
    tasks: Mapping[str, Task],
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    limits: Tolerances,
    *,
    decoded: bool = True,
    prepare: Callable[[Tensor], Tensor] = lambda image: image,
) -> Proof:
    """Run file and network on `samples` (batches of one) at every size, and compare all maps task by task.

    `decoded`: the maps are predictions, not raw. `prepare` turns a float image into what both take.
    """
    difference = dict.fromkeys(tasks, 0.0)
    agreement = {name: (task.metric(), task.metric()) for name, task in tasks.items()}
    sizes = [(height, width) for height, width in sizes]
    places = {name: [_AtSize(task) for _ in sizes] for name, task in tasks.items()}
    for sample in samples:
        for i, size in enumerate(sizes):
            image = prepare(resize_image(sample.image, size))
            ours, theirs = network(image), file(image)
            for name, task in tasks.items():
                for key in {name} | ({name + PROBABILITY} & ours.keys() - tasks.keys()):
                    difference[name] = max(difference[name], measure_difference(theirs[key], ours[key]))
                pair = (theirs[name], ours[name]) if decoded else (task.decode(theirs[name]), task.decode(ours[name]))
                _update(agreement[name], pair, task.to_target(pair[1]))
                places[name][i].add(pair, _resize_target(sample.targets[name], size))
    found = {
        name: _prove(task, difference[name], _numbers(agreement[name]), places[name]) for name, task in tasks.items()
    }
    problems = [problem for name, proof in found.items() for problem in _problems(name, proof, limits)]
    keys = tuple(sample.image_keys[0] for sample in samples)
    return Proof(found, keys, tuple(sizes), tuple(problems))


class _AtSize:
    """Sums of one task at one size."""

    def __init__(self, task: Task) -> None:
        self.metrics = (task.metric(), task.metric())
        self.is_labelled = False
        self.distance = self.whole = 0.0

    def add(self, pair: tuple[Tensor, Tensor], target: Tensor) -> None:
        file, network = pair
        if bool(valid_pixels(target).any()):
            _update(self.metrics, pair, target)
            self.is_labelled = True
        if network.is_floating_point():
            self.distance += (file - network).abs().double().sum().item()
            self.whole += network.abs().double().sum().item()
        else:
            self.distance += (file != network).sum().item()
            self.whole += network.numel()

    @property
    def scores(self) -> dict[str, tuple[float, float]]:
        return _numbers(self.metrics) if self.is_labelled else {}

    @property
    def deviation(self) -> float:
        return self.distance / max(self.whole, 1e-12)


def _prove(
    task: Task, difference: float, agreement: dict[str, tuple[float, float]], places: Sequence[_AtSize]
) -> TaskProof:
    """A task over all sizes. Where torch's own primary number is NaN, labels are ignored."""
    metric = task.metric()
    primary, better = metric.primary, metric.better[metric.primary]
    told, untold = [], []
    for place in places:
        scores = place.scores
        if math.isnan(scores.get(primary, (0.0, math.nan))[1]):
            untold.append(place.deviation)
        else:
            told.append(scores)

    def loss(scores: Mapping[str, tuple[float, float]]) -> float:
        file, network = map(metric.comparable, scores[primary])
        return measure_loss(file, network, better=better)

    worst = max(told, key=loss, default={})
    return TaskProof(difference, agreement, worst, primary, loss(worst) if worst else 0.0, max(untold, default=None))


def measure_loss(file: float, network: float, *, better: bool) -> float:
    """Loss of a file's number against torch's, relative to that; 0 where it is better. `better`: whether higher is
    better.

    >>> measure_loss(0.45, 0.5, better=True), measure_loss(0.45, 0.5, better=False)
    (0.09999999999999998, 0.0)
    """
    worse = network - file if better else file - network
    # Infinite where a number is NaN, or torch's is 0 and the file's is worse: there is no share.
    return 0.0 if worse <= 0 else worse / abs(network) if network and worse == worse else math.inf


def measure_difference(file: Tensor, network: Tensor) -> float:
    """The largest difference relative to the largest value, or for integers the share of pixels that differ.

    >>> measure_difference(torch.tensor([1.0, 2.2]), torch.tensor([1.0, 2.0]))
    0.10000002384185791
    >>> measure_difference(torch.tensor([1, 2]), torch.tensor([1, 3]))
    0.5
    """
    if file.shape != network.shape or file.dtype != network.dtype:
        return torch.inf
    if not network.is_floating_point():
        return (file != network).double().mean().item()
    largest = network.abs().max().item()
    distance = (file - network).abs().max().item()
    # NaN compares with nothing: a file that computes NaN, or whose network does not end, is as wrong as can be.
    return distance / max(largest, 1e-12) if distance < torch.inf else torch.inf


def proof_sizes(size: tuple[int, int], stride: int, *, smallest: int) -> list[tuple[int, int]]:
    """Three sizes: the network's own, a lower and wider one, and one that is no multiple of the stride.

    >>> proof_sizes((96, 128), 32, smallest=33)
    [(96, 128), (64, 160), (103, 117)]
    """
    height, width = size
    lower = max(-(-smallest // stride), round(height * 0.75 / stride) - (height * 0.75 / stride % 1 == 0.5)) * stride
    other = (lower if lower != height else height + stride, width + stride)
    return [size, other, (height + 7, width - 11 if width - 11 >= smallest else width + 11)]


def measure_seconds(run: Run, image: Tensor, *, repeats: int = 5) -> float:
    """Median time of a forward pass after one that is not counted."""
    run(image)
    return statistics.median(timeit.repeat(lambda: run(image), number=1, repeat=repeats))


def _update(metrics: tuple[Metric, Metric], pair: tuple[Tensor, Tensor], target: Tensor) -> None:
    for metric, prediction in zip(metrics, pair, strict=True):
        metric.update(prediction, target)


def _numbers(metrics: tuple[Metric, Metric]) -> dict[str, tuple[float, float]]:
    file, network = (metric.compute() for metric in metrics)
    return {key: (float(file[key]), float(network[key])) for key in network}


def _problems(name: str, proof: TaskProof, limits: Tolerances) -> list[str]:
    problems = []
    if proof.difference == torch.inf:  # which no limit allows
        problems.append(f"{name} has values that are no numbers, or maps of another size or type")
    elif proof.difference > limits.difference:
        problems.append(f"{name} differs by {proof.difference:.2g} (allowed {limits.difference:g})")
    for key, (file, network) in proof.agreement.items():
        # Numbers that torch's own prediction leaves open (NaN) say nothing.
        if network == network and not abs(file - network) <= limits.agreement * max(1.0, abs(network)):
            problems.append(f"{name}: {key} against torch's prediction is {file:.4g}, torch's own {network:.4g}")
    if proof.scores and not proof.loss <= limits.loss:
        file, network = proof.scores[proof.primary]
        problems.append(f"{name}: {proof.primary} on the labels is {file:.4g}, torch's {network:.4g}")
    if proof.unlabelled is not None and not proof.unlabelled <= limits.loss:
        problems.append(
            f"{name} has no labels on these images, and differs from torch by {proof.unlabelled:.2g} in the mean "
            f"(allowed {limits.loss:g}; --split names images with labels)"
        )
    return problems


def _resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(target.shape[-2:]) == tuple(size):
        return target
    planes = target if target.ndim == 4 else target[:, None]
    resized = F.interpolate(planes.double(), size=size, mode="nearest-exact").to(target.dtype)
    return resized if target.ndim == 4 else resized[:, 0]
