"""What can be wrong with a dataset as a whole, once every file was read: `SURVEY_CHECKS`."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from triptych.data.lists import ALL
from triptych.datasets.descriptor import list_files, list_images
from triptych.datasets.folder import Folder
from triptych.doctor.file_checks import Finding
from triptych.doctor.inspection import ANOTHER, Inspection, Seen


@dataclass
class SplitSurvey:
    """One split, read: all of it, or a part that is spread evenly."""

    split: str
    dataset: Seen
    samples: list[Inspection] = field(default_factory=list)
    is_part: bool = False


def check_pairs(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """Labels whose image is missing, and images without any label."""
    folders: list[Folder] = [survey.dataset for survey in surveys if isinstance(survey.dataset, Folder)]
    for name, path in find_orphans(folders[0]) if folders else ():
        cure = "add the image, correct the name, or remove the label"
        yield Finding("warning", "no image", "", name, str(path), "no image has its name", cure)
    for dataset in folders:
        for key in dataset.keys:
            if not any(key in paths for paths in dataset.labels.values()):
                cure = "label it, correct the name of its label, or leave it out of the split"
                file = str(dataset.images[key])
                yield Finding("warning", "no label", dataset.split, "", file, "it has no label of any task", cure)


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
            if name in survey.dataset.labels and not survey.dataset.labels[name]:
                cure = f"correct files in [tasks.{name}], or remove the section"
                yield Finding("error", "coverage", survey.split, name, "", "no image has this label", cure)
            elif counts and len(counts[0]) and not survey.is_part:
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


def check_variant(surveys: list[SplitSurvey]) -> Iterator[Finding]:
    """A published dataset has as many images as its archive, of the sizes that these have, and all their labels."""
    for survey in surveys:
        dataset, variant = survey.dataset, getattr(survey.dataset, "variant", None)
        if variant is None:
            continue
        expected = variant.counts.get(survey.split, len(dataset.keys))
        if len(dataset.keys) != expected:
            text = f"it has {len(dataset.keys)} images, {variant.name} has {expected}"
            yield Finding("error", "count", survey.split, "images", "", text, f"unpack all of {variant.download}")
        for sample in survey.samples:
            if variant.sizes and sample.size is not None and sample.size not in variant.sizes:
                sizes = " or ".join(f"{height}x{width}" for height, width in variant.sizes)
                text = f"it is {sample.size[0]}x{sample.size[1]}, images of {variant.name} are {sizes}"
                file = str(dataset.images[sample.key])
                yield Finding("error", "size", survey.split, "images", file, text, ANOTHER)
        for name in surveys[0].dataset.labels if survey.split != "test" else ():
            if surveys[0].dataset.labels[name] and not dataset.labels.get(name):
                text = f"split {surveys[0].split} has {name} files, this one has none"
                yield Finding("error", "missing", survey.split, name, "", text, f"unpack all of {variant.download}")
        for name, paths in dataset.labels.items():
            for key in dataset.keys if paths and not getattr(dataset, "partly_labelled", False) else ():
                if key not in paths:
                    file, text = str(dataset.images[key]), f"it has no {name} file"
                    cure = f"unpack all of {variant.download}"
                    yield Finding("error", "missing", survey.split, name, file, text, cure)


SURVEY_CHECKS: dict[str, Callable[[list[SplitSurvey]], Iterator[Finding]]] = {
    "pairs": check_pairs,
    "copies": check_copies,
    "coverage": check_coverage,
    "outliers": check_outliers,
    "normals against depth": check_normals_against_depth,
    "variant": check_variant,
}
"""Checks of all splits together, after every file was read."""
