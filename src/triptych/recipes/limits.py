"""Limits of a recipe's numbers, checked before anything is read, trained or written."""

from triptych.recipes.config import Recipe, flatten

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
    "optimizer.lr": 0,
    "optimizer.weight_decay": 0,
    "optimizer.clip_norm": 0,
}
"""The least value of a field, by its dotted name."""


def check_numbers(recipe: Recipe) -> None:
    """Raise `ValueError` for the first number that is too small.

    >>> check_numbers(Recipe())
    """
    flat = flatten(recipe)
    for name, least in LEAST.items():
        if not flat[name] >= least:  # not a number is no number either
            raise ValueError(f"{name} is {flat[name]}; give at least {least:g}.")
    for part, factor in recipe.optimizer.lr_factors.items():
        if not 0 <= factor < float("inf"):
            raise ValueError(f"optimizer.lr_factors.{part} is {factor}; give a factor of 0 or more.")
    height, width = recipe.data.size
    if height < 1 or width < 1:
        raise ValueError(f"data.size is {recipe.data.size}; give a (height, width) of at least 1, such as 96 128.")
