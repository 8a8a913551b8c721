"""The definition of a dense task: everything that differs between tasks, in one frozen value.

A `Task` knows its channels, loss, decoding to physical units, metric, kind, and what flips, zooms and rotations do to
its targets. Nothing else in the library compares task names or guesses what a map means.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from triptych.lookup import named_choice, printable
from triptych.losses.classes import class_probabilities
from triptych.losses.pixel import at_least_float32
from triptych.metrics.base import Metric
from triptych.tasks import error_maps
from triptych.types import IGNORE, check_layout

Kind = Literal["labels", "probability", "direction", "length", "values"]
"""Kind of a task's predictions; see `Task`."""
RawForm = Literal["scores", "physical", "encoded"]
"""Form of a task's raw maps; see `Task.raw_form`."""


def keep(target: Tensor) -> Tensor:
    """Values that a mirrored image leaves alone: only the pixels move."""
    return target


def keep_rotation(target: Tensor, angle: float) -> Tensor:
    """Values that an in-plane rotation leaves alone."""
    return target


@dataclass(frozen=True)
class CheckedLoss:
    """A task's loss, which refuses maps and targets of another layout than the task's (`check_layout`)."""

    function: Callable[[Tensor, Tensor], Tensor]
    name: str
    channels: int
    target_channels: int | None

    def __call__(self, raw: Tensor, target: Tensor) -> Tensor:
        check_layout(self.name, raw, target, self.channels, self.target_channels)
        # Pictures are read as bytes, which torch's cross-entropy does not take; float16 does not hold depth's inverse.
        return self.function(raw, target.long() if self.target_channels is None else at_least_float32(target))


