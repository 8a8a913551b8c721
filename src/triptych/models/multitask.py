"""A multi-task model: one backbone, one decoder, maps brought to the image's size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from triptych.backbones.base import Backbone, find_backbones
from triptych.backbones.cells import cover_image
from triptych.decoders.base import Decoder
from triptych.models.lora import merge_updates
from triptych.models.parts import find_part, modules_of_task
from triptych.tasks import Task
from triptych.types import Output, Sample

Itself = TypeVar("Itself", bound="MultiTaskModel")  # `Self` is not understood by the shape checks of the tests


def _as_they_are(raw: Tensor) -> Tensor:
    return raw


@dataclass(frozen=True, eq=False)
class ResizedMaps(Mapping[str, Tensor]):
    """Maps brought to the image's size as they are read.

    Of intermediate predictions prediction reads none, and training each once: resized all together they were a good
    part of the peak memory. A dataclass, in which DistributedDataParallel finds tensors, and built from maps alone, as
    accelerate does with those that it converts.
    """

    raw: dict[str, Tensor]
    resize: Callable[[Tensor], Tensor] = _as_they_are

    def __getitem__(self, name: str) -> Tensor:
        return self.resize(self.raw[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class MultiTaskModel(nn.Module):
    """Compose a backbone and a decoder (hard parameter sharing).

    `forward(image)` takes `(B, 3, H, W)` RGB in [0, 1] and returns an `Output` whose maps have the image's size.
    Encoder-sharing architectures (Cross-Stitch, MTAN, ...) subclass it and return the same `Output`. In eval mode
    `auxiliary` holds the intermediate predictions too; exporting and predicting read `predictions` alone.
    """

    multiple: int = 1
    """Raw maps cover sides that are multiples of this, in pixels: the backbone may have padded the image."""
    pad_to: int = 1
    """Multiples up to which `backbones.cells.predict_maps` pads the sides of images. At other sizes the levels of a
    pyramid cover more than the image, each by its own remainder, and decoders lay them on each other displaced: a
    network that was trained on multiples has never seen that.
    """
    takes_features: ClassVar[bool] = True
    """Whether `forward` takes features that were computed before."""
    frozen: tuple[str, ...] = ()
    """Paths of modules that are in evaluation mode whatever the mode of the network; a module may be replaced."""

    def __init__(self, backbone: Backbone, decoder: Decoder) -> None:
        super().__init__()
        self.multiple = backbone.multiple
        self.backbone = backbone
        self.decoder = decoder

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks of the final prediction, in declaration order."""
        return self.decoder.tasks

    @property
    def auxiliary_tasks(self) -> dict[str, Task]:
        """Tasks that only intermediate predictions have: training needs their targets, inference does not."""
        return self.decoder.auxiliary_tasks

    @property
    def intermediate_tasks(self) -> dict[str, Task]:
        """Tasks that supervise intermediate predictions."""
        return self.decoder.intermediate_tasks

    @property
    def shared_modules(self) -> list[nn.Module]:
        """The modules whose parameters every task shares: gradient balancing works on these."""
        return [self.backbone, *self.decoder.shared_modules]

    @property
    def fusion_modules(self) -> list[nn.Module]:
        """Modules that mix the tasks' features; `optimizer.fusion_lr_factor` scales their learning rate."""
        return []

    def penalties(self) -> dict[str, Tensor]:
        """Scalars that training adds to the loss as they are, after a forward pass."""
        return self.decoder.penalties()

    def affinity_losses(self, output: Output, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of pairs of places that training adds to the losses of tasks."""
        return self.decoder.affinity_losses(output, targets)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of `Output.features`, finest first."""
        return self.backbone.channels

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of `Output.features`, finest first."""
        return self.backbone.strides

    def set_training_sizes(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Set `pad_to` from the sizes of training images: where no level of maps reaches beyond those, other images are
        padded so that none does. Without sizes nothing is padded.
        """
        self.pad_to = self.padding_for(sizes)

    def padding_for(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Value of `pad_to` for a network that is trained on images of these sizes."""
        cell = max(self.feature_strides)
        whole = bool(sizes) and all(side % cell == 0 for size in sizes for side in size)
        return cell if whole and self.multiple == 1 else 1

    @property
    def has_independent_heads(self) -> bool:
        """Whether no task's output depends on modules of other tasks."""
        return self.decoder.has_independent_heads

    @property
    def learns_features(self) -> bool:
        """Whether training changes the shared features."""
        sources = [*find_backbones(self).values(), *self.fusion_modules]
        return any(parameter.requires_grad for module in sources for parameter in module.parameters())

    def idle_tasks(self) -> list[str]:
        """Tasks whose output no training changes, because everything that it depends on is frozen."""
        own = {name: {p for module in modules_of_task(self, name) for p in module.parameters()} for name in self.tasks}
        trained = {parameter for parameter in self.parameters() if parameter.requires_grad}
        if not self.has_independent_heads or trained.difference(*own.values()):
            return []
        return [name for name, parameters in own.items() if not trained & parameters]

    def freeze(self, names: Sequence[str]) -> None:
        """Keep parts (`find_part`) as they are: no gradient, and evaluation mode, in which running statistics stand
        still and nothing is dropped.

        A module of which nothing is left to train is in evaluation mode too. Raises `ValueError` for an unknown name,
        and for the head of a task where tasks exchange features.
        """
        for name in names:
            if name.startswith("heads.") and not self.has_independent_heads:
                raise ValueError(
                    f"model.freeze names {name}, but in {type(self.decoder).__name__} tasks exchange features, so its "
                    "output would change all the same; freeze 'backbone' or 'decoder', or choose a decoder of "
                    "independent heads, such as fcn, four-level, hrnet or deeplab."
                )
        parts = [find_part(self, name) for name in names]
        for name, part in zip(names, parts, strict=True):
            if not (part.parameters or any(next(module.buffers(), None) is not None for module in part.modules)):
                raise ValueError(f"model.freeze names {name}, which has nothing that training changes; leave it out.")
            for parameter in part.parameters:
                parameter.requires_grad_(False)
        named = {module for part in parts for module in part.modules}
        self.frozen = tuple(
            path for path, module in self.named_modules() if path and (module in named or _is_frozen(module))
        )
        self.train(self.training)

    def frozen_names(self) -> set[str]:
        """Names of the tensors of the state that no training changes."""
        kept = {each for path in self.frozen for each in self.get_submodule(path).modules()}
        buffers = {
            f"{path}.{name}"
            for path, module in self.named_modules()
            if module in kept
            for name, _ in module.named_buffers(recurse=False)
        }
        parameters = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        return (parameters | buffers) & set(self.state_dict())

    def train(self: Itself, mode: bool = True) -> Itself:
        """Set the mode of all that is not frozen."""
        super().train(mode)
        for path in self.frozen:
            self.get_submodule(path).eval()
        return self

    def supervised_views(self, sample: Sample) -> tuple[Sample, ...]:
        """The views of a batch whose labels are trained on."""
        return (sample,)

    def with_views(self, sample: Sample) -> tuple[Sample, dict[str, Any]]:
        """The batch that training supervises, and further arguments of `forward`: the batch unchanged and none, unless
        a model sees other views of the scene.
        """
        return sample, {}

    def forward(self, image: Tensor, features: list[Tensor] | None = None) -> Output:
        """Maps of a batch of images; `features` are the backbone's, where they are known."""
        return self.decode(self.backbone(image) if features is None else features, (image.shape[-2], image.shape[-1]))

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Output:
        """The decoder's maps of shared features, brought to `size`."""
        *auxiliary, final = self.decoder(features)
        return Output(
            predictions={name: self.resize(final[name], size) for name in self.tasks},
            auxiliary=[self.resize_later(stage, size) for stage in auxiliary],
            features=features,
        )

    def on_image(self, output: Output, size: tuple[int, int]) -> Output:
        """The output with features that cover images of `size` alone, without padding, for losses on places of
        features. Levels of a pyramid at sizes that are not padded stay where decoders read them.
        """
        padded = max(self.multiple, self.pad_to)
        return output._replace(features=[cover_image(maps, size, padded) for maps in output.features])

    def merge(self) -> tuple[str, dict[str, Any]]:
        """Merge low-rank updates into the weights; returns the `tuning` and its options that build such a network."""
        merge_updates(self)
        self.requires_grad_(True)
        self.frozen = ()
        return "full", {}

    def describe(self) -> str:
        """Note on a trained decoder; empty unless it has one."""
        return self.decoder.describe()

    def resize_later(self, stage: dict[str, Tensor], size: tuple[int, int]) -> ResizedMaps | dict[str, Tensor]:
        """Intermediate predictions at the image's size, each resized when it is read."""
        if torch.compiler.is_compiling():  # a program returns nothing but tensors
            return {name: self.resize(raw, size) for name, raw in stage.items()}
        return ResizedMaps(stage, partial(self.resize, size=size))

    def resize(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """Bilinear resize of raw maps to the image size, without what the backbone padded; none where they have it."""
        return self.decoder.resize(raw, size, self.multiple)


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
