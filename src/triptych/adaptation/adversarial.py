"""Adversarial alignment of the outputs of every task and scale (Lopes, Vu and de Charette, "Cross-task Attention
Mechanism for Dense Multi-task Learning", WACV 2023, arXiv 2206.08927; its ancestor is AdvEnt, Vu et al., CVPR 2019).

One discriminator per task and supervised scale tells source from target maps: weighted self-information of classes,
depth normalised to the range of the source's labels, unit normals. The network learns to make target maps that pass
for source ones.

Paper, published code and this file. Published for segmentation and depth (normals in the code); boundaries, saliency
and parts are taken as classes here. The code maps depth with the range of the batch's labels and cuts it at zero only;
so does this file, in the units that the network predicts (`Task.encode`), and at the smallest label where that is below
zero (logarithms of less than 1 m). A batch without a depth label uses the range of the source's predictions. Both
forward passes come before one backward pass: the same gradients as the code's two. A discriminator judges both domains
in one pass for its own loss, so that its spectral norm takes two power iterations per step, not three.

MinEnt, of the ancestor, minimizes the entropy of unlabelled predictions (Vu et al., "ADVENT: Adversarial Entropy
Minimization for Domain Adaptation in Semantic Segmentation", CVPR 2019, arXiv 1811.12833, section 3.1). The paper has
one segmentation map (and a second one with a weight of its own); here the mean is taken over every map that scores
classes: tasks and intermediate predictions. Depth and normals have no entropy and adapt through the shared network
alone.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from triptych.adaptation.base import Adapter, image_pixels, mean, supervised_maps
from triptych.losses.classes import class_probabilities
from triptych.losses.pixel import adversarial_bce
from triptych.losses.whole_batch import ratio
from triptych.processes import smallest_over_processes
from triptych.tasks import Task
from triptych.types import Output, Sample

Scores = Float[Tensor, "batch channels height width"]


def weighted_self_information(raw: Scores) -> Float[Tensor, "batch classes height width"]:
    """I_c = -p_c log2(p_c + 1e-30) / log2 C with p the softmax over the C classes (Vu et al. 2019, section 3.2).

    The sum over classes is the entropy, from 0 to 1. A map with one channel is a logit: its two classes are (1 - p, p).

    >>> weighted_self_information(torch.zeros(1, 4, 1, 1)).flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    probability = class_probabilities(raw)
    return -probability * torch.log2(probability + 1e-30) / math.log2(probability.shape[1])


