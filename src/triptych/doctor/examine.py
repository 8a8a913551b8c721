"""`triptych data doctor`: read every file of a dataset and report what is wrong, where, and how to fix it."""

import inspect
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from triptych.data.base import DenseDataset
from triptych.data.errors import DataError
from triptych.data.files import files_remembered
from triptych.data.splits import ALL
from triptych.data.subset import spread_evenly
from triptych.datasets import DATASETS
from triptych.datasets.folder import Folder
from triptych.datasets.in_files import InFiles
from triptych.datasets.recognizing import check_root, known_readers, recognize_dataset
from triptych.datasets.variants import Variant, recognize
from triptych.doctor.findings import Finding, text_and_cure
from triptych.doctor.inspection import Inspection, Records, Seen, inspect_record, inspect_sample
from triptych.doctor.report import Report
from triptych.doctor.split_checks import SPLIT_CHECKS, ExaminedSplit, seen_by_training
from triptych.folders.descriptor import find_unlisted
from triptych.lookup import UnknownNameError, named_choice, require_options
from triptych.machine import keep_freed_memory, one_thread_each

SPLITS = ("train", "val", "test")
"""Splits of published datasets that share no image by design."""
UNPACK = "unpack the whole archive again"
Opened = DenseDataset | Finding


def open_splits(
    name: str, path: Path, root: str | Path = "", options: Mapping[str, Any] | None = None
) -> Iterator[Opened]:
    """Open the splits of a dataset with its `options`; a split that cannot be opened becomes a finding.

    Raises `ValueError` for an unknown name or option, and where there is no dataset.
    """
    reader, told = named_choice("dataset", name, DATASETS), dict(options or {})
    require_options(f"dataset '{name}'", reader, told, given=("split",))
    check_root(name, path, root)
    if name in known_readers():
        yield from _open_reader(reader, path, told)
    else:
        yield from _open_described(reader, path, root, told)


def _open_described(reader: Any, path: Path, root: str | Path, options: dict[str, Any]) -> Iterator[Opened]:
    """Open the splits of a dataset whose own files define them."""
    roots = {"root": root} if reader.takes_root else {}
    splits = reader.splits_at(path, **roots)
    if not splits:
        cure = "add [splits] to the descriptor: folders, lists, or shares such as val = 0.1"
        yield Finding("error", "splits", "", "", "", "there are no splits", cure)
    for split in splits or [ALL]:
        try:
            yield reader(path, split=split, **roots, **options)
        except (OSError, ValueError) as error:
            if not _has_no_split(error, split):
                cure = "correct the descriptor, or the reader where it has none"
                yield Finding("error", "splits", split, "", "", *text_and_cure(error, cure))


def _open_reader(reader: Any, path: Path, options: dict[str, Any]) -> Iterator[Opened]:
    try:
        variant = recognize(path, reader.variants)
    except ValueError as error:
        yield Finding("error", "variant", "", "", str(path), *text_and_cure(error, UNPACK))
        return
    told: set[str] = set()
    for split in SPLITS:
        try:
            yield reader(path, split=split, **options)
            continue
        except (OSError, ValueError) as error:
            problem = error
        is_empty = isinstance(problem, DataError) and problem.missing
        if _has_no_split(problem, split) or (split == "test" and is_empty):
            continue  # many have no test split
        text, cure = text_and_cure(problem, UNPACK)
        if text not in told:
            yield Finding("error", "archive", split, "", str(path), text, cure)
        told.add(text)
        lenient = _open_leniently(partial(reader, path, split=split), options, variant)
        if lenient is not None:
            yield lenient


def _has_no_split(error: Exception, split: str) -> bool:
    """Whether a dataset does not know a split of that name."""
    return isinstance(error, UnknownNameError) and error.name == split


def _open_leniently(
    open_split: Callable[..., DenseDataset], options: dict[str, Any], variant: Variant
) -> DenseDataset | None:
    """Open a split despite missing parts: first with missing files allowed, then without tasks that fail to open."""
    allow = {"allow_missing": True} if "allow_missing" in inspect.signature(open_split).parameters else {}

    def opens(*tasks: str) -> DenseDataset | None:
        try:
            return open_split(**options | ({"tasks": tasks} if tasks else {}) | allow)
        except (OSError, ValueError):
            return None

    wanted = options.get("tasks", variant.tasks)
    return opens() or opens(*(task for task in wanted if opens(task) is not None))


Progress = Callable[[str, int, int], None]


