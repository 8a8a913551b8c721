"""One forward pass of training: the model's losses, and the terms of regularizer, video and adapter, in one module.

One module, so that the wrappers of several processes (DDP, FSDP) see every parameter that takes part in one forward
pass.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from triptych.adaptation.base import Adapter
from triptych.losses.image_weights import weigh_images
from triptych.losses.whole_batch import whole_batch
from triptych.models.multitask import MultiTaskModel
from triptych.regularizers.base import Regularizer
from triptych.tasks import Task
from triptych.training.feature_cache import FeatureCache
from triptych.types import Output, Sample, valid_pixels
from triptych.video.base import VideoSupervision, VideoTerms

PARTS = ("final", "auxiliary", "affinity", "regularizer", "video")
"""Parts of a task's loss."""


class Losses(NamedTuple):
    """`tasks`: one scalar per task, what the weighting combines. `parts`: what they are made of, detached, for the log
    (`semseg/final`, `semseg/auxiliary`, `semseg/regularizer`). `adaptation`: scalars that are added to the total as
    they are, by origin and name: from the adapter, and from the model and the regularizer (`penalties`). `labelled`:
    images of the batch with a label, by task; for the task that learns from video, images that it could learn from.
    `video`: what was seen of the neighboring frames.
    """

    tasks: dict[str, Tensor]
    parts: dict[str, Tensor]
    adaptation: dict[str, Tensor]
    labelled: dict[str, Tensor]
    video: VideoTerms | None = None


