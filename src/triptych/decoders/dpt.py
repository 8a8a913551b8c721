"""DPT (Ranftl et al., ICCV 2021): token maps reassembled into a pyramid, fused from coarse to fine, a head per task.

As published each task has a whole decoder of its own; with `shared=True` all tasks share reassembly and fusion, which
costs one decoder and a small head for each. The published head for segmentation has batch norm and dropout; every task
here has the head for depth.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.layers import resize
from triptych.decoders.pyramid import INITIALIZATIONS
from triptych.lookup import named_choice
from triptych.tasks import Task


class DPT(Decoder):
    """Dense prediction transformer on four maps of a plain transformer, or on a pyramid.

    Maps of one stride p (a plain transformer's) are reassembled at p / 4, p / 2, p and 2 p with an eighth to all of
    their channels, as published for ViT-B (there ViT-L has a quarter, a half, all and all); on a pyramid reassembly is
    a 1x1 convolution that keeps channels and size. `width`: channels of fusion (256 as published). `shared`: one
    reassembly and fusion for all tasks. `class_token`: the maps carry the class token's features behind the patch's
    (`backbone_options = {"class_token": true}`), and the published readout projects both to the width of one.
    `head_width`: channels before the last layer (32). `init`: initialization of convolutions; with torch's own, as
    published, the coarsest maps hardly reach the output of a narrow decoder at first, by `"he"` they do.

    >>> import torch
    >>> from triptych.tasks import depth, semseg
    >>> tasks = {"semseg": semseg(5), "depth": depth()}
    >>> decoder = DPT((16,) * 4, strides=(16,) * 4, tasks=tasks, width=8, shared=True)
    >>> [maps] = decoder([torch.zeros(1, 16, 3, 4)] * 4)
    >>> maps["semseg"].shape
    torch.Size([1, 5, 48, 64])
    """

    align_corners = True
    has_independent_heads = True

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int = 256,
        head_width: int = 32,
        shared: bool = False,
        class_token: bool = False,
        init: str = "default",
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        require_at_least(2, width=width)  # heads begin with half of it
        require_at_least(1, head_width=head_width)
        initialize = named_choice("init of dpt", init, INITIALIZATIONS)
        if class_token and any(number % 2 for number in channels):
            raise ValueError(
                "dpt: class_token needs maps of patch and class token together, these have "
                f"{tuple(channels)} channels; give the backbone class_token = true."
            )
        names = ["shared"] if shared else list(tasks)
        self.shared, self.class_token = shared, class_token
        self.trunks = nn.ModuleDict({name: Fusion(channels, strides, width, class_token) for name in names})
        self.heads = nn.ModuleDict({name: Head(width, head_width, task.channels) for name, task in tasks.items()})
        self.trunks.apply(initialize)

    @property
    def shared_modules(self) -> list[nn.Module]:
        return [self.trunks["shared"]] if self.shared else []

    def predict_task(self, task: str, features: list[Tensor]) -> Tensor:
        return self.heads[task](self.trunks["shared" if self.shared else task](features))

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        fused = {name: trunk(features) for name, trunk in self.trunks.items()}
        return [{name: head(fused["shared" if self.shared else name]) for name, head in self.heads.items()}]


class Fusion(nn.Module):
    """Reassembly of every map, and residual fusion from the coarsest to the finest: `(B, width, h, w)` at twice the
    size of the finest reassembled map.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, class_token: bool) -> None:
        super().__init__()
        layers, widths = _reassembly(channels, strides, class_token)
        self.reassemble = nn.ModuleList(layers)
        self.narrow = nn.ModuleList(nn.Conv2d(number, width, 3, padding=1, bias=False) for number in widths)
        self.blocks = nn.ModuleList(Block(width, joins=index + 1 < len(widths)) for index in range(len(widths)))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        maps = [narrow(each(x)) for narrow, each, x in zip(self.narrow, self.reassemble, features, strict=True)]
        sizes = [[2 * side for side in maps[0].shape[-2:]], *(x.shape[-2:] for x in maps[:-1])]
        path = None
        for block, x, size in reversed(list(zip(self.blocks, maps, sizes, strict=True))):
            path = block(path, x, size)
        return path


class Block(nn.Module):
    """A map, and the fused coarser ones after a residual unit of the map; another unit, resized, and a 1x1."""

    def __init__(self, width: int, *, joins: bool) -> None:
        super().__init__()
        self.before = Residual(width) if joins else None  # nothing coarser: the published unit is never used
        self.after = Residual(width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, coarser: Tensor | None, x: Tensor, size: Sequence[int]) -> Tensor:
        joined = x if coarser is None else coarser + self.before(x)
        return self.mix(resize(self.after(joined), size, align_corners=True))


class Residual(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, beside the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Not in place: the input is also the skip.
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Head(nn.Module):
    """3x3 to half the width, twice the size, 3x3, ReLU, 1x1."""

    def __init__(self, width: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width // 2, 3, padding=1)
        self.last = nn.Sequential(
            nn.Conv2d(width // 2, inner, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(inner, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(resize(self.first(x), [2 * side for side in x.shape[-2:]], align_corners=True))


_PLACES: list[tuple[int, Callable[[int], nn.Module] | None]] = [
    (8, lambda width: nn.ConvTranspose2d(width, width, 4, stride=4)),
    (4, lambda width: nn.ConvTranspose2d(width, width, 2, stride=2)),
    (2, lambda width: nn.Identity()),
    (1, lambda width: nn.Conv2d(width, width, 3, stride=2, padding=1)),
]
"""For each map of a plain transformer: the divisor of its channels, and the layer that resizes it for a pyramid."""


def _reassembly(
    channels: Sequence[int], strides: Sequence[int], class_token: bool
) -> tuple[list[nn.Module], list[int]]:
    """For every map, layers that bring it to its place in a pyramid, and the channels there."""
    plain = len(strides) == 4 and len(set(strides)) == 1
    if not plain and len(set(strides)) != len(strides):
        raise ValueError(
            "dpt takes four maps of one stride (a plain transformer's) or maps of a stride each (a pyramid's), not "
            f"strides {tuple(strides)}; choose another backbone, or its taps."
        )
    layers, widths = [], []
    places = _PLACES if plain else [(1, None)] * len(strides)
    for number, (divisor, resized) in zip(channels, places, strict=True):
        readout = [nn.Conv2d(number, number // 2, 1), nn.GELU()] if class_token else []
        inner = number // 2 if class_token else number
        widths.append(max(1, inner // divisor))
        place = [resized(widths[-1])] if resized is not None else []
        layers.append(nn.Sequential(*readout, nn.Conv2d(inner, widths[-1], 1), *place))
    return layers, widths
