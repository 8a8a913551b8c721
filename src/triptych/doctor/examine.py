"""`triptych data doctor`: read every file of a dataset and say what is wrong, where, and how to mend it."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from triptych.data.base import DenseDataset
from triptych.doctor.admission import open_splits, recognise_dataset
from triptych.doctor.inspection import DatasetInFiles, Finding, Records, inspect_record, inspect_sample
from triptych.doctor.split_checks import SURVEY_CHECKS, SplitSurvey
from triptych.prepared.write import one_thread_each


@dataclass
class Report:
    """The doctor's report: what it is, counts per split and task, and findings."""

    name: str
    variant: str = ""
    """Which variant of a published dataset it is."""
    notes: tuple[str, ...] = ()
    """Traps of this variant, even where all files are sound."""
    files: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split to task to number of images with a label; `images` counts them all."""
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """Split to task to class to number of pixels, of the samples that were read."""
    fingerprints: dict[str, dict[str, object]] = field(default_factory=dict)
    """Of each split: what a training run records."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, survey: SplitSurvey) -> None:
        """Count a split and take over what was found in its files."""
        dataset, keys = survey.dataset, [sample.key for sample in survey.samples]
        counts = {name: sum(key in dataset.images for key in paths) for name, paths in dataset.labels.items()}
        self.labels[survey.split] = {"images": len(dataset.keys), **counts}
        self.files += len(keys) + sum(key in paths for paths in dataset.labels.values() for key in keys)
        self.fingerprints[survey.split] = dataset.fingerprint()
        self.classes[survey.split] = {
            name: dict(zip(task.classes, _sum(survey, name), strict=False))
            for name, task in dataset.tasks.items()
            if task.classes and name in dataset.labels
        }
        for sample in survey.samples:
            self.findings += sample.findings

    @property
    def num_errors(self) -> int:
        """Findings that would stop training."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def num_warnings(self) -> int:
        """Findings that may spoil it."""
        return len(self.findings) - self.num_errors

    @property
    def verdict(self) -> str:
        """One line: ready, usable or broken."""
        counts = f"{self.num_errors} errors, {self.num_warnings} warnings in {self.files} files"
        if self.num_errors:
            return f"not ready: {counts}"
        return f"usable, look at the warnings: {counts}" if self.num_warnings else f"ready: {counts}"

    def to_json(self) -> str:
        """The report as JSON."""
        data = {
            "name": self.name,
            "variant": self.variant,
            "notes": self.notes,
            "verdict": self.verdict,
            "errors": self.num_errors,
            "warnings": self.num_warnings,
            "labels": self.labels,
            "classes": self.classes,
            "fingerprints": self.fingerprints,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(data, indent=2)


def _sum(survey: SplitSurvey, name: str) -> list[int]:
    """Pixels of each class of a task."""
    counts = [sample.classes[name] for sample in survey.samples if name in sample.classes]
    return torch.stack(counts).sum(0).tolist() if counts else []


Progress = Callable[[str, int, int], None]


def examine(
    path: str | Path,
    *,
    dataset: str = "",
    root: str | Path = "",
    limit: int = 0,
    num_threads: int = 0,
    progress: Progress = lambda split, done, total: None,
) -> Report:
    """Check every file of a dataset, or `limit` samples of each split, spread evenly.

    `dataset` names it; without it the folder of a published dataset is recognised, and any other is one of the user's
    own. `progress(split, done, total)` is called after each sample. Raises `ValueError` where there is no dataset to
    look at.
    """
    path = Path(path)
    name = dataset or recognise_dataset(path)
    report = Report(name)
    surveys: list[SplitSurvey] = []
    for opened in open_splits(name, path, root):
        if isinstance(opened, Finding):
            report.findings.append(opened)
            continue
        if opened.takes_root:
            report.name = opened.name  # people name their own data
        variant = getattr(opened, "variant", None)
        if variant is not None:
            report.variant, report.notes = variant.name, variant.notes
        survey = survey_split(opened, limit, num_threads, progress)
        forgive_withheld_labels(survey)
        surveys.append(survey)
        report.add(survey)
    for check in SURVEY_CHECKS.values():
        report.findings += check(surveys)
    report.findings.sort(key=lambda finding: finding.severity)
    return report


def survey_split(dataset: DenseDataset, limit: int, num_threads: int, progress: Progress) -> SplitSurvey:
    """Read a split with several threads: decoding releases the interpreter."""
    seen: DatasetInFiles = dataset if hasattr(dataset, "stored") else Records(dataset)  # type: ignore[assignment]
    inspect: Callable[[int], Inspection] = partial(
        inspect_record if isinstance(seen, Records) else inspect_sample, seen
    )
    count = min(limit, len(dataset)) if limit else len(dataset)
    survey = SplitSurvey(seen.split, seen, is_part=count < len(dataset))
    indices = [i * len(dataset) // count for i in range(count)]
    with one_thread_each(), ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        for done, sample in enumerate(pool.map(inspect, indices), 1):
            survey.samples.append(sample)
            progress(seen.split, done, count)
    return survey


def forgive_withheld_labels(survey: SplitSurvey) -> None:
    """Benchmarks publish the images of a test split with empty label files: that is no fault of a file."""
    if survey.split != "test":
        return
    for name, paths in survey.dataset.labels.items():
        labelled = [sample for sample in survey.samples if sample.key in paths]
        empty = [any((f.check, f.task) == ("empty", name) for f in sample.findings) for sample in labelled]
        if len(empty) > 1 and all(empty):
            for sample in labelled:
                sample.findings = [f for f in sample.findings if (f.check, f.task) != ("empty", name)]


def describe(report: Report, *, examples: int = 5) -> str:
    """The report in lines: a table of labels, findings grouped by kind with up to `examples` files, and the verdict."""
    lines = [f"{report.name}, variant {report.variant}" if report.variant else report.name]
    lines += [f"  note: {note}" for note in report.notes]
    for split, counts in report.labels.items():
        lines.append(f"  {split:<8}" + "  ".join(f"{name} {count}" for name, count in counts.items()))
    groups: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in report.findings:
        groups[finding.severity, finding.check, finding.task].append(finding)
    for (severity, check, task), found in groups.items():
        lines.append(f"{severity}: {check}{f' of {task}' if task else ''} ({len(found)})")
        lines += [f"  {finding}" for finding in found[:examples]]
        if len(found) > examples:
            splits = Counter(finding.split for finding in found[examples:])
            more = ", ".join(f"{count} in {split}" if split else str(count) for split, count in splits.items())
            lines.append(f"  ... and {len(found) - examples} more ({more})")
    return "\n".join([*lines, report.verdict])