@dataclass(frozen=True)
class Task:
    """One dense task.

    `loss(raw, target)` is a scalar, exactly zero with zero gradient where no pixel is valid; `raw` `(B, channels, H,
    W)` has the target's size, and another layout raises `ValueError`. `decode(raw)` gives predictions in physical
    units: class ids `(B, H, W)` int64, or `(B, C, H, W)` float (metres, unit normals, probabilities). `metric()` makes
    a fresh `Metric` over decoded predictions. `target_channels` is `None` for integer label maps `(B, H, W)` with
    `IGNORE`, else the channels of a float map `(B, C, H, W)` with NaN.

    `kind` says what predictions are, and with it how they are drawn, averaged and moved with the camera:

    - `labels`: class ids.
    - `probability`: of one event, in [0, 1].
    - `direction`: unit vectors in the camera frame, which turn with the camera.
    - `length`: metres along the camera's z axis, which end rays and make points in space.
    - `values`: anything else that belongs to the surface and not to the camera, such as albedo or temperature.

    `mirror`, `zoom` and `rotate` act on target **values**, `(*batch, C, H, W)`; moving the pixels is the transform's
    work: mirroring negates the x of normals and makes a left arm a right one, zooming in by `zoom` divides depth by it,
    a rotation by `angle` (radians, from x towards y, that is clockwise as seen) turns normals.

    `colorize(map)` draws one prediction or target `(H, W)` or `(C, H, W)` as `(H, W, 3)` uint8; `to_png(map)` is the
    array that an 8- or 16-bit PNG stores, `None` where values have no integer form.
    """

    name: str
    channels: int
    loss: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    metric: Callable[[], Metric]
    colorize: Callable[[np.ndarray], np.ndarray]
    to_png: Callable[[np.ndarray], np.ndarray] | None
    kind: Kind
    target_channels: int | None = None
    weight: float = 1.0
    classes: tuple[str, ...] = ()
    """Names of the classes; those of `labels` are numbers where none are given, of one channel (a logit) two."""
    unit: str = ""
    constructor: str = ""
    """Its constructor's key in `TASKS`, for files; empty: its name."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of its constructor that files keep and no other field tells, such as the metric that was chosen; those
    that are `classes`, `channels`, `weight`, `unit` or `limits` are read from these.
    """
    limits: tuple[float, float] | None = None
    """The range of `values` that is drawn and stored as integers; `None`: that of each map, and no integers."""
    png_range: tuple[float, float] | None = None
    """The least and the largest value that `to_png` can store; `None`: it can store all."""
    png_holds: str = ""
    """Meaning of the whole numbers of `to_png`, in words for readers of the files."""
    raw_form: RawForm = "physical"
    """Form of raw maps: scores of classes, the decoded quantity up to clipping and normalising, or a function of it
    such as its logarithm. Maps that decode otherwise do not count as physical (`raw_is_physical`).
    """
    averages_labels: bool = True
    """Whether the loss is a mean over labelled pixels; else pixels without a label are counted in it."""
    scales_with_zoom: bool = False
    """Whether objects that look larger are predicted nearer: zooming in by z divides values by z."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """Interpolation of decoded predictions, by networks of one size; class ids and targets always by nearest neighbor:
    averaging labels would invent values.
    """
    mirror: Callable[[Tensor], Tensor] = keep
    rotate: Callable[[Tensor, float], Tensor] = keep_rotation
    fit_colors: Callable[[Iterable[np.ndarray]], Mapping[str, Any]] | None = None
    """`fit_colors(strips)` of a map: the arguments that make `colorize` draw a part of it as it draws the whole.
    `None`: the color of a pixel depends on no other.
    """
    encode: Callable[[Tensor], Tensor] = keep
    """Target values in the units of the raw map, invalid ones not finite; domain adaptation normalizes depth by their
    range.
    """
    error: error_maps.ErrorMap = error_maps.OF_ITS_KIND
    """The error map of one prediction and its target, and its unit: what panels draw; by default that of its kind, in
    its unit.
    """
    pair_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    """`pair_loss(raw, target)` compares pairs of places of coarse maps, as the loss of affinities between places.
    `None` where a balanced loss makes probabilities something else than frequencies (saliency, boundaries).
    """

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or any(mark in self.name for mark in "/\\\0"):
            raise ValueError(
                f"a task cannot be called {self.name!r}: its maps go to a folder of that name; leave out slashes."
            )
        if "." in self.name or hasattr(nn.ModuleDict(), self.name):
            raise ValueError(
                f"a task cannot be called {self.name!r}: networks keep parts by the names of tasks, which torch allows "
                "no dots in, nor names of its own; choose another, such as 'my_task'."
            )
        named_choice(f"kind of task '{self.name}'", self.kind, dict.fromkeys(get_args(Kind)))
        named_choice(f"raw_form of task '{self.name}'", self.raw_form, dict.fromkeys(get_args(RawForm)))
        checked = CheckedLoss(self.loss_function, self.name, self.channels, self.target_channels)
        object.__setattr__(self, "loss", checked)
        if self.kind == "labels" and not self.classes:
            object.__setattr__(self, "classes", tuple(map(str, range(max(self.channels, 2)))))
        if self.error is error_maps.OF_ITS_KIND:
            error = error_maps.BY_KIND[self.kind]
            object.__setattr__(self, "error", replace(error, unit=error.unit or self.unit))
        for name in (self.name, *self.classes):
            if not isinstance(name, str) or printable(name) != name:
                raise ValueError(f"task {self.name!r} has the name {name!r}; a name is text to be shown.")

    @property
    def loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss as it was given, without the check of layouts: its arguments can be read."""
        return self.loss.function if isinstance(self.loss, CheckedLoss) else self.loss

    @property
    def in_metres(self) -> bool:
        """Whether predictions are lengths, which end rays, move with the camera and make points in space."""
        return self.kind == "length"

    @property
    def raw_is_physical(self) -> bool:
        """Whether raw maps are the decoded quantity, up to clipping and normalising: `raw_form` says so, and decoding
        does no more.

        >>> from triptych.tasks import depth
        >>> depth().raw_is_physical, replace(depth(), decode=torch.exp).raw_is_physical
        (True, False)
        """
        if self.raw_form != "physical":
            return False
        low, high = self.limits or (0.5, 8.0 if self.kind == "length" else 0.9)
        with torch.device("cpu"):  # whatever network is being built
            raw = torch.linspace(low, high, 16 * self.channels).view(1, self.channels, 4, 4)
            decoded = self.decode(raw).to(raw)
        if self.kind == "direction":
            raw = nn.functional.normalize(raw, dim=1)
        if decoded.shape != raw.shape:
            return False
        clipped = (decoded == decoded.amin()) | (decoded == decoded.amax())
        return bool((clipped | torch.isclose(decoded, raw)).all())

    @property
    def is_categorical(self) -> bool:
        """Whether raw maps are scores of classes.

        >>> from triptych.tasks import depth, depth_bins, semseg
        >>> semseg(19).is_categorical, depth_bins().is_categorical, depth().is_categorical
        (True, True, False)
        """
        return self.raw_form == "scores"

    @property
    def averages_raw(self) -> bool:
        """Whether views of one image are averaged as raw maps; otherwise decoded, as the effect of mirror and zoom on
        the raw map is not known.
        """
        return not self.scales_with_zoom and (self.kind == "labels" or self.raw_is_physical or self.mirror is keep)

    def class_probabilities(self, raw: Tensor) -> Tensor:
        """Probabilities `(B, classes, H, W)` from scores; one channel is the logit of the second of two classes, and
        the only class of a task is sure.

        >>> from triptych.tasks import semseg
        >>> semseg(1).class_probabilities(torch.zeros(1, 1, 1, 1)).item()
        1.0
        """
        return torch.ones_like(raw) if len(self.classes) == 1 else class_probabilities(raw)

    def mirror_raw(self, raw: Tensor) -> Tensor:
        """Raw maps `(B, channels, H, W)` after mirroring, of a task that `averages_raw`: classes change places with
        those that `mirror` makes of their ids, physical values are mirrored as targets are.

        >>> from triptych.tasks import semseg
        >>> semseg(["left hand", "right hand"]).mirror_raw(torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)).flatten().tolist()
        [1.0, 3.0]
        """
        if self.kind != "labels" or self.mirror is keep:
            return self.mirror(raw)
        order = self.mirror(torch.arange(max(self.channels, 2), device=raw.device)[None])[0]
        # One channel is the logit of the second of two classes.
        return raw[:, order] if self.channels > 1 else raw * (order[1] - order[0])

    def reads_like(self, other: "Task") -> bool:
        """Whether raw maps of both have the same meaning: classes, unit and kind are equal, and one map decodes to the
        same.

        >>> from triptych.tasks import depth, semseg
        >>> depth(loss="l1").reads_like(depth(loss="berhu")), depth(loss="l1").reads_like(depth(loss="log-l1"))
        (True, False)
        >>> semseg(["wall", "floor"]).reads_like(semseg(["floor", "wall"]))
        False
        """
        fields = [(task.channels, task.classes, task.kind, task.unit) for task in (self, other)]
        if fields[0] != fields[1]:
            return False
        raw = torch.linspace(-3, 3, 16 * self.channels).view(1, self.channels, 4, 4)
        return torch.equal(self.decode(raw).nan_to_num(), other.decode(raw).nan_to_num())

    def drawn_like(self, strips: Iterable[np.ndarray]) -> "Task":
        """The same task, whose colors of any part are those of a whole map, which comes in strips.

        >>> from triptych.tasks import depth
        >>> near, far = np.full((1, 1, 2), 1.0), np.full((1, 1, 2), 4.0)
        >>> task = depth().drawn_like([near, far])
        >>> bool((task.colorize(near) == task.colorize(far)).all())
        False
        """
        if self.fit_colors is None:
            return self
        return replace(self, colorize=partial(self.colorize, **self.fit_colors(strips)))

    def called(self, name: str) -> "Task":
        """The same task under another name; files keep who makes it.

        >>> from triptych.tasks import depth
        >>> far = depth().called("far_depth")
        >>> far.name, far.constructor
        ('far_depth', 'depth')
        """
        return self if name == self.name else replace(self, name=name, constructor=self.constructor or self.name)

    def zoom(self, target: Tensor, zoom: float) -> Tensor:
        """Target values after zooming in by `zoom`."""
        return target / zoom if self.scales_with_zoom else target

    def to_target(self, prediction: Tensor, event_from: float = 0.5) -> Tensor:
        """A decoded prediction `(..., C, H, W)` in the layout of targets: 1 where a probability is `event_from` or
        more, else 0; predictions of other kinds have it.

        >>> from triptych.tasks import saliency
        >>> saliency().to_target(torch.tensor([[[[0.2, 0.9]]]])).tolist()
        [[[0, 1]]]
        """
        if self.kind != "probability":
            return prediction
        event = prediction >= event_from
        return event.squeeze(-3).long() if self.target_channels is None else event.to(prediction)

    def invalid_target(self, size: tuple[int, int]) -> Tensor:
        """The target of an image without a label: `(H, W)` of `IGNORE`, or `(C, H, W)` of NaN."""
        if self.target_channels is None:
            return torch.full(size, IGNORE, dtype=torch.int64)
        return torch.full((self.target_channels, *size), torch.nan)
