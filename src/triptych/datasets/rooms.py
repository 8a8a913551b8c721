"""`rooms`: generated indoor scenes with exact labels for all six tasks, several views per scene and short camera paths.

No download: scenes are rendered on first use and kept in a cache. Every pixel is a function of (generator version, seed, split, scene, look), computed with
correctly rounded operations only, so that every IEEE machine makes the same bits.

Conventions: world axes x and y along the walls, z up, metres; camera axes x right, y down, z forward; pixel centres at integer + 0.5; depth is z.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from triptych import tasks as tasks_module
from triptych.datasets.base import DenseDataset
from triptych.datasets.rooms_folders import cache_folder
from triptych.datasets.rooms_generation import Settings, complete, scene_file
from triptych.datasets.rooms_records import frame_type, read_frame
from triptych.datasets.rooms_scene import CLASSES
from triptych.tasks import Task
from triptych.types import IGNORE, Camera, Sample, named_choice

SCENES = {"train": 100, "val": 20, "test": 25}
"""Default number of scenes per split."""
LOOKS = {"a": "daylight, natural materials, eye height", "b": "other materials and lights, a noisier camera held low"}


def rooms_tasks() -> dict[str, Task]:
    """The six tasks of `rooms`.

    >>> rooms_tasks()["semseg"].channels
    20
    """
    return {
        "semseg": tasks_module.semseg(CLASSES),
        "human_parts": tasks_module.human_parts(),
        "saliency": tasks_module.saliency(),
        "normals": tasks_module.normals(),
        "depth": tasks_module.depth(),
        "boundary": tasks_module.boundary(),
    }


class Rooms(DenseDataset):
    """One split of the generated rooms: `scenes` rooms, each seen by `views` cameras that take `path_length` frames.

    `size` is (height, width) in pixels. `look` chooses materials, lights and camera: `"a"`, or `"b"` as a target domain. Scenes of different splits, seeds and
    looks are different rooms; with `paired=True` look `"b"` shows the rooms and views of look `"a"`, with the same labels. `tasks` keeps some tasks only.
    `root` is the folder that holds generated scenes (empty: `TRIPTYCH_CACHE`, or the user's cache); `workers` threads render (0: one per core).

    Samples carry `camera` (intrinsics and camera-to-world pose) and `extras["instances"]`, ids `(H, W)` int64: 1 floor, 2 ceiling, 3 to 6 walls, then one per object.
    Frames without figures have an all-invalid `human_parts`, as PASCAL-Context has.
    Raises `ValueError` for unusable arguments and damaged files, `OSError` where scenes cannot be written.
    """

    name = "rooms"

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
        tasks: Sequence[str] | None = None,
        workers: int = 0,
        progress: bool = True,
    ) -> None:
        named_choice("split of rooms", split, SCENES)
        named_choice("look of rooms", look, LOOKS)
        for argument, value, least in (
            ("scenes", scenes, 0),
            ("views", views, 1),
            ("path_length", path_length, 1),
            ("size", min(size), 16),
            ("workers", workers, 0),
        ):
            if value < least:
                raise ValueError(f"rooms: {argument} is {value}; give at least {least}.")
        known = rooms_tasks()
        self.tasks = {task: named_choice("task of rooms", task, known) for task in (tasks or known)}
        self.settings = Settings(split, (size[0], size[1]), look, views, path_length, seed, paired and look != "a")
        self.num_scenes = scenes or SCENES[split]
        self.folder = (Path(root).expanduser() if root else cache_folder("rooms")) / self.settings.folder()
        self.files = complete(self.folder, self.settings, self.num_scenes, workers=workers, progress=progress)
        self._type = frame_type(self.settings.size)

    def __len__(self) -> int:
        return self.num_scenes * self.settings.frames()

    def place(self, index: int) -> tuple[int, int, int]:
        """(scene, view, frame) of the sample at `index`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"rooms has {len(self)} samples, not one at {index}")
        scene, rest = divmod(index % len(self), self.settings.frames())
        return (scene, *divmod(rest, self.settings.path_length))

    def scene(self, index: int) -> int:
        """Number of the scene that the sample at `index` shows."""
        return self.place(index)[0]

    def neighbours(self, index: int, *, within: str = "path") -> list[int]:
        """Other samples that see the same things: of the same camera path (`within="path"`), nearest in time first and earlier before later, or of the whole
        scene (`within="scene"`), in order.
        """
        scene, view, frame = self.place(index)
        length = self.settings.path_length
        first = scene * self.settings.frames()
        if named_choice("range of neighbours", within, {"path": True, "scene": False}):
            start = first + view * length
            return sorted(
                (i for i in range(start, start + length) if i != start + frame),
                key=lambda i: (abs(i - start - frame), i),
            )
        own = first + view * length + frame
        return [i for i in range(first, first + self.settings.frames()) if i != own]

    def key(self, index: int) -> str:
        scene, view, frame = self.place(index)
        return f"{self.settings.split}/{scene:05d}/{view:02d}/{frame:03d}"

    def __getitem__(self, index: int) -> Sample:
        scene, view, frame = self.place(index)
        number = view * self.settings.path_length + frame
        record = read_frame(self.folder / scene_file(scene), self._type, self.settings.frames(), number)
        targets = {task: _TARGETS[task](record) for task in self.tasks}
        return Sample(
            image=torch.from_numpy(record["image"].astype(np.float32) / 255),
            targets=targets,
            key=self.key(index),
            camera=Camera(
                torch.from_numpy(record["intrinsics"].astype(np.float32)),
                torch.from_numpy(record["pose"].astype(np.float32)),
            ),
            extras={"instances": _integers(record["instances"])},
        )

    def fingerprint(self) -> dict[str, object]:
        import hashlib

        digest = hashlib.sha256("".join(f"{name}{value}" for name, value in self.files.items()).encode()).hexdigest()
        return {
            "name": self.name,
            "split": self.settings.split,
            "look": self.settings.look,
            "samples": len(self),
            "scenes": self.num_scenes,
            "hash": digest,
        }


def _integers(plane: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(plane.astype(np.int64))


def _parts(record: np.ndarray) -> torch.Tensor:
    parts = _integers(record["human_parts"])
    return parts if parts.any() else torch.full_like(parts, IGNORE)


def _normals(record: np.ndarray) -> torch.Tensor:
    normals = torch.from_numpy(record["normals"].astype(np.float32))
    return torch.nn.functional.normalize(normals, dim=0)


_TARGETS = {
    "semseg": lambda record: _integers(record["semseg"]),
    "human_parts": _parts,
    "saliency": lambda record: _integers(record["saliency"]),
    "normals": _normals,
    "depth": lambda record: torch.from_numpy(record["depth"].astype(np.float32)[None]),
    "boundary": lambda record: torch.from_numpy(record["boundary"].astype(np.float32)[None]),
}
