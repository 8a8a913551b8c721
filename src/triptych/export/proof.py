"""Whether a file computes what the network computes: on real images, task by task."""

import statistics
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.export.program import PROBABILITY
from triptych.metrics.base import Metric
from triptych.tasks import Task
from triptych.types import Sample, valid_pixels

Run = Callable[[Tensor], dict[str, Tensor]]
"""A network as a function of a batch: maps by name."""


@dataclass(frozen=True)
class Tolerances:
    """How far a file may be from torch.

    `difference`: of numbers, the largest difference relative to the largest value of the map; of class ids, the share
    of pixels that differ. `agreement`: how far any number of the task's metric may be from torch's where torch's own
    prediction is the target. `loss`: how much worse, relative to torch's, a task's primary number may be on the labels.
    """

    difference: float
    agreement: float
    loss: float


EXACT = Tolerances(difference=1e-3, agreement=1e-2, loss=1e-2)
"""For float32: rounding in another order. Measured: 1e-6 for numbers, no pixel or a few for class ids."""


@dataclass(frozen=True)
class TaskProof:
    """What was measured for one task.

    `difference`: the largest over all maps, images and sizes, as in `Tolerances`. `agreement`: numbers of the task's
    metric of the file against torch's prediction, and of torch against itself. `scores`: the same against the labels.
    """

    difference: float
    agreement: dict[str, tuple[float, float]]
    scores: dict[str, tuple[float, float]]
    primary: str
    better: bool

    @property
    def loss(self) -> float:
        """How much worse the file's primary number on the labels is, relative to torch's; 0 where it is better."""
        if self.primary not in self.scores:
            return 0.0
        file, torch_value = self.scores[self.primary]
        worse = torch_value - file if self.better else file - torch_value
        return max(0.0, worse / abs(torch_value)) if torch_value else 0.0


@dataclass(frozen=True)
class Proof:
    """A comparison of a file with torch: by task, on which images, at which sizes."""

    tasks: dict[str, TaskProof]
    images: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    problems: tuple[str, ...] = field(default=())
    """What is beyond the limits, one line each; empty where every task agrees."""


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

    Scores on the labels are taken at the first size. `decoded`: the maps are predictions, not raw. `prepare` turns a
    float image into what both take.
    """
    difference = dict.fromkeys(tasks, 0.0)
    agreement = {name: (task.metric(), task.metric()) for name, task in tasks.items()}
    scores = {name: (task.metric(), task.metric()) for name, task in tasks.items()}
    labelled = dict.fromkeys(tasks, False)
    for sample in samples:
        for size in sizes:
            image = prepare(resize_image(sample.image, size))
            ours, theirs = network(image), file(image)
            for name, task in tasks.items():
                for key in {name, name + PROBABILITY} & ours.keys():
                    difference[name] = max(difference[name], measure_difference(theirs[key], ours[key]))
                pair = (theirs[name], ours[name]) if decoded else (task.decode(theirs[name]), task.decode(ours[name]))
                _update(agreement[name], pair, as_target(task, pair[1]))
                target = _resize_target(sample.targets[name], size)
                if size == tuple(sizes[0]) and bool(valid_pixels(target).any()):
                    _update(scores[name], pair, target)
                    labelled[name] = True
    found = {
        name: TaskProof(
            difference[name],
            _numbers(agreement[name]),
            _numbers(scores[name]) if labelled[name] else {},
            task.metric().primary,
            task.metric().better[task.metric().primary],
        )
        for name, task in tasks.items()
    }
    problems = [problem for name, proof in found.items() for problem in _problems(name, proof, limits)]
    keys = tuple(sample.key if isinstance(sample.key, str) else sample.key[0] for sample in samples)
    return Proof(found, keys, tuple(sizes), tuple(problems))


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


def as_target(task: Task, prediction: Tensor) -> Tensor:
    """A prediction in the layout of the task's targets: probabilities become 0 and 1."""
    if task.kind != "probability":
        return prediction
    positive = prediction > 0.5
    return positive[:, 0].long() if task.target_channels is None else positive.to(prediction)


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
    if not proof.loss <= limits.loss:
        file, network = proof.scores[proof.primary]
        problems.append(f"{name}: {proof.primary} on the labels is {file:.4g}, torch's {network:.4g}")
    return problems


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a batch of images, bilinear with antialiasing, as `Predictor` does."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def _resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(target.shape[-2:]) == tuple(size):
        return target
    planes = target if target.ndim == 4 else target[:, None]
    resized = F.interpolate(planes.double(), size=size, mode="nearest-exact").to(target.dtype)
    return resized if target.ndim == 4 else resized[:, 0]
