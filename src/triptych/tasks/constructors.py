"""One constructor per task, the generic `regression`, and the table that recipes and files name them by.

All in one file: what differs between tasks is read side by side.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.lookup import named_choice
from triptych.losses import classes as class_losses
from triptych.losses import depth as depth_losses
from triptych.losses import pairs as pair_losses
from triptych.losses import pixel as losses
from triptych.metrics.base import Metric
from triptych.metrics.depth import AlignedDepthMetric, DepthMetric
from triptych.metrics.normals import NormalsMetric
from triptych.metrics.saliency import SaliencyMetric
from triptych.metrics.segmentation import SegmentationMetric
from triptych.metrics.values import VALUES_METRICS
from triptych.tasks import colors
from triptych.tasks.task import Task, keep
from triptych.types import IGNORE, MOST_CLASSES, UNUSED


def _classes(classes: int | Sequence[str]) -> tuple[str, ...]:
    count = classes if isinstance(classes, int) else len(classes)
    if not 0 < count <= MOST_CLASSES:
        raise ValueError(f"{count} classes; a task has 1 to {MOST_CLASSES}, as many as pictures of 16 bits can hold.")
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if count > IGNORE and names[IGNORE] != UNUSED:
        raise ValueError(
            f"{count} classes, of which {IGNORE} would never count: it marks pixels without a label. Give at most "
            f"{IGNORE}, or names with '{UNUSED}' for class {IGNORE} and labels that leave it out."
        )
    return names


def _given(constructor: Callable[..., Task], **arguments: Any) -> dict[str, Any]:
    """The arguments that differ from the constructor's defaults and that a file can hold."""
    parameters = inspect.signature(constructor).parameters
    return {
        name: value for name, value in arguments.items() if value != parameters[name].default and not callable(value)
    }


def check_colors_shown(shown: Sequence[Sequence[int]], count: int, where: str) -> None:
    """Fail unless there are no colors, or one of three bytes for each of `count` classes."""
    if shown and len(shown) != count:
        raise ValueError(f"colors_shown of {where} has {len(shown)} colors; give one for each of its {count} classes.")
    for color in shown:
        if len(color) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in color):
            raise ValueError(f"colors_shown of {where} has {list(color)}; a color is red, green, blue, 0 to 255 each.")


def _mirrored_classes(names: Sequence[str]) -> list[int]:
    """The class of each in a mirrored image: "left arm" and "right arm" change places, where both are classes."""
    pairs = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    seen = (re.sub("|".join(pairs), lambda side: pairs[side.group()], name) for name in names)
    return [names.index(other) if other in names else own for own, other in enumerate(seen)]


def _mirror_classes(labels: Tensor, order: Sequence[int]) -> Tensor:
    """Label maps `(*, H, W)` with the classes of the mirrored image."""
    ids = torch.arange(max(len(order), IGNORE + 1), device=labels.device)
    ids[: len(order)] = torch.tensor(order, device=labels.device)
    return ids[labels.long()].to(labels.dtype)


def _argmax(raw: Tensor) -> Tensor:
    return raw.argmax(dim=1)


def _labels_png(labels: np.ndarray, count: int) -> np.ndarray:
    """8 bit where `count` classes have room in it, so that all strips of a map have one number type."""
    return labels.astype(np.uint8 if max(count - 1, labels.max(initial=0)) < 256 else np.uint16)


def _probability_png(probability: np.ndarray) -> np.ndarray:
    """8 bit, truncated as published code saves sigmoid outputs; invalid (NaN, or a label of `IGNORE`) is 0."""
    probability = np.nan_to_num(probability.reshape(probability.shape[-2:]))
    return np.where(probability <= 1, probability * 255.0, 0).astype(np.uint8)


def _sigmoid(raw: Tensor) -> Tensor:
    return raw.float().sigmoid()


def _foreground(raw: Tensor) -> Tensor:
    return raw.float().softmax(dim=1)[:, 1:]


