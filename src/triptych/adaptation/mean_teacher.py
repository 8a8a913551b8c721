"""Self-training with a mean teacher (Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017,
arXiv 1703.01780).

The teacher is the exponential moving average of the model. Its predictions on target images are labels for the model,
which sees the images with other colours (and, in the files that build on this one, with parts of source images pasted
in). Of classes, a label counts as much as the share of pixels on which the teacher is sure. Pixels that a transform
padded get no label.

Paper and this file. The paper compares class probabilities of whole images and perturbs both networks; here the
teacher labels each pixel, as in its successors for segmentation, and is not perturbed. As in all of these it labels
tasks with classes: a quantity comes without a probability that would tell how far to believe it.

The paper begins with the plain mean of all models, 1 - 1 / n. That remembers half of the training so far, its random
start included, until 1 / (1 - decay) steps are over: in a short training a teacher's depth stays too small, and the
model learns to agree. Here the decay grows as (1 + n) / (10 + n) (the warm-up of TensorFlow's averages, and of this
library's): a ninth of the training so far. Batch norms of the teacher use the statistics of the batch, which are the
target's, as the model's do on these images; running statistics are of both domains.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from triptych.adaptation.base import Adapter, image_pixels, kept_modules
from triptych.augmentation.color import ColorJitter
from triptych.lookup import named_choice
from triptych.losses.image_weights import weigh_images
from triptych.losses.whole_batch import ratio, sum_over_processes
from triptych.processes import num_processes, own_rows
from triptych.tasks import Task
from triptych.types import IGNORE, Output, Sample, keep_labels, valid_pixels

Images = Float[Tensor, "batch 3 height width"]
Mask = Bool[Tensor, "batch height width"]

JITTER = ColorJitter(probability=0.8)


class PseudoLabel(NamedTuple):
    """Pseudo-labels of the teacher: a target in the layout of its task, and its weight from 0 to 1."""

    target: Tensor
    weight: Tensor


class MeanTeacher(Adapter):
    """`weight` times the losses, with the tasks' weights, of `tasks` that the teacher labelled: by default those with
    classes. Others learn from pasted pixels alone.

    After step n (from 1) the teacher moves towards the model by 1 - min(`decay`, (1 + n) / (10 + n)). A label of class
    counts by the share of the batch's pixels where the teacher's probability is at least `threshold`; all labels count
    by exp(-5 (1 - x)^2) while the share x, from 0 to 1, of the ramp-up passes. It lasts for the share `ramp_up` of the
    training, where the number of its `steps` is known. `jitter` changes the colours of the images that the model sees,
    and blurs half of them. From optimizer step `start_step` on. Only final predictions are trained.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int],
        weights: Mapping[str, float],
        seed: int = 0,
        weight: float = 1.0,
        tasks: tuple[str, ...] = (),
        decay: float = 0.99,
        threshold: float = 0.968,
        jitter: bool = True,
        ramp_up: float = 0.25,
        start_step: int = 0,
    ) -> None:
        super().__init__(model, size=size, weights=weights, seed=seed)
        if not 0 <= decay < 1:
            raise ValueError(f"decay of the teacher is {decay}; give a number from 0 to below 1, such as 0.99.")
        if not 0 <= ramp_up <= 1:
            raise ValueError(f"ramp_up is {ramp_up}; give the share of the training that it lasts, from 0 to 1.")
        labelled = tuple(tasks) or tuple(name for name, task in self.tasks.items() if task.is_categorical)
        if not labelled:
            raise ValueError(
                f"self-training needs a task with classes, whose teacher says how sure it is; the model has "
                f"{', '.join(self.tasks)}. Name those to be labelled all the same in the option tasks, or choose "
                "adaptation 'advent-mt'."
            )
        for name in labelled:
            named_choice("task in option tasks", name, self.tasks)
        self.labelled = labelled
        self.weight, self.decay, self.threshold = weight, decay, threshold
        self.jitter, self.ramp_up, self.start_step = jitter, ramp_up, start_step
        self.teacher = copy.deepcopy(model).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "MeanTeacher":
        """The teacher never trains: its dropout is off. Its batch norms use the statistics of the batch in either mode,
        and keep their own as they are; frozen ones use those that they store, as the model's do.
        """
        super().train(mode)
        self.teacher.eval()
        for module in set(self.teacher.modules()) - kept_modules(self.teacher):
            if isinstance(module, _BatchNorm):
                module.train()
                module.track_running_stats = False
        return self

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        self.teacher.load_state_dict(model.state_dict())

    def after_step(self, model: nn.Module) -> None:
        move_average(self.teacher.state_dict(), model.state_dict(), self.decay, self.step + 1)

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        if self.step < self.start_step:
            return {}
        image = target.image
        labels = self.label(target)
        source = first_images(source, len(image))  # without the views that follow them
        pasted = self.paste(source, labels)
        if pasted is not None:
            if source.image.shape != image.shape:
                raise ValueError(
                    f"source images are {tuple(source.image.shape)} and target images {tuple(image.shape)}; mixing "
                    "pastes one into the other: set adaptation.size to data.size."
                )
            image = torch.where(pasted[:, None], source.image, image)
        predictions = model(self.recolor(image) if self.jitter else image).predictions
        return {
            name: self.weight
            * self.weights[name]
            * mixed_loss(
                task,
                predictions[name],
                source.targets[name],
                labels[name],
                pasted,
                trusted=[self.pseudo_weights.get(name, {}).get(key, 1.0) for key in source.key],
            )
            for name, task in self.tasks.items()
            if pasted is not None or name in self.labelled
        }

    def paste(self, source: Sample, labels: Mapping[str, PseudoLabel]) -> Mask | None:
        """Mask of the pixels that come from the source images with their labels; `None` here."""
        return None

    @torch.no_grad()
    def label(self, target: Sample) -> dict[str, PseudoLabel]:
        """The teacher's predictions of a batch as labels, by task; those that are not trusted have weight 0. Padded
        pixels have no label, and do not count in the share of sure pixels.
        """
        predictions, inside = self.teacher(target.image).predictions, image_pixels(target)
        return {name: self._label(name, predictions[name], inside) for name in self.tasks}

    def _label(self, name: str, raw: Tensor, inside: Bool[Tensor, "batch 1 height width"]) -> PseudoLabel:
        task = self.tasks[name]
        decoded = task.decode(raw)  # a probability whose targets are no whole numbers stays one
        target = task.to_target(decoded) if task.target_channels is None else decoded
        trust = torch.full((), self.trust() * (name in self.labelled), device=raw.device)
        if task.is_categorical:
            sure = task.class_probabilities(raw).amax(dim=1, keepdim=True) >= self.threshold
            trust = trust * ratio((sure & inside).sum(), inside.sum())
        return PseudoLabel(keep_labels(target, inside), trust)

    def trust(self) -> float:
        """Weight of all labels at this step, from exp(-5) to 1 (the ramp-up of Tarvainen and Valpola 2017)."""
        length = self.ramp_up * self.steps
        left = max(1 - (self.step - self.start_step) / length, 0) if length else 0
        return math.exp(-5 * left**2)

    def draw(self, images: int, numbers: int) -> Float[Tensor, "images numbers"]:
        """Even random numbers from 0 to 1 for each image of this process."""
        return own_rows(torch.rand(images * num_processes(), numbers, generator=self.generator))

    def recolor(self, images: Images) -> Images:
        """Other colours for each image, and a blur of up to about one pixel for half of them."""
        recolored = []
        for image, (seed, sharp, strength) in zip(images, self.draw(len(images), 3).tolist(), strict=True):
            image = JITTER(Sample(image, {}), np.random.default_rng(int(seed * 2**24))).image
            recolored.append(image if sharp < 0.5 else blur(image, 0.15 + strength))
        return torch.stack(recolored)


