"""A small folder of every task, sound in all its files."""

from pathlib import Path

import numpy as np
from saved_maps import save

from triptych.folders.writing import write_descriptor

SIZE = (24, 32)
DESCRIPTOR = """
name = "clinic"
[splits]
train = "train"
val = "val"
[images]
files = "images/{split}/{key}.*"
[tasks.semseg]
files = "semseg/{split}/{key}.*"
classes = ["floor", "wall", "door"]
[tasks.saliency]
files = "saliency/{split}/{key}.png"
[tasks.boundary]
files = "boundary/{split}/{key}.png"
[tasks.depth]
files = "depth/{split}/{key}.*"
unit = "mm"
[tasks.normals]
files = "normals/{split}/{key}.npy"
[camera]
fov = 60.0
"""


def init_folder(path: Path, *, force: bool = False) -> tuple[Path, list[str]]:
    """`write_descriptor` with what a person should check alone."""
    target, guess = write_descriptor(path, force=force)
    return target, guess.doubts


def wall(distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth in millimetres and normals of a wall that faces the camera."""
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[..., 2] = -1
    return np.full(SIZE, distance * 1000, np.uint16), normals


def write_clinic(root: Path) -> None:
    """Images, labels of five tasks and their descriptor."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for i in range(count):
            depth, normals = wall(2 + 0.1 * i)
            labels = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 8 % 3).astype(np.uint8)
            mask = np.where(labels == 1, 255, 0).astype(np.uint8)
            edges = np.zeros(SIZE, np.uint8)
            edges[5] = 255
            save(root / f"images/{split}/{i}.png", generator.integers(0, 256, (*SIZE, 3), np.uint8))
            for task, array in (("semseg", labels), ("saliency", mask), ("boundary", edges), ("depth", depth)):
                save(root / f"{task}/{split}/{i}.png", array)
            save(root / f"normals/{split}/{i}.npy", normals)
    (root / "dataset.toml").write_text(DESCRIPTOR)