def semseg(
    classes: int | Sequence[str],
    *,
    loss: str = "cross-entropy",
    class_weights: Sequence[float] = (),
    colors_shown: Sequence[Sequence[int]] = (),
    weight: float = 1.0,
    name: str = "semseg",
) -> Task:
    """Semantic segmentation over `classes` (a count or the names).

    `loss` is `cross-entropy`, `focal`, `dice`, `cross-entropy-dice`, `lovasz` or `ohem` (`losses/classes.py`).
    `class_weights` are factors of the classes in it, in their order; `triptych data doctor --class-weights` prints
    those of median frequency. `colors_shown` are the colors that pictures have, red, green and blue from 0 to 255 for
    each class, in their order. Two classes whose names differ in left and right change places in a mirrored image.

    >>> semseg(["wall", "floor"]).channels
    2
    """
    names = _classes(classes)
    function = named_choice("segmentation loss", loss, class_losses.SEGMENTATION)
    if class_weights and (len(class_weights) != len(names) or not all(factor >= 0 for factor in class_weights)):
        raise ValueError(
            f"class_weights of task '{name}' has {len(class_weights)} factors; give one, not below 0, for each of its "
            f"{len(names)} classes."
        )
    check_colors_shown(colors_shown, len(names), f"task '{name}'")
    order = _mirrored_classes(names)
    return Task(
        name=name,
        channels=len(names),
        loss=partial(function, class_weights=tuple(class_weights)) if class_weights else function,
        decode=_argmax,
        metric=partial(SegmentationMetric, names),
        colorize=partial(colors.color_labels, shown=colors_shown, hue=colors.first_hue(name)),
        to_png=partial(_labels_png, count=len(names)),
        png_holds="class ids",
        kind="labels",
        constructor="semseg",
        options=_given(
            semseg,
            loss=loss,
            class_weights=tuple(class_weights),
            colors_shown=tuple(list(color) for color in colors_shown),
        ),
        raw_form="scores",
        weight=weight,
        classes=names,
        mirror=keep if order == sorted(order) else partial(_mirror_classes, order=order),
        pair_loss=pair_losses.compare_labels,
    )


HUMAN_PARTS = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")


def human_parts(
    classes: int | Sequence[str] = HUMAN_PARTS,
    *,
    loss: str = "cross-entropy",
    class_weights: Sequence[float] = (),
    colors_shown: Sequence[Sequence[int]] = (),
    weight: float = 2.0,
) -> Task:
    """Human part segmentation: background and six parts (PASCAL-Part as in ASTMT); options as in `semseg`."""
    return semseg(
        classes,
        loss=loss,
        class_weights=class_weights,
        colors_shown=colors_shown,
        weight=weight,
        name="human_parts",
    )


def saliency(*, channels: int = 2, loss: str = "balanced", weight: float = 5.0) -> Task:
    """Saliency: two channels with balanced cross-entropy (ATRC, InvPT), or one with the binary form (survey).

    `loss` is `balanced` by the batch's share of background, or a plain `cross-entropy`.

    >>> saliency(channels=1).decode(torch.zeros(1, 1, 1, 1)).item()
    0.5
    """
    head = named_choice("number of saliency channels", str(channels), _SALIENCY_HEADS)
    return Task(
        name="saliency",
        channels=channels,
        loss=named_choice("saliency loss", loss, head[0]),
        decode=head[1],
        metric=SaliencyMetric,
        colorize=colors.color_probability,
        to_png=_probability_png,
        png_holds="probability times 255, rounded down",
        kind="probability",
        raw_form="scores",
        options=_given(saliency, loss=loss),
        weight=weight,
        classes=("background", "salient"),
        interpolation="bilinear",
    )


_SALIENCY_HEADS = {"1": (losses.SALIENCY_1, _sigmoid), "2": (losses.SALIENCY_2, _foreground)}


def _mirror_normals(target: Tensor) -> Tensor:
    return target * target.new_tensor([-1.0, 1.0, 1.0])[:, None, None]