@torch.no_grad()
def move_average(average: Mapping[str, Tensor], current: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Move averaged tensors towards those after step number `step` (from 1), by 1 - min(decay, (1 + n) / (10 + n));
    integers are copied.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for name, tensor in average.items():
        if tensor.is_floating_point():
            tensor.lerp_(current[name], share)
        else:
            tensor.copy_(current[name])


def first_images(sample: Sample, count: int) -> Sample:
    """The first images of a batch, with their targets."""
    targets = {name: target[:count] for name, target in sample.targets.items()}
    return Sample(sample.image[:count], targets, sample.key[:count])


def mixed_loss(
    task: Task, raw: Tensor, label: Tensor, pseudo: PseudoLabel, pasted: Mask | None, *, trusted: Sequence[float] = ()
) -> Tensor:
    """The task's loss on pasted pixels with the source's label, and on the others with the teacher's, weighted by it.

    (n_s L_s + w n_t L_t) / (n_s + n_t) over n_s and n_t labelled pixels; L_s + w L_t of a loss that is a mean over all
    pixels and has their shares in it. Gradients of L_s are multiplied by what labels of each source image are
    `trusted`, pseudo-labels of an earlier network among them.
    """
    if pasted is None:
        return pseudo.weight * task.loss(raw, pseudo.target)
    invalid = task.invalid_target((1, 1)).to(raw.device)
    place = pasted if task.target_channels is None else pasted[:, None]
    true, guessed = torch.where(place, label, invalid), torch.where(place, invalid, pseudo.target)
    terms = task.loss(weigh_images(raw, trusted), true), pseudo.weight * task.loss(raw, guessed)
    if not task.averages_labels:
        return terms[0] + terms[1]
    counts = sum_over_processes(*(valid_pixels(target).sum() for target in (true, guessed)))
    return (counts[0] * terms[0] + counts[1] * terms[1]) / (counts[0] + counts[1]).clamp(min=1)


def blur(image: Float[Tensor, "3 height width"], sigma: float) -> Float[Tensor, "3 height width"]:
    """Gaussian blur with a standard deviation of `sigma` pixels; the border is repeated.

    >>> blur(torch.ones(3, 5, 7), 1.0).allclose(torch.ones(3, 5, 7))
    True
    """
    radius = max(math.ceil(3 * sigma), 1)
    place = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = (-place.square() / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(image[:, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


class DACS(MeanTeacher):
    """Paste the pixels of half of the classes (rounded up) that an image's `task` labels show.

    `task` is the task whose classes are pasted; by default the one with the most classes. Further options are those of
    `MeanTeacher`.
    """

    mixes = True

    def __init__(self, model: nn.Module, *, task: str = "", **options: Any) -> None:
        tasks: Mapping[str, Task] = model.tasks  # type: ignore[assignment]
        maps = {name: each for name, each in tasks.items() if each.target_channels is None}
        if not maps:
            raise ValueError(
                f"class mixing needs a task with label maps; the model has {', '.join(tasks)}. "
                "Choose adaptation 'mean-teacher', 'depth-mix' or 'advent-mt'."
            )
        super().__init__(model, **options)
        richest = max(maps, key=lambda name: len(maps[name].classes))
        self.mixed_by = named_choice("task with label maps", task or richest, {name: name for name in maps})
        self.num_classes = len(maps[self.mixed_by].classes)

    def paste(self, source: Sample, labels: Mapping[str, PseudoLabel]) -> Mask:
        shown = source.targets[self.mixed_by]
        return choose_classes(shown, self.draw(len(shown), self.num_classes).to(shown.device))


def choose_classes(
    labels: Int[Tensor, "batch height width"], scores: Float[Tensor, "batch classes"]
) -> Bool[Tensor, "batch height width"]:
    """Pixels of the half (rounded up) of the classes of each image that have the highest scores; never invalid ones.

    >>> choose_classes(torch.tensor([[[0, 2, 2, 255]]]), torch.tensor([[0.1, 0.9, 0.5]])).tolist()
    [[[False, True, True, False]]]
    """
    classes = scores.shape[1]
    # One column more, for invalid pixels.
    columns = torch.where(labels == IGNORE, classes, labels).flatten(1)
    present = torch.zeros(len(labels), classes + 1, dtype=torch.bool, device=labels.device).scatter_(1, columns, True)
    present[:, classes] = False
    ranked = torch.where(present[:, :classes], scores, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    chosen = torch.zeros_like(present)
    chosen[:, :classes] = present[:, :classes] & (ranked < (present.sum(dim=1, keepdim=True) + 1) // 2)
    return chosen.gather(1, columns).view(labels.shape)


class DepthMix(MeanTeacher):
    """Paste source pixels whose depth is below the teacher's depth of the target pixel plus `slack` metres.

    Occlusions stay possible: a nearer thing hides a farther one. Pixels without a depth label are not pasted. Further
    options are those of `MeanTeacher`.
    """

    mixes = True

    def __init__(self, model: nn.Module, *, slack: float = 0.0, **options: Any) -> None:
        super().__init__(model, **options)
        self.slack = slack
        metric = [name for name, task in self.tasks.items() if task.in_metres]
        if not metric:
            raise ValueError(
                f"depth-aware mixing needs the task depth; the model has {', '.join(self.tasks)}. "
                "Add it to data.tasks, or choose adaptation 'dacs'."
            )
        self.mixed_by = metric[0]

    def paste(self, source: Sample, labels: Mapping[str, PseudoLabel]) -> Mask:
        depth = source.targets[self.mixed_by]
        nearer = depth.nan_to_num() < labels[self.mixed_by].target + self.slack
        return (nearer & valid_pixels(depth))[:, 0]
