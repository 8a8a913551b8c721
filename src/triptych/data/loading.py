"""Load batches of samples: which samples, in which order, in how many processes.

Batch number b of a whole run is a function of (seed, b): what a dataset draws, by default permutations of all samples
one after the other, is one endless stream, batch b is its b-th piece, and the augmentation of a sample is drawn from
(seed, epoch, index). So resuming means starting at another number, and neither the number of workers nor an
interruption changes what is seen. Every batch is full: none is dropped and no batch norm meets a batch of one at the
end of an epoch.
"""

import random
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from triptych.data.base import DenseDataset, Transform
from triptych.data.errors import DataError
from triptych.data.subset import Subset, spread_evenly
from triptych.machine import SIGNALS, keep_freed_memory, ran_out_of_memory
from triptych.types import Sample, collate, valid_pixels

OnBadSample = Literal["raise", "skip"]

TRIES = 10
"""Number of unreadable samples in a row after which loading stops: then all data, not single files, are at fault."""


class BadSampleError(ValueError):
    """A sample that cannot be read: one line that names it. `keys` maps what was unreadable to the reason."""

    def __init__(self, message: str, keys: dict[str, str]) -> None:
        super().__init__(message)
        self.keys = keys


class KilledWorkerError(OSError):
    """Error for a data worker that was killed: one line that names the signal, and what to lower."""


@dataclass(frozen=True)
class Order:
    """The order of a whole training run: what `dataset.draw` gives, one place after the other.

    With several processes each takes its own part of every batch, so that `world` processes of `batch_size` see what
    one process of `world * batch_size` sees.
    """

    dataset: DenseDataset
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1

    def batch(self, number: int) -> list[tuple[int, int]]:
        """(epoch, index) of the samples of batch `number` of this process."""
        first = (number * self.world + self.rank) * self.batch_size
        return [self.dataset.draw(self.seed, place) for place in range(first, first + self.batch_size)]


class TrainingView(Dataset):
    """A dataset with a transform; items are (epoch, index), which also seeds the augmentation."""

    def __init__(
        self, dataset: DenseDataset, *, transform: Transform | None, seed: int, on_bad_sample: OnBadSample = "raise"
    ) -> None:
        if len(dataset) == 0:
            raise DataError(f"dataset {_name(dataset)} has no samples", "check its split and its folder")
        self.dataset, self.transform, self.seed, self.on_bad_sample = dataset, transform, seed, on_bad_sample

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        return self.read(item)[0]

    def read(self, item: tuple[int, int]) -> tuple[Sample, dict[str, str]]:
        """Read a sample; returns it and the samples skipped before it, as keys with the reason.

        Raises `BadSampleError` where a sample is unreadable and may not be skipped.
        """
        epoch, index = item
        skipped: dict[str, str] = {}
        for _ in range(min(TRIES, len(self.dataset))):
            try:
                sample = self.dataset[index]
            except Exception as error:  # readers raise whatever their file formats do
                if ran_out_of_memory(error):
                    raise  # not caused by the sample
                key, reason = self.dataset.key(index), " ".join(f"{error}".split()) or type(error).__name__
                if self.on_bad_sample == "raise":
                    raise BadSampleError(
                        f"sample {key!r} of {_name(self.dataset)} cannot be read: {reason} "
                        "(`triptych data doctor` checks all files; on_bad_sample='skip' goes on without it)",
                        {key: reason},
                    ) from error
                skipped[key] = reason
                index = (index + 1) % len(self.dataset)
                continue
            if self.transform is None:
                return sample, skipped
            return self.transform(sample, np.random.default_rng((self.seed, epoch, index))), skipped
        raise BadSampleError(
            f"{len(skipped)} samples in a row of {_name(self.dataset)} cannot be read, the last one because: {reason} "
            "(`triptych data doctor` checks all files)",
            skipped,
        )


def _name(dataset: DenseDataset) -> str:
    return str(getattr(dataset, "name", type(dataset).__name__))


@dataclass
class _Batch:
    """A batch from a worker process, or the reason why there is none."""

    sample: Sample | None
    skipped: dict[str, str]
    failure: str = ""

    def pin_memory(self) -> "_Batch":
        return self if self.sample is None else _Batch(self.sample.pin_memory(), self.skipped)


class _Batches(Dataset):
    """A dataset whose item b is the complete batch b: errors and skipped keys are returned as values, not raised."""

    def __init__(self, view: TrainingView, batches: Sequence[list[tuple[int, int]]] | Order) -> None:
        self.view, self.batches = view, batches

    def __getitem__(self, number: int) -> _Batch:
        items = self.batches.batch(number) if isinstance(self.batches, Order) else self.batches[number]
        skipped: dict[str, str] = {}
        samples = []
        try:
            for item in items:
                sample, passed = self.view.read(item)
                samples.append(sample)
                skipped.update(passed)
        except BadSampleError as error:
            return _Batch(None, {**skipped, **error.keys}, failure=str(error))
        return _Batch(collate(samples), skipped)


