"""Recipes by name. Importing them imports no torch."""

from triptych.recipes import cityscapes, driving, folder, nyuv2, pascal, rooms, rooms_methods, video
from triptych.recipes.config import Recipe

RECIPES: dict[str, Recipe] = {
    **rooms.RECIPES,
    **rooms_methods.RECIPES,
    **folder.RECIPES,
    **driving.RECIPES,
    **nyuv2.RECIPES,
    **pascal.RECIPES,
    **cityscapes.RECIPES,
    **video.RECIPES,
}
