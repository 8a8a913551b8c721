"""What every regularizer is: extra supervision from the same features and targets, never part of the model."""

from torch import Tensor, nn

from triptych.types import Output, Sample


class Regularizer(nn.Module):
    """Training-only terms, built as `MyRegularizer(channels, strides=..., tasks=..., **options)` from the model's
    shared features.

    `forward(output, sample)` returns one scalar per task, weighted already by the regularizer's own factor but not by
    the task's: the loop adds them to the task losses of the same name before weighting. `step` counts optimizer
    steps, for schedules of the weight; one whose constructor takes `schedule_steps` is told the length of the run.
    """

    step: int = 0

    def counts(self) -> dict[str, int]:
        """What the regularizer counted since the start of training, for the log."""
        return {}

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")
