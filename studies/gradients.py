"""Do the rendered tasks pull together? Cosines between the gradients of heads and of the branch.

python studies/gradients.py --out runs    # after studies/triplane.py sweep and main; writes docs/study-3d-tables.md

Every task has two losses: of its head, and of its rendering (or of the auxiliary head in its place). Their gradients
are taken at the shared feature maps, all levels end to end, and from there at the weights of the encoder, where they
are summed over places and images. Batches are those that would have come next in training, networks are in training
mode. The branch has the weight of the first step: at the end of a schedule it would be 0.
"""

import argparse
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grid
import paired
import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych import assemble
from triptych.augmentation.presets import build_transform
from triptych.data.loading import make_loader
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import pretrained
from triptych.recipes.config import Recipe
from triptych.regularizers.base import Regularizer
from triptych.report.renderings import find_checkpoint
from triptych.tasks import Task
from triptych.types import Sample

ROOT = Path(__file__).resolve().parents[1]
ARMS = (
    "vanilla+3d",
    "sweep/weight 1 (default)",
    "control/one sample",
    "control/2D decoder",
    "control/auxiliary heads",
)
PLACES = ("features", "weights")
Rows = Float[Tensor, "tasks numbers"]


class Cut:
    """A forward hook of the backbone that ends the graph at the shared features and keeps what lies before."""

    maps: Sequence[Tensor] = ()

    def __call__(self, module: nn.Module, inputs: Any, maps: list[Tensor]) -> list[Tensor]:
        self.maps = maps
        return [each.detach().requires_grad_() for each in maps]


def load(run: Path) -> tuple[MultiTaskModel, Regularizer, Recipe]:
    """A run's network and its regularizer, whichever it is, at the deployed step and in training mode."""
    model: Any
    model, recipe = pretrained.load_model(run)
    regularizer = assemble.build_regularizer(recipe, model)
    if regularizer is None:
        raise ValueError(f"{run} was trained without a regularizer; give a run of an arm that has one.")
    folder = find_checkpoint(run)
    pretrained.load_weights(model, folder / "model.safetensors")
    pretrained.load_weights(regularizer, folder / "regularizer.safetensors")
    return model.train(), regularizer.train(), recipe


def next_batches(recipe: Recipe, tasks: Mapping[str, Task], count: int) -> Iterable[Sample]:
    """The batches after the last one of training, augmented alike."""
    dataset, data, first = assemble.build_training_set(recipe), recipe.data, recipe.schedule.steps
    transform = build_transform(data.transform, size=data.size, tasks=tasks, train=True)
    size, steps = data.batch_size, first + count
    return make_loader(dataset, transform=transform, batch_size=size, seed=recipe.seed, steps=steps, first_step=first)


def gradients(
    losses: Iterable[Tensor], features: Sequence[Tensor], maps: Sequence[Tensor], weights: Sequence[Tensor]
) -> dict[str, Rows]:
    """Every loss's gradient at `features`, leaves with the values of `maps`, and at the `weights` that made `maps`."""
    found: dict[str, list[Tensor]] = {place: [] for place in PLACES}
    for loss in losses:
        at_features = torch.autograd.grad(loss, features, retain_graph=True, materialize_grads=True)
        at_weights = torch.autograd.grad(maps, weights, at_features, retain_graph=True, materialize_grads=True)
        for place, pieces in zip(PLACES, (at_features, at_weights), strict=True):
            found[place].append(torch.cat([piece.flatten() for piece in pieces]))
    return {place: torch.stack(rows).double() for place, rows in found.items()}


def cosines(one: Rows, two: Rows) -> Float[Tensor, "tasks tasks"]:
    """Cosine of every row of `one` with every row of `two`, NaN where either is 0.

    >>> cosines(torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[3.0, 4.0], [-1.0, 0.0], [0.0, 0.0]]).double())
    tensor([[ 0.6000, -1.0000,     nan]], dtype=torch.float64)
    """
    return one @ two.T / (one.norm(dim=1)[:, None] * two.norm(dim=1))


def compare(heads: Rows, branch: Rows) -> dict[str, Tensor]:
    """What two gradients per task say about one another on a batch. `head x branch` holds heads in rows; `sums` is the
    cosine of their sums, `ratio` the length of the branch's sum in units of that of the heads.
    """
    head, other = heads.sum(dim=0, keepdim=True), branch.sum(dim=0, keepdim=True)
    return {
        "head x branch": cosines(heads, branch),
        "branch x branch": cosines(branch, branch),
        "head x head": cosines(heads, heads),
        "sums": cosines(head, other)[0, 0],
        "ratio": other.norm() / head.norm(),
    }


