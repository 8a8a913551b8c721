"""Photographs without labels: any folder of pictures, such as the other domain of an adaptation."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych.data.base import DenseDataset
from triptych.data.errors import DataError
from triptych.data.photos import read_image
from triptych.data.predicted import find_photographs
from triptych.types import Sample


class Images(DenseDataset):
    """Every picture below a folder, in the order of their paths, which are their keys. What `predict` made is left out.

    It has one split, `train`, no cameras, and no labels: `tasks` has to be empty.
    """

    name = "images"
    needs_root = True

    @classmethod
    def splits_at(cls, place: Path, **roots: Any) -> Sequence[str]:
        """The one split."""
        return ("train",)

    def __init__(self, root: str | Path, *, split: str = "train", tasks: Sequence[str] = ()) -> None:
        self.root, self.split, self.tasks = Path(root), split, {}
        if tasks or split != "train":
            raise DataError(
                "dataset 'images' has no labels and one split, train, and was asked for split "
                f"'{split}'{' and ' + ', '.join(tasks) if tasks else ''}",
                "for images with labels choose dataset 'folder'",
            )
        if not self.root.is_dir():
            raise DataError(f"dataset folder '{root}' does not exist", "give the folder that holds the images")
        self.paths = find_photographs(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.paths[index]), {}, self.key(index))

    def key(self, index: int) -> str:
        return self.paths[index].relative_to(self.root).as_posix()

    def fingerprint(self) -> dict[str, object]:
        """Name, number of images, and a hash of their paths."""
        listing = "\n".join(map(self.key, range(len(self))))
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "files_sha256": hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest(),
        }
