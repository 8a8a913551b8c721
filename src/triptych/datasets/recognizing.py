"""Recognize the dataset in a folder: a published one, a prepared copy, pictures alone, or the user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from triptych.datasets import DATASETS
from triptych.datasets.folder import find_descriptor
from triptych.datasets.variants import Variant, recognize, suggest_root
from triptych.folders.descriptor import FILE_NAME
from triptych.folders.places import find_places
from triptych.labels.words import IMAGES
from triptych.lookup import named_choice
from triptych.prepared.write import MANIFEST


def known_readers() -> dict[str, Any]:
    """Readers of published datasets by name: those with variants."""
    return {name: build for name, build in DATASETS.items() if getattr(build, "variants", None)}


def recognize_dataset(path: Path) -> str:
    """Return the name of the dataset in a folder; `folder` where it is no known one.

    Raises `ValueError` that names the right folder where a known dataset lies a level above or below.
    """
    if path.suffix == ".toml" or (path / FILE_NAME).is_file():
        return "folder"
    if any(path.glob(f"*/{MANIFEST}")) and not (path / MANIFEST).is_file():
        return "prepared"
    readers = {name: reader.variants for name, reader in known_readers().items()}
    parts = {name: max(_share(path, one) for one in variants.values()) for name, variants in readers.items()}
    nearest = max(parts, key=lambda name: parts[name], default="")
    if nearest and parts[nearest] == 1:
        return nearest
    if not _is_own_folder(path):
        for variants in readers.values():
            if path.is_dir() and suggest_root(path, variants):
                recognize(path, variants)  # raises, naming the folder
        if nearest and parts[nearest] >= 0.5:
            return nearest
    return "folder"


def recognize_images(path: Path) -> str:
    """As `recognize_dataset`, but `images` for a folder of the user's own without anything like labels."""
    name = recognize_dataset(path)
    is_own = DATASETS[name].takes_root  # the user's, not a published one
    bare = is_own and path.is_dir() and not (path / FILE_NAME).is_file() and set(find_places(path)) <= {IMAGES}
    return "images" if bare else name


def locate_dataset(
    place: str, root: str, recognized_by: Callable[[Path], str] = recognize_dataset
) -> tuple[str, str, dict[str, Any]]:
    """Name, folder and options of the dataset at `place`: a name, a folder or a description.

    `root` is the folder of a named dataset; with a description, the folder of its files, returned as an option.
    """
    if not (place.endswith(".toml") or Path(place).is_dir()):
        named_choice("dataset, and no folder,", place, DATASETS)
        return place, root, {}
    name = recognized_by(Path(place))
    check_root(name, place, root)
    return name, place, {"root": root} if root else {}


def check_root(name: str, place: str | Path, root: str | Path) -> None:
    """Raise `ValueError` where `root` is given although `place` is already the dataset's folder."""
    if root and not DATASETS[name].takes_root:
        raise ValueError(f"root is {root}, but {place} is the folder of {name} itself; leave root out.")


def _share(path: Path, variant: Variant) -> float:
    """The share of a variant's markers that a folder has."""
    if path.is_file():
        return float(path.name in variant.markers)
    return 1 - len(variant.missing(path)) / len(variant.markers)


def _is_own_folder(path: Path) -> bool:
    try:
        find_descriptor(path)
    except (OSError, ValueError):
        return False
    return True
