"""PAD-Net+ ("3-ways"): PAD-Net's distillation inside the pyramid decoders of DenseMTL.

Hoyer et al., "Three Ways to Improve Semantic Segmentation with Self-Supervised Depth Estimation", CVPR 2021, in the
version that Lopes, Vu and de Charette (WACV 2023, arXiv 2206.08927) compare with.
"""

from collections.abc import Mapping, Sequence

from triptych.decoders.distillation import MultiModalDistillation
from triptych.decoders.pyramid import PyramidDecoder
from triptych.tasks import Task


class PADNetPlus(PyramidDecoder):
    """PAD-Net+: one pyramid decoder per task, distilled at level 2 (a quarter of the image's size).

    Published on ResNet-101 with `output_stride=16, include_stem=True`. The prediction at level 2 is supervised besides
    the final one and precedes the distillation. With one task nothing is distilled. `auxiliary_tasks` are distilled
    into the others and have the first prediction only.

    >>> import torch
    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = PADNetPlus((4, 4, 8, 8), strides=(4, 8, 16, 32), tasks=nyuv2_tasks(), widths=(4, 8))
    >>> features = [torch.randn(1, c, 64 // s, 96 // s) for c, s in zip((4, 4, 8, 8), (4, 8, 16, 32))]
    >>> [tuple(stage["depth"].shape[2:]) for stage in decoder(features)]
    [(16, 24), (64, 96)]
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        widths: Sequence[int] = (64, 128, 128, 256, 256),
        exchange_level: int = 2,
        scales: Sequence[int] = (0, 2),
        auxiliary_tasks: Mapping[str, Task] | None = None,
        aspp_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
        init: str = "default",
    ) -> None:
        width = widths[min(exchange_level, len(widths) - 1)]
        everything = {**(auxiliary_tasks or {}), **tasks}
        super().__init__(
            channels,
            strides=strides,
            tasks=tasks,
            widths=widths,
            exchange=MultiModalDistillation(width, list(everything), targets=list(tasks)),
            exchange_level=exchange_level,
            scales=scales,
            auxiliary_tasks=auxiliary_tasks,
            aspp_rates=aspp_rates,
            dropout=dropout,
            init=init,
        )
