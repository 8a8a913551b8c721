"""Running one job on the device, in the precision and with the processes that the launcher and the caller ask for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from triptych.devices import choose_device
from triptych.memory import keep_freed_memory

_LEFT: list[Any] = []
"""Groups of processes that were left, kept as long as the process lives. Else a wrapped model could be the last to hold
one, and would join the group's threads without letting go of the interpreter's lock, for which one of them may wait:
with gloo a deadlock at the end of a training, now and then.
"""


@contextmanager
def accelerated(device: str = "auto", **options: Any) -> Iterator[Accelerator]:
    """An accelerator for one job; `options` are those of `accelerate.Accelerator`.

    On a CPU the process keeps the memory it frees. Afterwards the group of processes is left and the settings are
    forgotten: the next job may want others.
    """
    accelerator = Accelerator(cpu=choose_device(device).type == "cpu", **options)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    try:
        yield accelerator
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            _LEFT.append(torch.distributed.group.WORLD)
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