class Loader:
    """Iterates over batches of samples; `skipped` maps the keys of samples that were left out to the reason."""

    def __init__(
        self, batches: _Batches, numbers: range, *, num_workers: int, pin_memory: bool = False, leave_out: bool = False
    ) -> None:
        self.batches, self.numbers, self.leave_out = batches, numbers, leave_out
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Sample]:
        loader: Any = DataLoader(
            self.batches,
            batch_size=None,
            sampler=self.numbers,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            worker_init_fn=_quiet_worker,
            generator=torch.Generator().manual_seed(0),  # otherwise an iterator draws from the global generator
        )
        for batch in _told_of_kills(loader):
            if batch.sample is None and not self.leave_out:
                raise BadSampleError(batch.failure, batch.skipped)
            self.skipped.update(batch.skipped)
            if batch.sample is not None:
                yield batch.sample


def _told_of_kills(loader: Any) -> Iterator[_Batch]:
    """Iterate over the batches of a loader; raise `KilledWorkerError` where one of its processes died."""
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    batches = iter(loader)
    workers = getattr(batches, "_workers", ())
    if workers and before is not None and threading.current_thread() is threading.main_thread():
        # torch's handler would raise at any point of the program when a worker dies; this loop notices within seconds.
        signal.signal(signal.SIGCHLD, before)
    try:
        yield from batches
    except RuntimeError as error:
        ended = [worker.exitcode for worker in workers if worker.exitcode]
        if not ended:
            raise
        for worker in workers:  # the others wait for work and ignore SIGTERM: the program could not end
            worker.kill()
        raise KilledWorkerError(_killed(ended[0], len(workers))) from error
    finally:
        # At garbage collection its queues may already be gone, and workers would wait for work forever.
        getattr(batches, "_shutdown_workers", lambda: None)()


def _killed(code: int, workers: int) -> str:
    """Message for the exit code of a worker; a negative code is the signal that ended it."""
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
    causes = {
        "SIGKILL": "most likely by the system because memory ran out",
        "SIGBUS": "most likely because shared memory (/dev/shm) is full",
    }
    cause = f", {causes[name]}" if name in causes else ""
    return (
        f"one of {workers} data workers was ended ({name}){cause}; lower data.num_workers, with which a training goes "
        "on (--resume), or give the machine more memory. Another data.batch_size is another training."
    )


def _quiet_worker(worker: int) -> None:
    """Set up a worker: one thread, and fixed seeds, so that readers that use global random state are reproducible.

    Signals are left to the parent, which saves before it ends its workers.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


def make_loader(
    dataset: DenseDataset,
    *,
    transform: Transform | None,
    batch_size: int,
    seed: int,
    steps: int,
    first_step: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    world: int = 1,
    on_bad_sample: OnBadSample = "raise",
    pin_memory: bool = False,
) -> Loader:
    """Batches number `first_step` to `steps - 1` of a training run, `batch_size` samples each, for process `rank`.

    `steps` counts the batches of the whole run (optimizer steps times accumulated batches); the loader already shards
    over processes, so accelerate must not do it again. A damaged sample raises `BadSampleError`, or with
    `on_bad_sample="skip"` is replaced by the next one and named in `loader.skipped`.
    """
    if batch_size < 1:
        raise DataError(f"batch_size is {batch_size}", "give at least 1")
    view = TrainingView(dataset, transform=transform, seed=seed, on_bad_sample=on_bad_sample)
    order = Order(dataset, batch_size, seed, rank, world)
    return Loader(_Batches(view, order), range(first_step, steps), num_workers=num_workers, pin_memory=pin_memory)


def evaluation_loader(
    dataset: DenseDataset,
    *,
    transform: Transform | None = None,
    limit: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    world: int = 1,
    on_bad_sample: OnBadSample = "raise",
) -> Loader:
    """The samples one by one, as batches of one at their native size, in order; process `rank` gets every `world`-th.

    `limit` takes that many samples only, spread evenly over the dataset; 0 takes all. Nothing is repeated or padded:
    over all processes each sample comes exactly once. With `on_bad_sample="skip"` a damaged sample is left out.
    """
    indices = spread_evenly(len(dataset), limit if limit > 0 else len(dataset))
    view = TrainingView(dataset, transform=transform, seed=0)
    batches = [[(0, index)] for index in indices[rank::world]]
    skip = on_bad_sample == "skip"
    return Loader(_Batches(view, batches), range(len(batches)), num_workers=num_workers, leave_out=skip)


def has_label(dataset: DenseDataset, name: str, *, num_workers: int = 0, on_bad_sample: OnBadSample = "raise") -> bool:
    """Read the samples that may have a label of a task until one has; `False` where none has."""
    candidates = Subset(dataset, dataset.may_be_labelled(name))
    if not len(candidates):
        return False
    samples = evaluation_loader(candidates, num_workers=num_workers, on_bad_sample=on_bad_sample)
    return any(valid_pixels(sample.targets[name]).any() for sample in samples)
