"""The processes that train one network together: their number, the rank of this one, and exchange between them."""

import atexit
import os
import time
from collections.abc import Iterable
from typing import Any

from torch import Tensor, distributed


def num_processes() -> int:
    """Number of processes that work together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def processes_here() -> int:
    """Number of them on this machine, as their launcher says; without a launcher, all."""
    return min(int(os.environ.get("LOCAL_WORLD_SIZE", num_processes())), num_processes())


def rank() -> int:
    """The number of this process among them, from 0."""
    return distributed.get_rank() if num_processes() > 1 else 0


def is_first_launched() -> bool:
    """Whether the launcher of several processes calls this one the first, also before and after they form a group."""
    return os.environ.get("RANK", "0") == "0"


def own_rows(rows: Tensor) -> Tensor:
    """This process's share of rows that were drawn for the images of all processes.

    >>> import torch
    >>> own_rows(torch.arange(6).view(3, 2)).shape
    torch.Size([3, 2])
    """
    return rows.chunk(num_processes())[rank()]


def gather_objects(own: Any) -> list[Any]:
    """Gather one object from each process, in order of rank; every process must call it.

    >>> gather_objects("mine")
    ['mine']
    """
    gathered = [own] * num_processes()
    if len(gathered) > 1:
        distributed.all_gather_object(gathered, own)
    return gathered


def average_over_processes(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes; nothing in a single process."""
    if num_processes() == 1:
        return
    for tensor in tensors:
        distributed.all_reduce(tensor)
        tensor /= num_processes()


def smallest_over_processes(value: Tensor) -> Tensor:
    """The smallest of the processes' values."""
    if num_processes() > 1:
        value = value.clone()
        distributed.all_reduce(value, distributed.ReduceOp.MIN)
    return value


_LEFT: list[Any] = []
"""Process groups that were left, referenced until the process ends. Otherwise a wrapped model could hold the last
reference, and would join the group's threads while holding the interpreter lock, for which one of them may wait: with
gloo an occasional deadlock at the end of a training.
"""
_LETTING_GO = 0.2
"""Seconds that a process waits at its end after it left a group. A thread of gloo may still hold the last tensor that
was exchanged; releasing it while the interpreter shuts down aborts the process (pytorch issue 190489).
"""


def leave_processes() -> None:
    """Leave the process group, if any, such that this process can continue and end safely."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if not _LEFT:
        atexit.register(time.sleep, _LETTING_GO)
    _LEFT.append(distributed.group.WORLD)
    distributed.destroy_process_group()
