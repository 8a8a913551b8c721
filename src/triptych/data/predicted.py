"""Files that `triptych predict` writes into a folder, told from the photographs there."""

from collections.abc import Sequence
from pathlib import Path

from triptych.data.errors import DataError
from triptych.data.files import PICTURES, walk_files
from triptych.lookup import parse_json

RECORD = "predictions.json"
"""The file that says what was predicted, beside the folders of what became of it."""
PLACES = {
    "arrays": "arrays/{task}/{name}.npy",
    "maps": "maps/{task}/{name}.png",
    "pictures": "pictures/{task}/{name}.png",
    "panels": "panels/{name}.png",
    "points": "points/{name}.ply",
}
"""Where each product of an image lies."""


def find_originals(folder: Path, suffixes: Sequence[str] = PICTURES) -> list[Path]:
    """Pictures, or files of other suffixes, in a folder and its sub-folders, in a fixed order, but those that `triptych
    predict` made there.
    """
    return _sort_out(folder, suffixes)[0]


def find_photographs(folder: Path) -> list[Path]:
    """The same pictures; `DataError` where there are none, or none but those that were made."""
    found, made = _sort_out(folder, PICTURES)
    if made and not found:
        text = f"folder {folder} has no photographs: its {made} pictures were made by `triptych predict` ({RECORD})"
        raise DataError(text, "give the folder of the photographs, or that of one kind of these pictures")
    if not found:
        raise DataError(f"folder {folder} has no images", f"looked for {', '.join(PICTURES)} in it and its sub-folders")
    return found


def _sort_out(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], int]:
    """Files of some suffixes that were not made, and how many were."""
    files = list(walk_files(folder))
    made = set[Path]().union(*(_find_made(path) for path in files if path.name == RECORD))
    named = [path for path in files if path.suffix.lower() in suffixes]
    found = [path for path in named if path not in made and made.isdisjoint(path.parents)] if made else named
    return found, len(named) - len(found)


def _find_made(record: Path) -> set[Path]:
    """The folders of pictures of the tasks that a record names, and the panels of its images."""
    try:
        told = parse_json(record.read_text(encoding="utf-8"))
        names, tasks = [*told["images"], *told.get("waiting", ())], list(told.get("tasks", ()))
    except (OSError, ValueError, KeyError, TypeError):  # it is another file
        return set()
    kinds = [PLACES[kind].rpartition("/")[0] for kind in ("maps", "pictures")]
    made = [folder.format(task=task) for folder in kinds for task in tasks]
    return {record.parent / place for place in (*made, *(PLACES["panels"].format(name=name) for name in names))}
