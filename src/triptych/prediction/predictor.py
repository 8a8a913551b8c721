"""Predictor: an image of any size in, decoded maps of the same size out.

Evaluation, `triptych predict` and the report all run networks through it, so they cannot disagree.
Long because it is one class, with each of its options described and checked.
"""

import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Num
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.cells import find_padding, predict_maps
from triptych.data.photos import scale_batch, to_image_tensor
from triptych.files import checksum
from triptych.lookup import named_choice
from triptych.machine import choose_device, choose_precision, return_freed_memory
from triptych.models.multitask import MultiTaskModel
from triptych.prediction.calibration import Scale, describe_mismatch, read_calibration
from triptych.prediction.strips import (
    Batch,
    Maps,
    Mirrored,
    Resized,
    Source,
    Taken,
    joined,
    resize,
    resized_strips,
    scale_size,
    split_strips,
    tiled_strips,
)
from triptych.tasks import Task
from triptych.threads import shared

Picture = np.ndarray | Tensor | Image.Image | str | os.PathLike
Itself = TypeVar("Itself", bound="Predictor")  # `Self` is not understood by the shape checks of the tests
_PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """Run a multi-task model on images of any size.

    `predictor(image)` takes one image and returns a dict of arrays at the image's own size; `predict(batch)` is the
    same for a tensor `(B, 3, H, W)`. Predictions are decoded to physical units (`Task.decode`): class ids, metres,
    unit normals, probabilities.

    - `tile` (pixels, or height and width): run the model on overlapping windows of exactly this size and blend the
      raw maps; a smaller image is extended by its edge pixels and cropped back. `None`: the whole image at once.
      `overlap` is the shared fraction of neighboring windows; its outer quarter on either side is not used, because
      the padding inside a network disturbs it, and the rest fades linearly.
    - `flip`: average with the prediction of the mirrored image. `scales`: average over resized images.
    - `shorter_side`: the height or width, whichever is less, that the model works at; maps are resized back. Depth
      stays as the network gives it.
    - `resize`: a model of one size, as some exported files are, or that was trained on images stretched to one
      (`triptych.assemble.stretched_size`), sees other images resized to it, and its predictions are resized back: class
      ids by the nearest pixel, others as their task says (`Task.interpolation`).
    - `precision`: `"bf16"` or `"fp16"` run the model under autocast, `"auto"` under bf16 where the processor or the GPU
      computes with it; results are float32.
    - `calibration`: by task, a factor and a power that metres are scaled by (`triptych calibrate`), zoomed where the
      model sees the camera's images at another size than in calibration; a warning where that is not known.
    - `tasks`: taken from the model unless given (a wrapped model hides them). `device`: where the model is, unless
      given (`"auto"`: the best there is).
    - `recipe`: recipe that the model was trained with; the model gets its sizes (`MultiTaskModel.set_training_sizes`),
      by which images are padded. For a model from your own training loop, call that yourself.

    Each forward pass is in evaluation mode, and leaves the model's modes as they were. Threads may share a predictor,
    or a model, that nothing trains meanwhile.

    >>> from triptych.backbones.base import Backbone
    >>> from triptych.decoders.base import Decoder
    >>> from triptych.models.multitask import MultiTaskModel
    >>> from triptych.tasks import depth
    >>> class Pixels(Backbone):
    ...     channels, strides = (3,), (1,)
    ...     def forward(self, image):
    ...         return [image]
    >>> class Mean(Decoder):
    ...     def forward(self, features):
    ...         return [{"depth": features[0].mean(dim=1, keepdim=True)}]
    >>> model = MultiTaskModel(Pixels(), Mean((3,), strides=(1,), tasks={"depth": depth()}))
    >>> Predictor(model, tile=16, flip=True)(np.full((37, 21, 3), 255, np.uint8))["depth"].shape
    (1, 37, 21)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tasks: Mapping[str, Task] | None = None,
        tile: int | tuple[int, int] | None = None,
        overlap: int | float = 0.25,
        flip: bool = False,
        scales: Sequence[int | float] = (1.0,),
        shorter_side: int | None = None,
        resize: bool = False,
        precision: str = "no",
        device: torch.device | str | None = None,
        recipe: Any = None,
        calibration: Mapping[str, Scale] | None = None,
    ) -> None:
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap is {overlap}; it is a fraction of the tile, from 0 to below 1, such as 0.25.")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales is {tuple(scales)}; give at least one factor above 0, such as (1.0,).")
        self.tile = (tile, tile) if isinstance(tile, int) else tile
        if self.tile is not None and min(self.tile) < 1:
            raise ValueError(f"tile is {self.tile}; height and width must be at least 1 pixel.")
        if shorter_side is not None and shorter_side < 1:
            raise ValueError(
                f"shorter_side is {shorter_side}; it must be at least 1 pixel, or None for the image's own size."
            )
        self.model: Any = model if device is None else model.to(choose_device(device))
        known: Any = model.tasks if tasks is None else tasks
        self.tasks: dict[str, Task] = {name: task.called(name) for name, task in known.items()}
        self.overlap = overlap
        self.flip = flip
        self.scales = tuple(scales)
        self.shorter_side = shorter_side
        self.resize = resize
        self.autocast = named_choice("precision", choose_precision(precision, self.device), _PRECISIONS)
        self.recipe = recipe
        for part in model.modules() if recipe is not None else ():
            if isinstance(part, MultiTaskModel):
                part.set_training_sizes(recipe.training_sizes)
        self.calibration = dict(calibration or {})
        self.is_decoded: bool = getattr(model, "is_decoded", False)
        """Whether the model's maps are predictions already, as those of an exported file."""
        self._size: tuple[int, ...] = ()
        self._has_warned = False

    @property
    def averages(self) -> bool:
        """Whether raw maps of several views are averaged, or resized."""
        return bool(self.tile or self.flip or self.shorter_side or self.scales != (1.0,))

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The only height and width that the model takes, as some exported files do; `None`: any."""
        return getattr(self.model, "fixed_size", None)

    @property
    def taken_size(self) -> tuple[int, int] | None:
        """The height and width that images are resized to, where `resize` says so; `None`: as they are. A chosen
        shorter side takes precedence over the size of training.
        """
        from triptych.assemble import stretched_size

        if not self.resize or self.fixed_size:
            return self.fixed_size if self.resize else None
        return None if self.recipe is None or self.shorter_side else stretched_size(self.recipe)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def settings(self) -> dict[str, Any]:
        """Settings that maps depend on, for records: the options of inference, and a checksum of the weights."""
        names = ("tile", "overlap", "flip", "scales", "shorter_side")
        weights, padding = checksum(self.model.state_dict()), find_padding(self.model)
        scales = {"calibration": {name: scale.content() for name, scale in self.calibration.items()}}
        return (
            {name: getattr(self, name) for name in names}
            | {"precision": str(self.autocast), "weights": weights}
            | (scales if self.calibration else {})
            | ({"resize": True} if self.resize else {})
            | ({"pad_to": padding} if padding > 1 else {})
        )

    @overload
    def __call__(self, image: Picture) -> dict[str, np.ndarray]: ...

    @overload
    def __call__(self, image: Sequence[Picture]) -> list[dict[str, np.ndarray]]: ...

    def __call__(self, image: Picture | Sequence[Picture]) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
        """Decoded maps of one image at its own size: `(H, W)` int64 for labels, `(C, H, W)` float32 for the others; of
        a list of images, which may differ in size, a list of them.

        `image` is a path, a PIL image, an array `(H, W, 3)` (uint8, or float in [0, 1]) or a tensor `(3, H, W)` in
        [0, 1].
        """
        if isinstance(image, Sequence) and not isinstance(image, str | bytes | bytearray):
            return [self(one) for one in image]
        maps = self.predict(to_image_tensor(image)[None])
        return {name: value[0].cpu().numpy() for name, value in maps.items()}

    def predict(
        self, image: Num[Tensor, "batch 3 height width"], *, frame: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """Decoded predictions `(B, H, W)` or `(B, C, H, W)` of a batch `(B, 3, H, W)`, floats in [0, 1] or uint8, on
        the model's device. `ValueError` for other values. `frame` is the height and width that images had before they
        were shrunk, which a calibration goes by.

        Views are averaged as raw maps, except values that zooming changes (depth), and those that mirroring changes and
        whose raw maps are a function of them: these are averaged in physical units (`Task.averages_raw`).
        """
        return joined(self.strips(Batch(scale_batch(image.to(self.device))), frame=frame))

    def strips(
        self, image: Source, *, rows: int | None = None, frame: tuple[int, int] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """The same from top to bottom, in strips of at most `rows` rows: with `tile`, memory does not grow with the
        height of the image.
        """
        scales, taken = self._find_scales(image.size, frame), self.taken_size
        if taken is None or taken == image.size:
            yield from self._strips(image, rows, scales)
            return
        maps = joined(self._strips(Resized(image, taken), None, scales))
        back = {name: _resize_prediction(self.tasks[name], values, image.size) for name, values in maps.items()}
        yield from map(dict, split_strips([back], rows))

    def _strips(self, image: Source, rows: int | None, calibration: Mapping[str, Scale]) -> Iterator[dict[str, Tensor]]:
        views = list(itertools.product(self.scales, (False, True) if self.flip else (False,)))
        first, *others = (self._view(image, scale, mirrored, rows) for scale, mirrored in views)
        rest = [Taken(strips) for strips in others]
        for strip in split_strips(first, rows):
            height = next(iter(strip.values())).shape[-2]
            means = self._comparable(strip, *views[0])
            for (scale, mirrored), strips in zip(views[1:], rest, strict=True):
                more = self._comparable(strips.take(height), scale, mirrored)
                means = {name: total + more[name] for name, total in means.items()}
            if rest:
                means = {name: total / len(views) for name, total in means.items()}
            yield _calibrated(
                {
                    name: self._decode(task, means[name]) if task.averages_raw else means[name]
                    for name, task in self.tasks.items()
                },
                calibration,
            )

    def raw(self, image: Num[Tensor, "batch 3 height width"]) -> dict[str, Tensor] | None:
        """Maps `(B, channels, H, W)` of a batch before they are decoded, as losses take them: `decode` makes them
        predictions. `None` where several views are averaged, or one of another scale or size, which happens in physical
        units, and for a file of decoded maps.
        """
        resized = self.taken_size not in (None, tuple(image.shape[-2:]))
        if self.flip or self.scales != (1.0,) or self.is_decoded or resized:
            return None
        return joined(self._view(Batch(scale_batch(image.to(self.device))), 1.0, False))

    def decode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions in physical units from raw maps."""
        height, width = next(iter(raw.values())).shape[-2:]
        maps = {name: self._decode(task, raw[name]) for name, task in self.tasks.items()}
        return _calibrated(maps, self._find_scales((height, width)))

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the model sees an image of `size`, at the scale 1."""
        if self.taken_size is not None:
            return self.taken_size
        return scale_size(size, self.shorter_side / min(size) if self.shorter_side else 1.0)

    def describe_mismatch(self, size: tuple[int, int], frame: tuple[int, int] | None = None) -> str:
        """A line where the scales of another camera were fitted on things of another size than in images of `size`,
        shrunk from `frame`; else empty.
        """
        seen = self.seen_size(size)
        for name, scale in self.calibration.items():
            if self._scale_at(name, frame or size, seen) is None:
                return describe_mismatch(name, scale, seen, resizes=not (self.is_decoded or self.fixed_size))
        return ""

    def _scale_at(self, name: str, frame: tuple[int, int], seen: tuple[int, int]) -> Scale | None:
        zooms = name in self.tasks and self.tasks[name].scales_with_zoom
        return self.calibration[name].at(frame, seen, zooms=zooms)

    def _find_scales(self, size: tuple[int, int], frame: tuple[int, int] | None = None) -> dict[str, Scale]:
        """The scales of another camera for images of `size`, shrunk from `frame`; warns once where these do not fit."""
        if not self._has_warned and (told := self.describe_mismatch(size, frame)):
            self._has_warned = True
            warnings.warn(told, stacklevel=2)
        found = {}
        for name, scale in self.calibration.items():
            used = self._scale_at(name, frame or size, self.seen_size(size)) or scale
            # In decoded maps of a file the scale is already.
            found[name] = Scale(used.factor / scale.factor) if self.is_decoded else used
        return found

    def _comparable(self, raw: Maps, scale: float, mirrored: bool) -> Maps:
        """Maps of a view in the form in which views are averaged."""
        return {
            name: seen_raw(task, raw[name], mirrored)
            if task.averages_raw
            else seen_values(task, self._decode(task, raw[name]), scale, mirrored)
            for name, task in self.tasks.items()
        }

    def _decode(self, task: Task, raw: Tensor) -> Tensor:
        if not self.is_decoded:
            return task.decode(raw)
        # Maps travel as float32, in which class ids are exact.
        return raw.long() if task.kind == "labels" else raw

    def view(self, image: Source, scale: float, mirrored: bool) -> Maps:
        """Raw maps, at the size of `image`, of its version resized by `scale` and mirrored: pixels are where those of
        the image are, values are those of the view (`seen_raw`, `seen_values`).
        """
        return joined(self._view(image, scale, mirrored))

    def _view(self, image: Source, scale: float, mirrored: bool, rows: int | None = None) -> Iterator[Maps]:
        """Raw maps as `view` gives them, strip by strip."""
        size = scale_size(image.size, scale * (self.shorter_side / min(image.size) if self.shorter_side else 1.0))
        view: Source = image if size == image.size else Resized(image, size)
        strips = self._run(Mirrored(view) if mirrored else view, rows)
        if mirrored:
            strips = ({name: raw.flip(-1) for name, raw in strip.items()} for strip in strips)
        return strips if size == image.size else resized_strips(strips, size[0], image.size, rows)

    def _run(self, image: Source, rows: int | None) -> Iterator[Maps]:
        """Raw maps of the whole image at once, or blended from windows of `tile` pixels."""
        if self.tile is not None:
            return tiled_strips(image, self._forward, self.tile, self.overlap, rows)
        return iter([self._forward(image.rows(0, image.size[0]))])

    @torch.no_grad()
    def _forward(self, image: Tensor) -> dict[str, Tensor]:
        """Raw maps `(B, channels, H, W)` in float32."""
        if image.device.type == "cpu" and image.shape != self._size:
            self._size = tuple(image.shape)
            return_freed_memory()
        types = (parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point())
        precision = torch.autocast(image.device.type, dtype=self.autocast, enabled=self.autocast != torch.float32)
        with _evaluating(self.model), precision:
            predictions = predict_maps(self.model, image.to(next(types, torch.float32)))
        return {name: predictions[name].float() for name in self.tasks}

    @classmethod
    def load(
        cls: type[Itself],
        folder: str | os.PathLike,
        *,
        calibrated: bool = True,
        merge: bool = False,
        trunk: str = "",
        **options: Any,
    ) -> Itself:
        """The network of a run folder, of a folder or a file of `save_pretrained`, or of an ONNX file that
        `triptych export` wrote; `options` are those of the constructor. What `triptych calibrate` stored is applied,
        unless `calibrated` is false.

        `merge` makes low-rank updates part of the weights: the same maps, faster. `trunk` is where a folder of adapters
        alone finds its trunk, a file of weights or a run folder, if not where its run did.
        """
        from triptych.prediction import exported, pretrained, release

        path = Path(folder)
        if path.suffix == exported.SUFFIX:
            if trunk:
                raise ValueError(f"{path} holds a whole network; leave out trunk, which adapters alone need.")
            network = exported.ExportedNetwork(path)
            network.check_precision(options.pop("precision", "no"))
            network.check_device(options.pop("device", None))
            scales = network.calibration if calibrated else None
            predictor = cls(network, recipe=network.recipe, calibration=scales, **options)
            network.check_views(several=predictor.averages)
            return predictor
        with release.opened(path) as whole:
            # Before the weights, which a training may replace meanwhile.
            scales = read_calibration(whole, pretrained.weights_file(whole)) if calibrated else None
            model, recipe = pretrained.load_model(whole, merge=merge, trunk=trunk)
        return cls(model, recipe=recipe, calibration=scales, **options)

    @classmethod
    def from_pretrained(
        cls: type[Itself], name_or_folder: str | os.PathLike, *, revision: str | None = None, **options: Any
    ) -> Itself:
        """Load a local folder or file, or else `organisation/name` from the Hugging Face hub (the only call here that
        uses a network).
        """
        from triptych.prediction import pretrained

        return cls.load(pretrained.find_folder(name_or_folder, revision=revision), **options)

    def save_pretrained(
        self, folder: str | os.PathLike, *, card: str = "", overwrite: bool = False, adapters_only: bool = False
    ) -> Path:
        """Write weights, recipe, tasks and a model card (`README.md`; `card` is added to it) to `folder`, and return
        it. `adapters_only` leaves out a frozen trunk, whose name and hash are written in its place. Scales of a
        calibration go along. A name that ends in `.zip` becomes one file with all of it, weights as float16.
        """
        from triptych.prediction import pretrained, release

        path = Path(folder)
        save = partial(
            pretrained.save_folder,
            model=self.model,
            recipe=self.recipe,
            card=card,
            adapters_only=adapters_only,
            scales=self.calibration,
        )
        if path.suffix != release.SUFFIX:
            return save(path, overwrite=overwrite)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; choose another name or pass overwrite=True.")
        with tempfile.TemporaryDirectory() as parent:
            release.pack(save(Path(parent) / path.name), path)
        return path


def seen_raw(task: Task, raw: Tensor, mirrored: bool) -> Tensor:
    """Raw map of a view mirrored back to the image."""
    return task.mirror_raw(raw) if mirrored else raw


def seen_values(task: Task, values: Tensor, scale: float, mirrored: bool) -> Tensor:
    """Decoded values of a view, enlarged by `scale`, zoomed and mirrored back to the image."""
    # Enlarged objects look nearer by that factor.
    values = task.zoom(values, 1 / scale)
    return task.mirror(values) if mirrored else values


def _calibrated(maps: dict[str, Tensor], scales: Mapping[str, Scale]) -> dict[str, Tensor]:
    """Maps with the scales of another camera, where there are any."""
    return {name: scales[name](value) if name in scales else value for name, value in maps.items()}


def _resize_prediction(task: Task, values: Tensor, size: tuple[int, int]) -> Tensor:
    if task.kind == "labels":
        return F.interpolate(values[:, None].double(), size=size, mode="nearest-exact")[:, 0].long()
    if task.interpolation == "nearest":
        return F.interpolate(values, size=size, mode="nearest-exact")
    resized = resize(values, size, antialias=True)
    return F.normalize(resized, dim=1) if task.kind == "direction" else resized


@shared
@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while any thread predicts; every module gets its own mode back, frozen ones included."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
