"""A network in an ONNX file as a module, so that `Predictor`, and all that is built on it, runs it like any other."""

import importlib
import json
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn

from triptych.lookup import UnknownNameError
from triptych.plugins.loading import require_plugins
from triptych.prediction.calibration import Scale, scales_from
from triptych.recipes.config import Recipe, from_json
from triptych.tasks import Task
from triptych.tasks.stored import tasks_from_json
from triptych.types import Output

SUFFIX = ".onnx"
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
    `is_decoded` is true and these stand in place of raw ones.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        require("onnxruntime", "triptych_runtime")
        from triptych_runtime import FileError, Network

        self.runtime = Network(path, threads=torch.get_num_threads())
        self.metadata = self.runtime.metadata
        self.register_buffer("file_checksum", torch.tensor(zlib.crc32(path.read_bytes())))
        if "task_file" not in self.metadata or "recipe" not in self.metadata:
            raise FileError(f"{path}: its description has no tasks or no recipe; export it again.")
        try:
            stored = tasks_from_json(json.dumps(self.metadata["task_file"]))
        except UnknownNameError:  # its decoder is in the file, its tasks are not
            require_plugins(self.recipe.plugins, str(path))
            raise
        self.tasks: dict[str, Task] = {entry["name"]: stored[entry["name"]] for entry in self.metadata["tasks"]}
        self.is_decoded = self.metadata["outputs"] == "maps"

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width that the file takes; `None` where these are free."""
        return self.runtime.size

    @property
    def calibration(self) -> dict[str, Scale]:
        """Scales that raw maps still need once they are decoded; in decoded ones they are already."""
        return {} if self.is_decoded else scales_from(self.metadata.get("calibration", {}))

    @property
    def recipe(self) -> Recipe:
        """What the network was trained by."""
        return from_json(json.dumps(self.metadata["recipe"]))

    def forward(self, image: Tensor) -> Output:
        maps = self.runtime.run(image.float().cpu().numpy())
        return Output({name: torch.from_numpy(maps[name]) for name in self.tasks}, [], [])

    def describe(self) -> str:
        """What a trained decoder has to say of itself: a file has nothing."""
        return ""

    def check_views(self, *, several: bool) -> None:
        """Fail in one line where raw maps would have to be averaged, and the file has none."""
        if several and self.is_decoded:
            raise ValueError(
                f"{self.runtime.path} holds decoded maps, and tiles, flips, scales and a shorter side average or "
                "resize raw ones; export the network with --outputs raw."
            )


def results_folder(run: Path) -> Path:
    """Where scores and pages of a network lie: its run folder, or for a file the folder `FILE.results` beside it, which
    gets the file's recipe and tasks.
    """
    if run.suffix != SUFFIX:
        return run
    folder = run.with_name(run.name + ".results")
    if not folder.is_dir():
        metadata = ExportedNetwork(run).metadata
        folder.mkdir()
        for name, content in (("recipe.json", metadata["recipe"]), ("tasks.json", metadata["task_file"])):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder
