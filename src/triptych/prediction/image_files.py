"""The files of one predicted image, written strip by strip from maps that lie on disk.

Panels of more than `MOST_DRAWN` pixels show every n-th one, and so do clouds of more than `MOST_POINTS`.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from triptych.data.cameras import StoredCamera, upright_intrinsics
from triptych.data.photos import StoredPhoto
from triptych.data.predicted import PLACES
from triptych.drawing.panels import color_maps, draw_panel, overlay_map
from triptych.files import check_writable, partial_path, remove_partials, written_whole
from triptych.machine import return_freed_memory
from triptych.prediction.point_cloud import backproject, thin_intrinsics, write_points
from triptych.prediction.predictor import Predictor
from triptych.prediction.strip_files import ArrayFile, write_png
from triptych.prediction.strips import Photos
from triptych.tasks import Task

STRIP = 2**20
"""Pixels that are drawn or written at a time."""
DECODED = 2**18
"""Pixels that are decoded at a time: of all channels of all tasks."""
MOST_DRAWN = 2**22
MOST_POINTS = 2**24

Maps = dict[str, ArrayFile]
Write = Callable[[Path, StoredPhoto, Maps], None]


def thinning(size: tuple[int, int], most: int) -> int:
    """Step along both axes that leaves at most about `most` pixels.

    >>> thinning((3000, 4000), 2**24), thinning((9000, 12000), 2**24)
    (1, 3)
    """
    return max(1, math.ceil(math.sqrt(size[0] * size[1] / most)))


def depth_task(tasks: dict[str, Task]) -> str | None:
    """The name of the task that predicts metres, if any."""
    return next((name for name, task in tasks.items() if task.in_metres), None)


@dataclass(frozen=True)
class ImageFiles:
    """Paths and writers of every file of an image, so that all can be checked before the first is written."""

    out: Path
    tasks: dict[str, Task]
    products: tuple[str, ...]
    camera: StoredCamera | None
    color_by: str
    overlay: bool
    beyond: dict[str, int] = field(default_factory=dict)
    """Number of values beyond the range of the written integer maps, by task."""

    def arrays(self, name: str) -> dict[str, Path]:
        """The array files of an image by task."""
        if "arrays" not in self.products:
            return {}
        return {task: self._place("arrays", name, task) for task in self.tasks}

    def drawn(self, name: str) -> dict[Path, Write]:
        """Every other file of an image, and the function that writes it from the photograph and its maps."""
        files: dict[Path, Write] = {}
        for task in self.tasks.values():
            if "maps" in self.products and task.to_png is not None:  # a quantity without limits has no integers
                files[self._place("maps", name, task.name)] = partial(self._write_map, task)
            if "pictures" in self.products:
                files[self._place("pictures", name, task.name)] = partial(self._write_picture, task)
        if "panels" in self.products:
            files[self._place("panels", name)] = self._write_panel
        if "points" in self.products:
            files[self._place("points", name)] = self._write_points
        return files

    def _place(self, product: str, name: str, task: str = "") -> Path:
        return self.out / PLACES[product].format(task=task, name=name)

    def paths(self, name: str) -> list[Path]:
        """Every file of an image."""
        return [*self.arrays(name).values(), *self.drawn(name)]

    def is_finished(self, name: str) -> bool:
        """Whether every file of an image is there: each is written whole or not at all."""
        return all(path.is_file() for path in self.paths(name))

    def reduced(self, size: tuple[int, int]) -> str:
        """Describe which pixels panels and points of a large image show; empty where they show all."""
        steps = {"panels": thinning(size, MOST_DRAWN), "points": thinning(size, MOST_POINTS)}
        shown = {name: step for name, step in steps.items() if name in self.products and step > 1}
        return " and ".join(f"{name} show one of {step}x{step} pixels" for name, step in shown.items())

    def prepare(self, names: Sequence[str]) -> None:
        """Make the folder and clear what a killed process left in it; one line where it cannot be written to."""
        check_writable(self.out, "choose another output folder")
        for folder in {self.out} | {path.parent for name in names for path in self.paths(name)}:
            remove_partials(folder)

    def predict(
        self,
        predictor: Predictor,
        names: Sequence[str],
        photos: Sequence[StoredPhoto],
        progress: Callable[[float], None],
    ) -> None:
        """Predict photographs of one size together, and write every file of each; `progress` gets the share done."""
        size = photos[0].size
        with ExitStack() as all_files:
            files = [all_files.enter_context(ExitStack()) for _ in names]
            maps: list[Maps] = [{} for _ in names]
            top = 0
            for strip in predictor.strips(Photos(photos, predictor.device), rows=max(1, DECODED // size[1])):
                for task, values in strip.items():
                    for i, name in enumerate(names):
                        rows = self._rows(task, values[i])
                        if top == 0:
                            maps[i][task] = files[i].enter_context(
                                self._store(name, task, (*rows.shape[:-2], *size), rows.dtype)
                            )
                        with _named(self.arrays(name).get(task) or self._text(name, task)):
                            maps[i][task].write(top, rows)
                top += next(iter(strip.values())).shape[-2]
                progress(top / size[0])
            if size[0] * size[1] > MOST_DRAWN:
                return_freed_memory()  # what draws has buffers of other sizes than the network
            for name, photo, stored, open_files in zip(names, photos, maps, files, strict=True):
                for path, write in self.drawn(name).items():
                    with _named(path):
                        path.parent.mkdir(parents=True, exist_ok=True)
                        with written_whole(path, flushed=False) as unfinished:
                            write(unfinished, photo, stored)
                open_files.close()

    def _rows(self, task: str, values: Tensor) -> np.ndarray:
        rows = values.cpu().numpy()
        labels = np.issubdtype(rows.dtype, np.integer)
        return rows.astype(np.min_scalar_type(len(self.tasks[task].classes))) if labels else rows

    def _text(self, name: str, task: str) -> str:
        return f"the {task} map of {name} in {self.out}"

    @contextmanager
    def _store(self, name: str, task: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[ArrayFile]:
        """A map on disk: the array file of the image, or one that is deleted in the end."""
        path = self.arrays(name).get(task)
        if path is None:
            # Not the names themselves: of images that lie deep they are too long, and a/b is no a-b.
            unfinished = partial_path(self.out / hashlib.sha256(os.fsencode(f"{task}/{name}")).hexdigest())
            try:
                with _named(self._text(name, task)), ArrayFile(unfinished, shape, dtype) as stored:
                    yield stored
            finally:
                unfinished.unlink(missing_ok=True)
            return
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path, flushed=False) as unfinished, ArrayFile(unfinished, shape, dtype) as stored:
                yield stored

    def _write_map(self, task: Task, path: Path, photo: StoredPhoto, maps: Maps) -> None:
        assert task.to_png is not None, "maps are written only of tasks that have an integer form"
        stored = maps[task.name]
        if task.png_range:
            low, high = task.png_range
            beyond = sum(int(((values < low) | (values > high)).sum()) for values in stored.strips(STRIP))
            self.beyond[task.name] = self.beyond.get(task.name, 0) + beyond
        write_png(path, stored.size, map(task.to_png, stored.strips(STRIP)))

    def _write_picture(self, task: Task, path: Path, photo: StoredPhoto, maps: Maps) -> None:
        stored = maps[task.name]
        write_png(path, stored.size, (shown for _, shown in self._drawn(task, photo, stored)))

    def _drawn(self, task: Task, photo: StoredPhoto, stored: ArrayFile) -> Iterator[tuple[int, np.ndarray]]:
        """A map in colors, in strips with the row at which each begins."""
        whole, top = task.drawn_like(stored.strips(STRIP)), 0
        for rows in stored.strips(STRIP):
            bottom = top + rows.shape[-2]
            if self.overlay:
                yield top, overlay_map(whole, photo.bytes(top, bottom), rows)
            else:
                yield top, color_maps(whole, [rows])[0]
            top = bottom

    def _write_panel(self, path: Path, photo: StoredPhoto, maps: Maps) -> None:
        step = thinning(photo.size, MOST_DRAWN)
        thinned = {name: stored.rows(0, photo.size[0], step) for name, stored in maps.items()}
        image = photo.bytes(0, photo.size[0], step)
        draw_panel(image, thinned, self.tasks, overlay=self.overlay).save(path, format="PNG")

    def _write_points(self, path: Path, photo: StoredPhoto, maps: Maps) -> None:
        name = depth_task(self.tasks)
        assert self.camera is not None, "points are written only where the camera is known"
        assert name is not None, "a camera is accepted only beside depth"
        normals = next((name for name, task in self.tasks.items() if task.kind == "direction"), None)
        step = thinning(photo.size, MOST_POINTS)
        intrinsics = thin_intrinsics(upright_intrinsics(self.camera, photo.size, photo.orientation), step)
        chosen = self.tasks.get(self.color_by)  # None: the image
        shown = chosen and chosen.drawn_like(maps[chosen.name].strips(STRIP))
        rows = step * max(1, STRIP // photo.size[1])

        def parts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
            for top in range(0, photo.size[0], rows):
                window = (top, min(top + rows, photo.size[0]), step)
                moved = intrinsics - np.array([[0, 0, 0], [0, 0, top / step], [0, 0, 0]])
                colors = color_maps(shown, [maps[shown.name].rows(*window)])[0] if shown else photo.bytes(*window)
                vectors = maps[normals].rows(*window).transpose(1, 2, 0) if normals else None
                yield backproject(maps[name].rows(*window)[0], moved), colors, vectors

        write_points(path, parts())


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    """An error of the system gets the name of the file that was being written."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(
            f"cannot write {path} ({error.strerror or error}); earlier images are complete: make room or choose "
            "another folder, and go on with resume (--resume)."
        ) from error


class WriteError(OSError):
    """A file of an image that could not be written."""
