"""What can be wrong with a dataset as a whole, once every file was read: `SURVEY_CHECKS`."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from triptych.datasets.folder import Folder
from triptych.datasets.inspection import Finding, Inspection
from triptych.datasets.splits import ALL, list_files, list_images


@dataclass
class SplitSurvey:
    """One split, read."""

    split: str
    dataset: Folder
    samples: list[Inspection] = field(default_factory=list)


def check_pairs(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """Labels whose image is missing, and images without any label."""
    for name, path in find_orphans(surveys[0].dataset) if surveys else ():
        cure = "add the image, correct the name, or remove the label"
        yield Finding("warning", "no image", "", name, str(path), "no image has its name", cure)
    for survey in surveys:
        dataset = survey.dataset
        for key in dataset.keys:
            if not any(key in paths for paths in dataset.labels.values()):
                cure = "label it, correct the name of its label, or leave it out of the split"
                file = str(dataset.images[key])
                yield Finding("warning", "no label", survey.split, "", file, "it has no label of any task", cure)


def find_orphans(dataset: Folder) -> Iterator[tuple[str, Path]]:
    """Task and path of label files that belong to no image of any split."""
    descriptor = dataset.descriptor
    images = list_images(descriptor, ALL)
    for name in dataset.labels:
        labels = list_files(descriptor, descriptor.tasks[name].files, ALL)
        used = {path for key, path in labels.items() if key in images}
        yield from ((name, path) for path in dict.fromkeys(labels.values()) if path not in used)


def check_copies(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """The same image twice: in two splits it leaks from training into scores."""
    seen: dict[str, tuple[str, str]] = {}
    for survey in surveys:
        for sample in survey.samples:
            path = str(survey.dataset.images[sample.key])
            if sample.digest and sample.digest in seen:
                split, first = seen[sample.digest]
                leaks = split != survey.split
                text = f"it is the same file as {first}" + (f" of split {split}" if leaks else "")
                cure = "keep it in one split only" if leaks else "remove one of them"
                yield Finding("warning", "copy", survey.split, "images", path, text, cure)
            elif sample.digest:
                seen[sample.digest] = (survey.split, path)


def check_coverage(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """Tasks without a label, classes that never occur, masks that are never set, in what training sees."""
    for survey in surveys[:1]:
        for name, task in survey.dataset.tasks.items():
            counts = [sample.classes[name] for sample in survey.samples if name in sample.classes]
            derived = getattr(survey.dataset.descriptor.tasks[name], "source", "")
            if not survey.dataset.labels.get(name) and not derived:
                cure = f"correct files in [tasks.{name}], or remove the section"
                yield Finding("error", "coverage", survey.split, name, "", "no image has this label", cure)
            elif counts and len(counts[0]):
                total = torch.stack(counts).sum(0)
                absent = [task.classes[i] for i in np.flatnonzero(total.numpy() == 0) if i < len(task.classes)]
                if absent and total.sum() > 0:
                    text = f"{len(absent)} of {len(task.classes)} classes never occur: {', '.join(absent[:8])}"
                    cure = "correct classes, map or threshold, or label more images"
                    yield Finding("warning", "coverage", survey.split, name, "", text, cure)


def check_outliers(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """Single depth files in another unit than the rest."""
    medians: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    for survey in surveys:
        for sample in survey.samples:
            for name, median in sample.depths.items():
                medians[name].append((survey.split, str(survey.dataset.labels[name][sample.key]), median))
    for name, found in medians.items():
        typical = float(np.median([median for _, _, median in found]))
        for split, path, median in found:
            if len(found) >= 5 and not typical / 20 < median < typical * 20:
                text = f"its median depth is {median:.3g} m, that of the others {typical:.3g} m"
                yield Finding("warning", "depth unit", split, name, path, text, "save it in the unit of the others")


def check_normals_against_depth(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """Normals in the right frame agree with the surfaces of the depth."""
    for survey in surveys:
        angles = [angle for sample in survey.samples for angle in sample.angles]
        if angles and float(np.median(angles)) > 45:
            yield Finding(
                "warning",
                "normals axes",
                survey.split,
                "normals",
                "",
                f"normals are {np.median(angles):.0f} degrees (median) from those of the depth",
                "correct axes in [tasks.normals], or the camera",
            )


SURVEY_CHECKS: dict[str, Callable[[list[SplitSurvey]], Iterator[Finding]]] = {
    "pairs": check_pairs,
    "copies": check_copies,
    "coverage": check_coverage,
    "outliers": check_outliers,
    "normals against depth": check_normals_against_depth,
}
"""Checks of all splits together, after every file was read."""
