"""A tiny network with an intermediate prediction, and batches of two domains, for tests of adaptation."""

import torch
from torch import Tensor, distributed, nn

from triptych.adaptation.adversarial import MinEnt, value_range
from triptych.adaptation.mean_teacher import DACS
from triptych.augmentation.steps import INSIDE
from triptych.backbones.base import Backbone
from triptych.decoders.base import Decoder
from triptych.models.multitask import MultiTaskModel
from triptych.processes import own_rows
from triptych.tasks import Task, boundary, depth, human_parts, normals, saliency, semseg
from triptych.training.objective import Objective
from triptych.types import Sample

SIZE = (32, 48)
TASKS = {task.name: task for task in (semseg(5), depth(), normals())}
ALL_TASKS = TASKS | {task.name: task for task in (boundary(), saliency(), human_parts())}


class Steps(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = (4, 8), (2, 4)
        self.body = nn.ModuleList(
            [nn.Conv2d(3, 4, 3, 2, 1), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, 2, 1))]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.body[0](self.normalize(image))
        return [first, self.body[1](first.relu())]


class Heads(Decoder):
    def __init__(self, channels: tuple[int, ...], *, strides: tuple[int, ...], tasks: dict[str, Task]) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.early, self.late = (
            nn.ModuleDict({name: nn.Conv2d(width, task.channels, 1) for name, task in tasks.items()})
            for width in reversed(channels)
        )

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        return [
            {name: head(feature) for name, head in heads.items()}
            for heads, feature in ((self.early, features[1]), (self.late, features[0]))
        ]


def network(tasks: dict[str, Task] = TASKS) -> MultiTaskModel:
    backbone = Steps()
    return MultiTaskModel(backbone, Heads(backbone.channels, strides=backbone.strides, tasks=tasks))


def weights(tasks: dict[str, Task] = TASKS) -> dict[str, float]:
    return {name: task.weight for name, task in tasks.items()}


def target_of(task: Task, size: tuple[int, int], images: int) -> Tensor:
    """Valid everywhere but in one corner."""
    if task.target_channels is None:
        target = torch.randint(0, len(task.classes), (images, *size))
    elif task.classes:
        target = (torch.rand(images, 1, *size) > 0.5).float()
    else:
        target = torch.rand(images, task.target_channels, *size) + 0.5
    target[..., 0, 0] = task.invalid_target((1, 1)).flatten()[0].to(target.dtype)
    return target


def batch(tasks: dict[str, Task] = TASKS, *, images: int = 2, size: tuple[int, int] = SIZE) -> Sample:
    """A labelled batch."""
    targets = {name: target_of(task, size, images) for name, task in tasks.items()}
    return Sample(torch.rand(images, 3, *size), targets, tuple(map(str, range(images))))


def unlabelled(*, images: int = 2, size: tuple[int, int] = SIZE) -> Sample:
    """A batch of the target, whose pixels are all of its images."""
    inside = torch.ones(images, *size, dtype=torch.uint8)
    return Sample(torch.rand(images, 3, *size), {}, tuple(map(str, range(images))), extras={INSIDE: inside})


def shared_numbers(rank: int, world: int) -> list[float]:
    """What processes with other images agree on: the range of depth (process 1 has no label), that of predictions where
    none has one; and its rows.
    """
    label = torch.full((1, 1, 2, 2), torch.nan)
    if rank == 0:
        label[..., 0, :] = torch.tensor([2.0, 7.0])
    raw = torch.full((1, 1, 2, 2), 3.0 + rank)
    ranges = (*value_range(depth(), label, raw), *value_range(depth(), torch.full_like(label, torch.nan), raw))
    return [*map(float, ranges), *own_rows(torch.arange(4.0)).tolist()]


def self_training(rank: int, world: int) -> list[Tensor]:
    """Losses of class mixing and of entropy and their gradients, averaged over processes that have other images, other
    numbers of labels and other padding.
    """
    torch.manual_seed(0)
    source, target = batch(ALL_TASKS, images=4), unlabelled(images=4)
    for name in ("depth", "semseg"):
        source.targets[name][0] = ALL_TASKS[name].invalid_target(SIZE)
    source.targets["saliency"][0] = 0  # much background in one of the processes
    target.extras[INSIDE][0, :, 10:] = 0
    model = network(ALL_TASKS)
    model.freeze(["backbone"])  # norms that saw other images would not be the same
    mixing = DACS(model, size=SIZE, weights=weights(ALL_TASKS), tasks=tuple(ALL_TASKS), threshold=0.3)
    own = slice(4 // world * rank, 4 // world * (rank + 1))
    found = []
    for adapter in (mixing, MinEnt(model, size=SIZE, weights=weights(ALL_TASKS), weight=1.0)):
        shares = [
            Sample(
                each.image[own],
                {name: value[own] for name, value in each.targets.items()},
                each.key[own],
                extras={name: value[own] for name, value in each.extras.items()},
            )
            for each in (source, target)
        ]
        losses = Objective(model, adapter=adapter).train()(*shares).adaptation
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        gradients = [each.grad for each in model.decoder.late.parameters() if each.grad is not None]
        if world > 1:
            for gradient in gradients:
                distributed.all_reduce(gradient)
        found += [loss.detach() for loss in losses.values()] + [gradient / world for gradient in gradients]
    return found
