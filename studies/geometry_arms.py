"""The arms of D1, and the two regimes that they are trained in.

All branches have the same planes and rays, a constant weight of 1, and rows at unit scale, but for the old one.
"""

from dataclasses import replace
from pathlib import Path

from branch import DENSITIES, FINE, SIZE, network, with_branch
from trunks import trunk_file

from triptych.recipes.config import Options, Recipe

CHOSEN = "surface (exp)"
"""The density of arm C: what `preset.py` chooses, set before the first run of D1."""
REGIME = {"images": 60, "steps": 2000, "rate": 2e-3}
"""Of regime R: what `geometry_pilot.py` chose (none of its settings overfits), before the first run of `preset.py`."""
TRUNK = "resnet18-half"
ROOMS = 200
"""Rooms of every split, one view each."""

_PLANES: Options = {**FINE, "planes": "pooled"}
_FLAT: Options = {**{name: value for name, value in FINE.items() if name != "num_samples"}, "values_init": "unit"}
BRANCHES: dict[str, tuple[str, Options]] = {
    "C": ("triplane", {**_PLANES, **DENSITIES[CHOSEN]}),
    "D": ("triplane-true-depth", {**_PLANES, "values_init": "unit"}),
    "E": ("triplane-other-depth", {**_PLANES, "values_init": "unit"}),
    "F": ("triplane-single-sample", _FLAT),
    "G": ("triplane-depth-input", _FLAT),
    "B": ("triplane", {**_PLANES, **DENSITIES["old"]}),
    "H": ("second-heads", {"schedule": "constant"}),
}
"""Arm to regularizer: the chosen preset; rendering weights from true depth; from another image's; one sample; one
sample that reads true depth and renders nothing; the old density; a second copy of the heads.
"""


def with_arm(plain: Recipe, arm: str) -> Recipe:
    """The network with one of the branches, or alone (A)."""
    if arm == "A":
        return plain
    name, options = BRANCHES[arm]
    return with_branch(plain, options, name)


def regime_r(*, images: int = REGIME["images"], steps: int = REGIME["steps"], rate: float = REGIME["rate"]) -> Recipe:
    """Something to regularize: a pretrained trunk, few images, many steps; averaged and last weights."""
    plain = network(steps=steps, rate=rate, ema=0.98)
    data = replace(plain.data, options={"size": SIZE, "scenes": ROOMS, "views": 1}, train_images=images)
    model = replace(plain.model, weights=f"trunk {TRUNK}")
    return replace(plain, data=data, model=model, optimizer=replace(plain.optimizer, backbone_lr_factor=0.3))


def regime_p() -> Recipe:
    """A second regime: random weights and 400 images, as the first studies had them, for 1,000 steps."""
    plain = network(steps=1000, ema=0.98)
    return replace(plain, data=replace(plain.data, options={"size": SIZE, "scenes": 400, "views": 1}))


def placed(recipe: Recipe, seed: int, folder: Path) -> Recipe:
    """The recipe of a seed with the file of its trunk, which lies below the study's `--out`."""
    named = recipe.model.weights.removeprefix("trunk ")
    weights = str(trunk_file(folder.parents[2], named)) if named else ""
    return replace(recipe, seed=seed, model=replace(recipe.model, weights=weights))
