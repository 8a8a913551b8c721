"""The scores of one predictor on one dataset: numbers, and the sums per image that they come from."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych import assemble
from triptych.evaluation.protocols import Scoring
from triptych.evaluation.results import results_path
from triptych.files import checksum, naming_damage, read_tensors, save_tensors, write_json, written_whole
from triptych.lookup import parse_json
from triptych.metrics.base import Metric
from triptych.metrics.delta import delta_mtl
from triptych.prediction.pretrained import hash_weights
from triptych.recipes.config import Recipe
from triptych.tasks import Task

Numbers = Mapping[str, Mapping[str, float]]
"""Numbers by task and metric."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one predictor on one dataset.

    `metrics`: named numbers by task; a task without a labelled image has none. `labelled`: images with a label, by
    task. `keys`: the images in the order of the dataset. `sums`: for every task the states of its metric per image,
    `(images, *state)`, from which any subset can be scored again (paired statistics). `truth`: by task, a checksum of
    each image's target. `skipped`: damaged samples and why. `losses`: by task, the mean over labelled images of the
    task's own loss, unweighted; only where the predictor has raw maps.
    """

    metrics: dict[str, dict[str, float]]
    labelled: dict[str, int]
    keys: tuple[str, ...]
    sums: dict[str, dict[str, Tensor]]
    tasks: Mapping[str, Task] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    truth: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def flat(self) -> dict[str, float]:
        """All numbers under `task/metric`."""
        return {f"{task}/{name}": value for task, numbers in self.metrics.items() for name, value in numbers.items()}

    def primary(self) -> dict[str, float]:
        """The number of each task that selection and delta_mtl use, under `task/metric`."""
        named = {name: task.metric() for name, task in self.tasks.items() if self.metrics[name]}
        return {f"{name}/{metric.primary}": self.metrics[name][metric.primary] for name, metric in named.items()}

    def score(self) -> float:
        """Mean over tasks of the logarithm of the primary number, negative where lower is better: what selection
        maximises.

        The difference of two scores is, to first order, delta_mtl of the one against the other; it needs no reference,
        and adding a third evaluation cannot change which of two is better. Nothing labelled: minus infinity. Raises
        `ValueError` for a number below 0 of a metric that does not define how to compare those.
        """
        logarithms = []
        for name, task in self.tasks.items():
            metric = task.metric()
            if self.metrics[name]:
                value = self.metrics[name][metric.primary]
                if value < 0 and not metric.below_zero:
                    raise ValueError(
                        f"'{metric.primary}' of task '{name}' is {value:g}, and checkpoints are chosen by its "
                        f"logarithm; give {type(metric).__name__} `below_zero = True` and the number that is "
                        "`perfect`, or a primary number that is never below 0."
                    )
                sign = 1 if metric.better[metric.primary] and not metric.below_zero else -1
                size = max(abs(metric.comparable(value)), 1e-6)
                logarithms.append(sign * math.log(size) if math.isfinite(value) else -math.inf)
        return sum(logarithms) / len(logarithms) if logarithms else -math.inf

    def without(self, names: Collection[str]) -> "Evaluation":
        """The same without the numbers of some tasks."""
        return replace(self, metrics={name: {} if name in names else own for name, own in self.metrics.items()})

    def gain_over(self, references: Numbers) -> float:
        """`gain_over` of these scores."""
        return gain_over(self.tasks, self.metrics, references)


def gain_over(tasks: Mapping[str, Task], ours: Numbers, references: Numbers) -> float:
    """delta_mtl of the primary numbers against those of single-task networks, in percent; a task without numbers does
    not count.
    """
    metrics = {name: task.metric() for name, task in tasks.items() if ours[name]}
    values, others = (
        {name: metric.comparable(numbers[name][metric.primary]) for name, metric in metrics.items()}
        for numbers in (ours, references)
    )
    return delta_mtl(values, others, {name: metric.better[metric.primary] for name, metric in metrics.items()})


def per_class(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """The primary number of every class, for the tasks that have classes."""
    found = {}
    for name, task in evaluation.tasks.items():
        metric = task.metric()
        metric.add_sums({state: value.sum(dim=0) for state, value in evaluation.sums[name].items()})
        found[name] = metric.per_class()
    return {name: classes for name, classes in found.items() if classes}


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The numbers of an evaluation for a file of scores."""
    return {
        "metrics": evaluation.metrics,
        "per_class": per_class(evaluation),
        "losses": evaluation.losses,
        "labelled": evaluation.labelled,
        "images": len(evaluation.keys),
        "skipped": evaluation.skipped,
        "truth": evaluation.truth,
    }


