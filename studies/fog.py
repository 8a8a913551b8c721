"""D0: what does the density of each task know, before and after training, beside a fog that knows nothing?

python studies/fog.py run --source WORKTREE --out runs/lab
python studies/fog.py table

Five densities (`branch.DENSITIES`), three seeds; measured at the weights of the start and after 250, 1000 and 2000
steps of one run with the branch of the first studies (8 x 10 rays of 16 samples), on the 80 validation images, nothing
chosen by it. Of every density:

- R2: the share of true depth's variance that its expected depth explains, after a scale and a shift per image.
- entropy of its weights along a ray, 0 to 1, less that of a homogeneous fog of the same opacity. A fog that lets half
  of the light through has entropy 0.99 and is no evidence of anything; what is below its own fog is sharp.
- opacity.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from branch import COARSE, DENSITIES, SIZE, network, with_branch
from field_numbers import at_centres, entropy, explained, fit, fog_entropy
from grid import markdown_table
from jaxtyping import Float
from lab import rows
from lab.running import main
from lab.study import Scores, Study
from safetensors.torch import load_file
from torch import Tensor

from triptych import assemble
from triptych.datasets.rooms import Rooms
from triptych.recipes.config import Recipe
from triptych.regularizers.fields import render_shared_weights
from triptych.regularizers.terms import image_size
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.volume import expected_depth, render_opacity
from triptych.training.loop import train
from triptych.types import Sample, collate

STEPS = (0, 250, 1000, 2000)
SEEDS = (0, 1, 2)
IMAGES = 80
SHORT = ("depth", "semseg", "shared")
NUMBERS = ("R2", "excess", "entropy", "opacity")


def arms() -> dict[str, Recipe]:
    """The five densities on one network; every checkpoint is kept."""
    plain = network(steps=STEPS[-1])
    plain = replace(plain, training=replace(plain.training, keep_checkpoints=STEPS[-1]))
    return {name: with_branch(plain, {**COARSE, **options}) for name, options in DENSITIES.items()}


def densities(regularizer: Triplane3D) -> dict[str, torch.nn.Module]:
    """Every density there is, by the task that is rendered with it, or `shared`."""
    if regularizer.density is not None:
        return {"shared": regularizer.density}
    return dict(regularizer.fields.items())


@torch.no_grad()
def measure(model: torch.nn.Module, regularizer: Triplane3D, rooms: Rooms) -> Scores:
    """Means over images, by density: `depth/R2`, `depth/excess` (entropy less the fog's), `depth/opacity`; and
    `network/R2` of the network's own depth at the same places. In double precision: opacities near 1 matter.
    """
    model.eval()
    regularizer = regularizer.double().eval()
    found: dict[str, list[float]] = {}
    for index in range(min(IMAGES, len(rooms))):
        sample = collate([rooms[index]])
        output = model(sample.image)
        planes = regularizer.encoder([maps.double() for maps in output.features], image_size(sample))
        points = regularizer.sample_points(sample)
        points = points._replace(points=points.points.double(), intervals=points.intervals.double())
        for name, field in densities(regularizer).items():
            weights = render_shared_weights(
                field, planes, points, route=regularizer.route, aggregation=regularizer.aggregation
            )
            for key, value in measure_weights(weights, points.depths.double(), sample).items():
                found.setdefault(f"{name}/{key}", []).append(value)
        size = weights.shape[1:3]
        own = at_centres(model.tasks["depth"].decode(output.predictions["depth"])[0], size)
        found.setdefault("network/R2", []).append(_r2(own, sample, size))
    return {name: statistics.fmean(values) for name, values in found.items()}


def measure_weights(
    weights: Float[Tensor, "1 height width samples"], depths: Float[Tensor, "1 1 1 samples"], sample: Sample
) -> dict[str, float]:
    """The numbers of one image's weights along its rays."""
    opacity = render_opacity(weights)
    excess = entropy(weights) - fog_entropy(opacity, weights.shape[-1])
    return {
        "R2": _r2(expected_depth(weights, depths), sample, weights.shape[1:3]),
        "entropy": float(entropy(weights).nanmean()),
        "excess": float(excess.nanmean()),
        "opacity": float(opacity.mean()),
    }


def _r2(found: Tensor, sample: Sample, size: torch.Size) -> float:
    truth = at_centres(sample.targets["depth"][0], size).numpy().ravel()
    return float(explained(fit(found.double().numpy().ravel(), truth), truth)[0])


def first_weights(recipe: Recipe) -> tuple[torch.nn.Module, Triplane3D]:
    """The network and the branch that a run of this recipe starts from: built in the order of training."""
    torch.manual_seed(recipe.seed)
    tasks, auxiliary = assemble.build_tasks(recipe, assemble.build_training_set(recipe))
    model = assemble.build_model(recipe, tasks, auxiliary)
    return model, assemble.build_regularizer(recipe, model)


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Train one arm and measure it at every one of `STEPS`: `250/depth/R2` and so on."""
    recipe = replace(recipe, seed=seed)
    rooms = Rooms(split="val", size=SIZE, workers=1, progress=False)
    model, regularizer = first_weights(recipe)
    scores = {f"0/{name}": value for name, value in measure(model, regularizer, rooms).items()}
    if not (folder / "checkpoints" / f"{STEPS[-1]:08d}").is_dir():
        train(recipe, folder, resume=(folder / "recipe.json").is_file(), device="cpu", progress=False)
    for step in STEPS[1:]:
        checkpoint = folder / "checkpoints" / f"{step:08d}"
        for name, module in (("model", model), ("regularizer", regularizer)):
            module.load_state_dict(load_file(checkpoint / f"{name}.safetensors"))
        scores |= {f"{step}/{name}": value for name, value in measure(model, regularizer, rooms).items()}
    return scores


STUDY = Study("fog", "cacd6fc", arms, dict.fromkeys(DENSITIES, SEEDS), score)


def cell(values: Sequence[float]) -> str:
    """Mean, and deviation over seeds where there are several."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values) + 0.0:.2f}{spread}".replace("-0.00", "0.00")


def table(found: list[rows.Row]) -> str:
    """A line per arm, density and step: numbers over seeds."""
    lines = []
    for arm in STUDY.seeds:
        scores = list(rows.by_seed(found, arm).values())
        for name in densities_of(scores):
            for step in STEPS:
                values = [[each[f"{step}/{name}/{key}"] for each in scores] for key in NUMBERS]
                values.append([each[f"{step}/network/R2"] for each in scores])
                lines.append([arm, name, str(step), str(len(scores)), *map(cell, values)])
    header = ["arm", "density of", "steps", "seeds", "R2", "entropy less fog's", "entropy", "opacity", "network's R2"]
    return markdown_table(header, lines)


def short_table(found: list[rows.Row]) -> str:
    """The densities of depth and of segmentation, before training and after each number of steps."""
    lines = []
    for arm in STUDY.seeds:
        scores = list(rows.by_seed(found, arm).values())
        for name in [name for name in densities_of(scores) if name in SHORT]:
            columns = [
                " / ".join(cell([each[f"{step}/{name}/{key}"] for each in scores]) for step in STEPS)
                for key in ("R2", "excess", "opacity")
            ]
            lines.append([arm, name, str(len(scores)), *columns])
    steps = ", ".join(map(str, STEPS))
    header = ["arm", "density of", "seeds", f"R2 after {steps} steps", "entropy less fog's", "opacity"]
    return markdown_table(header, lines)


def densities_of(scores: Sequence[Scores]) -> list[str]:
    """The densities that an arm has."""
    names = dict.fromkeys(key.split("/")[1] for each in scores for key in each)
    return [name for name in names if name != "network"]


if __name__ == "__main__":
    main(STUDY, table)
