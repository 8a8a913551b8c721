"""Feature distillation from frozen teachers (SAK's second stage; Lu et al., "Swiss Army Knife: Synergizing biases in
knowledge from vision foundation models for multi-task learning", ICLR 2025, arXiv 2410.14633).

A tap x of the network is adapted to the map y of a teacher: z = W (x + g up(GELU(down(x)))), and compared with it:

    L = sum over teachers and taps of 0.9 (1 - cos(z, y)) + 0.1 SmoothL1(z, y)

with the cosine of whole maps, flattened, and both maps resized to the larger of their grids.

Paper and this file. The paper keeps an adapter of a quarter of the width per teacher in the network and mixes what they
give; here they are thrown away after training, and the network's own features learn. g is a number that starts at 1 and
is learned. A tap meets the map of the teacher that lies at the same place of its sequence. Any backbone of this library
is a teacher, and with it any feature model of timm; each normalizes the image with the mean and standard deviation that
its weights were trained with: those of its run (also on the hub), else those that timm states for its name.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones import create_backbone
from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from triptych.backbones.cells import cover_image
from triptych.backbones.timm_models import pretrained_statistics
from triptych.files import hash_tensors
from triptych.regularizers.base import Regularizer
from triptych.regularizers.terms import image_size
from triptych.tasks import Task
from triptych.types import Output, Sample

RANDOM = "random"
"""Random weights of a teacher: for tests, and as a control."""


class FeatureDistillation(Regularizer):
    """`weight` times the loss above, for the shared features; it belongs to no task and needs no label.

    `teachers` are names of backbones, such as `("vit_small_patch14_dinov2",)`; `teacher_weights` says for each where
    its weights come from: `timm` (pretrained by name; for all if left out), the path of a file, or `random`.

    Teachers are no part of this module's state: neither checkpoints nor run folders hold their weights. A run does not
    resume with others (`fingerprint`).
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        weight: float = 1.0,
        teachers: tuple[str, ...] = (),
        teacher_weights: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        sources = tuple(teacher_weights) or ("timm",) * len(teachers)
        if not teachers or len(set(teachers)) < len(teachers) or len(sources) != len(teachers):
            raise ValueError(
                f"distill has teachers {tuple(teachers)} and teacher_weights {tuple(teacher_weights)}; name at least "
                "one backbone, each once, and for each its weights: timm, a file, or random."
            )
        self.weight = weight
        # In a dict, which torch does not look into: nothing of a teacher is trained, exchanged or saved.
        self.teachers = {name: load_teacher(name, source) for name, source in zip(teachers, sources, strict=True)}
        self.adapters = nn.ModuleList(
            TapAdapter(width, teacher.channels[j])
            for teacher, places in self._pairs(len(channels))
            for width, j in zip(channels, places, strict=True)
        )

    def _pairs(self, taps: int) -> list[tuple[Backbone, list[int]]]:
        """Each teacher with the numbers of its maps that the network's taps meet."""
        return [(teacher, match_levels(taps, len(teacher.channels))) for teacher in self.teachers.values()]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FeatureDistillation":
        """Take the teachers along to a device or memory format."""
        for teacher in self.teachers.values():
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def fingerprint(self) -> dict[str, str]:
        """The hash of each teacher's weights, and of how it normalizes where that is not ImageNet's."""
        return {f"teacher {name}": hash_tensors(_what_it_is(teacher)) for name, teacher in self.teachers.items()}

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return {}

    def penalties(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        terms, adapters = [], iter(self.adapters)
        for teacher, places in self._pairs(len(output.features)):
            with torch.no_grad():
                maps = [cover_image(each, image_size(sample), teacher.multiple) for each in teacher(sample.image)]
            terms += [compare_maps(next(adapters)(x), maps[j]) for x, j in zip(output.features, places, strict=True)]
        return {"distill": self.weight * torch.stack(terms).sum()}


class TapAdapter(nn.Module):
    """W (x + g up(GELU(down(x)))): place by place, by way of a quarter of the width, to the teacher's width."""

    def __init__(self, channels: int, teacher_channels: int) -> None:
        super().__init__()
        middle = max(channels // 4, 1)
        self.down, self.up = nn.Conv2d(channels, middle, 1), nn.Conv2d(middle, channels, 1)
        self.gate = nn.Parameter(torch.ones(1))  # a vector, which can be sharded
        self.last = nn.Conv2d(channels, teacher_channels, 1)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch teacher_channels height width"]:
        return self.last(x + self.gate * self.up(F.gelu(self.down(x))))


def compare_maps(
    ours: Float[Tensor, "batch channels _ _"], theirs: Float[Tensor, "batch channels _ _"]
) -> Float[Tensor, ""]:
    """0.9 (1 - cos) + 0.1 SmoothL1 at the larger grid; the cosine is that of all numbers of an image's map.

    >>> compare_maps(torch.ones(2, 3, 4, 5), torch.ones(2, 3, 2, 3)).item()
    0.0
    """
    ours, theirs = ours.float(), theirs.float()
    size = [max(a, b) for a, b in zip(ours.shape[-2:], theirs.shape[-2:], strict=True)]
    ours, theirs = (F.interpolate(maps, size=size, mode="bilinear", align_corners=False) for maps in (ours, theirs))
    distance = 1 - F.cosine_similarity(ours.flatten(1), theirs.flatten(1), dim=1).mean()
    return 0.9 * distance + 0.1 * F.smooth_l1_loss(ours, theirs)


def match_levels(ours: int, theirs: int) -> list[int]:
    """For each of `ours` maps the one of `theirs` at the same place of the sequence, from the image on.

    >>> match_levels(4, 4), match_levels(2, 4), match_levels(4, 1), match_levels(1, 4)
    ([0, 1, 2, 3], [0, 3], [0, 0, 0, 0], [3])
    """
    return [round(i * (theirs - 1) / (ours - 1)) for i in range(ours)] if ours > 1 else [theirs - 1]


def load_teacher(name: str, source: str) -> Backbone:
    """A frozen backbone in evaluation mode, with the image normalization of its training: that of the recipe beside a
    run's weights, else that which timm states for its name. Random weights are the same every time, and leave torch's
    random state unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = create_backbone(name, weights="" if source == RANDOM else source)
    report = teacher.load_report
    statistics = (report and report.trained_with) or pretrained_statistics(teacher.timm_name)
    if statistics is not None:
        for buffer, values in zip((teacher.mean, teacher.std), statistics, strict=True):
            buffer.copy_(torch.tensor(values).view_as(buffer))
    return teacher.eval().requires_grad_(False)


def _what_it_is(teacher: Backbone) -> dict[str, Tensor]:
    """Tensors to hash: weights, and mean and standard deviation where they are not ImageNet's (once those of all
    teachers).
    """
    own = {"mean": teacher.mean.flatten().cpu(), "std": teacher.std.flatten().cpu()}
    usual = {"mean": torch.tensor(IMAGENET_MEAN), "std": torch.tensor(IMAGENET_STD)}
    differs = any(not torch.equal(own[name].float(), usual[name]) for name in own)
    return dict(teacher.state_dict()) | (own if differs else {})
