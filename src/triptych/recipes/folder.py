"""The recipes for your own data: a `folder` dataset with a descriptor, without and with the 3D-aware regularizer."""

from triptych.recipes.config import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig, TrainingConfig
from triptych.recipes.regularized import SURFACE, add_triplane

FOLDER = Recipe(
    description="Your own data: --recipe.data.root names the folder or its dataset.toml.",
    data=DataConfig(dataset="folder", size=(256, 320), batch_size=8, num_workers=0),
    model=ModelConfig(backbone="resnet18", decoder="four-level", decoder_options={"width": 64}),
    optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=1e-3, clip_norm=10.0),
    schedule=ScheduleConfig(steps=2000, name="cosine", warmup_steps=50),
    training=TrainingConfig(evaluate_every=500, checkpoint_every=500),
)

RECIPES = add_triplane({"folder": FOLDER}, {"width": 64, "plane_channels": 16, "hidden": 32, **SURFACE})
