"""Run functions in two processes that share a gloo group."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing import spawn

from triptych.processes import leave_processes

Worker = Callable[[int, int], Any]
"""`(rank, world)` to a value that `torch.save` can write. It must live in a module that can be imported."""


def run_in_two_processes(workers: Sequence[Worker], folder: Path) -> list[list[Any]]:
    """What each of `workers` returned in process 0 and in process 1."""
    spawn(_run, (workers, folder), nprocs=2)
    results = [torch.load(folder / f"result_{rank}.pt") for rank in range(2)]
    return [list(pair) for pair in zip(*results, strict=True)]


def _run(rank: int, workers: Sequence[Worker], folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    torch.save([worker(rank, 2) for worker in workers], folder / f"result_{rank}.pt")
    distributed.barrier()
    leave_processes()
