"""The pilot of regime R: which learning rate lets the network alone overfit 60 images.

python studies/geometry_pilot.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/geometry_pilot.py table

Three seeds that are never used again, the network alone, 2,000 steps, validation rooms. Rule: of the settings whose
validation loss ends at least 5 % above its minimum in all three seeds, the one with the lowest mean minimum; if there
is none, that with the highest mean ratio, and the page says that the regime does not overfit. Of the 60 to 80 images
that D1 allows the fewest are tried, where overfitting comes first: half the price.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geometry_arms import placed, regime_r
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.running import main
from lab.study import Scores, Study
from lab.training import train_and_score, validation_losses

from triptych.recipes.config import Recipe

SEEDS = (100, 101, 102)
SETTINGS = {f"60 images, rate {rate:g}": (60, rate) for rate in (5e-4, 1e-3, 2e-3)}
OVERFIT = 1.05


def arms() -> dict[str, Recipe]:
    """The network alone in every setting, all checkpoints kept."""
    found = {}
    for title, (images, rate) in SETTINGS.items():
        recipe = regime_r(images=images, rate=rate)
        found[title] = replace(recipe, training=replace(recipe.training, keep_checkpoints=100))
    return found


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """The validation loss at its minimum and at the end, and the scores on validation rooms."""
    recipe = placed(recipe, seed, folder)
    found = train_and_score(recipe, folder, split="val")
    losses = validation_losses(recipe, folder)
    return {**found, "loss_minimum": min(losses.values()), "loss_end": losses[max(losses)]}


def choose(scores: dict[str, Sequence[Scores]]) -> tuple[str, bool]:
    """The setting by the rule, and whether it overfits."""
    ratios = {name: [each["loss_end"] / each["loss_minimum"] for each in found] for name, found in scores.items()}
    overfit = [name for name, found in ratios.items() if min(found) >= OVERFIT]
    if overfit:
        return min(overfit, key=lambda name: statistics.fmean(each["loss_minimum"] for each in scores[name])), True
    return max(ratios, key=lambda name: statistics.fmean(ratios[name])), False


STUDY = Study("geometry-pilot", "b3e7ddf", arms, dict.fromkeys(SETTINGS, SEEDS), score)


def table(found: list[rows.Row]) -> str:
    """A line per setting, and the choice once all rows are there."""
    scores = {name: list(rows.by_seed(found, name).values()) for name in SETTINGS}
    lines = []
    for name, each in scores.items():
        risen = mean_and_deviation([100 * (row["loss_end"] / row["loss_minimum"] - 1) for row in each], digits=2)
        lines.append([name, str(len(each)), mean_and_deviation([row["loss_minimum"] for row in each], digits=3), risen])
    text = markdown_table(["setting", "seeds", "lowest validation loss", "% higher at the end"], lines)
    if len(found) < len(STUDY.jobs()):
        return text
    chosen, overfits = choose(scores)
    return f"{text}\n\nChosen: {chosen}{'' if overfits else ', which does not overfit'}."


if __name__ == "__main__":
    main(STUDY, table)
