"""Base class of regularizers: extra supervision from the same features and targets, never part of the model."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from triptych.processes import num_processes, own_rows
from triptych.types import Output, Sample


class Regularizer(nn.Module):
    """Training-only terms, built as `MyRegularizer(channels, strides=..., tasks=..., **options)` from the model's
    shared features.

    `forward(output, sample)` returns one scalar per task, weighted already by the regularizer's own factor but not by
    the task's: the loop adds them to the task losses of the same name before weighting. Features of `output` lie over
    the image as heads read them, without what the backbone padded: `MultiTaskModel.on_image` of what a model gives
    (but for those that copy the decoder, which take the output as it is). `step` counts
    optimizer steps, for schedules of the weight; one whose constructor takes `schedule_steps` receives the length of
    the run.

    Losses of tasks are those of the batches of all processes: call each as often in every process, whatever the batch
    holds (`losses.whole_batch.any_process` asks the others).

    Random numbers come from `draw`, so that the network trains with the dropout and augmentation that it has without
    the regularizer. Training seeds `generator` and keeps it in checkpoints; it is in the same state in every process.
    `chosen` are options that it decided itself, where they were left open (by a preset): run folders keep them.
    """

    step: int = 0
    needs_features: ClassVar[bool] = True
    """Whether its gradients reach the network through the shared features alone: on a frozen trunk it would train
    nothing that is kept.
    """
    copies_decoder: ClassVar[bool] = False
    """Whether the constructor takes, after the channels, a new decoder like the model's, the multiple that the sides of
    images are padded to, and the factor of intermediate losses.
    """
    needed_task: str = ""
    """Task without whose labels it does nothing of its own; empty where there is none."""
    reads_labels: ClassVar[bool] = False
    """Whether it reads labels of that task to supervise others: only images with labels of both then count."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: Mapping[str, str] = {}
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, images: int, numbers: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform random numbers in [0, 1), `(images, numbers)`: a row for each image of this process.

        Rows are drawn for the images of all processes, so that two processes equal one with twice the batch.

        >>> first, second = Regularizer(), Regularizer()
        >>> torch.equal(first.draw(2, 3), second.draw(2, 3)), torch.equal(first.draw(2, 3), first.draw(2, 3))
        (True, False)
        """
        return own_rows(torch.rand(images * num_processes(), numbers, generator=self.generator)).to(device)

    def penalties(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        """Scalars that belong to no task, by name: added to the weighted losses as they are."""
        return {}

    def fingerprint(self) -> dict[str, str]:
        """Hashes of what it depends on besides the recipe, such as weights of others; a run resumes only with the
        same.
        """
        return {}

    def measures(self) -> dict[str, float]:
        """Numbers measured in the last step, for the log; checkpoints have to keep them."""
        return {}

    def counts(self) -> dict[str, int]:
        """Counts since the start of training, for the log."""
        return {}

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")
