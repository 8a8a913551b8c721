"""Inputs of offline scoring: each task's rule, predictions and ground truth, read one image at a time."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from triptych.datasets.folder import Folder
from triptych.evaluation.map_files import FolderTargets, Targets, dataset_targets, find_tasks, is_dataset, list_maps
from triptych.evaluation.options import ScoreOptions
from triptych.evaluation.protocols import RULES, Rule, Settings, find_rule
from triptych.evaluation.saved_maps import Encodings, check_finite, read_prediction
from triptych.metrics.boundary import BoundaryMetric
from triptych.types import valid_pixels


@dataclass(frozen=True)
class TaskInput:
    """Predictions and ground truth of one task, and the rule to score them by."""

    task: str
    rule: Rule
    settings: Settings
    encodings: Encodings
    predictions: dict[str, Path]
    targets: Targets

    def read(self, key: str) -> tuple[Tensor, Tensor]:
        """Prediction, as the protocol stores it, and target of an image, without batch.

        Raises `ValueError` where their sizes differ or a labelled pixel is predicted NaN.
        """
        path = self.predictions[key]
        stored = read_prediction(path, self.task, self.encodings)
        size = (int(stored.values.shape[-2]), int(stored.values.shape[-1]))
        target = self.targets.read(key, size)
        wanted = (int(target.shape[-2]), int(target.shape[-1]))
        if size != wanted:
            raise ValueError(
                f"prediction {path} is {size[0]}x{size[1]}, its ground truth {self.targets.describe(key)} "
                f"{wanted[0]}x{wanted[1]}; maps are scored at the size of the ground truth and never resized here."
            )
        check_finite(stored.values, valid_pixels(target).reshape(size), path)
        return stored.values if stored.integer else self.rule.store(stored.values), target


def find_inputs(predictions: Path, targets: Path, options: ScoreOptions) -> tuple[dict[str, TaskInput], dict[str, str]]:
    """The tasks that can be scored, and why others of the predictions' folders are left out.

    A task named in the options must be there. Without any, all tasks with predictions are taken; a protocol of one task
    needs no name.
    """
    settings = Settings(options.dataset, options.classes, options.max_dist, options.ground_truth)
    encodings = Encodings(
        options.classes, options.depth_scale, options.label_offset, options.prediction_offset, options.key
    )
    rules = RULES[options.protocol]
    named = tuple(options.task) or (tuple(rules) if len(rules) == 1 else ())
    folders = find_tasks(predictions, named)
    found: dict[str, TaskInput] = {}
    left_out: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            rule = find_rule(options.protocol, name)
            truth, own = _find_targets(targets, name, rule, settings, encodings, options.split)
        except ValueError as error:
            if named:
                raise
            left_out[name] = str(error)
            continue
        meaning = replace(encodings, classes=own.num_classes)
        found[name] = TaskInput(name, rule, own, meaning, list_maps(folder), truth)
    if not found:
        raise ValueError(f"nothing to score: {' '.join(left_out.values())}")
    return found, left_out


def _find_targets(
    root: Path, task: str, rule: Rule, settings: Settings, encodings: Encodings, split: str
) -> tuple[Targets, Settings]:
    """Ground truth of a task, and the settings with what a dataset says about its classes."""
    if is_dataset(root):
        dataset = Folder(root, split=split, tasks=[task])
        classes = settings.classes or len(dataset.tasks[task].classes)
        return dataset_targets(dataset, task), replace(settings, classes=classes)
    metric = rule.metric(settings)
    recipe = metric.ground_truth if isinstance(metric, BoundaryMetric) else None
    files = list_maps(find_tasks(root, [task])[task])
    return FolderTargets(files, task, replace(encodings, classes=settings.num_classes), recipe), settings
