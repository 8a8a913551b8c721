"""Finding files: names matched against a pattern."""

import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from triptych.data.errors import DataError
from triptych.data.splits import SPLIT_OF

PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats of pictures. By its content Pillow would open a file of any name as one of many others,
of which some start programs (Ghostscript for PostScript).
"""
ARRAYS = (".npy", ".npz", ".mat", ".h5", ".hdf5", ".pfm", ".exr")
SUFFIXES = (*PICTURES, *ARRAYS)
RAW = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
"""Suffixes of photographs of phones and cameras in formats that are not read."""
KEY, NAME, SCENE = "{key}", "{name}", "{scene}"
_EXPRESSIONS = {KEY: "(?P<key>.+)", NAME: "(?P<key>[^/]+)", SCENE: "(?P<scene>.+)"}


def walk_files(folder: Path, *, besides: Iterable[Path] = ()) -> Iterator[Path]:
    """All visible regular files below `folder`, sorted: first those of a folder, then those of the folders in it.

    Hidden files and folders (`.ipynb_checkpoints`, `._photo.jpg`), pipes and devices are left out; links are followed
    once, so that loops end, those to folders that are listed anyway not at all, and a broken link counts as an
    unreadable file. The files `besides` are left out too. Warns of folders that may not be listed.
    """
    # As texts: of thousands of files, most of the time would go into making paths of their names.
    known = set(map(str, besides))
    yield from (Path(name) for name in _walk(str(folder), set()) if name not in known)


def walk_pipes(folder: Path) -> Iterator[Path]:
    """Visible pipes, devices and sockets below `folder`, which `walk_files` leaves out: reading them may never end."""
    yield from map(Path, _walk(str(folder), set(), lambda entry: not (_is_readable(entry) or _holds(entry.is_dir))))


SYSTEMS = ("lost+found", "System Volume Information", "$RECYCLE.BIN")
"""Folders that operating systems keep at the root of a disk."""


def _walk(
    folder: str,
    seen: set[str],
    wants: Callable[[os.DirEntry], bool] | None = None,
    *,
    strict: bool = False,
    tops: tuple[str, ...] = (),
    second_names: list[str] | None = None,
) -> Iterator[str]:
    """List what is wanted of a folder and those in it; `tops` are the folders whose listing this is part of.

    A folder that may not be listed raises `DataError` if `strict`, else it is left out with a warning. Links to folders
    that are listed under their own names are not followed; they are added to `second_names`.
    """
    wants = wants or _is_readable
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    if not tops or os.path.islink(folder):
        tops = (real, *tops)
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        text = f"folder {folder} cannot be listed ({error.strerror})"
        if strict:
            raise DataError(text, "ask its owner for access, or leave it out by a narrower pattern") from error
        warnings.warn(f"{text}: its files are left out", stacklevel=2)
        return
    folders = [entry for entry in entries if _holds(entry.is_dir) and entry.name not in SYSTEMS]
    yield from (entry.path for entry in entries if wants(entry))
    for each in folders:
        if not (each.is_symlink() and _lies_below(tops, os.path.realpath(each.path))):
            yield from _walk(each.path, seen, wants, strict=strict, tops=tops, second_names=second_names)
        elif second_names is not None:
            second_names.append(each.path)


def _lies_below(tops: Iterable[str], folder: str) -> bool:
    """Tell whether a folder lies below one of `tops`, with no hidden folder between: it is listed by its own name."""
    inside = (folder.removeprefix(top) for top in tops if folder.startswith(top))
    return any(rest.startswith(os.sep) and f"{os.sep}." not in rest for rest in inside)


def _is_readable(entry: os.DirEntry) -> bool:
    """Whether to list an entry of a folder: a file, or a broken link, whose reader will name it."""
    return _holds(entry.is_file) or (entry.is_symlink() and not os.path.exists(entry.path))


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself
        return False


_REMEMBERED: ContextVar[dict[tuple[Path, str, str], dict[str, Path]] | None] = ContextVar("remembered", default=None)


@contextmanager
def files_remembered() -> Iterator[None]:
    """Context in which `match_files` lists each pattern only once, for repeated calls while no file changes."""
    token = _REMEMBERED.set({})
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


def match_files(root: Path, pattern: str, split: str = "") -> dict[str, Path]:
    """Files of `root` by key: the part of their path that `{key}` of the pattern stands for, folders included.

    `{name}` is a key without folders. `{scene}` stands for folders above others: with `{scene}/rgb/{key}.png` the key
    is the scene and the name, `a/001`. `{split}` stands for `split`, `*` for anything inside a name, `.*` at the end
    for any readable suffix, whatever its case. Raises `ValueError` for a pattern without `{key}`, for two files of one
    key and for a folder that may not be listed.
    """
    remembered = _REMEMBERED.get()
    if remembered is None:
        return _match_files(root, pattern, split)
    if (root, pattern, split) not in remembered:
        remembered[root, pattern, split] = _match_files(root, pattern, split)
    return dict(remembered[root, pattern, split])


def same_split(split: str, names: Iterable[str]) -> str:
    """Find the one folder name that stands for a split: its name in another case, or a synonym; else empty.

    >>> same_split("train", ["Train", "val"]), same_split("val", ["validation"]), same_split("test", ["a", "b"])
    ('Train', 'validation', '')
    """
    others = [name for name in names if name.casefold() == split.casefold()]
    meant = SPLIT_OF.get(split.lower())
    others = others or [name for name in names if meant and SPLIT_OF.get(name.lower()) == meant]
    return others[0] if len(others) == 1 else ""


def find_split_folder(root: Path, pattern: str, split: str) -> str:
    """Find the folder for `{split}` in a pattern: that of the split's name, or else the one synonym (`training`).

    `split` itself where neither exists, or several synonyms do.
    """
    before, _, after = pattern.partition("{split}")
    if not split or "/" not in after or any(mark in before + after.partition("/")[0] for mark in "*{"):
        return split
    names = list_split_folders(root, pattern)
    return split if split in names else same_split(split, names) or split


def list_split_folders(root: Path, pattern: str) -> list[str]:
    """List the existing folders at the place of `{split}` in a pattern."""
    before, marker, after = pattern.partition("{split}")
    (folder, _, start), end = before.rpartition("/"), after.partition("/")[0]
    place = _on_disk(root, folder)
    if not marker or not place.is_dir():
        return []
    names = sorted(each.name for each in place.iterdir() if each.is_dir())
    return [name[len(start) : len(name) - len(end)] for name in names if name.startswith(start) and name.endswith(end)]


def composed(name: str) -> str:
    """Normalize a name to the form of Unicode in which names are compared: some systems write accents as separate
    characters.

    >>> composed("cafe\\u0301") == "caf\\xe9"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _on_disk(root: Path, folder: str) -> Path:
    """A folder below `root`, in whatever form of Unicode the names on the way to it are stored."""
    for name in Path(folder).parts:
        place = root / name
        if not (name.isascii() or place.exists()) and root.is_dir():
            place = next((each for each in root.iterdir() if composed(each.name) == composed(name)), place)
        root = place
    return root


