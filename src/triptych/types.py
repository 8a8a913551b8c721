"""Shared types: samples, outputs, cameras; masks of labelled pixels; sizes of maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

IGNORE = 255
"""The invalid value of integer label maps. Float targets mark invalid pixels with NaN."""
MOST_CLASSES = 2**16 - 1
"""Most classes of a task: as many ids as 16-bit pictures can hold."""
UNUSED = f"(no class: {IGNORE} means unlabelled)"
"""Name of class id `IGNORE` in tasks that have more classes than that; no pixel has it."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, of one image or of a batch.

    `intrinsics` is `(*batch, 3, 3)` in pixels of the sample's image, with pixel centers at integer + 0.5: the ray of
    pixel column `u` and row `v` is `K^-1 (u + 0.5, v + 0.5, 1)`. `pose` is `(*batch, 4, 4)`, camera to world, in
    metres, axes x right, y down, z forward; `None` where unknown.
    """

    intrinsics: Tensor
    pose: Tensor | None = None

    def to(self, device: torch.device | str) -> "Camera":
        """The same camera on another device."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(device),
            pose=None if self.pose is None else self.pose.to(device),
        )


@dataclass(frozen=True)
class Sample:
    """One image with its targets, or a batch of them.

    `image` is `(3, H, W)` or `(B, 3, H, W)` float32 RGB in [0, 1]. `targets` maps task names to targets in the layout
    of their task (docs/conventions.md), all at the image's size; a label that is missing is an all-invalid map. `key`
    names the image (a tuple of names for a batch). `extras` holds further tensors that are no task's target (instance
    ids).

    `neighbors` are other views of the same scene, such as frames of the same video, in the order that the dataset was
    asked for: samples of the same size, each with its own image, targets and camera. Transforms move them like the
    image itself, so that relative poses stay true, and change their colors in the same way. `extras["offset"]` of a
    video frame (int64, no dimensions) is how many frames later than this one it was taken; negative is earlier. A
    missing neighbor is a view of NaN (`triptych.missing_view`), and so are unknown intrinsics where other neighbors
    have some: batches then stay complete, and training counts the neighbors that it could not use.
    """

    image: Tensor
    targets: dict[str, Tensor]
    key: str | tuple[str, ...] = ""
    camera: Camera | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    neighbors: tuple["Sample", ...] = ()

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Names of all its images: that of the one, or those of a batch.

        >>> Sample(torch.zeros(3, 1, 1), {}, key="a").image_keys
        ('a',)
        """
        return (self.key,) if isinstance(self.key, str) else self.key

    def to(self, device: torch.device | str) -> "Sample":
        """The same sample on another device."""
        # Copies to a GPU may be asynchronous: it waits for them by itself. The CPU would read an unfinished copy.
        ahead = torch.device(device).type != "cpu"
        return replace(
            self,
            image=self.image.to(device, non_blocking=ahead),
            targets={name: target.to(device, non_blocking=ahead) for name, target in self.targets.items()},
            camera=None if self.camera is None else self.camera.to(device),
            extras={name: value.to(device, non_blocking=ahead) for name, value in self.extras.items()},
            neighbors=tuple(view.to(device) for view in self.neighbors),
        )

    def pin_memory(self) -> "Sample":
        """The same sample in memory that a GPU reads from directly, but for its camera: `DataLoader(pin_memory=True)`
        calls this.
        """
        return replace(
            self,
            image=self.image.pin_memory(),
            targets={name: target.pin_memory() for name, target in self.targets.items()},
            extras={name: extra.pin_memory() for name, extra in self.extras.items()},
            neighbors=tuple(view.pin_memory() for view in self.neighbors),
        )


class Output(NamedTuple):
    """Outputs of a multi-task model.

    `predictions`: task name to raw map `(B, channels, H, W)` at the image's size. `auxiliary`: intermediate
    predictions, one mapping per supervised stage, at the image's size too (resized when they are read). `features`: the
    shared feature maps, finest first, that every task reads; they may cover what the backbone padded, which
    `MultiTaskModel.on_image` takes away.
    """

    predictions: dict[str, Tensor]
    auxiliary: Sequence[Mapping[str, Tensor]]
    features: list[Tensor]


def valid_pixels(target: Tensor) -> Tensor:
    """Mask of labelled pixels: the one reader of `IGNORE` and NaN.

    Integer label maps `(*batch, H, W)` give a boolean map of the same shape; float maps `(*batch, C, H, W)` give
    `(*batch, 1, H, W)`, true where every channel is finite.

    >>> valid_pixels(torch.tensor([[0, 255]])).tolist()
    [[True, False]]
    >>> valid_pixels(torch.tensor([[[1.0, float("nan")]]])).tolist()
    [[[True, False]]]
    """
    return target.isfinite().all(dim=-3, keepdim=True) if target.is_floating_point() else target != IGNORE


def check_layout(what: str, maps: Tensor, target: Tensor, channels: int | None, target_channels: int | None) -> None:
    """Raise `ValueError`, naming `what`, unless a batch of maps and its target have their layouts and one size, and
    `TypeError` unless they are tensors.

    `channels` and `target_channels` are those of float maps `(B, C, H, W)`; `None` stands for integers `(B, H, W)`.
    Arithmetic would spread over a missing axis and compare each image with all others. Shapes and number types are
    compared, no values: nothing waits for a GPU.

    >>> check_layout("depth", torch.zeros(2, 1, 3, 4), torch.zeros(2, 3, 4), 1, 1)
    Traceback (most recent call last):
    ...
    ValueError: depth has maps float32 (2, 1, 3, 4) and a target float32 (2, 3, 4); give float (2, 1, 3, 4) and float \