class MinEnt(Adapter):
    """`weight` (0.001 in the paper) times the mean normalised entropy of the class maps of the target's images, without
    what is padded.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int],
        weights: Mapping[str, float],
        seed: int = 0,
        weight: float = 1e-3,
    ) -> None:
        super().__init__(model, size=size, weights=weights, seed=seed)
        self.weight = weight
        if not any(task.is_categorical for task in self.tasks.values()):
            raise ValueError(
                f"entropy minimisation needs a task with classes; the model has {', '.join(self.tasks)}. "
                "Add one to data.tasks, or choose adaptation 'advent-mt'."
            )

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        maps, inside = supervised_maps(model, model(target.image)).values(), image_pixels(target)
        entropies = [
            weighted_self_information(raw).sum(dim=1, keepdim=True) for task, raw in maps if task.is_categorical
        ]
        return {"entropy": self.weight * mean(ratio((each * inside).sum(), inside.sum()) for each in entropies)}


SOURCE, TARGET = 0.0, 1.0
SMALLEST = 32
"""Pixels that a logit of the discriminator covers at least: five convolutions of stride 2."""

Map = Float[Tensor, "batch channels height width"]
Range = tuple[Tensor, Tensor]


class Discriminator(nn.Sequential):
    """Five 4x4 convolutions of stride 2 with spectral norm, LeakyReLU(0.2) between; logits at 1/32, high for target.

    >>> Discriminator(16, width=4)(torch.rand(1, 16, 64, 96)).shape
    torch.Size([1, 1, 2, 3])
    """

    def __init__(self, channels: int, *, width: int = 64) -> None:
        layers: list[nn.Module] = []
        for inner, outer in pairwise((channels, width, 2 * width, 4 * width, 8 * width, 1)):
            layers += [spectral_norm(nn.Conv2d(inner, outer, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers[:-1])


class AdversarialAlignment(Adapter):
    """`weight` times the mean binary cross-entropy, against the source's label, of the target's maps.

    From optimizer step `start_step` on; discriminators begin then too. `intermediate=False` aligns final predictions
    only, `tasks` some tasks only. `width` is that of the first convolution of the discriminators. Maps of target
    images of another size are resized to the source's.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int],
        weights: Mapping[str, float],
        seed: int = 0,
        weight: float = 0.005,
        start_step: int = 0,
        intermediate: bool = True,
        tasks: tuple[str, ...] = (),
        width: int = 64,
    ) -> None:
        super().__init__(model, size=size, weights=weights, seed=seed)
        if min(size) < SMALLEST:
            raise ValueError(
                f"size is {tuple(size)}; the discriminators of adversarial alignment need images of at least "
                f"{SMALLEST}x{SMALLEST}."
            )
        if unknown := set(tasks) - set(self.tasks):
            raise ValueError(
                f"adaptation option tasks names {sorted(unknown)[0]!r}; the model's are {', '.join(self.tasks)}."
            )
        self.weight, self.start_step, self.intermediate = weight, start_step, intermediate
        self.chosen = tuple(tasks) or (*self.tasks, *model.auxiliary_tasks)  # type: ignore[misc]
        maps = self.choose(model, _look(model, size))
        # Channels of the alignment maps: a single logit has two classes.
        channels = {
            n: 2 if task.is_categorical and task.channels == 1 else task.channels for n, (task, _) in maps.items()
        }
        self.discriminators = nn.ModuleDict(
            {name: Discriminator(count, width=width) for name, count in channels.items()}
        ).requires_grad_(False)
        self.seen: list[tuple[str, Tensor, Tensor]] = []

    def choose(self, model: nn.Module, output: Output) -> dict[str, tuple[Task, Tensor]]:
        """The maps that are aligned."""
        return {
            name: (task, raw)
            for name, (task, raw) in supervised_maps(model, output).items()
            if name.rpartition("_")[0] in self.chosen and (self.intermediate or name.endswith("_0"))
        }

    def own_parameters(self) -> list[nn.Parameter]:
        return list(self.discriminators.parameters())

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        self.seen = []
        if self.step < self.start_step:
            return {}
        ours, theirs = self.choose(model, output), self.choose(model, model(target.image))
        terms = []
        # Discriminators are small: full precision costs little and needs no loss scaling.
        with torch.autocast(source.image.device.type, enabled=False):
            for name, (task, raw) in theirs.items():
                label = source.targets[name.rpartition("_")[0]]
                span = None if task.is_categorical else value_range(task, label, ours[name][1])
                aligned = alignment_map(task, _resize(raw, source.image.shape[-2:]), span)
                with torch.no_grad():
                    reference = alignment_map(task, ours[name][1], span)
                terms.append(adversarial_bce(self.judge(name, aligned), SOURCE))
                self.seen.append((name, reference, aligned.detach()))
        return {"adversarial": self.weight * mean(terms)}

    def own_losses(self) -> dict[str, Tensor]:
        seen, self.seen = self.seen, []
        if not seen:
            return {}
        # Of a scene that is seen from several places the source has more maps than the target.
        pairs = [self.judge(name, ours, theirs).split([len(ours), len(theirs)]) for name, ours, theirs in seen]
        return {
            "source": mean(adversarial_bce(logits, SOURCE) for logits, _ in pairs),
            "target": mean(adversarial_bce(logits, TARGET) for _, logits in pairs),
        }

    def judge(
        self, name: str, *batches: Float[Tensor, "_ channels height width"]
    ) -> Float[Tensor, "images 1 rows columns"]:
        """Logits of a discriminator for batches of maps, each mirrored whole in half of the cases (as published)."""
        mirrored = [bool(torch.rand((), generator=self.generator) < 0.5) for _ in batches]
        maps = [batch.flip(-1) if flip else batch for batch, flip in zip(batches, mirrored, strict=True)]
        return self.discriminators[name](torch.cat(maps))


def alignment_map(task: Task, raw: Map, span: Range | None) -> Float[Tensor, "batch seen height width"]:
    """Input of the discriminator from a raw map: self-information, unit vectors of directions, or normalised values.

    Depth and other values: (max(u, min(0, low)) - low) / (high - low), `(low, high)` as in `value_range`.

    >>> from triptych.tasks import depth
    >>> alignment_map(depth(), torch.tensor([[[[3.0, -1.0, 9.0]]]]), (torch.tensor(1.0), torch.tensor(5.0))).tolist()
    [[[[0.5, -0.25, 2.0]]]]
    """
    if task.is_categorical:
        return weighted_self_information(raw)
    raw = raw if raw.dtype == torch.float64 else raw.float()
    if task.kind == "direction" or span is None:
        return F.normalize(raw, dim=1)
    low, high = span
    return (torch.maximum(raw, low.clamp(max=0)) - low) / (high - low).clamp(min=1e-6)


def value_range(task: Task, target: Tensor, raw: Map) -> Range:
    """Smallest and largest label of the batch, over all processes, in the units of the raw map; smallest and largest
    value of that map, the source's, where no image has a label.
    """
    values = task.encode(target)
    raw = raw.detach().to(values.dtype)
    ends = [torch.where(values.isfinite(), sign * values, torch.inf).amin() for sign in (1, -1)]
    ends += [(sign * raw).amin() for sign in (1, -1)]
    low, negated, raw_low, raw_negated = smallest_over_processes(torch.stack(ends))
    known = low.isfinite()
    return torch.where(known, low, raw_low), -torch.where(known, negated, raw_negated)


def _resize(raw: Map, size: tuple[int, ...]) -> Float[Tensor, "batch channels new_height new_width"]:
    if raw.shape[-2:] == size:
        return raw
    return F.interpolate(raw.float(), size=size, mode="bilinear", align_corners=True)


@torch.no_grad()
def _look(model: nn.Module, size: tuple[int, int]) -> Output:
    """One output, to see which maps there are."""
    training = model.training
    output = model.eval()(torch.zeros(1, 3, *size))
    model.train(training)
    return output