def _rotate_normals(target: Tensor, angle: float) -> Tensor:
    x, y, z = target.unbind(dim=-3)
    cos, sin = np.cos(angle), np.sin(angle)
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=-3)


def _normals_png(normals: np.ndarray) -> np.ndarray:
    """8 bit, v = (n + 1) / 2 * 255, rounded; invalid is (0, 0, 0) in the file."""
    return np.nan_to_num(np.rint((normals + 1) * 127.5), nan=0.0).astype(np.uint8).transpose(1, 2, 0)


def _unit_normals(raw: Tensor) -> Tensor:
    return losses.unit_vectors(raw.float())


def normals(*, loss: str = "l1", weight: float = 10.0) -> Task:
    """Surface normals in the camera frame (x right, y down, z forward).

    `loss`: `l1` summed over channels (ATRC, InvPT), `l1-mean` a third of it (survey), `cosine` (MTAN, DenseMTL).
    """
    return Task(
        name="normals",
        channels=3,
        loss=named_choice("normals loss", loss, losses.NORMALS),
        decode=_unit_normals,
        metric=NormalsMetric,
        colorize=colors.color_normals,
        to_png=_normals_png,
        png_holds="127.5 (n + 1) of x (right), y (down), z (forward); (0, 0, 0) is no value",
        kind="direction",
        options=_given(normals, loss=loss),
        target_channels=3,
        weight=weight,
        interpolation="bilinear",
        mirror=_mirror_normals,
        rotate=_rotate_normals,
        pair_loss=partial(pair_losses.compare_normals, decode=_unit_normals),
    )


def _millimetres_png(depth: np.ndarray) -> np.ndarray:
    """16 bit millimetres; what is invalid, negative or farther than `FARTHEST` is 0: no value."""
    millimetres = np.rint(depth[0] * 1000)
    held = (millimetres >= 0) & (millimetres <= 1000 * FARTHEST)
    return np.where(held, millimetres, 0).astype(np.uint16)


FARTHEST = 65.535
"""Metres that 16 bit millimetres reach."""


def depth(*, loss: str = "l1", weight: float = 1.0, aligned: bool = False) -> Task:
    """Depth z in metres; decoding follows what the loss makes the network predict.

    `loss`: `l1`, `l1-rectified` and `berhu` on metres, `log-l1`, `scale-invariant` and
    `scale-invariant-gradients` on ln d, `berhu-inverse` on
    DenseMTL's inverse normalised depth (`berhu-inverse-all-pixels`: averaged as its code does;
    `berhu-inverse-published`: decoded as its code does too, 0.99 m too near), `disparity` on the sigmoid between 0.1
    and 100 m of depth from video. `aligned` scores each image after median scaling too, and selects by that: for
    networks that cannot know the scale.

    >>> depth(loss="log-l1").decode(torch.zeros(1, 1, 1, 1)).item()
    1.0
    """
    function, decode = named_choice("depth loss", loss, depth_losses.DEPTH)
    return Task(
        name="depth",
        channels=1,
        loss=function,
        decode=decode,
        metric=AlignedDepthMetric if aligned else DepthMetric,
        colorize=colors.color_depth,
        fit_colors=colors.depth_range,
        to_png=_millimetres_png,
        png_holds="millimetres; 0 is no value",
        png_range=(0.0, FARTHEST),
        kind="length",
        options=_given(depth, loss=loss, aligned=aligned),
        raw_form="encoded" if loss in depth_losses.ENCODE_DEPTH else "physical",
        scales_with_zoom=True,
        averages_labels=loss not in depth_losses.OVER_ALL_PIXELS,
        target_channels=1,
        weight=weight,
        unit="m",
        interpolation="bilinear",
        encode=depth_losses.ENCODE_DEPTH.get(loss, keep),
        pair_loss=partial(pair_losses.compare_depth, decode=decode),
    )


