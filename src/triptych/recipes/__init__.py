"""Recipes by name. Importing them imports no torch."""

from triptych.recipes import folder, rooms
from triptych.recipes.config import Recipe

RECIPES: dict[str, Recipe] = {**rooms.RECIPES, **folder.RECIPES}
