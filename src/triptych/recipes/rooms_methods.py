"""Every decoder and architecture on `rooms`, small: minutes on a CPU, with and without the regularizer.

One backbone, one optimizer, one schedule for all, so that a difference between two of them is the method's; the
published settings are in `nyuv2.py`, `pascal.py` and `cityscapes.py`.
"""

from dataclasses import replace

from triptych.recipes.config import ModelConfig, Options, Recipe, RegularizerConfig
from triptych.recipes.rooms import DEMO, PYRAMID, SMALL, add_triplane

_HEADS: Options = {"head_std": "default"}
"""Heads as torch begins them: published ones are so small that classes hardly learn within these few steps."""

METHODS: dict[str, tuple[str, Options]] = {
    "atrc": ("ATRC", {"width": 16, **_HEADS}),
    "atrc-search": ("Search of ATRC's genotype", {"width": 16, "steps": DEMO.schedule.steps, **_HEADS}),
    "cross-stitch": ("Cross-stitch networks", {"width": 16}),
    "deeplab": ("A DeepLab head for each task", {"width": 32, "rates": (2, 4, 6)}),
    "densemtl": ("DenseMTL", PYRAMID),
    "dpt": ("DPT with one fusion for all tasks", {"width": 16, "shared": True, "init": "he"}),
    "fcn": ("A convolutional head for each task", {"width": 16, **_HEADS}),
    "hrnet": ("An HRNet head for each task", {}),
    "invpt": ("InvPT", {"width": 48, "preliminary_width": 32}),
    "mtan": ("MTAN", {"width": 16}),
    "mti-net": ("MTI-Net", {"width": 16}),
    "nddr": ("NDDR-CNN", {"width": 16}),
    "pad-net": ("PAD-Net", {"width": 16, "fused_width": 32}),
    "pad-net-densemtl": ("PAD-Net of the DenseMTL code", {"width": 16}),
    "pad-net-plus": ("PAD-Net+", PYRAMID),
    "pap": ("PAP (our reading)", {"width": 16, "inner_width": 8}),
    "psd": ("PSD (our reading)", {"width": 16, "inner_width": 8}),
    "vit": ("Four fused levels and a head for each task", {"width": 16}),
}
"""A title, and options that make it as small as the demo's network, by decoder or architecture."""


def build_recipe(decoder: str) -> Recipe:
    """The demo's recipe with another decoder or architecture.

    >>> build_recipe("invpt").model.decoder
    'invpt'
    """
    title, options = METHODS[decoder]
    return replace(
        DEMO,
        description=f"{title} on generated rooms, six tasks, minutes on a CPU.",
        model=ModelConfig(backbone="resnet18_half", decoder=decoder, decoder_options=options),
    )


CROSS_VIEW = replace(
    DEMO,
    description="The demo on camera paths, with the 3D-aware regularizer rendering a second view of every image.",
    data=replace(DEMO.data, options={"views": 1, "path_length": 10, "neighbour_frames": (5,)}),
    regularizer=RegularizerConfig(name="triplane-cross-view", options=SMALL),
)

CVM = replace(
    DEMO,
    description="The demo on camera paths, with CvM beside the trunk: each image is matched with a second view.",
    # Two views of each image: as many images a step as the demo.
    data=replace(DEMO.data, options={"views": 1, "path_length": 10, "neighbour_frames": (5,)}, batch_size=4),
    model=replace(
        DEMO.model,
        cross_view="cvm",
        # As small as the demo's network; rooms lie between 1 and 12 m.
        cross_view_options={"width": 32, "layers": 2, "planes": 32, "inverse_depths": (0.08, 1.0)},
    ),
)

RECIPES = {
    **add_triplane({f"rooms-{name}": build_recipe(name) for name in METHODS}, SMALL),
    "rooms-cross-view-3d": CROSS_VIEW,
    "rooms-cvm": CVM,
}
