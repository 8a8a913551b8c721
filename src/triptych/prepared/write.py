"""`triptych data prepare`: write any dataset to files that are read many times faster, and verify them.

A split becomes a folder: `manifest.json` and files of `SHARD` records each. It is built in `<split>.part` and renamed
once it is complete, so a folder with the final name is complete. Each finished file has an index file: a preparation
that was killed resumes after them, with the same bytes. Targets that published pipelines compute anew for every sample
(parts from `.mat` files, thin boundaries, normals) are computed once.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from triptych.data.base import DenseDataset, require_truth
from triptych.data.errors import DataError
from triptych.data.fingerprints import as_noted
from triptych.files import PARTIAL, hash_file, remove_partials, write_text, written_whole
from triptych.lookup import named_choice, parse_json
from triptych.machine import one_thread_each
from triptych.prepared.records import pack_sample
from triptych.tasks.stored import tasks_to_json

MANIFEST, PLAN = "manifest.json", "plan.json"
FORMAT = 1
SHARD = 64
"""Records per file: enough for few files, and few enough that an unfinished file costs little."""

Progress = Callable[[int, int], None]
Index = dict[str, Any]
"""Index of one file of records: its name, size and SHA-256, key, offset and length of each record, and the group
(`DenseDataset.group`) of each.
"""


@dataclass(frozen=True)
class Preparation:
    """Outcome of a preparation: number of records, how many of them existed already, and their size in bytes."""

    folder: Path
    records: int
    kept: int
    size: int


def prepare(
    source: DenseDataset,
    out: str | Path,
    *,
    split: str,
    tasks: Sequence[str] = (),
    overwrite: bool = False,
    num_threads: int = 0,
    progress: Progress = lambda done, total: None,
) -> Preparation:
    """Write a dataset, opened for one split, to `out/split`, which the dataset `prepared` reads.

    `tasks` selects some of the source's. A folder of the same source and tasks, finished or not, is checked against
    its checksums, and only what is missing or damaged is written; `overwrite` replaces a different one, or one whose
    files or options have changed since (`DenseDataset.inputs`), once the new one is complete. Raises `ValueError` for a
    different preparation in the folder, a folder that holds anything else, an unknown task, and a sample that cannot be
    read.
    """
    chosen = {name: named_choice("task of this dataset", name, source.tasks) for name in tasks or source.tasks}
    require_truth(source, chosen, "prepared")
    plan = {
        "format": FORMAT,
        "name": source.name,
        "split": split,
        "source": json.loads(json.dumps(source.fingerprint())),
        "inputs": json.loads(json.dumps(source.inputs())),
        "tasks": json.loads(tasks_to_json(chosen)),
        "records": len(source),
        "shard": SHARD,
    }
    folder = Path(out) / split
    if Path(out).exists() and not Path(out).is_dir():
        raise DataError(f"--out {out} is a file", "give a folder, new or of an earlier preparation")
    place = _choose_place(folder, plan, overwrite)
    known, count = _known_files(place), _Count(len(source), progress)
    with one_thread_each(), ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        work = [
            pool.submit(_write_shard, source, place, start, tuple(chosen), known, count)
            for start in range(0, len(source), SHARD)
        ]
        try:
            shards = [done.result() for done in work]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    write_text(place / MANIFEST, json.dumps({**plan, "shards": shards}, indent=1))
    if place != folder:
        shutil.rmtree(folder, ignore_errors=True)
        place.replace(folder)
    for left in (folder / PLAN, *folder.glob("[0-9]*.json"), *folder.glob("*.part")):  # .part: of earlier versions
        left.unlink(missing_ok=True)
    remove_partials(folder)
    return Preparation(folder, len(source), count.kept, sum(shard["size"] for shard in shards))


def _choose_place(folder: Path, plan: dict[str, Any], overwrite: bool) -> Path:
    """Choose the folder to write to: a finished one of the same plan, else `<split>.part`."""
    part = folder.with_name(f"{folder.name}.part")
    for place, found in ((folder, read_json(folder / MANIFEST)), (part, read_json(part / PLAN))):
        if not place.is_dir() or all(_is_unfinished(path) for path in place.iterdir()):
            continue
        differing = _differences(plan, found)
        if place == part and differing:
            # Source files may have been replaced: each file of records has a digest of those it was made of.
            differing = _differences(_without_files(plan), _without_files(found))
        if differing and (other := _not_of_preparations(place)):
            raise DataError(
                f"{place} holds {other[0]}, which is not of a prepared set",
                "move it away, or give another --out: --overwrite replaces prepared sets alone",
            )
        if differing == ["inputs"] and not overwrite:
            raise DataError(
                f"{place} is of an older version, which did not note files and options: they may have changed since",
                "pass --overwrite to prepare it again; else it is trained on with labels as that version read them",
            )
        if differing and not overwrite:
            raise DataError(
                f"{place} holds something else (its {', '.join(differing)} differ)",
                "give another --out, or pass --overwrite to replace it",
            )
        if differing and place == part:
            shutil.rmtree(part)
        if not differing and place == folder:
            return folder
    part.mkdir(parents=True, exist_ok=True)
    write_text(part / PLAN, json.dumps(plan, indent=1))
    return part


_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")


def _not_of_preparations(place: Path) -> list[str]:
    """Names in a folder that no preparation wrote: with the folder, somebody's photographs would be deleted. What
    systems put there (`.DS_Store`, `Thumbs.db`) does not count.
    """
    return [
        path.name
        for path in sorted(place.iterdir())
        if not (path.name in (MANIFEST, PLAN, *_SYSTEMS) or path.name.startswith((".nfs", "._")))
        and not (path.with_suffix(".records").is_file() or _is_unfinished(path))
    ]


def _is_unfinished(path: Path) -> bool:
    return path.suffix in (".part", PARTIAL) and path.is_file()


def _differences(plan: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of the entries in which a plan differs, those of its inputs included; `inputs` where none were recorded."""
    plan = {**plan, "source": as_noted(plan["source"], found.get("source"))}
    if not isinstance(found.get("inputs"), dict):
        return [key for key in plan if found.get(key) != plan[key]]
    flat, other = ({**one, **one["inputs"], "inputs": 0} for one in (plan, found))
    return [key for key in {**flat, **other} if key != "shards" and flat.get(key) != other.get(key)]


