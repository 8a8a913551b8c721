"""Golden fixtures of published networks: weights by formula, input, expected outputs (README of the shared folder's
`golden`).

case = golden("survey_mtl_resnet18_pascal5")        # skips the test where the shared folder is absent
model = from_published(case.family, case.state_dict(), tasks=case.tasks(), mean=(0, 0, 0), std=(1, 1, 1))
case.check_predictions(model(case.image()))         # every task's final map
case.check("stage/backbone_0", features[0])         # one named output
"""

import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import shared_path
from torch import Tensor

from triptych import tasks as task_constructors
from triptych.tasks import Task
from triptych.types import Output

TOLERANCE = 1e-4
"""Largest difference relative to the largest absolute value of the output."""

OUR_NAMES = {"sal": "saliency", "edge": "boundary", "edges": "boundary"}
"""Task names of the published code that differ from ours."""

AS_IS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""Backbone options that leave the image alone: most fixtures are fed without normalisation."""


def our_name(published: str) -> str:
    """Our name of a published task."""
    return OUR_NAMES.get(published, published)


def make_task(published: str, channels: int) -> Task:
    """Our task of a published name, with the channels of the fixture."""
    name = our_name(published)
    constructor = task_constructors.TASKS[name]
    options: dict[str, dict[str, Any]] = {
        "semseg": {"classes": channels},
        "human_parts": {"classes": channels},
        "saliency": {"channels": channels},
        "boundary": {"channels": channels},
    }
    return constructor(**options.get(name, {}))


def random_generator(seed_tag: str, key: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(f"{seed_tag}:{key}".encode())))


def make_weight(seed_tag: str, gain: float, key: str, shape: list[int], kind: str) -> Tensor:
    """The formula of the fixtures' README, computed in float64 and rounded once."""
    generator = random_generator(seed_tag, key)
    if kind == "zero_int":
        return torch.zeros(shape, dtype=torch.int64)
    if kind in ("weight", "weight_sharp"):
        scale = gain if kind == "weight" else 16.0 * gain
        array = generator.standard_normal(shape) * (scale / np.sqrt(float(np.prod(shape[1:]))))
    elif kind == "norm_weight":
        array = 1.0 + 0.1 * generator.standard_normal(shape)
    elif kind in ("bias", "running_mean", "embed"):
        array = 0.1 * generator.standard_normal(shape)
    elif kind == "running_var":
        array = generator.uniform(0.5, 1.5, shape)
    elif kind == "scale":
        array = 0.5 * generator.standard_normal(shape)
    else:
        raise ValueError(f"unknown kind of fixture weight {kind!r} for {key}")
    return torch.from_numpy(np.asarray(array).astype(np.float32))


@dataclass(frozen=True)
class Golden:
    """One fixture: `manifest` is its JSON, `path` the file of its expected arrays."""

    manifest: dict[str, Any]
    path: Path

    @property
    def family(self) -> str:
        """Name of the code base as `from_published` takes it."""
        return {"densemtl-repo": "densemtl"}.get(self.manifest["family"], self.manifest["family"])

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path) as archive:
            return dict(archive)

    def state_dict(self) -> dict[str, Tensor]:
        """The published state dict, aliases included."""
        tag, gain = self.manifest["seed_tag"], self.manifest["weight_gain"]
        state: dict[str, Tensor] = {}
        for key, shape, kind, *_ in self.manifest["entries"]:
            if kind != "alias":
                state[key] = make_weight(tag, gain, key, shape, kind)
        for key, _, kind, *other in self.manifest["entries"]:
            if kind == "alias":
                state[key] = state[other[0]]
        return {key: state[key] for key, *_ in self.manifest["entries"]}

    def image(self) -> Tensor:
        """The input image, `(B, 3, H, W)` in [0, 1]."""
        generator = random_generator(self.manifest["seed_tag"], "input")
        shape = self.manifest["input"]["shape"]
        return torch.from_numpy(generator.uniform(0.0, 1.0, shape).astype(np.float32))

    def features(self) -> dict[str, Tensor]:
        """The input of a block fixture: one feature map for each of our task names."""
        entry = self.manifest["input"]
        return {
            our_name(task): torch.from_numpy(
                (4.0 * random_generator(self.manifest["seed_tag"], key).standard_normal(entry["shape"])).astype(
                    np.float32
                )
            )
            for task, key in entry["keys"].items()
        }

    def tasks(self) -> dict[str, Task]:
        """Our tasks in the fixture's declared order."""
        return self._tasks(self.config["tasks"])

    def auxiliary_tasks(self) -> dict[str, Task]:
        """Our tasks of the intermediate predictions, in the fixture's order."""
        return self._tasks(self.config.get("auxiliary_tasks") or self.config["tasks"])

    def _tasks(self, names: list[str]) -> dict[str, Task]:
        made = [make_task(name, self.config["num_outputs"][name]) for name in names]
        return {task.name: task for task in made}

    def error(self, name: str, value: Tensor) -> float:
        """Largest absolute difference from the output `name`, relative to its largest absolute value."""
        expected = self.manifest["outputs"][name]
        assert list(value.shape) == expected["full_shape"], (name, tuple(value.shape), expected["full_shape"])
        stride, offset = expected["stride"], expected["offset"]
        ours = value.detach().double()
        sampled = ours[..., offset::stride, offset::stride] if stride > 1 else ours
        difference = np.abs(sampled.numpy() - self.arrays[expected["array"]]).max()
        mean = abs(float(ours.mean()) - expected["mean"])
        return float(max(difference, mean) / expected["absmax"])

    def check(self, name: str, value: Tensor, tolerance: float = TOLERANCE) -> None:
        """Fail unless `value` agrees with the output called `name`."""
        error = self.error(name, value)
        assert error <= tolerance, f"{self.manifest['name']}: {name} differs by {error:.2e} of its largest value"

    def check_predictions(self, output: Output, tolerance: float = TOLERANCE) -> None:
        """Fail unless every final prediction agrees."""
        for published in self.config["tasks"]:
            names = [name for name in (published, f"{published}/scale0") if name in self.manifest["outputs"]]
            assert names, f"the fixture has no output for {published}"
            self.check(names[0], output.predictions[our_name(published)], tolerance)


def golden(name: str) -> Golden:
    """A fixture by name; skips the calling test where the shared folder is absent."""
    manifest = json.loads(shared_path(f"golden/{name}.json").read_text())
    return Golden(manifest, shared_path(f"golden/{name}.npz"))
