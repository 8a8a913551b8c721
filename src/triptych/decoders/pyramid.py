"""Per-task decoders with skips and one exchange between them: the frame of DenseMTL and PAD-Net+.

Lopes, Vu and de Charette, WACV 2023 (arXiv 2206.08927); their decoder descends from Monodepth2 (Godard et al., ICCV
2019).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import log2

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.baseline import ASPP
from triptych.decoders.layers import conv_of_nearest, resize
from triptych.lookup import named_choice
from triptych.tasks import Task


class PyramidDecoder(Decoder):
    """One decoder per task, from the last feature map to the image's resolution, with an exchange on the way.

    Levels are numbered down to 0, the finest. The coarsest reads the last feature through ASPP; each level joins the
    next finer feature, upsampled (nearest) where that is twice as large, and after the finest feature upsamples alone
    until stride 1. So the strides are 16, 8, 4, 2 and 1 for every pyramid, as published for ResNet-101 with strides (2,
    4, 8, 16, 16); one without a stride-2 feature has no skip there. Features of one stride only (plain ViT) are resized
    first: the last two keep their size and each earlier one is twice as large as the next.

    `widths[i]` is the width of level i; levels beyond its end have the last one. `exchange(width, names,
    targets=names)` builds the module that takes the maps of all tasks at `exchange_level`, a dict by name, and returns
    new ones for the targets. `scales` are the levels with a prediction, made before the exchange. Predictions come
    coarsest first; level 0 is the final one. `auxiliary_tasks` have decoders and predictions as far as the exchange, in
    which their maps take part, and nothing after it.
    """

    align_corners = True  # as the published losses and metrics resize

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        widths: Sequence[int],
        exchange: Callable[..., nn.Module],
        exchange_level: int,
        scales: Sequence[int],
        auxiliary_tasks: Mapping[str, Task] | None = None,
        aspp_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        init: str = "default",
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks, auxiliary_tasks=auxiliary_tasks)
        self.factors = _pyramid_factors(self.strides)
        _require_octaves(type(self).__name__, self.strides)
        plan = _plan_levels([stride / factor for stride, factor in zip(self.strides, self.factors, strict=True)])
        if not 0 < exchange_level < len(plan):
            raise ValueError(f"exchange_level is {exchange_level}; this pyramid has levels 1 to {len(plan) - 1}.")
        if 0 not in scales or max(scales) >= len(plan):
            raise ValueError(f"scales are {tuple(scales)}; they must hold 0 and lie below {len(plan)}.")
        if self.auxiliary_tasks and max(scales) < exchange_level:
            raise ValueError(
                f"scales are {tuple(scales)}, all finer than exchange_level {exchange_level}: auxiliary tasks have no "
                f"prediction there; add a scale of {exchange_level} or more."
            )
        require_at_least(1, widths=min(widths, default=0), aspp_rates=min(aspp_rates, default=1))
        level_widths = [widths[min(level, len(widths) - 1)] for level in range(len(plan))]
        exchanging = exchange(
            level_widths[exchange_level], list({**(auxiliary_tasks or {}), **tasks}), targets=list(tasks)
        )
        self.skips = [skip for _, skip in plan]
        lasts = dict.fromkeys(tasks, 0) | dict.fromkeys(self.auxiliary_tasks, exchange_level)
        self.decoders = nn.ModuleDict(
            {
                name: self._task_decoder(plan, level_widths, last=last, aspp_rates=aspp_rates, dropout=dropout)
                for name, last in lasts.items()
            }
        )
        initialize = named_choice("init of a pyramid", init, INITIALIZATIONS)
        for levels in self.decoders.values():
            levels.apply(initialize)
        self.outputs = nn.ModuleDict()
        for level in sorted(scales, reverse=True):
            known = self.tasks if level < exchange_level else self.intermediate_tasks
            self.outputs[str(level)] = nn.ModuleDict(
                {name: nn.Conv2d(level_widths[level], task.channels, 1) for name, task in known.items()}
            )
        self.exchange_level = exchange_level
        self.exchange = exchanging

    def _task_decoder(
        self,
        plan: list[tuple[bool, int | None]],
        widths: list[int],
        *,
        last: int,
        aspp_rates: Sequence[int],
        dropout: float,
    ) -> nn.ModuleList:
        """Levels from 0 upwards, so that the index is the level; those finer than `last` do nothing."""
        levels: list[nn.Module] = [nn.Identity() for _ in range(last)]
        for level, (upsample, skip) in list(enumerate(plan))[last:]:
            coarsest = level == len(plan) - 1
            into = (
                ASPP(self.channels[-1], widths[level], rates=aspp_rates, dropout=dropout)
                if coarsest
                else ReflectConv(widths[level + 1], widths[level])
            )
            skip_channels = 0 if skip is None else self.channels[skip]
            levels.append(PyramidLevel(into, widths[level], skip_channels, upsample=upsample))
        return nn.ModuleList(levels)

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        scaled = [
            resize(x, (x.shape[-2] * factor, x.shape[-1] * factor))
            for x, factor in zip(features, self.factors, strict=True)
        ]
        padded = [pad_reflect(x) for x in scaled[:-1]]
        maps, predictions = dict.fromkeys([*self.tasks, *self.auxiliary_tasks], scaled[-1]), []
        for level in reversed(range(len(self.skips))):
            skip = None if self.skips[level] is None else padded[self.skips[level]]
            maps = {name: self.decoders[name][level](x, skip) for name, x in maps.items()}
            if str(level) in self.outputs:
                predictions.append({name: head(maps[name]) for name, head in self.outputs[str(level)].items()})
            if level == self.exchange_level:
                maps = self.exchange(maps)
        return predictions


class PyramidLevel(nn.Module):
    """Narrow, upsample x2 where asked, join a skip, convolve: ELU after each convolution, reflection at the border.

    The convolution over (upsampled map, skip) is computed as the sum of its two parts: the first on the small map, the
    second on a skip that all tasks share, padded once.
    """

    def __init__(self, into: nn.Module, width: int, skip_channels: int, *, upsample: bool) -> None:
        super().__init__()
        self.into = into
        self.conv = nn.Conv2d(width + skip_channels, width, 3)
        self.upsample = upsample

    def forward(
        self,
        x: Float[Tensor, "batch in_channels height width"],
        padded_skip: Float[Tensor, "batch skip_channels padded_height padded_width"] | None,
    ) -> Float[Tensor, "batch channels new_height new_width"]:
        x = self.into(x)
        weight, skip_weight = self.conv.weight.split([x.shape[1], self.conv.in_channels - x.shape[1]], dim=1)
        bias = self.conv.bias
        y = conv_of_nearest(x, weight, bias) if self.upsample else F.conv2d(pad_reflect(x), weight, bias)
        if padded_skip is None:
            return F.elu(y, inplace=True)
        height, width = padded_skip.shape[-2] - 2, padded_skip.shape[-1] - 2
        # Twice an odd side's half, rounded up, is one too many.
        return F.elu(y[..., :height, :width] + F.conv2d(padded_skip, skip_weight), inplace=True)


class ReflectConv(nn.Conv2d):
    """3x3 convolution with reflection padding and ELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return F.elu(super().forward(pad_reflect(x)), inplace=True)


