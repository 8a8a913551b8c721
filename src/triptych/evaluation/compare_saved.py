"""Two scores of the same images: paired differences with intervals."""

from pathlib import Path

from rich.table import Table
from torch import Tensor

from triptych.evaluation.saved import SavedTask, read_score
from triptych.metrics.bootstrap import Difference, bootstrap_difference


def compare_scores(
    first: Path, second: Path, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, dict[str, Difference]]:
    """Compare what `triptych score --out` saved of two sets of predictions, by task and number.

    Only images that both scored count, for both. Raises `ValueError` where the scores share no task, or one was scored
    under another protocol, maxDist, recipe or number of classes: such numbers do not compare.
    """
    one, other = read_score(first), read_score(second)
    shared = [name for name in one if name in other]
    if not shared:
        raise ValueError(f"{first} has {', '.join(one)}, {second} has {', '.join(other)}: no task in common.")
    compared = {}
    for name in shared:
        if one[name].facts != other[name].facts:
            raise ValueError(
                f"{name} was scored under {_words(one[name].facts)} in {first}, under {_words(other[name].facts)} in "
                f"{second}; score both alike."
            )
        keys = [key for key in one[name].keys if key in set(other[name].keys)]
        if not keys:
            raise ValueError(f"{name}: {first} and {second} have no image in common.")
        found = bootstrap_difference(
            one[name].metric,
            _rows(one[name], keys),
            _rows(other[name], keys),
            resamples=resamples,
            confidence=confidence,
            seed=seed,
        )
        compared[name] = {number: found[number] for number in one[name].names}
    return compared


def _words(facts: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _rows(task: SavedTask, keys: list[str]) -> dict[str, Tensor]:
    place = {key: index for index, key in enumerate(task.keys)}
    rows = [place[key] for key in keys]
    return {state: value[rows] for state, value in task.sums.items()}


def comparison_table(compared: dict[str, dict[str, Difference]], first: str, second: str) -> Table:
    """One row per number; the last column is the share of resamples in which the second is better."""
    table = Table("task", "metric", first, second, "difference", "interval", f"{second} better")
    for name, numbers in compared.items():
        for i, (number, found) in enumerate(numbers.items()):
            table.add_row(
                name if i == 0 else "",
                number,
                f"{found.first:.4f}",
                f"{found.second:.4f}",
                f"{found.difference:+.4f}",
                f"{found.low:+.4f} to {found.high:+.4f}",
                f"{100 * found.second_better:.0f} %",
            )
    return table
