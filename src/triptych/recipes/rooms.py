"""Recipes on `rooms`, the generated scenes: small, no download, minutes on a CPU."""

from triptych.recipes.config import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig, TrainingConfig

DEMO = Recipe(
    description="The demo: six tasks on generated rooms with a small shared network, minutes on two cores.",
    data=DataConfig(dataset="rooms", size=(96, 128), batch_size=8),
    model=ModelConfig(
        backbone="resnet18",
        backbone_options={"widths": (32, 64, 128, 256)},
        decoder="vit",
        decoder_options={"width": 32},
    ),
    optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=1e-3, clip_norm=10.0),
    schedule=ScheduleConfig(steps=360, name="cosine", warmup_steps=20),
    training=TrainingConfig(evaluate_every=120, checkpoint_every=120, evaluate_limit=40),
)

RECIPES = {"rooms-demo": DEMO}
