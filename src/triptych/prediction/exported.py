"""A network in an ONNX file as a module, so that `Predictor`, and all that is built on it, runs it like any other."""

import json
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn

from triptych.extras import import_extra
from triptych.lookup import UnknownNameError
from triptych.plugins.loading import require_plugins
from triptych.prediction.calibration import Scale, scales_from
from triptych.recipes.config import Recipe, from_json
from triptych.tasks import Task
from triptych.tasks.stored import tasks_from_json
from triptych.types import Output

SUFFIX = ".onnx"


def require(*packages: str) -> None:
    """Fail in one line where a package of the extra `export` is missing."""
    for package in packages:
        import_extra(package, "export", "ONNX files need")


class ExportedNetwork(nn.Module):
    """The network of a file that `triptych export` wrote, run by `triptych_runtime.Network`.

    `forward(image)` takes `(B, 3, H, W)`, floats in [0, 1] or uint8, of a size that the file allows. Where the file
    holds decoded maps, `is_decoded` is true and these stand in place of raw ones.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        require("onnxruntime", "triptych_runtime")
        from triptych_runtime import FileError, Network

        self.runtime = Network(path, threads=torch.get_num_threads())
        self.metadata = self.runtime.metadata
        self.register_buffer("file_checksum", torch.tensor(zlib.crc32(path.read_bytes())))
        missing = [key for key in ("task_file", "recipe", "outputs") if key not in self.metadata]
        if missing:
            raise FileError(f"{path}: its description has no {', '.join(missing)}; export it again.")
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
    def smallest(self) -> int:
        """Least side, in pixels, of the images that the file takes."""
        return self.metadata["input"]["smallest"]

    @property
    def calibration(self) -> dict[str, Scale]:
        """Scales to apply to raw maps once they are decoded. A file of decoded maps has them applied already, and only
        those with a known size are returned.
        """
        scales = scales_from(self.metadata.get("calibration", {}))
        return {name: scale for name, scale in scales.items() if scale.seen or not self.is_decoded}

    @property
    def recipe(self) -> Recipe:
        """The recipe that the network was trained with."""
        return from_json(json.dumps(self.metadata["recipe"]))

    def forward(self, image: Tensor) -> Output:
        # Bytes as they are: the runtime scales them. NumPy has no bfloat16: autocast inputs become float32.
        maps = self.runtime.run((image if image.dtype == torch.uint8 else image.float()).cpu().numpy())
        return Output({name: torch.from_numpy(maps[name]) for name in self.tasks}, [], [])

    def describe(self) -> str:
        """Note of a trained decoder on itself; empty for a file."""
        return ""

    def check_views(self, *, several: bool) -> None:
        """Fail in one line where raw maps would have to be averaged, and the file has none."""
        if several and self.is_decoded:
            raise ValueError(
                f"{self.runtime.path} holds decoded maps, and tiles, flips, scales and a shorter side average or "
                "resize raw ones; export the network with --outputs raw."
            )

    def check_device(self, device: torch.device | str | None) -> None:
        """Fail in one line where another device than the CPU is asked for by name."""
        if device is not None and str(device) not in ("auto", "cpu"):
            raise ValueError(
                f"{self.runtime.path} is run by onnxruntime on the CPU, and device is {device}; leave it out, or use "
                "the run that the file was made from."
            )

    def check_precision(self, name: str) -> None:
        """Fail in one line where another precision is asked for; `auto` and `no` leave that of the file."""
        if name not in ("no", "auto"):
            raise ValueError(
                f"{self.runtime.path} computes in the numbers it was exported with "
                f"({self.metadata.get('precision', 'fp32')}), and precision is {name}; leave it out, or export the "
                "network with another --precision."
            )