def _initialize_by_he(module: nn.Module) -> None:
    """Weights with the variance 2 / fan_in, no bias; ELU is close enough to ReLU for its gain."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


INITIALIZATIONS: dict[str, Callable[[nn.Module], None]] = {"default": lambda module: None, "he": _initialize_by_he}
"""Initializations by the names of `init`, for the convolutions of a pyramid with a bias, hence without a norm."""


def pad_reflect(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels padded_height padded_width"]:
    """One pixel of reflection around a map; where a side is a single pixel there is nothing but that to repeat."""
    mode = "reflect" if min(x.shape[-2:]) > 1 else "replicate"
    return F.pad(x, (1, 1, 1, 1), mode=mode)


def _require_octaves(decoder: str, strides: Sequence[int]) -> None:
    """Fail unless every map is as large as the next, or 2, 4, 8, ... times as large."""
    if any(not log2(coarse / fine).is_integer() for fine, coarse in pairwise(strides)):
        raise ValueError(
            f"strides are {tuple(strides)}; {decoder} doubles its maps from one to the next, so each must be 1, 2, "
            "4, ... times the one before."
        )


def _pyramid_factors(strides: Sequence[int]) -> list[int]:
    """Factors by which features are enlarged: 1 in a pyramid, else (..., 4, 2, 1, 1)."""
    if len(set(strides)) > 1:
        return [1] * len(strides)
    largest = 2 ** max(0, int(log2(strides[0])) - 1)
    return [min(largest, 2 ** max(0, len(strides) - 2 - i)) for i in range(len(strides))]


def _plan_levels(strides: Sequence[float]) -> list[tuple[bool, int | None]]:
    """For each level, finest first: whether it upsamples, and which feature it joins.

    >>> _plan_levels([2.0, 4.0, 8.0, 16.0, 16.0])
    [(True, None), (True, 0), (True, 1), (True, 2), (False, 3)]
    >>> _plan_levels([4.0, 8.0, 16.0, 32.0])
    [(True, None), (True, None), (True, 0), (True, 1), (True, 2)]
    """
    plan: list[tuple[bool, int | None]] = []
    current = strides[-1]
    for skip in reversed(range(len(strides) - 1)):
        halvings = round(log2(current / strides[skip]))
        plan += [(True, None)] * (halvings - 1) + [(halvings > 0, skip)]
        current = strides[skip]
    return (plan + [(True, None)] * max(1, round(log2(current))))[::-1]
