"""Where the regularizer helps: intersection over union of common and of rare classes, from the scores that are saved.

python studies/breakdown.py --out runs    # after studies/triplane.py main; writes docs/study-3d-tables.md

A rendering of 8 x 10 rays could blur small things away. Rare classes of the rooms are small ones: lamps, books, plants,
balls.
"""

import argparse
import statistics
from pathlib import Path

import grid
import paired
from torch import Tensor

from triptych.evaluation.scored_runs import ScoredRun
from triptych.rooms.scene import CLASSES

ROOT = Path(__file__).resolve().parents[1]
ARMS = ("vanilla+3d", "control/2D decoder", "sweep/weight 1 (default)")
SEEDS = range(10)
LIMITS = {"5 % of the pixels or more": (0.05, 1.0), "2 to 5 %": (0.02, 0.05), "less than 2 %": (0.0, 0.02)}
"""Groups of classes by their share of the labelled pixels: from, up to."""


def class_scores(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the pixels and intersection over union (NaN where a class is neither there nor predicted), by class, of
    its pixels: rightly predicted, labelled, predicted.

    >>> import torch
    >>> shares, scores = class_scores(torch.tensor([[3, 0], [4, 0], [3, 1]]))
    >>> shares.tolist(), scores.tolist()
    ([1.0, 0.0], [0.75, 0.0])
    """
    hits, true, predicted = counts.double()
    return true / true.sum(), hits / (true + predicted - hits)


def group_scores(run: ScoredRun) -> dict[str, float]:
    """Mean intersection over union of the classes of every group that are there, percent."""
    shares, scores = class_scores(run.sums["semseg"]["counts"].sum(dim=0))
    groups = {name: (shares >= low) & (shares < high) & (shares > 0) for name, (low, high) in LIMITS.items()}
    return {name: 100 * float(scores[chosen].nanmean()) for name, chosen in groups.items()}


def members(run: ScoredRun) -> dict[str, list[str]]:
    """The classes of every group."""
    shares = class_scores(run.sums["semseg"]["counts"].sum(dim=0))[0].tolist()
    return {
        name: [title for title, share in zip(CLASSES, shares, strict=True) if max(low, 1e-12) <= share < high]
        for name, (low, high) in LIMITS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    arguments = parser.parse_args()
    alone = paired.scored(arguments.out, "vanilla", SEEDS, "test")
    base = {seed: group_scores(run) for seed, run in alone.items()}
    rows, content = [], {}
    for arm in ARMS:
        found = paired.scored(arguments.out, arm, SEEDS, "test")
        both = [seed for seed in found if seed in base]
        if not both:
            continue
        scores = {seed: group_scores(found[seed]) for seed in both}
        values = {name: [scores[seed][name] - base[seed][name] for seed in both] for name in LIMITS}
        cells = [
            f"{statistics.fmean(base[s][name] for s in both):.1f}, {paired.signed(values[name])}" for name in LIMITS
        ]
        rows.append([arm.removeprefix("sweep/"), str(len(both)), *cells])
        content[arm] = {"seeds": both, "difference": values, "baseline": [base[seed] for seed in both]}
    names = members(next(iter(alone.values())))
    header = ["arm", "seeds", *(f"{name} ({len(names[name])} classes)" for name in LIMITS)]
    grid.replace_section(ROOT / "docs" / "study-3d-tables.md", "classes", grid.markdown_table(header, rows))
    grid.write_results(
        ROOT / "results" / "study-3d-classes.json",
        {
            "command": "python studies/breakdown.py",
            "data": "generated rooms, test split, 64 x 80; intersection over union, percent",
            "classes": names,
            "commits": grid.commits(arguments.out, ("vanilla", *ARMS), SEEDS),
            "arms": content,
        },
    )


if __name__ == "__main__":
    main()
