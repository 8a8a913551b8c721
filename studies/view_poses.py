"""Generated camera paths whose second views have true, noisy, no, or another pair's poses; and scores on pairs.

python studies/view_poses.py    # how far each puts a pixel beside its match, in cells of the grid that is matched

The first view keeps its pose; only the motion to its neighbors is spoiled. What is drawn follows from the sample's key.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid import markdown_table
from torch import Tensor, nn

from triptych import assemble, register
from triptych.data.subset import Subset, spread
from triptych.datasets.rooms import Rooms
from triptych.lookup import named_choice
from triptych.models.cvm import STRIDE, CvM, Views
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import Recipe
from triptych.rendering.poses import relative_pose
from triptych.rendering.reprojection import backproject, move_points, project, rotation_from_axis_angle
from triptych.types import Camera, Sample, collate, valid_pixels

TURN, SHIFT = 2.0, 0.2
"""Noise: degrees about a random axis; share of the way, in a random direction."""


class RoomsPoses(Rooms):
    """`rooms` with the poses of neighbors as they are (`true`), or spoiled (`noisy`, `identity`, `shuffled`)."""

    def __init__(self, root: str | Path = "", *, poses: str = "true", **options: Any) -> None:
        self.spoil = named_choice("poses", poses, SPOILED)
        super().__init__(root, **options)

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        views = []
        for place, view in enumerate(sample.neighbors):
            moved = self.spoil(self, index, place, motion(sample, view))
            views.append(replace(view, camera=Camera(view.camera.intrinsics, sample.camera.pose @ moved)))
        return replace(sample, neighbors=tuple(views))

    def drawn(self, index: int, place: int) -> torch.Generator:
        """Random numbers of a pair."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.key(index % len(self))}/{place}".encode()))

    def motion_of_another(self, index: int, place: int) -> Tensor:
        """The motion of the same neighbor of a sample of another room."""
        frames = self.settings.frames()
        away = int(torch.randint(frames, len(self) - frames + 1, (), generator=self.drawn(index, place)))
        other = super().__getitem__((index + away) % len(self))
        return motion(other, other.neighbors[place])


def motion(sample: Sample, view: Sample) -> Tensor:
    """The neighbor's camera to the sample's, `(4, 4)`."""
    return relative_pose(sample.camera.pose[None], view.camera.pose[None])[0]


def _noisy(rooms: RoomsPoses, index: int, place: int, true: Tensor) -> Tensor:
    generator = rooms.drawn(index, place)
    axis, way = (torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0) for _ in range(2))
    spoiled = true.clone()
    spoiled[:3, :3] = rotation_from_axis_angle(torch.deg2rad(torch.tensor(TURN)) * axis[None])[0] @ true[:3, :3]
    spoiled[:3, 3] += SHIFT * true[:3, 3].norm() * way
    return spoiled


SPOILED: dict[str, Callable[[RoomsPoses, int, int, Tensor], Tensor]] = {
    "true": lambda rooms, index, place, true: true,
    "noisy": _noisy,
    "identity": lambda rooms, index, place, true: torch.eye(4),
    "shuffled": lambda rooms, index, place, true: rooms.motion_of_another(index, place),
}


class Unmatched(CvM):
    """In the place of CvM: views are images like any other, and nothing is matched; its one map is 0."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # nothing of CvM's
        self.channels, self.single_share = 1, 0.0

    def forward(self, image: Tensor, views: Views | None = None, *, shown: tuple[int, int] | None = None) -> Tensor:
        height, width = (side // STRIDE for side in image.shape[-2:])
        return image.new_zeros(len(image), 1, height, width)


def register_parts() -> None:
    """What the recipes of `cvm.py` name, beside what the library has."""
    register("datasets", "rooms-poses", RoomsPoses)
    register("cross-view", "unmatched", Unmatched)


@torch.no_grad()
def score_pairs(recipe: Recipe, folder: Path, *, split: str, images: int) -> dict[str, float]:
    """Scores of a run's network where it sees each image with its neighbors and their true poses."""
    data = replace(recipe.data, options={**recipe.data.options, "poses": "true"})
    whole = assemble.build_dataset(replace(recipe, data=data), split)
    dataset = spread(whole, min(images, len(whole)))  # those that an evaluation with this limit scores
    model = Predictor.load(folder).model.eval()
    metrics = {name: task.metric() for name, task in model.tasks.items()}
    labelled = set()
    for index in range(len(dataset)):
        sample = collate([dataset[index]])
        united, beside = model.with_views(sample)
        maps = model(united.image, **beside).predictions
        for name, task in model.tasks.items():
            if valid_pixels(sample.targets[name]).any():
                labelled.add(name)
                metrics[name].update(task.decode(maps[name][:1]), sample.targets[name])
    return {
        f"pairs/{name}": float(metric.compute()[metric.primary]) for name, metric in metrics.items() if name in labelled
    }


SCENES, PAIRS = 200, 60
FRAMES = (4, 12, 24)


def find_matches(sample: Sample) -> Tensor:
    """Where the pixels of a sample lie in its first neighbor by the poses, `(height, width, 2)`; NaN where depth is
    unknown or the point is behind the neighbor's camera.
    """
    view = sample.neighbors[0]
    points = move_points(
        backproject(sample.targets["depth"][None], sample.camera.intrinsics[None]),
        relative_pose(view.camera.pose[None], sample.camera.pose[None]),
    )
    pixels, depth = project(points, view.camera.intrinsics[None])
    return torch.where(depth[..., None] > 0, pixels, torch.nan)[0]


def trained_pairs(frames: int, poses: str = "true") -> Subset:
    """The pairs that the study trains on, so many frames apart."""
    options: dict[str, Any] = {"path_length": 72, "neighbor_frames": (frames,), "size": (64, 80), "progress": False}
    return spread(RoomsPoses(split="train", poses=poses, scenes=SCENES, views=1, **options), PAIRS)


def offsets(frames: int, poses: str) -> Tensor:
    """Distances, in cells, from true matches that the neighbor shows to where `poses` put the pixels."""
    true, spoiled, found = trained_pairs(frames), trained_pairs(frames, poses), []
    for index in range(PAIRS):
        match = find_matches(true[index])
        height, width = match.shape[:2]
        shown = ((match >= 0) & (match < torch.tensor([width, height]))).all(dim=-1)
        found.append(((find_matches(spoiled[index]) - match).norm(dim=-1) / STRIDE)[shown])
    return torch.cat(found)


def baselines(frames: int) -> Tensor:
    """Metres between the cameras of the pairs."""
    pairs = trained_pairs(frames)
    return torch.stack([motion(pairs[i], pairs[i].neighbors[0])[:3, 3].norm() for i in range(PAIRS)])


def quartiles(values: Tensor) -> str:
    """The median and, in brackets, the quartiles of what is known."""
    low, middle, high = np.nanquantile(values.double().numpy(), [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    lines = []
    for count in FRAMES:
        apart = (quartiles(offsets(count, name)) for name in ("noisy", "identity", "shuffled"))
        lines.append([str(count), quartiles(baselines(count)), *apart])
    print(markdown_table(["frames later", "metres between cameras", "noisy", "identity", "shuffled"], lines))
    print(
        f"\nMedians and quartiles, the last three in cells of {STRIDE} pixels; the {PAIRS} pairs that are trained on."
    )