def measure_batches(run: Path, count: int) -> Iterator[tuple[list[str], dict[str, dict[str, Tensor]]]]:
    """The tasks in the order of the rows, and what `compare` gives at both places, for `count` batches of a run."""
    model, regularizer, recipe = load(run)
    cut = Cut()
    model.backbone.register_forward_hook(cut)
    encoder = [weight for weight in model.backbone.parameters() if weight.requires_grad]
    torch.manual_seed(0)  # where samples lie along the rays
    for sample in next_batches(recipe, model.tasks, count):
        output = model(sample.image)
        terms = regularizer(output, sample)
        tasks = {name: model.tasks[name] for name in terms}
        losses = {name: task.loss(output.predictions[name], sample.targets[name]) for name, task in tasks.items()}
        factors = {name: recipe.weighting.weights.get(name, task.weight) for name, task in tasks.items()}
        heads, branch = (
            gradients([factors[name] * each[name] for name in tasks], output.features, cut.maps, encoder)
            for each in (losses, terms)
        )
        yield list(tasks), {place: compare(heads[place], branch[place]) for place in heads}


def measure(run: Path, count: int) -> dict[str, Any]:
    """Means over the batches of a run."""
    names, found = zip(*measure_batches(run, count), strict=True)
    means = {
        place: {key: torch.stack([each[place][key] for each in found]).nanmean(dim=0).tolist() for key in keys}
        for place, keys in found[0].items()
    }
    return {"tasks": names[0], **means}


def pairs(matrix: Sequence[Sequence[float]], names: Sequence[str]) -> dict[str, float]:
    """The entries above the diagonal by the names of row and column.

    >>> pairs([[1.0, 0.5], [0.5, 1.0]], ["depth", "normals"])
    {'depth, normals': 0.5}
    """
    return {f"{names[i]}, {names[j]}": matrix[i][j] for i in range(len(names)) for j in range(i + 1, len(names))}


def opposed(runs: Sequence[Mapping[str, Any]], place: str) -> dict[str, list[str]]:
    """Pairs of tasks whose mean cosine is below 0 in every run, of branches and of heads."""
    found = {}
    for key in ("branch x branch", "head x head"):
        each = [pairs(run[place][key], run["tasks"]) for run in runs]
        found[key] = [pair for pair in each[0] if all(values[pair] < 0 for values in each)]
    return found


def columns(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """The columns of the table, from a run's means at one place."""
    matrix = found["head x branch"]
    others = [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]
    return {name: matrix[i][i] for i, name in enumerate(names)} | {
        "others": statistics.fmean(others),
        "branches": statistics.fmean(pairs(found["branch x branch"], names).values()),
        "heads": statistics.fmean(pairs(found["head x head"], names).values()),
        "sums": found["sums"],
        "ratio": found["ratio"],
    }


def table(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Two rows per arm, mean and deviation over its runs."""
    rows, header = [], []
    for arm, runs in arms.items():
        for place in PLACES:
            values = [columns(each[place], each["tasks"]) for each in runs]
            *cells, ratio = ([each[column] for each in values] for column in values[0])
            header = ["arm", "seeds", "gradients at", *values[0]]
            start = [arm.split("/")[-1], str(len(runs)), place]
            rows.append([*start, *map(paired.signed, cells), grid.mean_and_deviation(ratio, digits=2)])
    return grid.markdown_table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in ARMS:
        for run in (grid.folder(arguments.out, arm, seed) for seed in range(arguments.seeds)):
            if (run / "model.safetensors").is_file():
                found.setdefault(arm, []).append(measure(run, arguments.batches))
                print(f"{run} done", flush=True)
    grid.replace_section(ROOT / "docs" / "study-3d-tables.md", "gradients", table(found))
    grid.write_results(
        ROOT / "results" / "study-3d-gradients.json",
        {
            "command": f"python studies/gradients.py --seeds {arguments.seeds} --batches {arguments.batches}",
            "data": "generated rooms, training split, 64 x 80, batches of 8 after the last one of training",
            "commits": grid.commits(arguments.out, ARMS, range(arguments.seeds)),
            "opposed in every run": {
                arm: {place: opposed(runs, place) for place in PLACES} for arm, runs in found.items()
            },
            "arms": found,
        },
    )


if __name__ == "__main__":
    main()
