"""The networks that `models.py` measures, and what published code of them reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from triptych.assemble import create_model
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task, nyuv2_tasks


@dataclass(frozen=True)
class Published:
    """What published code reached: batch 1 forward, `batch` in training; MiB at the peak."""

    gmacs: float
    forward_seconds: float
    vs_matmul: float
    forward_mib: int
    batch: int
    train_seconds: float
    train_mib: int

    @property
    def matmul_gflops(self) -> float:
        """Rate of the matrix product in the process that was measured."""
        return 2 * self.gmacs / self.forward_seconds / self.vs_matmul


@dataclass(frozen=True)
class Case:
    """One network on one input size; `tasks` of NYUv2, all four unless given."""

    decoder: str
    backbone: str
    size: tuple[int, int] = (448, 576)
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    decoder_options: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("semseg", "depth", "normals", "boundary")
    variant: str = ""
    published: Published | None = None

    @property
    def name(self) -> str:
        return "/".join(filter(None, [self.decoder, self.backbone, f"{self.size[0]}x{self.size[1]}", self.variant]))

    def build(self) -> MultiTaskModel:
        known: dict[str, Task] = nyuv2_tasks()
        return create_model(
            self.decoder,
            backbone=self.backbone,
            tasks={name: known[name] for name in self.tasks},
            backbone_options={**self.backbone_options, "image_size": self.size},
            decoder_options=self.decoder_options,
        )


HRNET, DENSEMTL = "hrnet_w18_small_v2", {"output_stride": 16, "include_stem": True}


def _densemtl(size: tuple[int, int], variant: str, published: Published) -> Case:
    tasks = {"SD": ("semseg", "depth"), "SDN": ("semseg", "depth", "normals")}[variant]
    return Case("densemtl", "resnet101", size, DENSEMTL, tasks=tasks, variant=variant, published=published)


def _atrc(genotype: str, variant: str, published: Published) -> Case:
    options = {"genotype": genotype}
    return Case("atrc", HRNET, (425, 560), decoder_options=options, variant=variant, published=published)


PUBLISHED = [
    Case("mti-net", HRNET, published=Published(23.8, 0.76, 0.33, 578, 1, 2.46, 1885)),
    Case("hrnet", HRNET, published=Published(13.1, 0.33, 0.42, 538, 1, 1.23, 1254)),
    _atrc("nyud-w18", "nyud-w18", Published(25.1, 0.58, 0.44, 633, 1, 2.44, 1646)),
    _atrc("1111 1111 1111 1111", "global", Published(21.2, 0.53, 0.41, 516, 1, 2.20, 1505)),
    Case("invpt", "vit_base_patch16_384", published=Published(343.7, 4.05, 0.85, 1520, 1, 14.90, 4668)),
    Case("pad-net", HRNET, published=Published(260.5, 2.87, 1.07, 990, 1, 9.20, 2905)),
    _densemtl((240, 320), "SD", Published(68.0, 0.79, 0.92, 837, 2, 5.74, 3222)),
    _densemtl((240, 320), "SDN", Published(114.9, 1.29, 0.92, 959, 2, 9.79, 4655)),
    _densemtl((480, 640), "SD", Published(280.7, 4.43, 0.65, 1441, 2, 32.97, 8487)),
    _densemtl((480, 640), "SDN", Published(486.0, 7.63, 0.64, 1644, 2, 64.15, 13482)),
    Case(
        "mtan", "resnet50", backbone_options={"output_stride": 8},
        published=Published(564.3, 6.19, 0.96, 1894, 2, 54.22, 11466),
    ),
    Case("invpt", "vit_large_patch16_384", published=Published(601.9, 8.74, 0.73, 2472, 1, 30.87, 9588)),
]  # fmt: skip
"""The networks whose published code was measured, in its configuration; those of small operators first."""

DECODERS: dict[str, dict[str, Any]] = {
    "fcn": {"width": 64},
    "hrnet": {},
    "deeplab": {},
    "vit": {},
    "pad-net": {"fused_width": 256},
    "pad-net-densemtl": {},
    "pad-net-plus": {},
    "mti-net": {"width": 64},
    "atrc": {"width": 64},
    "pap": {},
    "psd": {},
    "invpt": {},
    "densemtl": {},
}
"""Every decoder on every small backbone; widths where the published ones follow those of HRNet-18."""
BACKBONES = ("resnet18", HRNET, "vit_small_patch16_384", "swin_tiny", "convnext_tiny")
SHARING = ("cross-stitch", "nddr", "mtan")


def all_cases() -> dict[str, Case]:
    """Every case by name, those with published figures first."""
    cases = [
        *PUBLISHED,
        *(Case(d, b, decoder_options=options) for d, options in DECODERS.items() for b in BACKBONES),
        *(Case(d, "resnet18", backbone_options={"output_stride": 8}) for d in SHARING),
    ]
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(case.name, case)
    return found
