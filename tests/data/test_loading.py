"""What is fed is a function of (seed, batch number): not of workers, interruptions or processes."""

import multiprocessing
import os
import pickle
import platform
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from workers import look_often

from triptych.augmentation.presets import build_transform
from triptych.data.base import DenseDataset
from triptych.data.loading import TRIES, BadSampleError, KilledWorkerError, Order, evaluation_loader, make_loader
from triptych.machine import memory_advice
from triptych.tasks import depth, semseg
from triptych.types import Sample

TASKS = {"semseg": semseg(3), "depth": depth()}
TRANSFORM = build_transform("default", size=(8, 8), tasks=TASKS, train=True)


class Numbers(DenseDataset):
    """Images whose pixels all hold their own index; `damaged` ones cannot be read."""

    name = "numbers"
    tasks = TASKS

    def __init__(self, length: int, damaged: tuple[int, ...] = ()) -> None:
        self.length, self.damaged = length, damaged

    def __len__(self) -> int:
        return self.length

    def key(self, index: int) -> str:
        return f"number-{index}"

    def __getitem__(self, index: int) -> Sample:
        if index in self.damaged:
            raise OSError(f"image file is truncated\n(images/number-{index}.png)")
        labels = torch.arange(10 * 12).reshape(10, 12) % 3
        image = torch.linspace(0, 1, 120).reshape(10, 12).expand(3, 10, 12) * (index + 1) / self.length
        return Sample(image, {"semseg": labels, "depth": torch.full((1, 10, 12), index + 1.0)}, self.key(index))


def keys(loader) -> list[str]:
    return [key for batch in loader for key in batch.key]


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 3))
def test_every_epoch_is_a_permutation(length: int, batch_size: int, seed: int) -> None:
    order = Order(Numbers(length), batch_size, seed)
    batches = [order.batch(number) for number in range(3 * length)]
    assert all(len(batch) == batch_size for batch in batches)
    stream = [item for batch in batches for item in batch]
    for epoch in range(3 * batch_size):
        assert sorted(stream[epoch * length : (epoch + 1) * length]) == [(epoch, index) for index in range(length)]


def test_epochs_and_seeds_have_their_own_permutations() -> None:
    first = [Order(Numbers(50), 50, seed).batch(number) for seed in range(2) for number in range(2)]
    assert len({tuple(index for _, index in batch) for batch in first}) == 4


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_processes_share_one_batch(length: int, batch_size: int, world: int, number: int) -> None:
    parts = [Order(Numbers(length), batch_size, 3, rank, world).batch(number) for rank in range(world)]
    assert [item for part in parts for item in part] == Order(Numbers(length), batch_size * world, 3).batch(number)
    items = [item for part in parts for item in part]
    assert len(set(items)) == len(items)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(workers: int) -> None:
    data = Numbers(7)
    whole = list(make_loader(data, transform=TRANSFORM, batch_size=3, seed=4, steps=6))
    rest = list(
        make_loader(data, transform=TRANSFORM, batch_size=3, seed=4, steps=6, first_step=2, num_workers=workers)
    )
    assert len(whole) == 6
    assert len(rest) == 4
    for before, after in zip(whole[2:], rest, strict=True):
        assert before.key == after.key
        torch.testing.assert_close(before.image, after.image, rtol=0, atol=0)
        for name in TASKS:
            torch.testing.assert_close(before.targets[name], after.targets[name], rtol=0, atol=0, equal_nan=True)


def test_augmentation_differs_between_epochs_and_samples() -> None:
    batches = list(make_loader(Numbers(1), transform=TRANSFORM, batch_size=4, seed=0, steps=2))
    images = torch.cat([batch.image for batch in batches])
    assert len({image.numpy().tobytes() for image in images}) > 5


def test_iterating_leaves_global_random_state_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    list(make_loader(Numbers(5), transform=TRANSFORM, batch_size=2, seed=0, steps=4))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert pickle.dumps(np.random.get_state()) == numpy_state  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_stops_a_strict_run_with_one_line(workers: int) -> None:
    loader = make_loader(Numbers(6, (2,)), transform=TRANSFORM, batch_size=2, seed=0, steps=3, num_workers=workers)
    with pytest.raises(BadSampleError) as caught:
        list(loader)
    message = str(caught.value)
    assert "number-2" in message
    assert "images/number-2.png" in message
    assert "numbers" in message
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_takes_the_next_sample_and_names_the_damaged_one(workers: int) -> None:
    loader = make_loader(
        Numbers(6, (2,)),
        transform=TRANSFORM,
        batch_size=2,
        seed=0,
        steps=3,
        num_workers=workers,
        on_bad_sample="skip",
    )
    assert sorted(keys(loader)) == ["number-0", "number-1", "number-3", "number-3", "number-4", "number-5"]
    assert list(loader.skipped) == ["number-2"]
    assert "images/number-2.png" in loader.skipped["number-2"]


