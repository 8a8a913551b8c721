"""Base class of published datasets: their variants, splits and tasks, and what is missing of an archive."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from triptych import tasks as task_constructors
from triptych.data.errors import DataError
from triptych.datasets.in_files import DERIVED, InFiles, Listing
from triptych.datasets.splitting import keep_present
from triptych.datasets.variants import recognize
from triptych.labels.base import Encoding
from triptych.lookup import named_choice


class Published(InFiles):
    """One split of a published dataset, of one of its `variants`.

    `tasks` chooses among the stored tasks and those that follow from them: normals from depth and camera, boundaries
    from semseg; without it they are the stored ones and `derived`. A missing label is an error, or an all-invalid map
    with `allow_missing`.
    """

    splits: ClassVar[Sequence[str]] = ()
    """Names of the splits, where they are always the same."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Tasks offered by default without being stored; others are derived only on request."""
    downloads: ClassVar[Mapping[str, str]] = {}
    """The archive that holds the labels of a stored task."""
    variants: ClassVar[Mapping[str, Any]] = {}
    empty_hint: ClassVar[str] = "unpack the whole archive"
    """Cure for a split without images."""
    split_by = ""
    """Name of the way in which the splits were made, where there are several."""

    @property
    def archive_keys(self) -> Sequence[str]:
        """Keys of samples from the archive itself, without those added from elsewhere."""
        return self.keys

    def _find(self, root: str | Path, split: str, variant: str) -> None:
        """Check the split, and find out which variant lies in `root`."""
        if self.splits:
            named_choice(f"split of {self.name}", split, dict.fromkeys(self.splits))
        self.root, self.variant = Path(root), recognize(root, self.variants, variant=variant)

    def __init__(
        self,
        keys: Sequence[str],
        *,
        split: str,
        listing: Listing,
        encodings: Mapping[str, Encoding],
        tasks: Sequence[str] | None,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        self._require_images(keys, split)
        if tasks is None and not encodings:
            raise DataError(
                f"{self.name} has images but no labels there", f"add {' or '.join(self.downloads.values())}"
            )
        offered = (*encodings, *(name for name in self.derived if DERIVED[name].source in encodings))
        chosen = offered if tasks is None else tuple(tasks)
        self._check_tasks(chosen, encodings)
        super().__init__(
            keys,
            split=split,
            listing=listing,
            encodings=encodings,
            tasks={
                name: encodings[name].make_task(name) if name in encodings else task_constructors.TASKS[name]()
                for name in chosen
            },
            derivations={name: how for name, how in DERIVED.items() if name not in encodings},
            **options,
        )
        self.keys = keep_present(self.name, self.keys, listing, self.sources, missing=allow_missing)
        self._require_images(self.keys, split)

    def fingerprint(self) -> dict[str, object]:
        """Name, split, counts, classes, and a hash of the keys and of which labels they have."""
        listing = (f"{key}: {' '.join(sorted(self.files(index)))}\n" for index, key in enumerate(self.keys))
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "labels": {name: sum(key in self.listing[name] for key in self.keys) for name in self.sources},
            "classes": {name: list(task.classes) for name, task in self.tasks.items() if name in self.encodings},
            "files_sha256": hashlib.sha256("".join(listing).encode(errors="surrogateescape")).hexdigest(),
        } | ({"split_by": self.split_by} if self.split_by else {})

    def _require_images(self, keys: Sequence[str], split: str) -> None:
        if not keys:
            raise DataError(
                f"split '{split}' of {self.name} has no images in {self.root}", self.empty_hint, missing=True
            )

    def _check_tasks(self, chosen: Sequence[str], encodings: Mapping[str, Encoding]) -> None:
        stored = dict.fromkeys((*encodings, *self.downloads))
        known = dict.fromkeys((*stored, *(name for name, how in DERIVED.items() if how.source in stored)))
        for name in chosen:
            named_choice(f"task of {self.name}", name, known)
            source = name if name in stored else DERIVED[name].source
            if source not in encodings:
                raise DataError(f"task {name} of {self.name} needs {self.downloads[source]}, which is not there")
