"""NDDR-CNN: neural discriminative dimensionality reduction (Gao et al., CVPR 2019, arXiv 1801.08297).

After the stem and each stage every task's map becomes a 1x1 convolution of all tasks' maps. As the multi-task survey
builds it on ResNets: without the paper's shortcuts from all stages to the heads.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from triptych.decoders.layers import ConvNormReLU
from triptych.models.joined import JoinedNetworks


class NDDRLayer(nn.Module):
    """x_t = ReLU(BN(W_t concat over s of x_s)), tasks sorted by name.

    W_t starts as `alpha` x_t plus `beta` times each other map. All tasks' convolutions are one.

    >>> layer = NDDRLayer(4, ["semseg", "depth"], alpha=1.0, beta=0.5).eval()
    >>> mixed = layer({"semseg": torch.ones(1, 4, 2, 2), "depth": torch.zeros(1, 4, 2, 2)})
    >>> round(mixed["depth"].mean().item(), 3)
    0.5
    """

    def __init__(self, channels: int, tasks: Sequence[str], *, alpha: float = 0.9, beta: float = 0.1) -> None:
        super().__init__()
        # Sorted, so that joined weights mean the same in whatever order tasks are declared.
        self.names = sorted(tasks)
        number = len(self.names)
        self.joint = ConvNormReLU(number * channels, number * channels, 1, momentum=0.05)
        start = torch.full((number, number), beta).fill_diagonal_(alpha)
        with torch.no_grad():
            self.joint[0].weight.copy_(torch.kron(start, torch.eye(channels))[..., None, None])

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        joined = self.joint(torch.cat([maps[name] for name in self.names], dim=1))
        mixed = dict(zip(self.names, joined.chunk(len(self.names), dim=1), strict=True))
        return {name: mixed[name] for name in maps}


class NDDR(JoinedNetworks):
    """Single-task ResNets with NDDR layers after the stem and layer1 to layer4; published with `output_stride=8`.

    Published start: `alpha` 0.9 and `beta` 0.1 on NYUD, 0.8 and 0.05 on PASCAL.

    >>> from triptych.backbones import create_backbone
    >>> from triptych.tasks import nyuv2_tasks
    >>> model = NDDR(create_backbone("resnet18", widths=(8, 8, 16, 16)), tasks=nyuv2_tasks(), width=8)
    >>> model(torch.rand(1, 3, 32, 40)).predictions["depth"].shape
    torch.Size([1, 1, 32, 40])
    """

    architecture = "nddr"
    unit = NDDRLayer
    mixes_stem = True
