"""Base class of decoders: feature maps in, one dict of task maps per supervised stage out."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from triptych.tasks import Task
from triptych.types import Output, round_up, same_size


def require_at_least(least: int, **options: int | None) -> None:
    """Raise `ValueError` for the first option, by its name, that is smaller; `None` is left to the decoder.

    >>> require_at_least(1, width=0)
    Traceback (most recent call last):
    ...
    ValueError: width is 0; give at least 1.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; give at least {least}.")


class Decoder(nn.Module):
    """Feature maps to task maps.

    Built as `MyDecoder(channels, strides=..., tasks=..., **options)`: `channels` and `strides` as the backbone states
    them (finest first), `tasks` in declaration order; a task is called by its key from there on. `forward(features)`
    returns a list of dicts from task name to raw map `(B, task.channels, h, w)` at whatever resolution the decoder
    works; the last dict is final and has every task, earlier ones are intermediate predictions and may have fewer
    tasks, or auxiliary ones that are supervised during training only (`auxiliary_tasks`). The model brings all of them
    to the image's size.
    """

    align_corners = False
    """`align_corners` of the model's resizing of this decoder's maps to the image size."""
    has_independent_heads: ClassVar[bool] = False
    """Whether no task's output depends on modules of other tasks."""
    batches_option: ClassVar[str] = ""
    """Name of its option for the number of labelled batches in training, if any; by default that of the recipe's
    steps.
    """

    class_token: bool | None = None
    """Whether the maps that it reads have the class token's features behind the patch's; `None` where it does not ask.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        auxiliary_tasks: Mapping[str, Task] | None = None,
    ) -> None:
        super().__init__()
        self._auxiliary_tasks = {name: task for name, task in (auxiliary_tasks or {}).items() if name not in tasks}
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.tasks = dict(tasks)
        if len(self.channels) != len(self.strides) or list(self.strides) != sorted(self.strides):
            raise ValueError(
                f"channels {self.channels} and strides {self.strides} of a decoder must be one pair for each map, "
                "the finest first."
            )
        if not self.channels or any(number < 1 for number in (*self.channels, *self.strides)):
            raise ValueError(
                f"channels {self.channels} and strides {self.strides} of a decoder must be 1 or more, of a map or more."
            )
        if not tasks:
            raise ValueError("tasks is empty; a decoder needs at least one task.")
        for name, task in self.tasks.items():
            if not isinstance(task, Task):
                raise ValueError(
                    f"tasks[{name!r}] is {task!r}, no Task; make one by triptych.tasks, such as depth() or semseg(40)."
                )
        self.tasks = {name: task.called(name) for name, task in self.tasks.items()}

    @property
    def auxiliary_tasks(self) -> dict[str, Task]:
        """Tasks that only intermediate predictions have; none unless a decoder takes some."""
        return self._auxiliary_tasks

    @property
    def intermediate_tasks(self) -> dict[str, Task]:
        """Tasks that supervise intermediate predictions: the tasks themselves unless a decoder predicts something else
        there, such as depth as a class.
        """
        return {**self.tasks, **self.auxiliary_tasks}

    def resize(self, raw: Tensor, size: tuple[int, int], multiple: int = 1) -> Tensor:
        """Bilinear resize of a raw map to the image size, without what a backbone padded to sides that are multiples of
        `multiple`; none where the map has that size.
        """
        if same_size(raw.shape[-2:], size):
            return raw
        covered = [round_up(side, multiple) for side in size]
        # Channels first, which losses and callers expect, while the map is small: turning a large one costs more.
        resized = F.interpolate(raw.contiguous(), size=covered, mode="bilinear", align_corners=self.align_corners)
        return resized[..., : size[0], : size[1]]

    def accept(self, stored: Mapping[str, Tensor]) -> None:
        """Take the form that an older version gave this decoder, by the tensors that will be loaded; nothing unless a
        decoder had another one.
        """

    @property
    def shared_modules(self) -> list[nn.Module]:
        """Modules that all tasks share, and no task has for itself: gradient balancing works on these too. None unless
        a decoder has such; what mixes the tasks' own features is not meant.
        """
        return []

    def penalties(self) -> dict[str, Tensor]:
        """Scalars that training adds to the loss as they are, after a forward pass: none unless a decoder has some."""
        return {}

    def affinity_losses(self, output: Output, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of pairs of places that training adds to the losses of tasks; none unless a decoder has some."""
        return {}

    def describe(self) -> str:
        """Note on a trained decoder, printed after an evaluation; empty unless a decoder has one."""
        return ""

    def predict_task(self, task: str, features: list[Tensor]) -> Tensor:
        """The final raw map of one task, from features that may be its own; for decoders of independent heads."""
        raise NotImplementedError(f"{type(self).__name__} has no heads that are independent of each other")

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")