@files_remembered()
def examine(
    path: str | Path,
    *,
    dataset: str = "",
    root: str | Path = "",
    options: Mapping[str, Any] | None = None,
    limit: int = 0,
    num_threads: int = 0,
    progress: Progress = lambda split, done, total: None,
) -> Report:
    """Check every file of a dataset, or `limit` samples of each split, spread evenly.

    `dataset` names it; without it the folder of a published dataset is recognized, and any other is one of the user's
    own. `options` are those it is trained with. `progress(split, done, total)` is called after each sample. Raises
    `ValueError` where there is no dataset to look at, or no such option.
    """
    path = Path(path)
    name = dataset or recognize_dataset(path)
    report = Report(name)
    splits = list(open_splits(name, path, root, options))
    shrunk = all(_has_jpeg_alone(opened) for opened in splits)
    report.findings += [opened for opened in splits if isinstance(opened, Finding)]
    datasets = [opened for opened in splits if not isinstance(opened, Finding)]
    notes: dict[str, None] = {}
    for dataset_of_split in datasets:
        if dataset_of_split.takes_root:  # people name their own data
            report.name = dataset_of_split.name
        variant = getattr(dataset_of_split, "variant", None)
        if variant is not None:
            report.variant = variant.name
            notes |= dict.fromkeys(variant.notes)
        notes |= dict.fromkeys(dataset_of_split.notes)
        unlisted = find_unlisted(dataset_of_split.descriptor) if isinstance(dataset_of_split, Folder) else None
        if unlisted and unlisted.labelled:  # others are frames of a video, as a rule
            notes[str(unlisted)] = None
    report.notes = tuple(notes)
    examined_splits = examine_splits(datasets, limit, num_threads, progress, shrunk=shrunk)
    for examined in examined_splits:
        forgive_withheld_labels(examined)
        report.add(examined)
    report.weigh_classes(seen_by_training(examined_splits))
    for title, check in SPLIT_CHECKS.items():
        try:
            report.findings += list(check(examined_splits))
        except Exception as error:  # findings in files are still reported
            text = " ".join(f"the check of {title} failed: {type(error).__name__}: {error}".split())
            report.findings.append(Finding("error", "check", "", "", str(path), text, "correct what is named above"))
    report.findings.sort(key=lambda finding: finding.severity)
    return report


def _has_jpeg_alone(opened: Opened) -> bool:
    """Whether all images are JPEG; a copy in another format has equal pixels only after full decoding."""
    if isinstance(opened, Finding):
        return True
    return isinstance(opened, InFiles) and all(path.suffix.lower() in JPEG for path in opened.images.values())


JPEG = (".jpg", ".jpeg", ".jfif")
AT_ONCE = 32
"""Most samples that a worker inspects before it returns them."""
MANY = 400
"""Number of samples from which processes are worth their start: threads wait for each other in Python."""
Look = Callable[[int], Inspection]
Job = Callable[[], list[Inspection]]


def examine_splits(
    datasets: Sequence[DenseDataset], limit: int, num_workers: int, progress: Progress, *, shrunk: bool = False
) -> list[ExaminedSplit]:
    """Read splits with several workers, of which all read one split before the next; `shrunk` as `inspect_sample`."""
    workers = num_workers or os.cpu_count() or 1
    examined_splits: list[ExaminedSplit] = []
    jobs: list[Job] = []
    owners: list[tuple[ExaminedSplit, int]] = []
    for dataset in datasets:
        seen: Seen = dataset if isinstance(dataset, InFiles) else Records(dataset)
        look: Look = (
            partial(inspect_record, seen) if isinstance(seen, Records) else partial(inspect_sample, seen, shrunk=shrunk)
        )
        indices = spread_evenly(len(dataset), limit or len(dataset))
        examined = ExaminedSplit(seen.split, seen, is_part=len(indices) < len(dataset))
        examined_splits.append(examined)
        size = max(1, min(AT_ONCE, len(indices) // (4 * workers)))
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]
        jobs += [partial(_look_at, look, part) for part in parts]
        owners += [(examined, len(indices))] * len(parts)
    keep_freed_memory()  # every image needs buffers of the same sizes
    is_much = all(isinstance(seen, InFiles) for seen in datasets) and sum(map(len, datasets)) >= MANY and not limit
    forks = is_much and workers > 1 and sys.platform == "linux"
    with one_thread_each():
        found = (_run_in_processes if forks else _run_in_threads)(jobs, workers)
        for (examined, total), samples in zip(owners, found, strict=True):
            for sample in samples:
                examined.samples.append(sample)
                progress(examined.split, len(examined.samples), total)
    return examined_splits


def _look_at(look: Look, part: Sequence[int]) -> list[Inspection]:
    return [look(index) for index in part]


def _run_in_threads(jobs: Sequence[Job], workers: int) -> Iterator[list[Inspection]]:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda job: job(), jobs)


_JOBS: list[Sequence[Job]] = []
"""Jobs that forked processes inherit, so that they need not be sent."""


def _run_in_processes(jobs: Sequence[Job], workers: int) -> Iterator[list[Inspection]]:
    """As `_run_in_threads`, in processes; jobs left over by killed processes are run in threads."""
    done = 0
    _JOBS.append(jobs)
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            for samples in pool.map(_run_job, range(len(jobs))):
                done += 1
                yield samples
    except (BrokenProcessPool, OSError):
        yield from _run_in_threads(jobs[done:], workers)
    finally:
        _JOBS.remove(jobs)


def _run_job(number: int) -> list[Inspection]:
    return _JOBS[-1][number]()


def forgive_withheld_labels(examined: ExaminedSplit) -> None:
    """Drop findings of empty labels where all of a test split are empty, as in benchmarks that withhold them."""
    if examined.split != "test":
        return
    for name, paths in examined.dataset.labels.items():
        labelled = [sample for sample in examined.samples if sample.key in paths]
        empty = [any((f.check, f.task) == ("empty", name) for f in sample.findings) for sample in labelled]
        if len(empty) > 1 and all(empty):
            for sample in labelled:
                sample.findings = [f for f in sample.findings if (f.check, f.task) != ("empty", name)]
