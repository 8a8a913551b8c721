"""Findings of the doctor and its report: counts per split and task, a verdict, text and JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from triptych.doctor.findings import Finding
from triptych.doctor.split_checks import ExaminedSplit
from triptych.lookup import grouped, one_line


@dataclass
class Report:
    """The doctor's report: what it is, counts per split and task, and findings."""

    name: str
    variant: str = ""
    """Which variant of a published dataset it is."""
    notes: tuple[str, ...] = ()
    """Known pitfalls of this variant, even where all files are intact."""
    files: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split to task to number of images with a label; `images` counts them all."""
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """Split to task to class to number of pixels, of the samples that were read."""
    fingerprints: dict[str, dict[str, object]] = field(default_factory=dict)
    """Fingerprint of each split, as a training run records it."""
    class_weights: dict[str, dict[str, float]] = field(default_factory=dict)
    """Task to class to weight by median frequency, in the split `train`, or else in the first split."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, examined: ExaminedSplit) -> None:
        """Add the counts of a split and the findings of its files."""
        dataset, keys = examined.dataset, [sample.key for sample in examined.samples]
        counts = {name: sum(key in dataset.images for key in paths) for name, paths in dataset.labels.items()}
        self.labels[examined.split] = {"images": len(dataset.keys), **counts}
        self.files += len(keys) + sum(key in paths for paths in dataset.labels.values() for key in keys)
        self.fingerprints[examined.split] = dataset.fingerprint()
        self.classes[examined.split] = {
            name: dict(zip(task.classes, _sum(examined, name), strict=False))
            for name, task in dataset.tasks.items()
            if task.classes and name in dataset.labels
        }
        for sample in examined.samples:
            self.findings += sample.findings

    def weigh_classes(self, splits: Sequence[ExaminedSplit]) -> None:
        """Compute class weights from the samples read of some splits that were added."""
        for examined in splits:
            for name in self.classes[examined.split]:
                pixels = [sample.classes[name] for sample in examined.samples if name in sample.classes]
                if pixels:
                    weights = median_frequency_weights(torch.from_numpy(np.stack(pixels))).tolist()
                    names = examined.dataset.tasks[name].classes
                    self.class_weights[name] = dict(zip(names, weights, strict=False))

    @property
    def num_errors(self) -> int:
        """Number of findings that would stop training."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def num_warnings(self) -> int:
        """Number of findings that may harm training."""
        return len(self.findings) - self.num_errors

    @property
    def verdict(self) -> str:
        """One line: ready, usable or not ready, with counts."""
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
            "class_weights": self.class_weights,
            "fingerprints": self.fingerprints,
            "findings": [
                {name: value for name, value in asdict(finding).items() if name != "edit"} for finding in self.findings
            ],
        }
        return json.dumps(data, indent=2)


def median_frequency_weights(counts: torch.Tensor) -> torch.Tensor:
    """Weights of classes from pixels per image and class, `(images, classes)`: median frequency / frequency.

    The frequency of a class is its share of the pixels of those images that have it (Eigen and Fergus, ICCV 2015,
    section 6.3.1); a class that never occurs has weight 0.

    >>> median_frequency_weights(torch.tensor([[8, 2, 0], [5, 0, 5]])).round(decimals=2).tolist()
    [0.77, 2.5, 1.0]
    """
    counts = counts.double()
    seen = counts > 0
    frequency = counts.sum(0) / (seen * counts.sum(1, keepdim=True)).sum(0).clamp(min=1)
    occurs = frequency > 0
    median = frequency[occurs].quantile(0.5) if occurs.any() else frequency.sum()
    return torch.where(occurs, median / frequency.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def describe_weights(report: Report) -> str:
    """The weights of each task's classes, as lists that can be copied."""
    lines = []
    for name, weights in report.class_weights.items():
        lines.append(f"{name}: [{', '.join(f'{weight:.4g}' for weight in weights.values())}]")
        lines += [f"  {label}: {weight:.4g}" for label, weight in weights.items()]
    return "\n".join(one_line(line) for line in lines) or "no task has classes"


def _sum(examined: ExaminedSplit, name: str) -> list[int]:
    """Pixels of each class of a task."""
    counts = [sample.classes[name] for sample in examined.samples if name in sample.classes]
    return np.sum(counts, axis=0).tolist() if counts else []


def describe(report: Report, *, examples: int = 5) -> str:
    """The report in lines: a table of labels, findings grouped by kind with up to `examples` files, and the verdict."""
    lines = [f"{report.name}, variant {report.variant}" if report.variant else report.name]
    lines += [f"  note: {note}" for note in report.notes]
    for split, counts in report.labels.items():
        lines.append(f"  {split:<8}" + "  ".join(f"{name} {count}" for name, count in counts.items()))
    groups = grouped(((finding.severity, finding.check, finding.task), finding) for finding in report.findings)
    for (severity, check, task), found in groups.items():
        lines.append(f"{severity}: {check}{f' of {task}' if task else ''} ({len(found)})")
        lines += [f"  {finding}" for finding in found[:examples]]
        if len(found) > examples:
            splits = Counter(finding.split for finding in found[examples:])
            more = ", ".join(f"{count} in {split}" if split else str(count) for split, count in splits.items())
            lines.append(f"  ... and {len(found) - examples} more ({more})")
    return "\n".join(one_line(line) for line in [*lines, report.verdict])
