"""What the studies on `rooms` have in common: one small recipe, and each method at its small width.

Sizes are chosen for one processor core: 64 x 80 pixels, 250 steps of 8 images, a ResNet-18 of half width. Every method
has the same backbone, data, steps, optimizer and task weights, so that a difference is the method's.
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
    Value,
)

SIZE = (64, 80)
BACKBONES = {"small": "resnet18_half", "large": "resnet18"}

METHODS: dict[str, tuple[str, Options]] = {
    "vanilla": ("vit", {"width": 16}),
    "fcn": ("fcn", {"width": 16}),
    "mtan": ("mtan", {"width": 16}),
    "cross-stitch": ("cross-stitch", {"width": 16}),
    "nddr": ("nddr", {"width": 16}),
    "pad-net": ("pad-net", {"width": 16, "fused_width": 32}),
    "pad-net-plus": ("pad-net-plus", {"widths": (32, 24, 16, 16, 8)}),
    "mti-net": ("mti-net", {"width": 16}),
    "atrc": ("atrc", {"width": 16}),
    "pap": ("pap", {"width": 16, "inner_width": 8}),
    "psd": ("psd", {"width": 16, "inner_width": 8}),
    "invpt": ("invpt", {"width": 48, "preliminary_width": 32}),
    "densemtl": ("densemtl", {"widths": (24, 16, 12, 8, 8)}),
}
"""Decoder or architecture and its options, by the name of the arm."""

SMALL_BRANCH: Options = {"width": 32, "plane_channels": 16, "hidden": 32, "num_samples": 16}
"""The regularizer at the size of these networks."""


def base(method: str, *, backbone: str = "small", steps: int = 250, images: int = 0) -> Recipe:
    """A method on `rooms`, with `images` of the 400 training images (0: all)."""
    name, options = METHODS[method]
    return Recipe(
        description=f"Study on generated rooms: {method}.",
        data=DataConfig(dataset="rooms", size=SIZE, batch_size=8, options={"size": SIZE}, train_images=images),
        model=ModelConfig(backbone=BACKBONES[backbone], decoder=name, decoder_options=options),
        optimizer=OptimizerConfig(name="adamw", lr=2e-3, weight_decay=1e-3, clip_norm=10.0),
        schedule=ScheduleConfig(steps=steps, name="cosine", warmup_steps=20),
        training=TrainingConfig(
            evaluate_every=steps // 2, checkpoint_every=steps // 2, evaluate_limit=40, keep_checkpoints=1
        ),
    )


def with_regularizer(
    recipe: Recipe, name: str = "triplane", *, weight: float = 1.0, schedule: str = "constant", **options: Value
) -> Recipe:
    """The same recipe with a regularizer beside it; a schedule of its weight lasts as long as the run."""
    length = {"schedule_steps": recipe.schedule.steps} if schedule != "constant" else {}
    config = RegularizerConfig(
        name=name, weight=weight, options={**SMALL_BRANCH, "schedule": schedule, **length, **options}
    )
    return replace(recipe, description=f"{recipe.description[:-1]} + {name}.", regularizer=config)