class Objective(nn.Module):
    """A model and what supervises it.

    The loss of a task is its final loss, plus `auxiliary_factor` times the sum over its intermediate predictions, plus
    what the decoder adds for pairs of places, plus the regularizer's term of the same name. A task that only
    intermediate predictions have lacks the first. `video` adds `video_weight` times its loss to its task, whose labels
    may be missing throughout. Losses of tasks that are not `active` are values without a graph.
    """

    active: tuple[str, ...] | None = None
    """Tasks that train in this step; `None` for all."""
    pseudo_weights: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    """Weights of pseudo-labels by task and key of the image (`weigh_gradients`); all other images count 1."""
    shares: Mapping[str, float] = MappingProxyType({})
    """Factors of the tasks' losses over labels in this batch, where several make a step; all others count 1."""
    features: FeatureCache | None = None
    """Features of labelled images that are computed once, where the trunk is frozen."""

    def __init__(
        self,
        model: MultiTaskModel,
        *,
        regularizer: Regularizer | None = None,
        adapter: Adapter | None = None,
        video: VideoSupervision | None = None,
        auxiliary_factor: float = 1.0,
        video_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.regularizer = regularizer
        self.adapter = adapter
        self.video, self.video_weight = video, video_weight
        self.auxiliary_factor = auxiliary_factor

    @property
    def tasks(self) -> dict[str, Task]:
        """Every task with a loss: those of the final prediction, then those that only intermediate ones have."""
        return {**self.model.tasks, **self.model.auxiliary_tasks}

    @property
    def beside(self) -> dict[str, nn.Module]:
        """Modules that add losses to those of the tasks, by name: regularizer, adapter, video."""
        parts = {"regularizer": self.regularizer, "adapter": self.adapter, "video": self.video}
        return {name: part for name, part in parts.items() if part is not None}

    def forward(self, sample: Sample, target: Sample | None = None) -> Losses:
        """Losses of a labelled batch and, with an adapter, of an unlabelled `target` batch."""
        sample, beside = self.model.with_views(sample)
        known = () if self.features is None else (self.features.read(self.model.backbone, sample),)
        output = self.model(sample.image, *known, **beside)
        seen = self._seen(output, sample)
        with whole_batch(self.training):
            parts = self.supervise(weigh_gradients(output, sample.key, self.pseudo_weights), sample)
            if self.regularizer is not None:
                parts |= {(name, "regularizer"): term for name, term in self.regularizer(seen, sample).items()}
        if self.shares:
            parts = {(name, part): self.shares.get(name, 1.0) * term for (name, part), term in parts.items()}
        labelled = {name: count_labelled(sample.targets[name]) for name in self.tasks}
        terms = self.video(output, sample) if self.video is not None else None
        if self.video is not None and terms is not None:
            parts[self.video.task, "video"] = self.video_weight * terms.loss
            labelled[self.video.task] = torch.maximum(labelled[self.video.task], terms.images)
        tasks = {name: _total(parts, name) for name in self.tasks}
        if unknown := {name for name, _ in parts} - set(tasks):
            raise ValueError(
                f"the regularizer returned a term for {sorted(unknown)}, which is no task of the model; "
                f"its tasks are {', '.join(tasks)}."
            )
        if self.active is not None:
            tasks = {name: loss if name in self.active else loss.detach() for name, loss in tasks.items()}
        beside_tasks = {"model": self.model.penalties()}
        if self.regularizer is not None:
            beside_tasks["regularizer"] = self.regularizer.penalties(seen, sample)
        if self.adapter is not None and target is not None:
            with whole_batch(self.training):
                beside_tasks["adapter"] = self.adapter(self.model, sample, target, output)
        return Losses(
            tasks,
            {f"{name}/{part}": term.detach() for (name, part), term in parts.items()},
            {f"{origin}/{name}": term for origin, terms in beside_tasks.items() for name, term in terms.items()},
            labelled,
            terms,
        )

    def _seen(self, output: Output, sample: Sample) -> Output:
        """Output as the regularizer reads it: unchanged for a copy of the model's decoder, else with features that
        cover the image without padding.
        """
        if self.regularizer is None or self.regularizer.copies_decoder:
            return output
        height, width = sample.image.shape[-2:]
        return self.model.on_image(output, (height, width))

    def count_pixels(self, sample: Sample) -> Tensor:
        """Labelled pixels of every task in a batch, those of other views that the model is supervised by included."""
        views = self.model.supervised_views(sample)
        targets = [[view.targets[name] for view in views if name in view.targets] for name in self.tasks]
        return torch.tensor([sum(int(valid_pixels(target).sum()) for target in each) for each in targets])

    def supervise(self, output: Output, sample: Sample) -> dict[tuple[str, str], Tensor]:
        """Final and summed auxiliary losses by (task, part)."""
        parts = {
            (name, "final"): task.loss(output.predictions[name], sample.targets[name])
            for name, task in self.model.tasks.items()
        }
        for stage in output.auxiliary:
            for name, raw in stage.items():
                loss = self.auxiliary_factor * self.model.intermediate_tasks[name].loss(raw, sample.targets[name])
                parts[name, "auxiliary"] = parts.get((name, "auxiliary"), 0) + loss
        affinity = self.model.affinity_losses(output, sample.targets)
        return parts | {(name, "affinity"): loss for name, loss in affinity.items()}


def weigh_gradients(output: Output, keys: Sequence[str], weights: Mapping[str, Mapping[str, float]]) -> Output:
    """The same maps, whose gradients are multiplied by a weight of the image and task, 1 where none is given
    (`weigh_images`).

    >>> raw = torch.ones(2, 1, 1, 1, requires_grad=True)
    >>> weighed = weigh_gradients(Output({"depth": raw}, [], []), ["a", "b"], {"depth": {"b": 0.5}})
    >>> weighed.predictions["depth"].sum().backward()
    >>> raw.grad.flatten().tolist()
    [1.0, 0.5]
    """

    def weigh(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: weigh_images(raw, [weights.get(name, {}).get(key, 1.0) for key in keys]) for name, raw in maps.items()
        }

    if not weights:
        return output
    return output._replace(predictions=weigh(output.predictions), auxiliary=[weigh(each) for each in output.auxiliary])


def _total(parts: dict[tuple[str, str], Tensor], name: str) -> Tensor:
    terms = [term for (task, _), term in parts.items() if task == name]
    if not terms:
        raise ValueError(
            f"the model predicts nothing for auxiliary task '{name}'; choose a decoder option that does, or drop it."
        )
    return torch.stack(terms).sum()


def count_labelled(target: Tensor) -> Tensor:
    """Number of images of a batch with at least one valid pixel.

    >>> count_labelled(torch.tensor([[[1, 255]], [[255, 255]]])).item()
    1
    """
    return valid_pixels(target).flatten(1).any(dim=1).sum()
