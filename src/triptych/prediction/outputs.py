"""Predictions as files: arrays, integer maps, colour pictures, panels and point clouds of any number of images.

| file                       | what it holds                                                            |
| -------------------------- | ------------------------------------------------------------------------ |
| `arrays/TASK/NAME.npy`     | what the predictor returned                                              |
| `maps/TASK/NAME.png`       | class ids, millimetres, ... in 8 or 16 bit: as a `folder` dataset has it |
| `pictures/TASK/NAME.png`   | colors, or with `overlay` these over the image                           |
| `panels/NAME.png`          | the image and every prediction, with legends; with `overlay` over it     |
| `points/NAME.ply`          | points in space, where depth is predicted and the camera is known        |
| `predictions.json`         | which image became what, and what the values mean                        |
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from triptych.data.cameras import stored_size, turn_intrinsics
from triptych.data.photos import find_images, read_image, read_orientation
from triptych.drawing.panels import color_maps, draw_panel, overlay_map
from triptych.files import write_text
from triptych.machine import keep_freed_memory
from triptych.prediction.point_cloud import backproject, intrinsics_from_field_of_view, intrinsics_matrix, write_ply
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task
from triptych.types import named_choice

PRODUCTS = ("arrays", "maps", "pictures", "panels", "points")


@dataclass(frozen=True)
class PredictedImages:
    """Result of `predict_images`: the files of each image, and why others were left out."""

    written: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def predict_images(
    predictor: Predictor,
    images: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    *,
    products: Sequence[str] = PRODUCTS,
    fov: int | float | None = None,
    intrinsics: Sequence[int | float] | np.ndarray | None = None,
    color_by: str = "image",
    overlay: bool = False,
    overwrite: bool = False,
    on_bad_sample: str = "raise",
    log: Callable[[str], None] = print,
) -> PredictedImages:
    """Predict image files, or folders of them, into `out`: arrays, maps, pictures, panels and points.

    `fov` (horizontal, degrees) or `intrinsics` (fx, fy, cx, cy in pixels) of the images as they are stored make point
    clouds possible; cameras of images that EXIF turns upright are turned along;
    `color_by` is `"image"` or the task that colours them. `overlay` draws pictures and panels over the image. Nothing
    is predicted before every input is found and every output is known to be new and writable. A damaged image raises
    `ValueError`, or with `on_bad_sample="skip"` is named through `log` and left out.
    """
    skip = named_choice("on_bad_sample", on_bad_sample, {"raise": False, "skip": True})
    chosen = {name: named_choice("product", name, {known: known for known in PRODUCTS}) for name in products}
    named_choice("map to colour points by", color_by, {"image": None} | predictor.tasks)
    camera = _camera(predictor.tasks, fov, intrinsics)
    writer = _Writer(
        Path(out),
        predictor.tasks,
        tuple(name for name in chosen if name != "points" or camera),
        camera,
        color_by,
        overlay,
    )
    found = find_images(images)
    writer.check([name for name, _ in found], overwrite)
    result = PredictedImages()
    if predictor.device.type == "cpu":
        keep_freed_memory()
    console = Console(stderr=True)
    for name, path in track(found, "predicting", console=console, transient=True, disable=not console.is_terminal):
        try:
            image = read_image(path)
        except ValueError as error:
            if not skip:
                raise
            log(f"skipped: {error}")
            result.skipped[name] = str(error)
            continue
        upright = replace(writer, camera=camera and partial(_upright, camera, read_orientation(path)))
        result.written[name] = upright.write(name, _to_bytes(image.numpy()), predictor(image))
    writer.write_manifest(dict(found), result)
    log(f"predicted {len(result.written)} of {len(found)} images into {out}")
    return result


Camera = Callable[[tuple[int, int]], np.ndarray]


def _camera(
    tasks: dict[str, Task], fov: int | float | None, intrinsics: Sequence[int | float] | np.ndarray | None
) -> Camera | None:
    """Image size to intrinsics, or `None` where the camera is unknown."""
    if fov is None and intrinsics is None:
        return None
    if fov is not None and intrinsics is not None:
        raise ValueError("both a field of view and intrinsics are given; give one of them.")
    if depth_task(tasks) is None:
        raise ValueError(
            f"point clouds need depth, and this network predicts {', '.join(tasks)}; leave out the field of view or "
            "intrinsics."
        )
    if intrinsics is not None:
        matrix = intrinsics_matrix(intrinsics)
        return lambda size: matrix
    camera = partial(intrinsics_from_field_of_view, degrees=fov or 0)
    camera((1, 1))  # an impossible angle fails here, not after the first image
    return camera


def _upright(camera: Camera, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Intrinsics of an image that was turned upright, of `size` then."""
    return turn_intrinsics(camera(stored_size(size, orientation)), orientation, size)


