"""The doctor's look at datasets that do not lie in one file per label: prepared records, generated scenes, mixtures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from triptych.data.base import DenseDataset
from triptych.doctor.file_checks import histogram
from triptych.doctor.inspection import Finding, Inspection, digest_image
from triptych.labels.encoding import Encoding
from triptych.types import Camera, valid_pixels


class Records:
    """A dataset whose samples are read whole; a sample is named where a file would be."""

    def __init__(self, dataset: DenseDataset) -> None:
        self.dataset, self.name, self.tasks = dataset, dataset.name, dataset.tasks
        self.split = str(getattr(dataset, "split", dataset.fingerprint().get("split", "")))
        self.keys = [dataset.key(index) for index in range(len(dataset))]
        self.images: Mapping[str, Path] = {key: Path(key) for key in self.keys}
        self.labels: dict[str, dict[str, Path]] = {name: {} for name in self.tasks}

    def encoding(self, name: str, key: str) -> Encoding | None:
        """Nothing is known of how a label was stored."""
        return None

    def camera(self, key: str, size: tuple[int, int]) -> Camera | None:
        """Samples bring their own."""
        return None

    def photo(self, key: str) -> Tensor:
        """The image of a sample."""
        return self.dataset[self.keys.index(key)].image

    def stored(self, name: str, key: str) -> np.ndarray | None:
        """There is no file of its own."""
        return None

    def label(self, name: str, key: str, size: tuple[int, int]) -> Tensor:
        """The target of a sample."""
        return self.dataset[self.keys.index(key)].targets[name]

    def fingerprint(self) -> dict[str, object]:
        """That of the dataset."""
        return self.dataset.fingerprint()


def inspect_record(records: Records, index: int) -> Inspection:
    """Read one sample: whether it can be read, and what its statistics are."""
    key = records.keys[index]
    inspection = Inspection(key)
    try:
        sample = records.dataset[index]
    except (OSError, ValueError) as error:
        text, _, cure = str(error).rstrip(".").partition("; ")
        found = Finding("error", "unreadable", records.split, "", key, text, cure or "make it again")
        inspection.findings.append(found)
        return inspection
    inspection.size = (sample.image.shape[1], sample.image.shape[2])
    inspection.digest = digest_image(sample.image)
    for name, task in records.tasks.items():
        target = sample.targets[name]
        known = valid_pixels(target)
        if not known.any():
            continue
        records.labels[name][key] = Path(key)
        inspection.classes[name] = histogram(task, target)
        if task.in_metres:
            inspection.depths[name] = float(target[known].median())
    return inspection
