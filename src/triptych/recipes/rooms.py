"""Recipes on `rooms`, the generated scenes: small, no download, minutes on a CPU; the demo, and every decoder and
architecture, with and without the regularizer.

One backbone, one optimizer, one schedule for all, so that a difference between two of them is the method's; the
published settings are in `nyuv2.py`, `pascal.py` and `cityscapes.py`.
"""

from dataclasses import replace

from triptych.recipes.config import (
    AdaptationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Options,
    Recipe,
    RegularizerConfig,
    ScheduleConfig,
    TrainingConfig,
)
from triptych.recipes.regularized import SMALL, SURFACE, add_triplane

DEMO = Recipe(
    description="The demo: six tasks on generated rooms with a small shared network, minutes on two cores.",
    data=DataConfig(dataset="rooms", size=(96, 128), batch_size=8),
    model=ModelConfig(
        backbone="resnet18_half",
        decoder="vit",  # four-level by its former name: recorded studies are known by hashes of these recipes
        decoder_options={"width": 16},
    ),
    optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=1e-3, clip_norm=10.0),
    schedule=ScheduleConfig(steps=360, name="cosine", warmup_steps=20),
    training=TrainingConfig(evaluate_every=120, checkpoint_every=120, evaluate_limit=40),
)

PYRAMID: Options = {"widths": (24, 24, 32, 48, 48), "aspp_rates": (1, 2, 3), "dropout": 0.0, "init": "he"}
"""The decoders of DenseMTL and PAD-Net+: wider where maps are coarser, as published, and at the finest wider than the
number of classes; weights that carry the deepest map up to the output; rates and dropout for its 3x4 cells
(docs/models.md).
"""

ADAPTATION = Recipe(
    description="Adapt to the second look of the rooms, without its labels; scored there (--split target-test).",
    data=DataConfig(
        dataset="rooms",
        tasks=("semseg", "depth", "normals"),
        size=(96, 128),
        batch_size=8,
        val_split="",  # labels of the target choose nothing: the last weights are kept
        test_split="target-test",
    ),
    model=ModelConfig(
        backbone="resnet18_half",
        backbone_options={"include_stem": True},
        decoder="densemtl",
        decoder_options=PYRAMID,
    ),
    optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=1e-3, clip_norm=10.0),
    schedule=ScheduleConfig(steps=600, name="cosine", warmup_steps=20),
    adaptation=AdaptationConfig(
        name="advent-mt", dataset="rooms", dataset_options={"look": "b"}, options={"width": 16}
    ),
    training=TrainingConfig(evaluate_every=0, checkpoint_every=200),
)


_HEADS: Options = {"head_std": "default"}
"""Heads as torch begins them: published ones are so small that classes hardly learn within these few steps."""
_ONE_MAP: Options = {"rates": (1, 2, 3), "dropout": 0.0}
"""DeepLab's head on the last map, whose 3x4 cells published rates reach beyond."""

METHODS: dict[str, tuple[str, Options]] = {
    "atrc": ("ATRC", {"width": 16, **_HEADS}),
    "atrc-search": ("Search of ATRC's genotype", {"width": 16, **_HEADS}),
    "cross-stitch": ("Cross-stitch networks", {"width": 16, **_ONE_MAP}),
    "deeplab": ("A DeepLab head for each task", {"width": 32, **_ONE_MAP}),
    "densemtl": ("DenseMTL", PYRAMID),
    "dpt": ("DPT with one fusion for all tasks", {"width": 16, "shared": True, "init": "he"}),
    "fcn": ("A convolutional head for each task", {"width": 16, **_HEADS}),
    "hrnet": ("An HRNet head for each task", {}),
    "invpt": ("InvPT", {"width": 48, "preliminary_width": 32}),
    "mtan": ("MTAN", {"width": 16, **_ONE_MAP}),
    "mti-net": ("MTI-Net", {"width": 16}),
    "nddr": ("NDDR-CNN", {"width": 16, **_ONE_MAP}),
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
    data=replace(DEMO.data, options={"views": 1, "path_length": 10, "neighbor_frames": (5,)}),
    regularizer=RegularizerConfig(name="triplane-cross-view", options={**SMALL, **SURFACE}),
)

CVM = replace(
    DEMO,
    description="The demo on camera paths, with CvM beside the trunk: each image is matched with a second view.",
    # Two views of each image: as many images a step as the demo.
    data=replace(DEMO.data, options={"views": 1, "path_length": 10, "neighbor_frames": (5,)}, batch_size=4),
    model=replace(
        DEMO.model,
        cross_view="cvm",
        # As small as the demo's network; rooms lie between 1 and 12 m.
        cross_view_options={"width": 32, "layers": 2, "planes": 32, "inverse_depths": (0.08, 1.0)},
    ),
)

RECIPES = {
    **add_triplane({"rooms-demo": DEMO}, {**SMALL, **SURFACE}),
    "rooms-adaptation": ADAPTATION,
    **add_triplane({f"rooms-{name}": build_recipe(name) for name in METHODS}, {**SMALL, **SURFACE}),
    "rooms-cross-view-3d": CROSS_VIEW,
    "rooms-cvm": CVM,
}
