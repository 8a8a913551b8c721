"""Recipes on `rooms`, the generated scenes: small, no download, minutes on a CPU."""

from triptych.recipes.config import (
    AdaptationConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Options,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
)
from triptych.recipes.regularized import SMALL, add_triplane

DEMO = Recipe(
    description="The demo: six tasks on generated rooms with a small shared network, minutes on two cores.",
    data=DataConfig(dataset="rooms", size=(96, 128), batch_size=8),
    model=ModelConfig(
        backbone="resnet18_half",
        decoder="vit",
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

RECIPES = {**add_triplane({"rooms-demo": DEMO}, SMALL), "rooms-adaptation": ADAPTATION}
