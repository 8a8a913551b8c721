"""Find photographs in folders, leaving out the pictures that `triptych predict` writes there."""

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from triptych.data.errors import DataError
from triptych.data.files import ARRAYS, PICTURES, RAW, composed, walk_files
from triptych.lookup import one_line, parse_json

RECORD = "predictions.json"
"""Name of the file that lists the predicted images and tasks, in the output folder."""
PLACES = {
    "arrays": "arrays/{task}/{name}.npy",
    "maps": "maps/{task}/{name}.png",
    "pictures": "pictures/{task}/{name}.png",
    "panels": "panels/{name}.png",
    "points": "points/{name}.ply",
}
"""Path of each product of an image, in the output folder."""


CONVERT = "convert them to JPEG or PNG"


def find_originals(folder: Path, suffixes: Sequence[str] = PICTURES) -> list[Path]:
    """Pictures, or files of other suffixes, in a folder and its sub-folders, in a fixed order, but those that `triptych
    predict` made there.
    """
    return _sort_out(folder, suffixes)[0]


def find_photographs(folder: Path) -> list[Path]:
    """Pictures of `find_originals`; `DataError` where there are none.

    Warns where the folder has photographs of phones and cameras that are not read.
    """
    found, made = _sort_out(folder, PICTURES)
    if raw := find_originals(folder, RAW):
        text = f"{len(raw)} photographs in {folder} are not read, such as {raw[0]}"
        if not found:
            raise DataError(f"folder {folder} has no images: {text}", CONVERT)
        warnings.warn(one_line(f"{text}; {CONVERT}"), stacklevel=2)
    if made and not found:
        text = f"folder {folder} has no photographs: its {made} pictures were made by `triptych predict` ({RECORD})"
        raise DataError(text, "give the folder of the photographs, or that of one kind of these pictures")
    if not found:
        raise DataError(f"folder {folder} has no images", f"looked for {', '.join(PICTURES)} in it and its sub-folders")
    return found


def find_images(sources: Iterable[str | os.PathLike]) -> list[tuple[str, Path]]:
    """Image files as `(name, path)`: files themselves, and folders searched with their sub-folders, in a fixed order.

    A name is the path without its suffix, relative to the folder it was found in. In folders only pictures are looked
    for: arrays there may be labels. Pictures that `triptych predict` made there are left out. Raises `ValueError` for a
    folder without images, a suffix that is no image's, what is no regular file, or two files of the same name, and
    `FileNotFoundError` for what does not exist.
    """
    found: dict[str, Path] = {}
    files: dict[str, Path] = {}
    for source in sources:
        for name, path in _images_of(Path(source)):
            file = composed(name).casefold() if sys.platform in ("darwin", "win32") else name  # which find either
            if files.setdefault(file, path) != path:
                raise DataError(
                    f"{files[file]} and {path} have the same name here, so their predictions would too",
                    "predict them into different folders",
                )
            found[name] = path
    if not found:
        raise DataError("no images given", "name image files or folders of images")
    return list(found.items())


def _images_of(source: Path) -> Sequence[tuple[str, Path]]:
    if source.is_dir():
        paths = sorted(find_photographs(source))
        return [(path.relative_to(source).with_suffix("").as_posix(), path) for path in paths]
    if not source.exists():
        raise FileNotFoundError(f"no image or folder {source}; check the path.")
    if not source.is_file():
        raise DataError(f"{source} is neither a file nor a folder", "give image files or folders of images")
    if source.suffix.lower() in RAW:
        raise DataError(f"{source} is a photograph in a format that is not read", CONVERT.replace("them", "it"))
    if source.suffix.lower() not in (*PICTURES, *ARRAYS):
        raise DataError(f"{source} is not named like an image", f"accepted are {', '.join((*PICTURES, *ARRAYS))}")
    return [(source.stem, source)]


def _sort_out(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], int]:
    """Files of some suffixes that `triptych predict` did not make, and the number of those that it made."""
    files = list(walk_files(folder))
    made = set[Path]().union(*(_find_made(path) for path in files if path.name == RECORD))
    named = [path for path in files if path.suffix.lower() in suffixes]
    found = [path for path in named if path not in made and made.isdisjoint(path.parents)] if made else named
    return found, len(named) - len(found)


def _find_made(record: Path) -> set[Path]:
    """Paths that `triptych predict` made by a record: folders of pictures by task, and the panels of images."""
    try:
        told = parse_json(record.read_text(encoding="utf-8"))
        names, tasks = [*told["images"], *told.get("waiting", ())], list(told.get("tasks", ()))
    except (OSError, ValueError, KeyError, TypeError):  # it is another file
        return set()
    kinds = [PLACES[kind].rpartition("/")[0] for kind in ("maps", "pictures")]
    made = [folder.format(task=task) for folder in kinds for task in tasks]
    return {record.parent / place for place in (*made, *(PLACES["panels"].format(name=name) for name in names))}