def boundary(*, channels: int = 1, positive_weight: float = 0.95, loss: str = "balanced", weight: float = 50.0) -> Task:
    """Boundaries: one logit with a fixed positive weight, or two channels with class weights.

    `positive_weight` is the factor of boundary pixels, 1 minus it that of the others: 0.95 (survey, InvPT, DenseMTL),
    0.8 (ATRC on NYUv2), 0.88 and 0.925 (MLoRE on NYUv2 and PASCAL). With one channel `loss` is `balanced`, or
    `batch-balanced` (weight from the batch, HED); with two `balanced` (ATRC's auxiliary head) or `weighted-mean`
    (DenseMTL).
    """
    loss_table, decode = named_choice("number of boundary channels", str(channels), _BOUNDARY_HEADS)
    return Task(
        name="boundary",
        channels=channels,
        loss=partial(named_choice("boundary loss", loss, loss_table), positive_weight=positive_weight),
        decode=decode,
        metric=_boundary_metric,
        colorize=colors.color_probability,
        to_png=_probability_png,
        png_holds="probability times 255, rounded down",
        kind="probability",
        options=_given(boundary, positive_weight=positive_weight, loss=loss),
        raw_form="scores",
        target_channels=1,
        weight=weight,
        classes=("none", "boundary"),
        interpolation="bilinear",
    )


def _boundary_metric() -> Metric:
    # Imported where it is used: it compiles with numba.
    from triptych.metrics.boundary import BoundaryMetric

    return BoundaryMetric()


_BOUNDARY_HEADS = {"1": (losses.BOUNDARY_1, _sigmoid), "2": (losses.BOUNDARY_2, _foreground)}


_OF_NUMBERS = tuple(name for name in VALUES_METRICS if name != "angle")


def regression(
    name: str,
    channels: int = 1,
    *,
    unit: str = "",
    loss: str | Callable[[Tensor, Tensor], Tensor] = "l1",
    metric: str | Callable[[], Metric] = "mae",
    weight: float = 1.0,
    limits: tuple[float, float] | None = None,
) -> Task:
    """Any quantity of the surface in `unit`, `channels` numbers per pixel: albedo, temperature, heat flow.

    `loss` is `l1`, `l2` (also `mse`), `huber`, `cosine`, or a function of raw and target `(B, C, H, W)` that masks
    invalid pixels itself; `metric` is the number that selects, `mae`, `rmse`, `r2` or `angle` (degrees between vectors
    of channels), or makes a metric. Files hold no functions: a task with one needs a constructor of its own, which is
    registered (`triptych.register`). `limits` is the range that is drawn, and stored as
    PNG of 16 bit (one channel) or 8 (three); three channels are colors between 0 and 1 unless it says otherwise. Values
    move with the pixels and stay what they are under flips, zooms and rotations.

    >>> regression("albedo", 3).kind
    'values'
    """
    if channels < 1:
        raise ValueError(f"task {name!r} has {channels} channels; a quantity has at least 1.")
    if limits is not None and not limits[0] < limits[1]:
        raise ValueError(f"limits of task {name!r} are {limits}; give the lower one first, such as (0.0, 1.0).")
    if metric == "angle" and channels == 1:
        raise ValueError(f"metric of task {name!r} is 'angle' for 1 channel; choose {', '.join(_OF_NUMBERS)}.")
    limits = (0.0, 1.0) if limits is None and channels == 3 else limits
    return Task(
        name=name,
        channels=channels,
        loss=named_choice("regression loss", loss, losses.VALUES) if isinstance(loss, str) else loss,
        decode=losses.at_least_float32,
        metric=partial(named_choice("regression metric", metric, VALUES_METRICS), channels)
        if isinstance(metric, str)
        else metric,
        colorize=partial(colors.color_values, limits=limits),
        fit_colors=None if limits else colors.values_range,
        to_png=partial(_values_png, limits=limits) if limits and channels in (1, 3) else None,
        png_range=limits,
        png_holds=f"limits[0] to limits[1] as 0 to {65535 if channels == 1 else 255}",
        kind="values",
        constructor="regression",
        options=_given(regression, loss=loss, metric=metric),
        target_channels=channels,
        weight=weight,
        unit=unit,
        limits=limits,
        interpolation="bilinear",
    )


