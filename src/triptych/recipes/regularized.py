"""Recipes with the 3D-aware regularizer, derived from those without it."""

from dataclasses import replace

from triptych.recipes.config import Options, Recipe, RegularizerConfig

SURFACE: Options = {"preset": "surface"}
"""One density for all tasks that labels of depth train, chosen on validation rooms (docs/study-3d.md); run folders keep
what it decided. The papers' recipes leave it out.
"""
SMALL: Options = {"width": 32, "plane_channels": 16, "hidden": 32, "num_samples": 16}
"""The regularizer at the size of the demo's network; widths are those of the study that chose the preset."""
PUBLISHED: Options = {"schedule": "constant", "density_init": "unit", "values_init": "unit"}
"""Options in the paper's recipes. The paper states no schedule of the weight and no initial scale of rows: EG3D's start
at unit scale, the constructor's near zero, which is our choice.
"""


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
