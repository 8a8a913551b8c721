"""What every encoding of label files has: where the files are, and which of their numbers count."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from triptych.tasks import Task
from triptych.types import Camera


@dataclass(frozen=True)
class Encoding:
    """Where the files of a task are, and how their numbers become its target."""

    files: str = ""
    """Pattern of the files, with `{key}` and perhaps `{split}`, relative to the root."""
    key: str = ""
    """Entry of an .npz or .mat file."""
    channel: int = -1
    """Which channel of a colour picture or array; -1: all of them."""
    invalid: tuple[float | int, ...] = ()
    """Stored values that mean "no label"."""
    resize: bool = False
    """Take the nearest pixel where a label map is not of the image's size; otherwise that is an error."""

    def make_task(self, name: str) -> Task:
        """The task that is trained on this label."""
        raise NotImplementedError

    def decode(self, stored: np.ndarray, camera: Camera | None) -> Tensor:
        """The target at the stored size; raises `ValueError` with the cure where the numbers cannot be right."""
        raise NotImplementedError

    def pick(self, stored: np.ndarray, channels: int = 1) -> np.ndarray:
        """The stored array as `(H, W)`, or `(H, W, channels)`: one channel chosen, axes in order."""
        if self.channel >= 0 and stored.ndim == 3:
            stored = np.moveaxis(stored, int(np.argmin(stored.shape)), -1)[..., self.channel]
        if channels > 1:
            if stored.ndim == 3 and stored.shape[0] == channels != stored.shape[-1]:
                stored = np.moveaxis(stored, 0, -1)
            if stored.ndim == 3 and stored.shape[-1] == channels + 1:
                stored = stored[..., :channels]  # transparency
            expected = f"(height, width, {channels})"
            matches = stored.ndim == 3 and stored.shape[-1] == channels
        else:
            stored = stored.reshape([side for side in stored.shape if side > 1]) if stored.ndim > 2 else stored
            expected, matches = "(height, width); set channel for one of several", stored.ndim == 2
        if not matches:
            raise ValueError(f"it has shape {stored.shape}, expected {expected}")
        return stored
