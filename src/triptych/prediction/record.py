"""The record of a folder of predicted images, `predictions.json`: which image became what, how, and what values mean.

It lists an image once all its files are there, by its path and the SHA-256 of its bytes: files that it does not list,
or lists for another image, do not count as results.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any

from triptych.data.predicted import PLACES, RECORD
from triptych.files import hash_file, write_text
from triptych.lookup import parse_json


@dataclass
class Record:
    """Content of `predictions.json`. All tables but tasks, products and settings are by the image's name."""

    tasks: dict[str, Any]
    settings: dict[str, Any]
    products: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    """Path of the image that the files were made from."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Hash of that file; older versions wrote none."""
    skipped: dict[str, str] = field(default_factory=dict)
    reduced: dict[str, str] = field(default_factory=dict)
    """Which pixels panels and points of large images show."""
    waiting: list[str] = field(default_factory=list)
    """Images that calls were asked for which have not ended, or were killed: they may have files."""
    begun: set[str] = field(default_factory=set)
    """Images of this call; not written to the file."""

    @classmethod
    def read(cls: "type[Record]", out: Path) -> "Record | None":
        """Read the record of a folder; `None` where there is none, or an invalid one."""
        try:
            stored = parse_json((out / RECORD).read_text(encoding="utf-8"))
            parts: dict[str, Any] = {"settings": dict(stored["settings"])}
            parts |= {key: dict(stored.get(key, {})) for key in ("tasks", "images", "sha256", "skipped", "reduced")}
            parts |= {key: [str(name) for name in stored.get(key, [])] for key in ("products", "waiting")}
            return cls(**parts)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, out: Path) -> None:
        """Write it to a folder."""
        waiting = [name for name in self.waiting if name not in self.images and name not in self.skipped]
        content = asdict(self) | {"waiting": waiting}
        del content["begun"]
        write_text(out / RECORD, json.dumps(content, indent=2) + "\n")

    def take_over(self, out: Path) -> None:
        """Add the images that other calls into the same folder, such as those on other GPUs, have listed meanwhile."""
        other = Record.read(out)
        if other is None:
            return
        for table in ("images", "sha256", "skipped", "reduced"):
            theirs = {name: value for name, value in getattr(other, table).items() if name not in self.begun}
            getattr(self, table).update(theirs)
        self.waiting = list(dict.fromkeys([*self.waiting, *other.waiting]))
        self.products = list(dict.fromkeys([*self.products, *other.products]))

    def is_of(self, name: str, path: Path) -> bool:
        """Whether the files of a listed image were made from the file that is at `path` now."""
        if name in self.sha256:
            return hash_source(path) == self.sha256[name]
        return Path(self.images[name]).resolve() == path.resolve()

    def add(self, name: str, path: Path, sha256: str, reduced: str) -> None:
        """List an image whose files are all there."""
        self.images[name], self.sha256[name] = str(path), sha256
        if reduced:
            self.reduced[name] = reduced

    def begin(self, names: Iterable[str], products: Iterable[str]) -> None:
        """Drop the entries of images that are about to be predicted."""
        names = list(names)
        self.begun.update(names)
        self.waiting = list(dict.fromkeys([*self.waiting, *names]))
        self.products = list(dict.fromkeys([*self.products, *products]))
        for name in names:
            for table in (self.images, self.sha256, self.skipped):
                table.pop(name, None)

    def remove(self, out: Path, names: Iterable[str]) -> None:
        """Delete every file of some images."""
        for name in names:
            for place in PLACES.values():
                for file in {place.format(task=task, name=name) for task in self.tasks}:
                    if ".." not in PurePath(file).parts:  # which no call wrote
                        (out / file).unlink(missing_ok=True)
            self.reduced.pop(name, None)


def hash_source(path: Path) -> str:
    """SHA-256 of an image's file; empty where it cannot be read, as its reader raises an error."""
    try:
        return hash_file(path)
    except OSError:
        return ""
