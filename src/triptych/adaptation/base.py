"""What every adapter is: one step of unsupervised domain adaptation for any model and task set."""

from torch import Tensor, nn

from triptych.types import Sample


class Adapter(nn.Module):
    """Losses that use unlabelled target images.

    `forward(model, source, target)` returns named scalars that the loop adds to the supervised loss of the source
    batch. Adapters with their own optimiser (discriminators) list those parameters in `own_parameters` and compute
    their loss in `own_losses`, called after the model's step.
    """

    def forward(self, model: nn.Module, source: Sample, target: Sample) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")