def hash_target(target: Tensor) -> str:
    """Checksum of the target of one image, `(..., H, W)`, the same with and without axes of length 1 and whatever its
    reader makes of whole numbers.
    """
    return checksum({"target": target.float().reshape(-1, *target.shape[-2:])})


def require_same_truth(
    task: str, here: Path, mine: Mapping[str, str], there: Path, theirs: Mapping[str, str], cure: str
) -> None:
    """Raise `ValueError` where the targets that two files of scores share have other checksums, by image; files of
    older versions have none.
    """
    common = [key for key in mine if key in theirs]
    if moved := [key for key in common if mine[key] != theirs[key]]:
        raise ValueError(
            f"{task}: ground truth of {len(moved)} of {len(common)} images differs between {here} and {there} "
            f"({moved[0]}); {cure}"
        )


SAME_LABELS = "evaluate both again on the same labels."


Fact = tuple[str, object, object]
"""Name of a setting, and its values for the two networks that are compared."""


@dataclass(frozen=True)
class HowScored:
    """Settings by which a network trained by `recipe` was scored on `split`."""

    recipe: Recipe = field(default_factory=Recipe)
    split: str = ""
    scoring: Scoring = field(default_factory=Scoring)
    of_images: str = ""
    """Sizes of labels of the split as they were scored (`assemble.scored_size`); files of older versions do not say."""
    pads: bool = True
    """Whether images were padded for networks that see them so (`MultiTaskModel.pad_to`); older versions did not."""

    @classmethod
    def of_scores(cls, content: Mapping[str, Any], recipe: Recipe, split: str) -> "HowScored":
        """Read the settings from a file of a run's scores."""
        sizes = content.get("scored_size")  # which files have since images are padded
        return cls(recipe, split, Scoring.of_scores(content), sizes or "", pads=sizes is not None)

    @cached_property
    def by_recipe(self) -> str:
        """The size of labels by the recipe: `native`, or that of a transform that stretches."""
        return assemble.scored_size(self.scoring.unstretched(self.recipe), self.split)

    def beside(self, other: "HowScored") -> list[Fact]:
        """Settings in which two scorings may differ, for `require_same_definition`."""
        # Where images are as large as a recipe stretches them, nothing differs.
        both = self.of_images and other.of_images
        sizes = (self.of_images, other.of_images) if both else (self.by_recipe, other.by_recipe)
        seen = self.of_images or other.of_images
        padding = self._padding(seen), other._padding(seen)
        return [
            ("the protocol (`triptych evaluate --protocol`)", self.scoring.protocol, other.scoring.protocol),
            ("the size at which labels are scored (data.size of a transform that stretches)", *sizes),
            (f"padding to multiples of {assemble.LARGEST_STRIDE} (`triptych evaluate` again)", *padding),
        ]

    def _padding(self, sizes: str) -> str:
        """Say, for messages, whether images were padded where this version pads; `sizes` are those of labels."""
        known = [(int(height), int(width)) for height, width in re.findall(r"(\d+)x(\d+)", sizes)]
        left_out = not self.pads and assemble.is_padded(self.recipe, self.split, known)
        return "none, by an older version," if left_out else "done"


def require_same_definition(here: Path, mine: Task, there: Path, theirs: Task, *more: Fact) -> Metric:
    """Return the metric by which networks of two folders were scored on a task; raise `ValueError` where its definition
    differs. `more` are further settings to compare.
    """
    metric = mine.metric()
    facts = [
        ("the number", metric.primary, theirs.metric().primary),
        ("the unit", mine.unit, theirs.unit),
        ("the count of classes", len(mine.classes), len(theirs.classes)),
        *(("a class", *names) for names in moved_classes(mine, theirs)),
        *more,
    ]
    for what, one, other in facts:
        if one != other:
            raise ValueError(
                f"{mine.name}: {what} is {one} in {here}, {other} in {there}; such numbers do not compare, train or "
                "score both alike."
            )
    return metric


def moved_classes(mine: Task, theirs: Task) -> list[tuple[str, str]]:
    """Pairs where the same classes have other numbers; other names for the same numbers may be a renaming."""
    same = sorted(mine.classes) == sorted(theirs.classes)
    return list(zip(mine.classes, theirs.classes, strict=True)) if same else []


