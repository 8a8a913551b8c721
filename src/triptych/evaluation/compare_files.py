"""Compare two files of scores that `triptych score --out` saved, image by image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from triptych.evaluation.compare import LEAST_DRAWN
from triptych.evaluation.offline import ASSUMED
from triptych.evaluation.protocols import DataSettings, find_rule
from triptych.evaluation.scores import SavedScores, read_scores, require_same_truth, select_images
from triptych.evaluation.tables import Row, number_table
from triptych.metrics.bootstrap import PairedDifference, bootstrap_difference, sum_groups


class TaskComparison(NamedTuple):
    """Differences of two files of scores on one task, by number, on the `images` that both files have."""

    numbers: dict[str, PairedDifference]
    better: Mapping[str, bool]
    """Whether higher is better, by number."""
    images: int
    drawn: int
    """Number of images, or of groups of them, that the intervals are over."""
    scored: tuple[int, int]
    """Images of the first and of the second file."""


def compare_scores(
    first: Path, second: Path, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, TaskComparison]:
    """Compare what `triptych score --out` saved of two sets of predictions, by task.

    Only images scored in both files count, and resamples keep the groups together that a file says (of two that differ
    the fewer: `score --group`). Raises `ValueError` where the scores share no task, or one was scored under
    another protocol, maxDist, recipe or number of classes, or against other ground truth: such numbers do not compare.
    Files of older versions do not say what their ground truth was.
    """
    one, other = read_scores(first), read_scores(second)
    shared = [name for name in one.metrics if name in other.metrics]
    if not shared:
        raise ValueError(
            f"{first} has {', '.join(one.metrics)}, {second} has {', '.join(other.metrics)}: no task in common."
        )
    sums = [one.read_sums(), other.read_sums()]
    compared = {}
    for name in shared:
        truths = [scores.content.get("tasks", {}).get(name, {}).get("truth", {}) for scores in (one, other)]
        facts = [_facts(scores, name, assumed=not all(truths)) for scores in (one, other)]
        if facts[0] != facts[1]:
            raise ValueError(
                f"{name} was scored under {facts[0]} in {first}, under {facts[1]} in {second}; score both alike."
            )
        common = set(other.keys[name])
        keys = [key for key in one.keys[name] if key in common]
        if not keys:
            raise ValueError(f"{name}: {first} and {second} have no image in common.")
        cure = "score both against the same targets, read alike (--label-offset, --depth-scale)."
        require_same_truth(name, first, truths[0], second, truths[1], cure)
        metric = find_rule(one.content["protocol"], name).metric(DataSettings(**one.content["tasks"][name]["settings"]))
        rows = [
            select_images(metric.upgrade_sums(each[name]), scores.keys[name], keys)
            for each, scores in zip(sums, (one, other), strict=True)
        ]
        groups = _groups(keys, *(scores.content["tasks"][name].get("groups", {}) for scores in (one, other)))
        grouped = [sum_groups(each, groups) for each in rows]
        found = bootstrap_difference(metric, *grouped, resamples=resamples, confidence=confidence, seed=seed)
        compared[name] = TaskComparison(
            {number: found[number] for number in one.metrics[name]},
            metric.better,
            len(keys),
            len(set(groups)),
            (len(one.keys[name]), len(other.keys[name])),
        )
    return compared


def _groups(keys: Sequence[str], *known: Mapping[str, str]) -> list[str]:
    """The group of each image: the image itself in files of older versions, which say none."""
    return min(([each.get(key, key) for key in keys] for each in known), key=lambda groups: len(set(groups)))


def _facts(scores: SavedScores, task: str, *, assumed: bool) -> str:
    """Settings that the numbers of a task depend on, in words; `assumed` includes the unit assumed for whole
    numbers.
    """
    try:
        facts = {"protocol": scores.content["protocol"], **scores.content["tasks"][task]["facts"]}
    except KeyError as error:
        raise ValueError(
            f"{scores.path} has scores of a run; compare the run's folder, or files of `triptych score --out`."
        ) from error
    return ", ".join(f"{name} {value}" for name, value in facts.items() if assumed or name != ASSUMED)


def comparison_table(compared: Mapping[str, TaskComparison], first: str, second: str) -> Table:
    """One row per number; the last columns are the share of resamples in which the second is better, if the images are
    enough to say, and how many images count, of how many that either file has.
    """
    rows: list[Row] = []
    for name, task in compared.items():
        more = dict.fromkeys(str(count) for count in task.scored if count != task.images)
        images = f"{task.images} of {' and '.join(more)}" if more else task.images
        for number, found in task.numbers.items():
            cells = [
                f"{found.first:.4f}",
                f"{found.second:.4f}",
                f"{found.difference:+.4f}",
                f"{found.low:+.4f} to {found.high:+.4f}",
                "too few images" if task.drawn < LEAST_DRAWN else f"{100 * found.second_better:.0f} %",
            ]
            rows.append((name, number, task.better[number], cells, images))
    return number_table("", [first, second, "difference", "interval", f"{second} better"], rows)
