"""Small trees of published datasets, as the tests of their readers write them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image


def load(name: str, folder: str = "datasets") -> ModuleType:
    """Another test module, for the trees that it writes."""
    path = Path(__file__).parents[1] / folder / f"test_{name}.py"
    spec = importlib.util.spec_from_file_location(f"trees_of_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_nyuv2(root: Path) -> None:
    load("nyuv2").write_folders(root, "NYUD_MT")


def write_pascal(root: Path) -> None:
    """With pictures that differ."""
    load("pascal_context").write_archive(root)
    for number, path in enumerate(sorted((root / "JPEGImages").iterdir())):
        with Image.open(path) as picture:
            size = picture.size[::-1]
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)).save(path)


TREES: dict[str, Callable[[Path], Any]] = {
    "nyuv2": write_nyuv2,
    "pascal-context": write_pascal,
    "cityscapes": lambda root: load("cityscapes").write(root),
    "vkitti2": lambda root: load("vkitti2").write(root),
    "synthia": lambda root: load("synthia").write(root),
    "omnidata": lambda root: load("omnidata").write(root, load("omnidata").LAYOUTS["omnidata"]),
}
