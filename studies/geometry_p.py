"""D1, regime P: a random trunk and 400 images, as the first studies had, else as in D1; no sentence is decided by it.

As in D1, another image's padding takes about one label in twelve away from E, which favours D in P1, and F renders
depth as a task while D does not. Half of its test rooms are those of D1. Six seeds: twelve were
planned, and the time was short; changed before any row was looked at.

python studies/geometry_p.py run --source WORKTREE --out runs/lab
python studies/geometry_p.py table
"""

from pathlib import Path

from geometry import PRIMARY
from geometry_arms import placed, regime_p, with_arm
from grid import markdown_table
from lab import rows
from lab.gains import differences
from lab.inference import paired
from lab.running import main
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes.config import Recipe

SEEDS = dict.fromkeys("ADEF", tuple(range(6)))
ROOMS = 200


def arms() -> dict[str, Recipe]:
    """The network alone, true depth, another image's, one sample."""
    return {arm: with_arm(regime_p(), arm) for arm in SEEDS}


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on 200 test rooms."""
    return train_and_score(placed(recipe, seed, folder), folder, split="test", limit=ROOMS)


STUDY = Study("geometry-p", "dcf5ac1", arms, SEEDS, score)


def table(found: list[rows.Row]) -> str:
    """P1 and P2, each alone, once every row is there: one look."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; there is one look, after all of them."
    scores = {arm: rows.by_seed(found, arm) for arm in SEEDS}
    lines = []
    for name in ("P1", "P2"):
        one, other, tasks = PRIMARY[name]
        each = paired(differences(scores, one, other, tasks, alone="A"))
        lines.append([f"{one} - {other}, {', '.join(tasks)}", str(each.count), *each.cells()])
    return markdown_table(["contrast", "seeds", "points", "90 %", "95 %", "p (uncorrected)"], lines)


if __name__ == "__main__":
    main(STUDY, table)
