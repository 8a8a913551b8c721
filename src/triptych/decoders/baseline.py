"""Baselines: one head per task on shared features. With one task they are the single-task networks of the literature.

Sources: the DeepLabV3 head of Chen et al. (arXiv 1706.05587) and the HRNet head of Wang et al. (TPAMI 2020), as the
multi-task survey of Vandenhende et al. (TPAMI 2021) uses them; the FCN head of ATRC (Bruggemann et al., ICCV 2021); the
four-level head for ViT of SAK (Lu et al., ICLR 2025).
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from triptych.decoders.base import Decoder
from triptych.decoders.layers import ConvNormReLU, concatenate
from triptych.tasks import Task


class HeadDecoder(Decoder):
    """One head per task, all reading the same features."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        make_head: Callable[[int], nn.Module],
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.heads = nn.ModuleDict({name: make_head(task.channels) for name, task in tasks.items()})

    def select(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        """What the heads read; computed once for all tasks."""
        return features

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        selected = self.select(features)
        return [{name: head(selected) for name, head in self.heads.items()}]


class ConcatenationDecoder(HeadDecoder):
    """Heads on all maps resized to the finest one and concatenated."""

    def select(self, features: list[Tensor]) -> Tensor:
        return concatenate(features)


class FCN(ConcatenationDecoder):
    """ATRC's multi-task FCN head: all maps concatenated at the finest resolution, per task 3x3 to a quarter of the
    width, batch norm, ReLU, 1x1.

    `width` replaces the quarter; smaller values make it cheap.

    >>> from triptych.tasks import nyuv2_tasks
    >>> sum(p.numel() for p in FCN((18, 36, 72, 144), strides=(4, 8, 16, 32), tasks=nyuv2_tasks()).parameters())
    654836
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        total = sum(channels)
        width = total // 4 if width is None else width

        def make_head(outputs: int) -> nn.Module:
            logits = nn.Conv2d(width, outputs, 1)
            nn.init.normal_(logits.weight, std=0.01)
            nn.init.zeros_(logits.bias)
            return nn.Sequential(ConvNormReLU(total, width), nn.Dropout2d(dropout), logits)

        super().__init__(channels, strides=strides, tasks=tasks, make_head=make_head)
