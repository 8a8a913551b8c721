"""What every dataset is: a sized sequence of samples that declares the tasks it can supervise."""

from triptych.tasks import Task
from triptych.types import Sample


class DenseDataset:
    """One split of one dataset.

    `tasks` holds the tasks this dataset can supervise, with their class counts, in declaration order; every sample
    has a target for each of them, an all-invalid map where the label is missing. Reading happens in `__getitem__`
    only; the constructor lists the files once and names a missing one.
    """

    name: str
    tasks: dict[str, Task]

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define its length")

    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`, at its native size, labels in the layout of design section 7."""
        raise NotImplementedError(f"{type(self).__name__} does not read samples")

    def key(self, index: int) -> str:
        """The name of the sample at `index`, without reading it."""
        raise NotImplementedError(f"{type(self).__name__} does not name its samples")

    def fingerprint(self) -> dict[str, object]:
        """What a training run records about its data: name, split, counts and a hash of the file list."""
        raise NotImplementedError(f"{type(self).__name__} has no fingerprint")
