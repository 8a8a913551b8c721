"""The processes that train one network together: how many, which one this is, and what all of them have."""

import atexit
import os
import time
from collections.abc import Iterable
from typing import Any

from torch import Tensor, distributed


def num_processes() -> int:
    """How many processes work together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def processes_here() -> int:
    """How many of them run on this machine, as their launcher says; else all."""
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
    """What every process has, in the order of their ranks; every process must call it.

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
"""Groups of processes that were left, kept as long as the process lives. Else a wrapped model could be the last to hold
one, and would join the group's threads without letting go of the interpreter's lock, for which one of them may wait:
with gloo a deadlock at the end of a training, now and then.
"""
_LETTING_GO = 0.2
"""Seconds that a process whose group was left waits at its end. A thread of gloo may still hold the last tensor that
was exchanged; one that lets go of it after the interpreter began to end aborts the process (pytorch issue 190489).
"""


def leave_processes() -> None:
    """Leave the group of processes, where there is one, such that this process can go on, and end, undisturbed."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if not _LEFT:
        atexit.register(time.sleep, _LETTING_GO)
    _LEFT.append(distributed.group.WORLD)
    distributed.destroy_process_group()