def _values_png(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Linear between the limits, 0 to 65535 for one channel and 0 to 255 for three; what is beyond them is the nearest
    one, invalid is 0.
    """
    share = np.clip((np.nan_to_num(values, nan=limits[0]) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    if len(values) == 1:
        return np.rint(share[0] * 65535).astype(np.uint16)
    return np.rint(share * 255).astype(np.uint8).transpose(1, 2, 0)


TASKS: dict[str, Callable[..., Task]] = {
    "semseg": semseg,
    "human_parts": human_parts,
    "saliency": saliency,
    "normals": normals,
    "depth": depth,
    "boundary": boundary,
}
"""Task constructors by name, as recipes and dataset descriptors name them."""
GENERIC: dict[str, Callable[..., Task]] = {"regression": regression}
"""Constructors of tasks with names of their own, which files name beside those."""


def depth_bins(*, bins: int = 40, near: float = 0.7, far: float = 10.0, weight: float = 1.0) -> Task:
    """Depth as a class: bins of equal width in ln d, for the auxiliary heads of ATRC."""
    decode = partial(depth_losses.decode_depth_bins, near=near, far=far)
    return replace(
        depth(weight=weight),
        channels=bins,
        raw_form="scores",
        loss=partial(depth_losses.bin_depth, near=near, far=far),
        decode=decode,
        pair_loss=partial(pair_losses.compare_depth, decode=decode),
    )


def normals_clusters(centroids: Tensor | int = 40, *, weight: float = 10.0) -> Task:
    """Normals as a class: the nearest of unit `centroids` `(K, 3)`, for the auxiliary heads of ATRC.

    Published centroids are k-means clusters of a dataset's normals. A number spreads that many evenly over the half
    sphere that faces the camera.
    """
    points = _spread_normals(centroids) if isinstance(centroids, int) else centroids
    decode = partial(_centroid_normals, centroids=points)
    return replace(
        normals(weight=weight),
        channels=len(points),
        raw_form="scores",
        loss=partial(losses.cluster_normals, centroids=points),
        decode=decode,
        pair_loss=partial(pair_losses.compare_normals, decode=decode),
    )


def _spread_normals(count: int) -> Tensor:
    """A Fibonacci spiral over the half sphere z < 0."""
    index = torch.arange(count) + 0.5
    z, angle = -index / count, index * np.pi * (3 - 5**0.5)
    radius = (1 - z.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)


def _centroid_normals(raw: Tensor, centroids: Tensor) -> Tensor:
    probability = raw.float().softmax(dim=1)
    weighted = probability[:, :, None] * centroids.to(probability)[:, :, None, None]
    return losses.unit_vectors(weighted.sum(dim=1))


def with_weight(task: Task, weight: float) -> Task:
    """The same task with another default weight."""
    return replace(task, weight=weight)


def nyuv2_tasks(classes: int | Sequence[str] = 40) -> dict[str, Task]:
    """NYUv2's four tasks in the order of the InvPT line.

    >>> list(nyuv2_tasks())
    ['semseg', 'depth', 'normals', 'boundary']
    """
    tasks = (semseg(classes), depth(), normals(), boundary())
    return {task.name: task for task in tasks}


def pascal_context_tasks(classes: int | Sequence[str] = 21) -> dict[str, Task]:
    """PASCAL-Context's five tasks in the order of the InvPT line.

    >>> list(pascal_context_tasks())
    ['semseg', 'human_parts', 'saliency', 'normals', 'boundary']
    """
    tasks = (semseg(classes), human_parts(), saliency(), normals(), boundary())
    return {task.name: task for task in tasks}
