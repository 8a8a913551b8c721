"""`rooms`: generated indoor scenes with exact labels for all six tasks, several views per scene and short camera paths.

No download: scenes are rendered on first use and kept in a cache. Every pixel is a function of the generator's version,
seed, split, scene and look, computed with correctly rounded operations alone, so that IEEE machines make the same bits.

Conventions: world axes x and y along the walls, z up, metres; camera axes x right, y down, z forward; pixel centers at
integer + 0.5; depth is z. Instances of a scene: 1 floor, 2 ceiling, 3 to 6 walls, then one per object.

- *boundary*: 1 where the pixel to the right or below belongs to another instance, or lies beyond a jump in depth
  (`rooms.labels.find_boundaries`): contours are one pixel wide.
- *saliency*: the figures that cover at least 1 % of the image; without one, the most prominent object
  (`rooms.labels.find_salient`).
- *human_parts*: all invalid in images without figures, as in PASCAL-Context.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych import tasks as constructors
from triptych.data.base import DenseDataset, as_neighbor
from triptych.data.errors import DataError
from triptych.kernels import cache_folder
from triptych.lookup import named_choice
from triptych.rooms.generation import SceneSettings, complete, scene_file
from triptych.rooms.scene import CLASSES
from triptych.rooms.scene_files import frame_type, read_frame
from triptych.tasks import Task
from triptych.types import IGNORE, Camera, Sample

SCENES = {"train": 100, "val": 20, "test": 25}
"""Default number of scenes per split."""
LOOKS = {"a": "daylight, natural materials, eye height", "b": "other materials and lights, a noisier camera held low"}


def rooms_tasks() -> dict[str, Task]:
    """The six tasks of `rooms`.

    >>> rooms_tasks()["semseg"].channels
    20
    """
    return {
        "semseg": constructors.semseg(CLASSES),
        "human_parts": constructors.human_parts(),
        "saliency": constructors.saliency(),
        "normals": constructors.normals(),
        "depth": constructors.depth(),
        "boundary": constructors.boundary(),
    }


class Rooms(DenseDataset):
    """One split of the generated rooms: `scenes` rooms, each seen by `views` cameras that take `path_length` frames.

    `size` is (height, width) in pixels. `look` chooses materials, lights and camera: `"a"`, or `"b"` as a target
    domain. Scenes of different splits, seeds and looks are different rooms; with `paired=True` look `"b"` shows the
    rooms and views of look `"a"`, with the same labels. `scenes=0` is the split's default (`SCENES`); fewer are the
    first ones. `tasks` keeps some tasks only. `root` is the folder for generated scenes (empty: `TRIPTYCH_CACHE`, or
    the user's cache); `workers` threads render (0: one per core). `neighbor_frames` are offsets along the camera path,
    such as `(-1, 1)`: these frames become `Sample.neighbors`; at the ends of a path the opposite offset is used.

    Samples carry `camera` (intrinsics, camera-to-world pose) and `extras["instances"]`, ids `(H, W)` int64.
    Raises `ValueError` for unusable arguments and damaged files, `OSError` where scenes cannot be written.

    >>> rooms = Rooms(split="val", scenes=1, views=1, size=(24, 32), progress=False)
    >>> rooms[0].image.shape, rooms[0].targets["depth"].shape
    (torch.Size([3, 24, 32]), torch.Size([1, 24, 32]))
    """

    name = "rooms"
    sampling_unit = "rooms"

    def __init__(
        self,
        root: str | Path = "",
        *,
        split: str = "train",
        scenes: int = 0,
        views: int = 4,
        size: tuple[int, int] = (96, 128),
        look: str = "a",
        path_length: int = 1,
        seed: int = 0,
        paired: bool = False,
        neighbor_frames: Sequence[int] = (),
        tasks: Sequence[str] | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> None:
        named_choice("split of rooms", split, SCENES)
        named_choice("look of rooms", look, LOOKS)
        known = rooms_tasks()
        self.tasks = {task: named_choice("task of rooms", task, known) for task in (known if tasks is None else tasks)}
        for argument, value, least in (
            ("scenes", scenes, 0),
            ("views", views, 1),
            ("path_length", path_length, 1),
            ("smallest side of size", min(size), 16),
            ("workers", workers, 0),
        ):
            if value < least:
                raise DataError(f"rooms: {argument} is {value}", f"give at least {least}")
        self.neighbor_frames = tuple(neighbor_frames)
        for offset in self.neighbor_frames:
            if not 0 < 2 * abs(offset) <= path_length:
                raise DataError(
                    f"rooms: neighbor_frames has {offset}, which not every frame of a path of {path_length} "
                    "reaches either way",
                    f"give an offset other than 0, and path_length of at least {2 * abs(offset)}",
                )
        self.settings = SceneSettings(split, (size[0], size[1]), look, views, path_length, seed, paired and look != "a")
        self.num_scenes = scenes or SCENES[split]
        self.folder = (Path(root).expanduser() if root else cache_folder("rooms")) / self.settings.folder()
        self.files = complete(self.folder, self.settings, self.num_scenes, workers=workers, progress=progress)
        self._type = frame_type(self.settings.size)

    @classmethod
    def video_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options that add the previous frame; `path_length` becomes at least 2, so that there is one."""
        steps = max(2, options.get("path_length", 1))
        return super().video_options(options) | {"path_length": steps}

    def __len__(self) -> int:
        return self.num_scenes * self.settings.frames()

    def place(self, index: int) -> tuple[int, int, int]:
        """(scene, view, frame) of the sample at `index`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"rooms has {len(self)} samples, none at {index}")
        scene, rest = divmod(index % len(self), self.settings.frames())
        return (scene, *divmod(rest, self.settings.path_length))

    def key(self, index: int) -> str:
        scene, view, frame = self.place(index)
        return f"{self.settings.split}/{scene:05d}/{view:02d}/{frame:03d}"

    def group(self, index: int) -> str:
        return f"{self.settings.split}/{self.place(index)[0]:05d}"

    def identity(self, index: int) -> str | None:
        return f"{self.folder}/{self.key(index)}"

    def _record(self, index: int) -> np.void:
        scene, view, frame = self.place(index)
        number = view * self.settings.path_length + frame
        return read_frame(self.folder / scene_file(scene), self._type, self.settings.frames(), number)

    def __getitem__(self, index: int) -> Sample:
        sample = self._read(index)
        frame, length = self.place(index)[2], self.settings.path_length
        if not self.neighbor_frames:
            return sample
        inside = [step if 0 <= frame + step < length else -step for step in self.neighbor_frames]
        views = (as_neighbor(self._read(index % len(self) + step), step) for step in inside)
        return replace(sample, neighbors=tuple(views))

    def _read(self, index: int) -> Sample:
        record = self._record(index)
        return Sample(
            image=_floats(record["image"]) / 255,
            targets={task: _TARGETS[task](record) for task in self.tasks},
            key=self.key(index),
            camera=Camera(_floats(record["intrinsics"]), _floats(record["pose"])),
            extras={"instances": _integers(record["instances"])},
        )

    def fingerprint(self) -> dict[str, object]:
        digest = hashlib.sha256("".join(f"{name} {value}\n" for name, value in self.files.items()).encode())
        return {
            "name": self.name,
            "split": self.settings.split,
            "look": self.settings.look,
            "scenes": self.num_scenes,
            "samples": len(self),
            "generator": self.settings.generator,
            "hash": digest.hexdigest(),
        }

    def inputs(self) -> dict[str, object]:
        return {"neighbour_frames": self.neighbor_frames}  # the former name, which prepared sets have recorded


def _floats(plane: np.ndarray) -> Tensor:
    return torch.from_numpy(plane.astype(np.float32))


def _integers(plane: np.ndarray) -> Tensor:
    return torch.from_numpy(plane.astype(np.int64))


def _parts(record: np.void) -> Tensor:
    parts = _integers(record["human_parts"])
    return parts if parts.any() else torch.full_like(parts, IGNORE)


def _normals(record: np.void) -> Tensor:
    x, y, z = normals = record["normals"].astype(np.float32)
    return torch.from_numpy(normals / np.sqrt(x * x + y * y + z * z))


_TARGETS: dict[str, Callable[[np.void], Tensor]] = {
    "semseg": lambda record: _integers(record["semseg"]),
    "human_parts": _parts,
    "saliency": lambda record: _integers(record["saliency"]),
    "normals": _normals,
    "depth": lambda record: _floats(record["depth"])[None],
    "boundary": lambda record: _floats(record["boundary"])[None],
}
