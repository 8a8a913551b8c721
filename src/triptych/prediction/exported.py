"""A network in an ONNX file as a module, so that `Predictor`, and all that is built on it, runs it like any other."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from triptych.recipes.config import Recipe, from_json
from triptych.tasks import Task
from triptych.tasks.stored import tasks_from_json
from triptych.types import Output

INSTALL = "python -m pip install -c constraints.txt ./runtime -e '.[export]'"
"""From a clone; triptych-runtime lies in its folder `runtime`."""


def require(*packages: str) -> None:
    """Fail in one line where a package of the extra `export` is missing."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f"ONNX files need the extra 'export', {package} is missing: {INSTALL}") from error


class ExportedNetwork(nn.Module):
    """The network of a file that `triptych export` wrote, run by `triptych_runtime.Network`.

    `forward(image)` takes `(B, 3, H, W)` in [0, 1] of a size that the file allows. Where the file holds decoded maps,
    `decoded` is true and these stand in place of raw ones, with tasks that decode them no further.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        require("onnxruntime", "triptych_runtime")
        from triptych_runtime import FileError, Network

        self.runtime = Network(path, threads=torch.get_num_threads())
        self.metadata = self.runtime.metadata
        if "task_file" not in self.metadata or "recipe" not in self.metadata:
            raise FileError(f"{path}: its description has no tasks or no recipe; export it again.")
        stored = tasks_from_json(json.dumps(self.metadata["task_file"]))
        tasks = {entry["name"]: stored[entry["name"]] for entry in self.metadata["tasks"]}
        self.decoded = self.metadata["outputs"] == "maps"
        self.tasks: dict[str, Task] = (
            {name: _as_stored(task) for name, task in tasks.items()} if self.decoded else tasks
        )

    @property
    def recipe(self) -> Recipe:
        """What the network was trained by."""
        return from_json(json.dumps(self.metadata["recipe"]))

    def forward(self, image: Tensor) -> Output:
        maps = self.runtime.run(image.float().cpu().numpy())
        return Output({name: torch.from_numpy(maps[name]) for name in self.tasks}, [], [])

    def check_views(self, *, several: bool) -> None:
        """Fail in one line where raw maps would have to be averaged, and the file has none."""
        if several and self.decoded:
            raise ValueError(
                f"{self.runtime.path} holds decoded maps, and tiles, flips, scales and a shorter side average or "
                "resize raw ones; export the network with --outputs raw."
            )


def load_network(path: Path) -> tuple[ExportedNetwork, Recipe]:
    """The network of an ONNX file, and its recipe."""
    network = ExportedNetwork(path)
    return network, network.recipe


def _as_stored(task: Task) -> Task:
    # Predictor carries maps as float32, in which class ids are exact.
    return replace(task, decode=Tensor.long if task.kind == "labels" else _identity)


def _identity(maps: Tensor) -> Tensor:
    return maps
