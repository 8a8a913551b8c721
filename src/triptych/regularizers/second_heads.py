"""Control: a second copy of the network's own heads, trained beside the first on the same shared features.

Li et al. (ICLR 2024, table of ablations) compare their branch with auxiliary heads of the same architecture as the
heads and another initialization; on InvPT these lose 1.11 points of segmentation. `AuxiliaryHeads` is another control:
convolutional heads with as many parameters as the branch.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from triptych.decoders.base import Decoder
from triptych.regularizers.base import Regularizer
from triptych.regularizers.terms import Alpha, choose_tasks
from triptych.tasks import Task
from triptych.types import Output, Sample


class SecondHeads(Regularizer):
    """A second decoder like the model's, from other random weights; it is thrown away after training.

    It is trained as the first one is: the loss of a task is that of its final prediction, plus `auxiliary_factor` times
    those of its intermediate ones, plus what the decoder adds for pairs of places. Which layers are heads is not said
    in public; here everything after the shared features is. Not carried over: a decoder's `penalties`. `decoder` works
    on features of an image whose sides were padded to multiples of `multiple`.
    """

    copies_decoder: ClassVar[bool] = True

    def __init__(
        self,
        channels: Sequence[int],
        decoder: Decoder,
        multiple: int = 1,
        auxiliary_factor: float = 1.0,
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        weight: float = 1.0,
        rendered: tuple[str, ...] = (),
        task_weights: tuple[float, ...] = (),
        schedule: str = "auto",
        schedule_steps: int = 0,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if decoder.channels != tuple(channels) or decoder.strides != tuple(strides):
            raise ValueError(
                f"second-heads: the decoder reads maps of {decoder.channels} channels at strides {decoder.strides}, "
                f"the shared features have {tuple(channels)} at {tuple(strides)}; give one built for these."
            )
        self.decoder, self.multiple, self.auxiliary_factor = decoder, multiple, auxiliary_factor
        self.tasks = choose_tasks(rendered, {**tasks, **decoder.auxiliary_tasks})
        self.alpha = Alpha(
            list(self.tasks),
            weight=weight,
            task_weights=task_weights,
            schedule=schedule,
            schedule_steps=schedule_steps,
            warmup_steps=warmup_steps,
        )

    def decode(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        """The decoder's maps, its dropout drawn from the regularizer's own generator: the network's stays as it is."""
        device = features[0].device
        seed = int(self.draw(1, 1) * 2**31)
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            torch.manual_seed(seed)
            return self.decoder(features)

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        size = (sample.image.shape[-2], sample.image.shape[-1])
        *intermediate, final = [
            {name: self.decoder.resize(raw, size, self.multiple) for name, raw in stage.items()}
            for stage in self.decode(output.features)
        ]
        tasks, between = self.decoder.tasks, self.decoder.intermediate_tasks
        terms = [(n, tasks[n].loss(raw, sample.targets[n])) for n, raw in final.items() if n in self.tasks]
        for stage in intermediate:
            terms += [
                (n, self.auxiliary_factor * between[n].loss(raw, sample.targets[n]))
                for n, raw in stage.items()
                if n in self.tasks
            ]
        second = Output(final, intermediate, output.features)
        terms.extend(self.decoder.affinity_losses(second, sample.targets).items())
        return self.alpha(
            {name: torch.stack([loss for key, loss in terms if key == name]).sum() for name in self.tasks}, self.step
        )