SUMS = ".safetensors"
"""Of the file of sums beside one of scores."""
FORMAT = 2
"""Format of files of scores. Format 1 has no number in run folders, and keeps the sums of saved maps in .npz."""


@dataclass(frozen=True)
class SavedScores:
    """A file of scores: its `content`, `metrics` by task (null is NaN), and the `keys` of the images of each task."""

    path: Path
    content: Mapping[str, Any]
    metrics: dict[str, dict[str, float]]
    keys: dict[str, tuple[str, ...]]

    def read_sums(self) -> dict[str, dict[str, Tensor]]:
        """The states of the metrics by task, `(images, *state)` in the order of `keys`."""
        old = self.path.with_suffix(".npz")
        if "format" in self.content and self.content["format"] == 1 and old.is_file():
            with np.load(old, allow_pickle=False) as archive:
                flat = {name: torch.from_numpy(archive[name]) for name in archive.files}
        else:
            flat = read_tensors(path := self.path.with_suffix(SUMS))
            if self.content.get("sums", found := checksum(flat)) != found:
                raise ValueError(
                    f"{path} is of another evaluation than {self.path.name}; run `triptych evaluate` or "
                    "`triptych score` again."
                )
        sums: dict[str, dict[str, Tensor]] = {name: {} for name in self.metrics}
        with naming_damage(self.path):
            for name, value in flat.items():
                task, state = name.split("/", 1)
                sums[task][state] = value
        return sums


def write_scores(path: Path, content: Mapping[str, Any], sums: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write scores: `content` as JSON, with `metrics` by task and the `keys` of the images (of all tasks, or by task);
    beside it, the metric sums of each image as `task/state` in a file of tensors.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = {f"{task}/{state}": value for task, states in sums.items() for state, value in states.items()}
    with written_whole(path.with_suffix(SUMS)) as partial:
        written = save_tensors(partial, flat)
    # A process killed before this leaves new sums beside old numbers, which `read_sums` detects.
    write_json(path, {"format": FORMAT, "sums": written, **content})


def read_scores(path: Path) -> SavedScores:
    """Read what `write_scores` wrote, or a file of an older version; `ValueError` for anything else."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        number = content.get("format", 1)
        if number not in (1, FORMAT):
            raise ValueError(f"its format is {number!r}, and this version reads 1 to {FORMAT}: use a newer one")
        if "metrics" in content:
            metrics, keys = content["metrics"], content["keys"]
            named = keys if isinstance(keys, dict) else dict.fromkeys(metrics, keys)
        else:  # of saved maps, format 1
            metrics = {name: task["numbers"] for name, task in content["tasks"].items()}
            named = {name: list(task["per_image"]) for name, task in content["tasks"].items()}
        numbers = {
            task: {name: math.nan if value is None else float(value) for name, value in found.items()}
            for task, found in metrics.items()
        }
        return SavedScores(path, content, numbers, {name: tuple(named[name]) for name in metrics})
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; `triptych score --out {path}` writes it.") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is no score ({error}); `triptych evaluate` and `triptych score --out` write some."
        ) from error


def read_run_scores(run: Path, split: str) -> SavedScores:
    """The scores of a run, or of an exported file, on a split; `FileNotFoundError` says what to run where there are
    none.
    """
    path = results_path(Path(run)) / f"evaluation-{split}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{run} was not scored on {split}; run `triptych evaluate {run} --split {split}` first."
        )
    return require_weights(read_scores(path), Path(run))


def require_weights(saved: SavedScores, run: Path) -> SavedScores:
    """Return scores that are of the run's present weights; raise `ValueError` where they are of others.

    Files of older versions do not record their weights and pass, as do scores of a run whose weights are gone.
    """
    scored, now = saved.content.get("weights_sha256"), hash_weights(run)
    if scored and now and scored != now:
        raise ValueError(
            f"{saved.path} has scores of other weights than {run} has now; run `triptych evaluate {run} --split "
            f"{saved.content.get('split', 'SPLIT')}` again."
        )
    return saved


def select_images(sums: Mapping[str, Tensor], keys: Sequence[str], wanted: Sequence[str]) -> dict[str, Tensor]:
    """The rows of `wanted` images from sums whose rows are those of `keys`."""
    rows = {key: index for index, key in enumerate(keys)}
    index = torch.tensor([rows[key] for key in wanted])
    return {state: value[index] for state, value in sums.items()}