(2, 1, 3, 4): (batch, channels, height, width), NaN where there is no label.
    """
    if other := [type(each).__name__ for each in (maps, target) if not isinstance(each, Tensor)]:
        raise TypeError(f"{what} has maps or a target of type {other[0]}; give tensors: torch.from_numpy(...).")
    wanted = [
        (count is not None, (*maps.shape[:1], *(() if count is None else (count,)), *maps.shape[-2:]))
        for count in (channels, target_channels)
    ]
    if [(each.is_floating_point(), tuple(each.shape)) for each in (maps, target)] == wanted:
        return
    came = [f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}" for each in (maps, target)]
    taken = [f"{'float' if floating else 'integer'} {shape}" for floating, shape in wanted]
    layout = (
        f"(batch, height, width), {IGNORE} where there is no label"
        if target_channels is None
        else "(batch, channels, height, width), NaN where there is no label"
    )
    raise ValueError(f"{what} has maps {came[0]} and a target {came[1]}; give {taken[0]} and {taken[1]}: {layout}.")


def keep_labels(target: Tensor, keep: Tensor) -> Tensor:
    """A target of any of these layouts, invalid where `keep` `(*batch, 1, H, W)` is false.

    >>> keep_labels(torch.tensor([[3, 4]]), torch.tensor([[[True, False]]])).tolist()
    [[3, 255]]
    """
    floating = target.is_floating_point()
    return torch.where(keep if floating else keep.squeeze(-3), target, torch.nan if floating else IGNORE)


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples of one size into a batch.

    Raises `ValueError` when sizes, tasks or numbers of neighbors differ. Cameras are kept when every sample has one;
    extras when all share them.
    """
    if not samples:
        raise ValueError("collate: no samples; pass at least one.")
    sizes = {tuple(sample.image.shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        named = ", ".join(f"{sample.key} {tuple(sample.image.shape[-2:])}" for sample in samples)
        raise ValueError(
            f"collate: images differ in size ({named}); crop or pad them to one size, or use batch size 1."
        )
    names = list(samples[0].targets)
    for sample in samples:
        if set(sample.targets) != set(names):
            raise ValueError(
                f"collate: sample {sample.key!r} has targets {sorted(sample.targets)}, the first of the batch has "
                f"{sorted(names)}; give a missing label as an all-invalid map."
            )
        if len(sample.neighbors) != len(samples[0].neighbors):
            raise ValueError(
                f"collate: sample {sample.key!r} has {len(sample.neighbors)} neighbors, the first of the batch "
                f"{len(samples[0].neighbors)}; give triptych.missing_view(sample, offset) for those that are not there."
            )
    cameras = [sample.camera for sample in samples]
    extras = set.intersection(*(set(sample.extras) for sample in samples))
    return Sample(
        image=torch.stack([sample.image for sample in samples]),
        targets={name: torch.stack([sample.targets[name] for sample in samples]) for name in names},
        key=tuple(str(sample.key) for sample in samples),
        camera=_stack_cameras(cameras),
        extras={name: torch.stack([sample.extras[name] for sample in samples]) for name in sorted(extras)},
        neighbors=tuple(collate(views) for views in zip(*(sample.neighbors for sample in samples), strict=True)),
    )


def _stack_cameras(cameras: Sequence[Camera | None]) -> Camera | None:
    known = [camera for camera in cameras if camera is not None]
    if len(known) < len(cameras):
        return None
    poses = [camera.pose for camera in known if camera.pose is not None]
    pose = torch.stack(poses) if len(poses) == len(known) else None
    return Camera(torch.stack([camera.intrinsics for camera in known]), pose)


def same_size(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two sizes are equal, to skip an operation that would then change nothing.

    While a program with dynamic sizes is exported, true only where they are equal at every size: a shortcut that is
    right at the traced size would be wrong at others.

    >>> same_size((3, 4), torch.ones(3, 4).shape)
    True
    """
    if not torch.compiler.is_exporting():
        return tuple(first) == tuple(second)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return all(statically_known_true(a == b) for a, b in zip(first, second, strict=True))


def ceil_div(side: int, divisor: int) -> int:
    """`side / divisor`, rounded up.

    Not `-(-side // divisor)`: translated to ONNX the division of a negative number rounds towards zero.

    >>> [ceil_div(side, 4) for side in (7, 8, 9)]
    [2, 2, 3]
    """
    return (side + divisor - 1) // divisor


def round_up(side: int, multiple: int) -> int:
    """The next multiple, or `side` itself.

    >>> [round_up(side, 4) for side in (7, 8, 9)]
    [8, 8, 12]
    """
    return ceil_div(side, multiple) * multiple
