"""Limits of the numbers in a recipe."""

import re

from triptych.recipes.config import OptimizerConfig, Recipe, flatten

LEAST: dict[str, float] = {
    "schedule.steps": 1,
    "data.batch_size": 1,
    "training.accumulate": 1,
    "training.log_every": 1,
    "training.evaluate_every": 0,
    "training.checkpoint_every": 0,
    "training.evaluate_limit": 0,
    "data.num_workers": 0,
    "data.train_images": 0,
    "schedule.warmup_steps": 0,
    "schedule.power": 0,
    "schedule.gamma": 0,
    "optimizer.lr": 0,
    "optimizer.weight_decay": 0,
    "optimizer.clip_norm": 0,
    "adaptation.optimizer.lr": 0,
    "adaptation.optimizer.weight_decay": 0,
    "adaptation.optimizer.clip_norm": 0,
    "adaptation.schedule.steps": 0,
    "adaptation.schedule.warmup_steps": 0,
    "adaptation.schedule.power": 0,
    "adaptation.schedule.gamma": 0,
    "seed": 0,
}
"""The least value of a field, by its dotted name."""


FACTOR = re.compile(r"(weighting\.weights|optimizer\.lr_factors)\..*|(adaptation\.)?\w+\.(\w+_factor|weight)")
"""Names of the fields that multiply something."""
OF_NETWORK = (
    "decay_norms",
    "backbone_lr_factor",
    "layer_decay",
    "fusion_lr_factor",
    "regularizer_lr_factor",
    "pose_lr_factor",
    "lr_factors",
)
"""Options that differ between parts of the network: an adapter's own parameters are one group and take none of them."""


def check_numbers(recipe: Recipe) -> None:
    """Raise `ValueError` for the first number that is too small, a factor or weight that is negative or not finite, or
    a number that has no effect.

    >>> check_numbers(Recipe())
    """
    flat = flatten(recipe)
    for name, least in LEAST.items():
        if not flat[name] >= least:  # NaN fails too
            raise ValueError(f"{name} is {flat[name]}; give at least {least:g}.")
    for name, value in flat.items():
        if FACTOR.fullmatch(name) and not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}; give a finite number of 0 or more.")
    if not 0 < recipe.optimizer.layer_decay <= 1:  # 0 would train no layer of the trunk
        raise ValueError(
            f"optimizer.layer_decay is {recipe.optimizer.layer_decay}; give a number above 0 and at most 1, such as "
            "0.75; 1 switches it off."
        )
    own = recipe.adaptation.optimizer
    for name in OF_NETWORK:
        if getattr(own, name) != getattr(OptimizerConfig(), name):
            raise ValueError(
                f"adaptation.optimizer.{name} is {getattr(own, name)} and has no effect: discriminators have one "
                "learning rate and one weight decay, those of adaptation.optimizer; leave it out."
            )
    height, width = recipe.data.size
    if height < 1 or width < 1:
        raise ValueError(f"data.size is {recipe.data.size}; give a (height, width) of at least 1, such as 96 128.")
