"""AdaBN: batch norm statistics of the target domain, and nothing else (Li et al., "Revisiting batch normalization for
practical domain adaptation", 2016, arXiv 1603.04779; "Adaptive batch normalization", Pattern Recognition 2018).

Paper and this file. As in the paper mean and variance are those of all responses of a layer, merged pass by pass. While
they are collected a layer normalizes by the statistics of the pass, as in training. The paper states no batch sizes
that would carry over; here 200 images go through in 25 passes of 8.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from triptych.adaptation.base import Adapter, kept_modules
from triptych.backbones.cells import pad_image
from triptych.types import Output, Sample

Images = Float[Tensor, "batch 3 height width"]


class AdaBN(Adapter):
    """Training sees the labelled images alone. Weights that are about to be scored or deployed, averaged ones too, get
    the batch norm statistics of `images` training images of the target, `batch_size` in a pass.

    Parameters stay as they are, bit for bit, and training continues with statistics of its own.
    """

    has_losses = False

    def __init__(
        self,
        model: nn.Module,
        *,
        size: tuple[int, int],
        weights: Mapping[str, float],
        seed: int = 0,
        images: int = 200,
        batch_size: int = 8,
    ) -> None:
        super().__init__(model, size=size, weights=weights, seed=seed)
        if images < 2 or batch_size < 2:
            raise ValueError(
                f"adabn has images {images} and batch_size {batch_size}; statistics need at least 2 of each, such as "
                "200 and 8."
            )
        self.images, self.batch_size = images, batch_size
        if kept_modules(model).intersection(batch_norms(model)):
            raise ValueError(
                "adabn renews the statistics of batch norms, and model.freeze or model.tuning keeps some of them; "
                "leave one of the two out, or adapt the finished run (`triptych adapt`)."
            )

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        return {}

    def finish(self, model: nn.Module, read: Callable[[int], Iterable[Sample]]) -> None:
        device = next(model.parameters()).device
        renew_statistics(model, (images.to(device) for images in passes(read(self.images), self.batch_size)))


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers that normalize by stored statistics of their input; `ValueError` where there are none."""
    found = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
    if not found:
        raise ValueError(
            "adabn renews batch norm statistics, and this network has none (its norms look at one image alone): choose "
            "a backbone or decoder with batch norm, or another adapter, such as 'advent-mt'."
        )
    return found


def passes(samples: Iterable[Sample], batch_size: int) -> Iterator[Images]:
    """Images of batches of one, `batch_size` together and the rest with the last: one image alone has no variance where
    a network pools it to a single value. Those of a pass are cut about their centers to the size that all have.

    >>> [len(images) for images in passes([Sample(torch.zeros(1, 3, 4, 4), {})] * 9, 4)]
    [4, 5]
    """
    waiting: list[Tensor] = []
    for sample in samples:
        waiting.append(sample.image)
        if len(waiting) == 2 * batch_size:
            yield _stack(waiting[:batch_size])
            waiting = waiting[batch_size:]
    if len(waiting) < 2:
        raise ValueError(f"adabn found {len(waiting)} image(s) of the target domain; statistics need at least 2.")
    yield _stack(waiting)


def _stack(images: list[Tensor]) -> Images:
    height, width = (min(image.shape[dim] for image in images) for dim in (-2, -1))
    return torch.cat([_cut(image, height, width) for image in images])


def _cut(image: Float[Tensor, "1 3 _ _"], height: int, width: int) -> Float[Tensor, "1 3 _ _"]:
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def renew_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running mean and variance of every batch norm by those of its inputs while `batches` of images pass.

    Mean and unbiased variance over all images and places, in double precision. Nothing else of the model changes, its
    mode included; dropout is off. A layer that the network does not use keeps what it has.
    """
    moments = {layer: _Moments() for layer in batch_norms(model)}
    with torch.no_grad(), _normalizing_by_the_pass(model, moments):
        for images in batches:
            model(pad_image(model, images))
    for layer, found in moments.items():
        if found.count > 1 and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.copy_(found.mean)
            layer.running_var.copy_(found.squares / (found.count - 1))


class _Moments:
    """Count, mean and sum of squared deviations by channel, merged part by part (Chan, Golub and LeVeque, 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add the input of a layer; a hook before its forward pass."""
        values = inputs[0].double().transpose(0, 1).flatten(1)
        count, mean = values.shape[1], values.mean(dim=1)
        total, shift = self.count + count, mean - self.mean.to(mean)
        spread = (values - mean[:, None]).square().sum(dim=1)
        self.squares = self.squares.to(mean) + spread + shift.square() * (self.count * count / total)
        self.mean = self.mean.to(mean) + shift * (count / total)
        self.count = total


@contextmanager
def _normalizing_by_the_pass(model: nn.Module, moments: Mapping[_BatchNorm, _Moments]) -> Iterator[None]:
    """Context in which batch norms use the statistics of each pass and keep none; all other modules are in evaluation
    mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    hooks = [layer.register_forward_pre_hook(found.add) for layer, found in moments.items()]
    for layer in moments:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in moments:
            layer.track_running_stats = True
        for module, training in modes.items():
            module.training = training
