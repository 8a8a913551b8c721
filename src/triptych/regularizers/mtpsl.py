"""Learning with missing labels: predictions without a label agree with the labels of other tasks (MTPSL; Li,
Liu and Bilen, "Learning multiple dense prediction tasks from partially annotated data", CVPR 2022, arXiv 2111.14893).

For an image without a label of task s and with one of task t, a network M maps the prediction of s and the label of t
into one space, where they should agree. A constant M would satisfy that; agreement with the image's own features, which
get no gradient from it, prevents this collapse:

    L = 1 - cos(m_s, m_t) + feature_weight [(1 - cos(m_s, f)) + (1 - cos(m_t, f))]

with m_s = M(prediction of s; s to t), m_t = M(label of t; s to t), f the backbone's coarsest map, detached.

Paper and this file. M is the paper's: a 3x3 convolution per task (batch norm, ReLU), then five stages of a shared
encoder whose channels a pair of tasks scales and shifts (FiLM) between batch norm and ReLU. The paper maps whole images
and all pairs of tasks; here maps have a stride of 4 and each image one pair, drawn anew in every step, so that a step
stays affordable. Such maps are pooled after as many of the first stages as lead to the stride of f. M ends in a 1x1
convolution to the channels of f, which are 512 in the paper and anything here. Cosines are of channels, place by
place, and their mean is over the places of M's map where t has a label in view. Its weight and a warm-up are not known
to us: choose them on validation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.layers import BatchNorm2d
from triptych.regularizers.base import Regularizer
from triptych.regularizers.planes import ceil_divide
from triptych.regularizers.terms import image_size, thin_to
from triptych.tasks import Kind, Task
from triptych.types import Output, Sample, valid_pixels

Map = Float[Tensor, "channels height width"]
Maps = Float[Tensor, "batch channels height width"]


class Pair(NamedTuple):
    """An image of the batch, a task that it has no label of, one that it has, and the seed of what is drawn for it."""

    image: int
    unlabelled: str
    labelled: str
    seed: int


class MTPSL(Regularizer):
    """`weight` times the loss above, the mean over the images that lack a label and have another; 0 without any.

    It belongs to no task and is added to the weighted losses as it is. `stride` is that of the maps M reads, `widths`
    are M's, `temperature` that of sampled classes. `warmup_steps` raise the weight from 0.
    """

    variance: Tensor
    needs_features = False  # its gradients reach the network through the predictions

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        weight: float = 1.0,
        stride: int = 4,
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
        temperature: float = 1.0,
        feature_weight: float = 0.5,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if len(tasks) < 2:
            raise ValueError(f"mtpsl relates tasks to each other; the model has {', '.join(tasks)} alone. Train more.")
        if stride < 1 or not widths or temperature <= 0:
            raise ValueError(
                f"mtpsl has stride {stride}, widths {widths} and temperature {temperature}; give a stride of at least "
                "1, at least one width and a positive temperature."
            )
        self.tasks = dict(tasks)
        self.weight, self.stride, self.feature_weight = weight, stride, feature_weight
        self.temperature, self.warmup_steps = temperature, warmup_steps
        self.level = max(range(len(strides)), key=lambda i: strides[i])
        pools = min(max(round(math.log2(strides[self.level] / stride)), 0), len(widths))
        self.stems = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(count_inputs(task), widths[0], 3, padding=1, bias=False),
                    BatchNorm2d(widths[0]),
                    nn.ReLU(),
                )
                for name, task in self.tasks.items()
            }
        )
        self.encoder = PairEncoder(widths, pairs=len(tasks) ** 2, pools=pools, out=channels[self.level])
        self.register_buffer("variance", torch.zeros(()))

    def measures(self) -> dict[str, float]:
        """1 - |mean of unit embeddings|^2 over the places of the last batch with a pair: 0 where M has collapsed."""
        return {"embedding_variance": float(self.variance)}

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        return {}  # no term is a task's; `penalties` has them all

    def penalties(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        # Whatever pairs there are, every parameter takes part: several processes wait for each other's.
        nothing = 0 * torch.stack([parameter.float().sum() for parameter in self.parameters()]).sum()
        size = ceil_divide(image_size(sample), self.stride)  # of the maps that M reads
        pairs = self.choose_pairs(sample.targets, size)
        if not pairs:
            return {"mtpsl": nothing}
        warmth = min(1.0, (self.step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        ours, theirs, features, seen = self.embed(pairs, output, sample, size)
        self.watch(ours, theirs, seen)
        # By channels, place by place; 0 where an embedding is zero.
        between, own, other = (
            F.cosine_similarity(a, b, dim=1) for a, b in ((ours, theirs), (ours, features), (theirs, features))
        )
        distance = 1 - between + self.feature_weight * (2 - own - other)
        losses = (distance * seen).sum(dim=(1, 2)) / seen.sum(dim=(1, 2))
        return {"mtpsl": self.weight * warmth * losses.mean() + nothing}

    def choose_pairs(self, targets: Mapping[str, Tensor], size: tuple[int, int]) -> list[Pair]:
        """One pair for each image that lacks a label and has another, drawn uniformly from such pairs.

        A label with no valid pixel on a map of `size` counts neither as missing nor as present.
        """
        shown = [valid_pixels(thin_to(targets[name], size)).flatten(1).any(dim=1) for name in self.tasks]
        missing = [~valid_pixels(targets[name]).flatten(1).any(dim=1) for name in self.tasks]
        table = torch.stack([torch.stack(missing), torch.stack(shown)]).permute(2, 0, 1).tolist()
        pairs = []
        for image, (which, seed) in enumerate(self.draw(len(table), 2).tolist()):
            unlabelled, labelled = ([n for n, yes in zip(self.tasks, row, strict=True) if yes] for row in table[image])
            choices = list(product(unlabelled, labelled))
            if choices:
                pairs.append(Pair(image, *choices[int(which * len(choices))], int(seed * 2**24)))
        return pairs

    def embed(
        self, pairs: Sequence[Pair], output: Output, sample: Sample, size: tuple[int, int]
    ) -> tuple[Maps, Maps, Maps, Float[Tensor, "pairs height width"]]:
        """m_s, m_t and f of every pair, and 1 where the label of t is in view; embeddings elsewhere are zero."""
        predictions = [(name, thin_to(output.predictions[name][image], size), seed) for image, name, _, seed in pairs]
        labels = [(name, thin_to(sample.targets[name][image], size)) for image, _, name, _ in pairs]
        inputs = [
            *(
                (name, encode_prediction(self.tasks[name], raw, seed, self.temperature))
                for name, raw, seed in predictions
            ),
            *((name, encode_label(self.tasks[name], label)) for name, label in labels),
        ]
        known = [valid_pixels(label).view(1, *size) for _, label in labels]
        stems: list[Tensor] = [sample.image] * len(inputs)
        for name, stem in self.stems.items():
            if rows := [i for i, (task, _) in enumerate(inputs) if task == name]:
                for i, row in zip(rows, stem(torch.stack([inputs[i][1] for i in rows])), strict=True):
                    stems[i] = row
        order = list(self.tasks)
        codes = [order.index(pair.unlabelled) * len(order) + order.index(pair.labelled) for pair in pairs] * 2
        embedded = self.encoder(torch.stack(stems), torch.tensor(codes, device=sample.image.device)).float()
        grid = embedded.shape[-2:]
        seen = F.adaptive_max_pool2d(torch.stack(known).float(), grid)
        ours, theirs = (embedded * torch.cat([seen, seen])).chunk(2)
        # The features are a fixed reference: they get no gradient.
        features = output.features[self.level].detach().float()[[pair.image for pair in pairs]]
        return ours, theirs, F.adaptive_avg_pool2d(features, grid), seen[:, 0]

    @torch.no_grad()
    def watch(self, ours: Maps, theirs: Maps, seen: Float[Tensor, "pairs height width"]) -> None:
        """Keep the variance of the embeddings for the log."""
        places = seen.bool()
        vectors = torch.cat([F.normalize(maps.movedim(1, -1)[places], dim=1) for maps in (ours, theirs)])
        self.variance.copy_(1 - vectors.mean(dim=0).square().sum())


class PairEncoder(nn.Module):
    """Stages of 3x3 convolution, batch norm, FiLM by the ordered pair of tasks (Perez et al., AAAI 2018), ReLU and, for
    the first `pools`, max pooling by 2; then a 1x1 convolution.
    """

    def __init__(self, widths: Sequence[int], *, pairs: int, pools: int, out: int) -> None:
        super().__init__()
        before = (widths[0], *widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(before, widths, strict=True)
        )
        self.norms = nn.ModuleList(BatchNorm2d(width) for width in widths)
        self.gammas = nn.ParameterList(nn.Parameter(torch.ones(pairs, width)) for width in widths)
        self.betas = nn.ParameterList(nn.Parameter(torch.zeros(pairs, width)) for width in widths)
        self.last = nn.Conv2d(widths[-1], out, 1)
        self.pools = pools

    def forward(self, x: Maps, codes: Int[Tensor, " batch"]) -> Float[Tensor, "batch out rows columns"]:
        for i, (conv, norm, gamma, beta) in enumerate(
            zip(self.convs, self.norms, self.gammas, self.betas, strict=True)
        ):
            x = F.relu(modulate(norm(conv(x)), gamma[codes], beta[codes]))
            if i < self.pools:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        return self.last(x)


def modulate(x: Maps, gamma: Float[Tensor, "batch channels"], beta: Float[Tensor, "batch channels"]) -> Maps:
    """FiLM: gamma_c x_c + beta_c (Perez et al., AAAI 2018, eq. 2).

    >>> modulate(torch.ones(1, 2, 1, 1), torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 1.0]])).flatten().tolist()
    [2.0, 4.0]
    """
    return gamma[:, :, None, None] * x + beta[:, :, None, None]


def _between_limits(task: Task, value: Map) -> Map:
    if task.limits is None:
        return value / value.abs().amax().clamp(min=1e-6)
    low, high = task.limits
    return (value - low) / (high - low)


SCALES: dict[Kind, Callable[[Task, Map], Map]] = {
    "direction": lambda task, value: (value + 1) / 2,
    "length": lambda task, value: value / value.amax().clamp(min=1e-6),
    "values": _between_limits,
}
"""Scaling of quantities to about [0, 1], by kind. Other kinds have classes, which enter as one channel each."""


def count_inputs(task: Task) -> int:
    """Channels in which a task enters M.

    >>> from triptych.tasks import boundary, depth, semseg
    >>> count_inputs(semseg(4)), count_inputs(boundary()), count_inputs(depth())
    (4, 2, 1)
    """
    return task.target_channels or 1 if task.kind in SCALES else max(task.channels, 2)


def encode_prediction(
    task: Task, raw: Map, seed: int, temperature: float = 1.0
) -> Float[Tensor, "inputs height width"]:
    """Input of M from a raw map: a class per place, drawn and one-hot, with the gradient of its probability (Jang, Gu
    and Poole, ICLR 2017); or the decoded quantity, scaled.
    """
    raw = raw.float()
    if task.kind in SCALES:
        return SCALES[task.kind](task, task.decode(raw[None])[0])
    scores = torch.cat([torch.zeros_like(raw), raw]) if len(raw) == 1 else raw
    uniform = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)).to(scores)
    noise = -(-uniform.clamp(1e-6, 1 - 1e-6).log()).log()
    soft = ((scores + noise) / temperature).softmax(dim=0)
    hard = F.one_hot(soft.argmax(dim=0), len(soft)).permute(2, 0, 1).to(soft)
    return hard + soft - soft.detach()


def encode_label(task: Task, target: Tensor) -> Map:
    """Input of M from a target `(H, W)` or `(C, H, W)`: zero where it is invalid.

    >>> from triptych.tasks import semseg
    >>> encode_label(semseg(2), torch.tensor([[1, 255]])).tolist()
    [[[0.0, 0.0]], [[1.0, 0.0]]]
    """
    known = valid_pixels(target)
    if task.kind in SCALES:
        return SCALES[task.kind](task, target.nan_to_num()) * known
    labels = torch.where(known, target, 0).long().view(target.shape[-2:])
    return F.one_hot(labels, count_inputs(task)).permute(2, 0, 1).float() * known.view(1, *labels.shape)