def _without_files(plan: dict[str, Any]) -> dict[str, Any]:
    """Remove the digests of files from a plan, of one or several sources."""
    left = {key: value for key, value in plan.items() if key != "files"}
    return {key: _without_files(value) if isinstance(value, dict) else value for key, value in left.items()}


def _known_files(place: Path) -> dict[str, Index]:
    """Indices of the finished files of records, by name."""
    shards = read_json(place / MANIFEST).get("shards")
    if shards is None:  # not those of older versions, which have no digest of their source files
        found = [read_json(path) for path in sorted(place.glob("[0-9]*.json"))]
        shards = [index for index in found if "files" in index]
    return {index["file"]: index for index in shards}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where it is missing or damaged."""
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


class _Count:
    """Counter of records over all threads."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self.progress, self.done, self.kept = total, progress, 0, 0
        self.lock = Lock()

    def add(self, number: int, *, kept: bool = False) -> None:
        """Count `number` more records, and show them."""
        with self.lock:
            self.done += number
            self.kept += number if kept else 0
            self.progress(self.done, self.total)


def _write_shard(
    source: DenseDataset, place: Path, start: int, tasks: Sequence[str], known: dict[str, Index], count: _Count
) -> Index:
    """Write the file of the records from `start` on, unless it exists and is intact."""
    path = place / f"{start // SHARD:05d}.records"
    numbers = range(start, min(start + SHARD, len(source)))
    files, index = source.digest_files(numbers), known.get(path.name, {})
    groups = {"groups": [source.group(number) for number in numbers], "sampling_unit": source.sampling_unit}
    if index.get("files", files) == files and path.is_file() and hash_file(path) == index.get("sha256"):
        count.add(len(numbers), kept=True)
        return index | groups  # older versions wrote none
    digest, size = hashlib.sha256(), 0
    records: list[tuple[str, int, int]] = []
    with written_whole(path) as partial, partial.open("wb") as file:
        for number in numbers:
            record = _read_record(source, number, tasks)
            records.append((source.key(number), size, len(record)))
            size += file.write(record)
            digest.update(record)
            count.add(1)
    index = {"file": path.name, "size": size, "sha256": digest.hexdigest(), "files": files, "records": records}
    index |= groups
    write_text(path.with_suffix(".json"), json.dumps(index, indent=1))
    return index


def _read_record(source: DenseDataset, number: int, tasks: Sequence[str]) -> bytes:
    try:
        return pack_sample(source[number], tasks)
    except Exception as error:  # readers raise whatever their file formats do
        raise DataError(
            f"sample {source.key(number)!r} of {source.name} cannot be prepared: {' '.join(str(error).split())}",
            "`triptych data doctor` checks all files; mend or replace its own, and what is done is kept",
        ) from error