def test_skipping_gives_up_where_nothing_can_be_read() -> None:
    data = Numbers(30, tuple(range(30)))
    loader = make_loader(data, transform=TRANSFORM, batch_size=1, seed=0, steps=1, on_bad_sample="skip")
    with pytest.raises(BadSampleError, match=f"{TRIES} samples in a row"):
        list(loader)


def test_a_mistake_in_the_transform_is_never_skipped() -> None:
    def broken(sample: Sample, generator: np.random.Generator) -> Sample:
        raise ZeroDivisionError("a bug")

    loader = make_loader(Numbers(4), transform=broken, batch_size=1, seed=0, steps=1, on_bad_sample="skip")
    with pytest.raises(ZeroDivisionError):
        list(loader)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_each_sample_once_at_its_own_size(world: int) -> None:
    parts = [keys(evaluation_loader(Numbers(7), rank=rank, world=world)) for rank in range(world)]
    assert sorted([item for part in parts for item in part]) == [f"number-{i}" for i in range(7)]
    batch = next(iter(evaluation_loader(Numbers(7))))
    assert batch.image.shape == (1, 3, 10, 12)
    assert batch.targets["depth"].shape == (1, 1, 10, 12)


def test_evaluation_of_a_part_is_spread_over_the_dataset() -> None:
    assert keys(evaluation_loader(Numbers(10), limit=3)) == ["number-0", "number-3", "number-6"]
    assert len(keys(evaluation_loader(Numbers(4), limit=9))) == 4


def test_evaluation_leaves_a_damaged_sample_out_and_names_it() -> None:
    loader = evaluation_loader(Numbers(4, (1,)), on_bad_sample="skip")
    assert keys(loader) == ["number-0", "number-2", "number-3"]
    assert list(loader.skipped) == ["number-1"]
    with pytest.raises(BadSampleError, match="number-1"):
        keys(evaluation_loader(Numbers(4, (1,))))


def test_empty_datasets_and_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="numbers has no samples"):
        make_loader(Numbers(0), transform=TRANSFORM, batch_size=2, seed=0, steps=1)
    with pytest.raises(ValueError, match="batch_size is 0"):
        make_loader(Numbers(3), transform=TRANSFORM, batch_size=0, seed=0, steps=1)


class Faults(Numbers):
    """Tells how many new pages the system had to give for maps that are made and freed again and again."""

    def __getitem__(self, index: int) -> Sample:
        def use() -> None:
            maps = [np.ones((1024, 1024)) for _ in range(3)]
            del maps

        use()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            use()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        return replace(super().__getitem__(index), extras={"faults": torch.tensor(faults)})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_workers_keep_the_memory_that_they_free() -> None:
    """60 maps of 2048 pages; without it each of them is given anew, one by one or in large pages."""
    (batch,) = make_loader(Faults(4), transform=None, batch_size=1, seed=0, steps=1, num_workers=1)
    assert batch.extras["faults"].item() < 100


class Ending(Numbers):
    """Its reader meets with an accident at one index: that of `accident`, in a process of its own."""

    def __init__(self, accident) -> None:
        super().__init__(6)
        self.accident = accident

    def __getitem__(self, index: int) -> Sample:
        if index == 3:
            self.accident()
        return super().__getitem__(index)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory() -> None:
    raise MemoryError("Unable to allocate 8.00 TiB")


def test_a_killed_worker_is_one_line_that_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)
    handler = signal.getsignal(signal.SIGCHLD)
    loader = evaluation_loader(Ending(kill_this_process), num_workers=2)
    with pytest.raises(KilledWorkerError) as raised:
        list(loader)
    text = str(raised.value)
    assert "one of 2 data workers was ended (SIGKILL), most likely by the system because memory ran out" in text
    assert "lower data.num_workers, with which a training goes on" in text
    assert "\n" not in text
    assert signal.getsignal(signal.SIGCHLD) == handler


@pytest.mark.parametrize("workers", [0, 1])
def test_memory_that_runs_out_is_no_fault_of_a_sample(workers: int) -> None:
    loader = evaluation_loader(Ending(run_out_of_memory), num_workers=workers, on_bad_sample="skip")
    with pytest.raises(MemoryError) as raised, memory_advice("lower data.num_workers"):
        list(loader)
    assert not loader.skipped
    assert "lower data.num_workers" in str(raised.value)
    assert multiprocessing.active_children() == []  # though the error is kept, and with it what read the data
