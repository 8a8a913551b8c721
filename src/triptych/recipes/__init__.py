"""Recipes by name. Importing them imports no torch."""

from copy import deepcopy
from pathlib import Path

from triptych.lookup import named_choice
from triptych.recipes import cityscapes, driving, folder, nyuv2, pascal, rooms, video
from triptych.recipes.config import Recipe, read_recipe

RECIPES: dict[str, Recipe] = {
    **rooms.RECIPES,
    **folder.RECIPES,
    **driving.RECIPES,
    **nyuv2.RECIPES,
    **pascal.RECIPES,
    **cityscapes.RECIPES,
    **video.RECIPES,
}


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by its name, or from the `recipe.json` at a path, such as every run folder holds.

    Its tables of options are the caller's own: recipes of one method share theirs here, and a change would reach all.

    >>> load_recipe("rooms-demo").data.dataset
    'rooms'
    """
    if str(name).endswith(".json"):
        return read_recipe(Path(name))
    return deepcopy(named_choice("recipe", str(name), RECIPES))
