"""The network and the 3D branch that the studies of the laboratory share, and the five densities they compare.

64 x 80 pixels, a half-width ResNet-18 and one head per task on four levels; a branch whose weight stays 1. Options are
spelled out: nothing here changes when a default or a preset does.
"""

from dataclasses import replace

from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Options,
    Recipe,
    RegularizerConfig,
    ScheduleConfig,
    TrainingConfig,
)

SIZE = (64, 80)
SIZES: Options = {"width": 32, "plane_channels": 16, "hidden": 32, "schedule": "constant"}
COARSE: Options = {**SIZES, "stride": 8, "num_samples": 16}
"""8 x 10 rays: the branch of the first studies (`arms.SMALL_BRANCH`), whose density D0 looks at again."""
FINE: Options = {**SIZES, "stride": 4, "num_samples": 32}
"""16 x 20 rays: of the question whether geometry helps."""
SURFACE: Options = {"density": "shared", "depth_from": "termination", "planes": "pooled", "values_init": "unit"}
DENSITIES: dict[str, Options] = {
    "old": {"density_init": "small", "density_activation": "softplus"},
    "exp": {"density_init": "unit", "density_activation": "exp"},
    "unit softplus": {"density_init": "unit", "density_activation": "softplus"},
    "surface (exp)": {**SURFACE, "density_init": "unit", "density_activation": "exp"},
    "surface (softplus)": {**SURFACE, "density_init": "unit", "density_activation": "softplus"},
}
"""Arm to options: what was published here before, its density at unit scale under two activations, and one density of
all tasks from whose termination depth is read, on pooled planes.
"""


def network(*, steps: int, rate: float = 2e-3, ema: float = 0.0, val_split: str = "") -> Recipe:
    """The network alone, on the default rooms; nothing is selected, the last weights count."""
    return Recipe(
        description="Study on generated rooms: the network alone.",
        data=DataConfig(dataset="rooms", size=SIZE, batch_size=8, options={"size": SIZE}, val_split=val_split),
        model=ModelConfig("resnet18_half", "vit", decoder_options={"width": 16}),
        optimizer=OptimizerConfig(name="adamw", lr=rate, weight_decay=1e-3, clip_norm=10.0),
        schedule=ScheduleConfig(steps=steps, name="cosine", warmup_steps=20),
        training=TrainingConfig(ema=ema, evaluate_every=0, checkpoint_every=250, keep_checkpoints=1, log_every=50),
    )


def with_branch(recipe: Recipe, options: Options, name: str = "triplane") -> Recipe:
    """The same network with a regularizer beside it, at a weight of 1."""
    return replace(recipe, regularizer=RegularizerConfig(name=name, weight=1.0, options=options))
