"""Do the rendered tasks pull together? Cosines between the gradients of heads and of the branch at the shared features.

python studies/gradients.py --out runs    # after studies/triplane.py sweep and main; writes docs/study-3d.md

Per batch of training images every task gives two gradients with respect to the shared feature maps, all levels end to
end: of the loss of its head, and of the loss of its rendering (or of the auxiliary head that takes its place). Batches
are those that would have come next in training, networks are in training mode, the branch has the weight of the first
step: the one that falls to 0 would leave no gradient, and a cosine does not depend on it.
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

from triptych import assemble, pretrained
from triptych.datasets.loading import make_loader
from triptych.datasets.transforms import build_transform
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import Recipe
from triptych.regularizers.base import Regularizer
from triptych.rendered import find_checkpoint
from triptych.types import Sample

ROOT = Path(__file__).resolve().parents[1]
ARMS = (
    "vanilla+3d",
    "sweep/weight 1 (default)",
    "control/one sample",
    "control/auxiliary heads",
    "control/2D decoder",
)


def load(run: Path) -> tuple[MultiTaskModel, Regularizer, Recipe]:
    """A run's network and its regularizer, whichever it is, as training left them, and in training mode."""
    model: Any
    model, recipe = pretrained.load_model(run)
    regularizer = assemble.build_regularizer(recipe, model)
    if regularizer is None:
        raise ValueError(f"{run} was trained without a regularizer; give a run of an arm that has one.")
    folder = find_checkpoint(run)
    pretrained.load_weights(model, folder / "model.safetensors")
    pretrained.load_weights(regularizer, folder / "regularizer.safetensors")
    return model.train(), regularizer.train(), recipe


def next_batches(recipe: Recipe, count: int) -> Iterator[Sample]:
    """The batches after the last one of training, augmented alike."""
    dataset = assemble.build_training_set(recipe)
    transform = build_transform(recipe.data.transform, size=recipe.data.size, tasks=dataset.tasks, train=True)
    first = recipe.schedule.steps
    yield from make_loader(
        dataset,
        transform=transform,
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
        steps=first + count,
        first_step=first,
    )


def as_leaves(module: nn.Module, inputs: Any, maps: list[Tensor]) -> list[Tensor]:
    """A forward hook that ends the graph at the shared features: finer maps must not hear of coarser ones' gradients
    through the backbone.
    """
    return [each.detach().requires_grad_() for each in maps]


def gradients(losses: Iterable[Tensor], features: Sequence[Tensor]) -> Float[Tensor, "tasks numbers"]:
    """The gradient of every loss with respect to all maps end to end; 0 where a loss does not read a map."""
    rows = [torch.autograd.grad(loss, features, retain_graph=True, materialize_grads=True) for loss in losses]
    return torch.stack([torch.cat([each.flatten() for each in row]) for row in rows]).double()


def cosines(one: Float[Tensor, "rows numbers"], two: Float[Tensor, "columns numbers"]) -> Float[Tensor, "rows columns"]:
    """Cosine of every row of `one` with every row of `two`, NaN where either is 0.

    >>> cosines(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]))
    tensor([[ 0.7071, -1.0000,     nan]])
    """
    return one @ two.T / (one.norm(dim=1)[:, None] * two.norm(dim=1))


def compare(heads: Float[Tensor, "tasks numbers"], branch: Float[Tensor, "tasks numbers"]) -> dict[str, Tensor]:
    """What two gradients per task, weighted as in the total loss, say about one another on a batch.

    `head x branch` `(tasks, tasks)` holds heads in rows, the other matrices are symmetric. `sums` is the cosine of
    their sums, `ratio` the length of the branch's sum in units of that of the heads.
    """
    pulled, pushed = branch.sum(dim=0, keepdim=True), heads.sum(dim=0, keepdim=True)
    return {
        "head x branch": cosines(heads, branch),
        "branch x branch": cosines(branch, branch),
        "head x head": cosines(heads, heads),
        "sums": cosines(pulled, pushed).squeeze(),
        "ratio": pulled.norm() / pushed.norm(),
    }


def measure(run: Path, count: int) -> dict[str, Any]:
    """Means over `count` batches of what `compare` gives, and the tasks in the order of its rows."""
    model, regularizer, recipe = load(run)
    model.backbone.register_forward_hook(as_leaves)
    torch.manual_seed(0)  # depths of samples along the rays
    found: list[dict[str, Tensor]] = []
    for sample in next_batches(recipe, count):
        output = model(sample.image)
        terms = regularizer(output, sample)
        weights = {name: recipe.weighting.weights.get(name, model.tasks[name].weight) for name in terms}
        losses = {name: model.tasks[name].loss(output.predictions[name], sample.targets[name]) for name in terms}
        heads, branch = (
            gradients([weights[name] * each[name] for name in terms], output.features) for each in (losses, terms)
        )
        found.append(compare(heads, branch))
    means = {key: torch.stack([each[key] for each in found]).nanmean(dim=0).tolist() for key in found[0]}
    return {"tasks": list(terms), **means}


def pairs(matrix: Sequence[Sequence[float]], names: Sequence[str]) -> dict[str, float]:
    """The entries above the diagonal by the names of row and column.

    >>> pairs([[1.0, 0.5], [0.5, 1.0]], ["depth", "normals"])
    {'depth, normals': 0.5}
    """
    places = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    return {f"{names[i]}, {names[j]}": matrix[i][j] for i, j in places}


def summarize(found: Mapping[str, Any]) -> dict[str, float]:
    """The columns of the table from a run's means over batches."""
    names, matrix = found["tasks"], found["head x branch"]
    others = [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]
    return {name: matrix[i][i] for i, name in enumerate(names)} | {
        "other tasks' branches": statistics.fmean(others),
        "pairs of branches": statistics.fmean(pairs(found["branch x branch"], names).values()),
        "pairs of heads": statistics.fmean(pairs(found["head x head"], names).values()),
        "sums": found["sums"],
        "ratio of lengths": found["ratio"],
    }


def opposed(runs: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Pairs of tasks whose mean cosine is below 0 in every run."""
    each = [pairs(found[key], found["tasks"]) for found in runs]
    return [pair for pair in each[0] if all(values[pair] < 0 for values in each)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, content = [], {}
    columns: list[str] = []
    for arm in ARMS:
        runs = [grid.folder(arguments.out, arm, seed) for seed in range(arguments.seeds)]
        found = [measure(run, arguments.batches) for run in runs if (run / "model.safetensors").is_file()]
        if not found:
            continue
        against = {key: opposed(found, key) for key in ("branch x branch", "head x head")}
        content[arm] = {"runs": found, "opposed in every run": against}
        summaries = [summarize(each) for each in found]
        columns = list(summaries[0])
        cells = [paired.signed([each[column] for each in summaries]) for column in columns]
        rows.append([arm.removeprefix("sweep/"), str(len(found)), *cells])
        print(arm, summaries[0], against, flush=True)
    header = ["arm", "seeds", *columns]
    grid.replace_section(ROOT / "docs" / "study-3d.md", "gradients", grid.markdown_table(header, rows))
    grid.write_results(
        ROOT / "results" / "study-3d-gradients.json",
        {
            "command": f"python studies/gradients.py --seeds {arguments.seeds} --batches {arguments.batches}",
            "data": "generated rooms, training split, 64 x 80; final weights, batches of 8 images in training mode",
            "commits": grid.commits(arguments.out, ARMS, range(arguments.seeds)),
            "arms": content,
        },
    )


if __name__ == "__main__":
    main()
