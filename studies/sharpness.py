"""How sharp are D0's densities? A second measure of the same runs, thought of after their first rows were seen.

python studies/sharpness.py run --source WORKTREE --out runs/lab    # after fog.py, with its run folders
python studies/sharpness.py table

D0 compares entropy with that of a homogeneous fog of the same opacity. Where a field becomes opaque that fog is so
dense that it ends every ray at the first sample, and every real surface looks dull beside it. Here the dullest weights
with the same mean depth stand beside each ray (`field_numbers.dullest_entropy`): 0 says no more than a mean, below 0
the field knows better where the ray ends.
"""

import statistics
from dataclasses import replace
from pathlib import Path

import fog
import torch
from branch import DENSITIES, SIZE
from field_numbers import dullest_entropy, entropy
from grid import markdown_table
from jaxtyping import Float
from lab import rows
from lab.running import main
from lab.study import Scores, Study
from safetensors.torch import load_file
from torch import Tensor

from triptych.datasets.rooms import Rooms
from triptych.recipes.config import Recipe
from triptych.regularizers.fields import render_shared_weights
from triptych.regularizers.terms import image_size
from triptych.regularizers.triplane import Triplane3D
from triptych.types import collate


@torch.no_grad()
def measure(model: torch.nn.Module, regularizer: Triplane3D, rooms: Rooms) -> Scores:
    """Mean over rays and images, by density."""
    model.eval()
    regularizer = regularizer.double().eval()
    found: dict[str, list[float]] = {}
    for index in range(min(fog.IMAGES, len(rooms))):
        sample = collate([rooms[index]])
        planes = regularizer.encoder([maps.double() for maps in model(sample.image).features], image_size(sample))
        points = regularizer.sample_points(sample)
        points = points._replace(points=points.points.double(), intervals=points.intervals.double())
        for name, field in fog.densities(regularizer).items():
            weights = render_shared_weights(
                field, planes, points, route=regularizer.route, aggregation=regularizer.aggregation
            )
            found.setdefault(name, []).append(below_dullest(weights))
    return {name: statistics.fmean(values) for name, values in found.items()}


def below_dullest(weights: Float[Tensor, "*rays samples"]) -> float:
    """Entropy less that of the dullest weights with the same mean depth, mean over rays that are not empty."""
    return float((entropy(weights) - dullest_entropy(weights)).nanmean())


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Of the weights at the start and at every checkpoint of D0's run."""
    run = folder.parents[2] / fog.STUDY.name / folder.parent.name / folder.name
    recipe = replace(recipe, seed=seed)
    rooms = Rooms(split="val", size=SIZE, workers=1, progress=False)
    model, regularizer = fog.first_weights(recipe)
    scores = {f"0/{name}": value for name, value in measure(model, regularizer, rooms).items()}
    for step in fog.STEPS[1:]:
        checkpoint = run / "checkpoints" / f"{step:08d}"
        for name, module in (("model", model), ("regularizer", regularizer)):
            module.load_state_dict(load_file(checkpoint / f"{name}.safetensors"))
        scores |= {f"{step}/{name}": value for name, value in measure(model, regularizer, rooms).items()}
    return scores


STUDY = Study("sharpness", fog.STUDY.commit, fog.arms, dict.fromkeys(DENSITIES, fog.SEEDS), score)


def table(found: list[rows.Row]) -> str:
    """A line per arm and density."""
    lines = []
    for arm in STUDY.seeds:
        scores = list(rows.by_seed(found, arm).values())
        for name in dict.fromkeys(key.split("/")[1] for each in scores for key in each):
            cells = [fog.cell([each[f"{step}/{name}"] for each in scores]) for step in fog.STEPS]
            lines.append([arm, name, str(len(scores)), *cells])
    return markdown_table(["arm", "density of", "seeds", *(f"{step} steps" for step in fog.STEPS)], lines)


if __name__ == "__main__":
    main(STUDY, table)
