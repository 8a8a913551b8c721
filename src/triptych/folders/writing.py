"""Write `dataset.toml` into a folder, and keep what matters of the one before: what `triptych data init` does."""

import tomllib
from pathlib import Path

from triptych.data.errors import DataError
from triptych.data.files import SUFFIXES, files_remembered, walk_files
from triptych.data.lists import read_text
from triptych.data.shares import fit_shares
from triptych.data.splits import ALL
from triptych.files import write_text
from triptych.folders.descriptor import FILE_NAME, PSEUDO, Descriptor, are_shares, list_images, read_descriptor
from triptych.folders.folder_guess import ANY_CAMERA, FolderGuess
from triptych.folders.guessing import describe_folder
from triptych.folders.toml_text import keep_old, section
from triptych.labels.base import hash_encoding


def write_descriptor(path: str | Path, *, force: bool = False) -> tuple[Path, FolderGuess]:
    """Write `dataset.toml` into a folder from what it finds; returns its path and the guess it was written from.

    Raises `ValueError` if there is one already (`force` keeps it as dataset.toml.old), or if images or labels are not
    found, naming what was looked for and a better folder where there is one.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"folder '{root}' does not exist", "give the folder that holds the images and labels")
    target = root / FILE_NAME
    if target.exists() and not target.is_file():
        raise DataError(f"{target} is no file, but a folder, a pipe or a device", "remove or rename it")
    if target.exists() and not force:
        raise DataError(f"{target} exists and is not overwritten", "edit it, or use --force, which keeps the old one")
    with files_remembered():
        guess = describe_folder(root)
        old = _read_old(target)
        if are_shares(guess.splits):
            _keep_splits(guess, old)
        _keep_pseudo_labels(guess, old)
    text = guess.to_toml()
    if target.exists():
        keep_old(target)
    write_text(target, text)
    return target, guess


def _read_old(path: Path) -> Descriptor | None:
    """Read the descriptor that a new one replaces; `None` where it is unreadable or describes another folder."""
    try:
        old = read_descriptor(path)
    except (OSError, ValueError):
        return None
    return old if old.root.resolve() == path.parent.resolve() else None


def _keep_splits(guess: FolderGuess, old: Descriptor | None) -> None:
    """Draw splits such that no image changes its split, neither now nor when others are added."""
    if old and old.has_shares:
        guess.splits, guess.group = dict(old.splits), old.group
    if not old or old.draw != "stable":
        images = list_images(guess.descriptor(**ANY_CAMERA), ALL)
        shares = {name: float(share) for name, share in guess.splits.items()}
        guess.splits = dict(fit_shares(list(images), shares, guess.group))
    guess.draw = "stable"


def _keep_pseudo_labels(guess: FolderGuess, old: Descriptor | None) -> None:
    """Keep the sections of pseudo-labels whose task has the same encoding as before, and report the others."""
    new = guess.descriptor(**ANY_CAMERA)
    if old and old.has_split_folders == new.has_split_folders:
        tables = tomllib.loads(read_text(old.path))["tasks"]
        for name in old.pseudo:
            pseudo = tables[name].pop(PSEUDO)
            if name not in new.tasks:  # it has pseudo-labels only
                guess.kept[section("tasks", name)] = tables[name]
            if name not in new.tasks or hash_encoding(new.tasks[name]) == hash_encoding(old.tasks[name]):
                guess.kept[section("tasks", name, PSEUDO)] = pseudo
    for folder in sorted(path for path in (guess.root / PSEUDO).glob("*") if path.is_dir() and not path.suffix):
        count = sum(path.suffix.lower() in SUFFIXES for path in walk_files(folder))
        if count and section("tasks", folder.name, PSEUDO) not in guess.kept:
            text = f"{PSEUDO}/{folder.name}: {count} pseudo-labels that no section describes are not used"
            cure = "set the task's options as they were, and copy its sections from the old descriptor"
            guess.notes.append(f"{text}: {cure if old else 'label anew (`triptych data label --overwrite`)'}")