def _names_to_match(folder: str, found: Mapping[str, Path]) -> Iterator[str]:
    """All files below a folder by their own names, then by those that links give them (`a/rgb -> ../store/a`), but for
    what was `found` by its own.
    """
    links: list[str] = []
    yield from _walk(folder, set(), strict=True, second_names=links)
    own = set(map(os.path.realpath, found.values())) if links else set()
    for link in links:
        yield from (name for name in _walk(link, set(), strict=True) if os.path.realpath(name) not in own)


def _match_files(root: Path, pattern: str, split: str) -> dict[str, Path]:
    if len(re.findall(r"{key}|{name}", pattern)) != 1 or pattern.count(SCENE) > 1:
        raise DataError(f"files = '{pattern}' has no {KEY} or several", "write it like 'depth/{split}/{key}.png'")
    text = composed(pattern.replace("{split}", split))
    ending = "(?i:" + "|".join(re.escape(suffix) for suffix in SUFFIXES) + ")" if text.endswith(".*") else ""
    parts = re.split("({key}|{name}|{scene})", text[:-2] if ending else text)
    plain = (_EXPRESSIONS.get(part) or re.escape(part).replace(r"\*", "[^/]*") for part in parts)
    expression = re.compile("".join(plain) + ending)
    folder = _on_disk(root, parts[0].split("*")[0].rpartition("/")[0])
    below = f"{folder.relative_to(root).as_posix()}/".removeprefix("./")
    found: dict[str, Path] = {}
    # As texts: of thousands of files, most of the time would go into making paths of their names.
    for name in _names_to_match(str(folder), found):
        told = below + name[len(str(folder)) :].lstrip(os.sep).replace(os.sep, "/")
        match = expression.fullmatch(composed(told))
        if match is None:
            continue
        path, groups = Path(name), match.groupdict()
        key = f"{groups['scene']}/{groups['key']}" if "scene" in groups else groups["key"]
        if key in found:
            other, cure = found[key], "write out what * stands for"
            if other.parent != path.parent:
                cure = "let {key} stand for the folder too, of images and labels alike"
            elif other.suffix != path.suffix:
                cure = "name the suffix there"
            raise DataError(f"{other} and {path} are both '{key}' of files = '{pattern}'", cure)
        found[key] = path
    return found
