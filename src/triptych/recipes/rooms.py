"""Recipes on `rooms`, the generated scenes: small, no download, minutes on a CPU."""

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

SMALL: Options = {"width": 64, "plane_channels": 16, "hidden": 32, "num_samples": 16}
"""The regularizer at the size of the demo's network."""
PUBLISHED: Options = {"schedule": "constant"}
"""The paper says nothing of a weight that changes; falling to 0 did best in our study (docs/study-3d.md)."""


def with_triplane(recipe: Recipe, options: Options | None = None, *, weight: float = 1.0) -> Recipe:
    """The same recipe with the triplane regularizer beside the network while training; nothing else changes.

    >>> with_triplane(Recipe(description="A network.", seed=3), {"num_samples": 8}).description
    'A network, with the 3D-aware regularizer while training.'
    """
    return replace(
        recipe,
        description=f"{recipe.description.rstrip('.')}, with the 3D-aware regularizer while training.",
        regularizer=RegularizerConfig(name="triplane", weight=weight, options=dict(options or {})),
    )


def add_triplane(recipes: dict[str, Recipe], options: Options | None = None) -> dict[str, Recipe]:
    """Each recipe, followed by its `-3d` sibling.

    >>> list(add_triplane({"rooms-invpt": Recipe(description="InvPT.")}))
    ['rooms-invpt', 'rooms-invpt-3d']
    """
    return {
        title: one
        for name, recipe in recipes.items()
        for title, one in ((name, recipe), (f"{name}-3d", with_triplane(recipe, options)))
    }


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
