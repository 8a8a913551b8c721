"""Running one job on the device, in the precision and with the processes that the launcher and the caller ask for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from triptych.devices import choose_device


@contextmanager
def accelerated(device: str = "auto", **options: Any) -> Iterator[Accelerator]:
    """An accelerator for one job; `options` are those of `accelerate.Accelerator`.

    Afterwards the group of processes is left and the settings are forgotten: the next job may want others.
    """
    accelerator = Accelerator(cpu=choose_device(device).type == "cpu", **options)
    try:
        yield accelerator
    finally:
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
