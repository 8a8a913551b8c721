"""Some samples of a dataset, for studies of how much data a method needs."""

import hashlib
from collections.abc import Sequence

from triptych.data.base import DenseDataset
from triptych.data.errors import DataError
from triptych.types import Sample


class Subset(DenseDataset):
    """The samples of `dataset` at `indices`, in that order.

    >>> from triptych.datasets.rooms import Rooms
    >>> rooms = Rooms(split="val", scenes=2, views=1, size=(24, 32), progress=False)
    >>> some = Subset(rooms, [1])
    >>> len(some), some.key(0) == rooms.key(1)
    (1, True)
    """

    def __init__(self, dataset: DenseDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, tuple(indices)
        self.name, self.tasks = dataset.name, dataset.tasks

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def key(self, index: int) -> str:
        return self.dataset.key(self.indices[index])

    def fingerprint(self) -> dict[str, object]:
        """The whole dataset's, and which samples of it."""
        chosen = hashlib.sha256(repr(self.indices).encode()).hexdigest()[:16]
        return self.dataset.fingerprint() | {"of": len(self.dataset), "samples": len(self), "chosen": chosen}


def spread(dataset: DenseDataset, count: int) -> Subset:
    """`count` samples spread evenly over a dataset; `ValueError` where it has fewer or none is asked for.

    Where neighbours in the dataset are alike (frames of a film, views of a room), these differ the most.
    """
    if not 1 <= count <= len(dataset):
        text = f"{count} samples were asked for, and {dataset.name} has {len(dataset)}"
        raise DataError(text, "ask for 1 to that many")
    return Subset(dataset, [i * len(dataset) // count for i in range(count)])
