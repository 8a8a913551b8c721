"""`triptych data doctor`: read every file of a folder dataset and say what is wrong, where, and how to mend it."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from triptych.datasets.folder import Folder, find_descriptor
from triptych.datasets.inspection import Finding, inspect_sample
from triptych.datasets.splits import ALL, split_names
from triptych.datasets.survey_checks import SURVEY_CHECKS, SplitSurvey


@dataclass
class Report:
    """The doctor's report: counts per split and task, and findings."""

    name: str
    files: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split to task to number of images with a label; `images` counts them all."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, survey: SplitSurvey) -> None:
        """Count a split and take over what was found in its files."""
        dataset, keys = survey.dataset, [sample.key for sample in survey.samples]
        counts = {name: sum(key in dataset.images for key in paths) for name, paths in dataset.labels.items()}
        self.labels[survey.split] = {"images": len(dataset), **counts}
        self.files += len(keys) + sum(key in paths for paths in dataset.labels.values() for key in keys)
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
        data = {"name": self.name, "verdict": self.verdict, "errors": self.num_errors, "warnings": self.num_warnings}
        return json.dumps({**data, "labels": self.labels, "findings": [asdict(f) for f in self.findings]}, indent=2)


def examine(
    path: str | Path,
    *,
    root: str | Path = "",
    limit: int = 0,
    num_threads: int = 0,
    progress: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> Report:
    """Check every file of a folder dataset, or `limit` samples of each split, spread evenly.

    `progress(split, done, total)` is called after each sample. Raises `ValueError` where there is no dataset to look
    at.
    """
    descriptor = find_descriptor(Path(path), root=root)
    report = Report(descriptor.name)
    surveys = []
    splits = split_names(descriptor)
    if not splits:
        cure = "add [splits] to the descriptor: folders, lists, or shares such as val = 0.1"
        report.findings.append(Finding("error", "splits", "", "", "", "there are no splits", cure))
    for split in splits or [ALL]:
        try:
            dataset = Folder(path, split=split, root=root)
        except ValueError as error:
            report.findings.append(Finding("error", "splits", split, "", "", str(error), "correct the descriptor"))
            continue
        survey = survey_split(dataset, limit, num_threads, progress)
        surveys.append(survey)
        report.add(survey)
    for check in SURVEY_CHECKS.values():
        report.findings += check(surveys)
    report.findings.sort(key=lambda finding: finding.severity)
    return report


def survey_split(
    dataset: Folder, limit: int, num_threads: int, progress: Callable[[str, int, int], None]
) -> SplitSurvey:
    """Read a split with several threads: decoding releases the interpreter."""
    survey = SplitSurvey(dataset.split, dataset)
    count = min(limit, len(dataset)) if limit else len(dataset)
    indices = [i * len(dataset) // count for i in range(count)]
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        for done, sample in enumerate(pool.map(partial(inspect_sample, dataset), indices), 1):
            survey.samples.append(sample)
            progress(dataset.split, done, count)
    return survey


def describe(report: Report, *, examples: int = 5) -> str:
    """The report in lines: a table of labels, findings grouped by kind with up to `examples` files, and the verdict."""
    lines = [f"{report.name}"]
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