def depth_task(tasks: dict[str, Task]) -> str | None:
    """The name of the task that predicts metres, if any."""
    return next((name for name, task in tasks.items() if task.in_metres), None)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """`(3, H, W)` in [0, 1] to `(H, W, 3)` uint8."""
    return np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)


def _save_array(path: Path, task: Task, values: np.ndarray) -> None:
    labels = np.issubdtype(values.dtype, np.integer)
    np.save(path, values.astype(np.min_scalar_type(len(task.classes))) if labels else values)


def _save_map(path: Path, task: Task, values: np.ndarray) -> None:
    assert task.to_png is not None, "maps are written only of tasks that have an integer form"
    Image.fromarray(task.to_png(values)).save(path)


_PER_TASK = {"arrays": (".npy", _save_array), "maps": (".png", _save_map)}
Maps = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Writer:
    """Knows every file of an image, so that all can be checked before the first is written."""

    out: Path
    tasks: dict[str, Task]
    products: tuple[str, ...]
    camera: Camera | None
    color_by: str
    overlay: bool

    def files(self, name: str) -> dict[Path, Callable[[np.ndarray, Maps], None]]:
        """Every file of one image, and what writes it from the image `(H, W, 3)` and its maps."""

        def of_task(
            save: Callable[[Path, Task, np.ndarray], None], path: Path, task: str
        ) -> Callable[[np.ndarray, Maps], None]:
            return lambda image, maps: save(path, self.tasks[task], maps[task])

        files: dict[Path, Callable[[np.ndarray, Maps], None]] = {}
        for task in self.tasks if "pictures" in self.products else ():
            path = self.out / "pictures" / task / f"{name}.png"
            files[path] = partial(self._write_picture, path, task)
        for product, (suffix, save) in _PER_TASK.items():
            for task in self.tasks if product in self.products else ():
                if product == "maps" and self.tasks[task].to_png is None:
                    continue  # a quantity without limits has no integers
                path = self.out / product / task / f"{name}{suffix}"
                files[path] = of_task(save, path, task)
        for product, (suffix, write) in {
            "panels": (".png", self._write_panel),
            "points": (".ply", self._write_points),
        }.items():
            if product in self.products:
                path = self.out / product / f"{name}{suffix}"
                files[path] = partial(write, path)
        return files

    def check(self, names: Sequence[str], overwrite: bool) -> None:
        """One line for outputs that exist, or a folder that cannot be written to."""
        existing = [path for name in names for path in self.files(name) if path.exists()]
        if existing and not overwrite:
            others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
            raise FileExistsError(
                f"{existing[0]} exists{others}; choose another folder, or pass overwrite (--overwrite)."
            )
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.out).close()
        except OSError as error:
            raise OSError(f"cannot write to {self.out} ({error.strerror}); choose another output folder.") from error

    def write(self, name: str, image: np.ndarray, maps: Maps) -> list[Path]:
        """Write every file of one image and return their paths."""
        files = self.files(name)
        for path, save in files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                save(image, maps)
            except OSError as error:
                raise OSError(
                    f"cannot write {path} ({error.strerror or error}); earlier images are complete."
                ) from error
        return list(files)

    def _write_panel(self, path: Path, image: np.ndarray, maps: Maps) -> None:
        draw_panel(image, maps, self.tasks, overlay=self.overlay).save(path)

    def _write_picture(self, path: Path, name: str, image: np.ndarray, maps: Maps) -> None:
        task, values = self.tasks[name], maps[name]
        shown = overlay_map(task, image, values) if self.overlay else color_maps(task, [values])[0]
        Image.fromarray(shown).save(path)

    def _write_points(self, path: Path, image: np.ndarray, maps: Maps) -> None:
        name = depth_task(self.tasks)
        assert self.camera is not None, "points are written only where the camera is known"
        assert name is not None, "a camera is accepted only beside depth"
        depth = maps[name][0]
        shown = image if self.color_by == "image" else color_maps(self.tasks[self.color_by], [maps[self.color_by]])[0]
        normals = next((name for name, task in self.tasks.items() if task.kind == "direction"), None)
        vectors = maps[normals].transpose(1, 2, 0) if normals else None
        write_ply(path, backproject(depth, self.camera(depth.shape)), shown, vectors)

    def write_manifest(self, sources: dict[str, Path], result: PredictedImages) -> None:
        """What the files mean, and what they were made from."""
        meaning = {name: {"unit": task.unit, "classes": list(task.classes)} for name, task in self.tasks.items()}
        written = {name: str(sources[name]) for name in result.written}
        manifest = {"tasks": meaning, "products": list(self.products), "images": written, "skipped": result.skipped}
        write_text(self.out / "predictions.json", json.dumps(manifest, indent=2) + "\n")
