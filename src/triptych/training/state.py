"""State of a run: its position, and how it is saved to and loaded from a checkpoint."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triptych.files import hash_tensors, read_tensors
from triptych.training.checkpoint import read_checkpoint, replace_tensors, write_checkpoint
from triptych.training.parts import Parts
from triptych.training.sharding import like, load_tensors, whole
from triptych.training.step import StepNumbers

FROZEN = "frozen.safetensors"


@dataclass
class Means:
    """Weighted means by name, added up in double precision."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, names: Iterable[str], values: Iterable[float], weights: Iterable[float]) -> None:
        """Add `values`, sums over `weights` observations each."""
        for name, value, weight in zip(names, values, weights, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0.0) + weight

    def mean(self, name: str) -> float | None:
        """The mean, `None` where nothing was observed."""
        return self.sums[name] / self.counts[name] if self.counts.get(name) else None

    def under(self, prefix: str) -> dict[str, float | None]:
        """The means of the names that start with `prefix/`, without it."""
        return {name.removeprefix(prefix + "/"): self.mean(name) for name in self.sums if name.startswith(prefix + "/")}


@dataclass
class TrainingState:
    """Numbers that a run carries from step to step; JSON in a checkpoint.

    `window` collects losses since the last log line, `epoch` since the epoch began. `best` is the evaluation whose
    weights are deployed. `processes` is how many the run has. `seconds` counts time spent training, in all starts.
    """

    step: int = 0
    evaluated: int = 0
    window: Means = field(default_factory=Means)
    window_seconds: float = 0.0
    epoch: Means = field(default_factory=Means)
    best: dict[str, Any] | None = None
    processes: int = 1
    seconds: float = 0.0

    def count(self, numbers: StepNumbers, seconds: float) -> None:
        """One more step."""
        self.step += 1
        self.seconds += seconds
        self.window_seconds += seconds
        for means in (self.window, self.epoch):
            means.add(numbers.names, numbers.values, numbers.weights)

    def start_window(self) -> None:
        """Forget what was logged."""
        self.window, self.window_seconds = Means(), 0.0


def save(run: Path, parts: Parts, state: TrainingState) -> Path:
    """Write a checkpoint of everything that the next step depends on; every process must call it."""
    parts.share_buffers()
    optimizer, numbers = _optimizer_state(parts.optimizer, _named_parameters(parts))
    frozen = parts.objective.model.frozen_names()
    files = {
        "model": whole(_without(parts.objective.model.state_dict(), frozen)),
        "optimizer": optimizer,
        "weighting": parts.weighting.state_dict(),
        "generators": _generators(parts),
    }
    objective = parts.objective
    beside = {"regularizer": objective.regularizer, "adapter": objective.adapter, "video": objective.video}
    for name, module in beside.items():
        if module is not None:
            files[name] = whole(module.state_dict())
    if parts.average is not None:
        files["average"] = whole(_without(parts.average.tensors, frozen))
    scaler = parts.accelerator.scaler
    content = dataclasses.asdict(state) | {
        "optimizer": numbers,
        "scaler": scaler.state_dict() if scaler is not None else {},
        "frozen": parts.frozen,
    }
    if parts.adapter_optimizer is not None:
        files["adapter_optimizer"], content["adapter_optimizer"] = _optimizer_state(
            parts.adapter_optimizer, _named_parameters(parts)
        )
    folder = run / "checkpoints" / f"{state.step:08d}"
    if parts.accelerator.is_main_process:
        write_checkpoint(run, state.step, files, content)
    parts.accelerator.wait_for_everyone()
    return folder


def restore(folder: Path, parts: Parts) -> TrainingState:
    """Put a checkpoint back into `parts`, and return where the run stood."""
    files, content = read_checkpoint(folder)
    _require_whole(folder, files, content)
    parts.frozen = content.pop("frozen", {})
    if parts.frozen:
        kept = read_frozen(folder.parent.parent, parts.frozen)
        files |= {name: {**kept, **files[name]} for name in ("model", "average") if name in files}
    processes = parts.accelerator.num_processes
    if content["processes"] != processes:
        raise ValueError(
            f"{folder} was written by {content['processes']} processes, now there are {processes}: "
            "batches would have another size. Start as many, or start another run from its weights "
            "(model.initialize_from)."
        )
    modules: dict[str, nn.Module | None] = {
        "model": parts.objective.model,
        "weighting": parts.weighting,
        "regularizer": parts.objective.regularizer,
        "adapter": parts.objective.adapter,
        "video": parts.objective.video,
    }
    for name, module in modules.items():
        if module is not None:
            load_tensors(module.state_dict(), files.get(name, {}), f"{folder}/{name}.safetensors")
    if parts.average is not None:
        load_tensors(parts.average.tensors, files.get("average", {}), f"{folder}/average.safetensors")
    named = _named_parameters(parts)
    _restore_optimizer(parts.optimizer, named, files["optimizer"], content.pop("optimizer"))
    numbers = content.pop("adapter_optimizer", {})
    if parts.adapter_optimizer is not None:
        _restore_optimizer(parts.adapter_optimizer, named, files.get("adapter_optimizer", {}), numbers)
    scaler = content.pop("scaler")
    if parts.accelerator.scaler is not None and scaler:
        parts.accelerator.scaler.load_state_dict(scaler)
    _restore_generators(parts, files["generators"])
    content |= {name: Means(**content[name]) for name in ("window", "epoch")}
    return TrainingState(**content)


def deployable(folder: Path, parts: Parts) -> dict[str, Tensor]:
    """The weights that a checkpoint would be deployed with, without what an adapter makes of them."""
    files, _ = read_checkpoint(folder)
    kept = read_frozen(folder.parent.parent, parts.frozen) if parts.frozen else {}
    return {**kept, **files["average" if parts.average is not None else "model"]}


def frozen_tensors(parts: Parts) -> dict[str, Tensor]:
    """Tensors of the network that stay as they are; every process must call it."""
    names = parts.objective.model.frozen_names()
    return whole({name: value for name, value in parts.objective.model.state_dict().items() if name in names})


def write_frozen(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Store once what no checkpoint of a run repeats."""
    if tensors:
        replace_tensors(folder / FROZEN, tensors)


def read_frozen(run: Path, expected: Mapping[str, str]) -> dict[str, Tensor]:
    """What `write_frozen` stored; `ValueError` where it is not what the checkpoint stands on."""
    path = run / FROZEN
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, the frozen part of the run's network; copy it again.")
    tensors = read_tensors(path)
    if hash_tensors(tensors) != expected["sha256"]:
        raise ValueError(
            f"{path} is not the frozen part that the checkpoint stands on ({expected['backbone']}, SHA-256 "
            f"{expected['sha256'][:12]}...); copy it again."
        )
    return tensors


def _without(tensors: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name not in names}


def _require_whole(folder: Path, files: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming what a checkpoint lacks that every checkpoint has."""
    fields = {"step", "evaluated", "window", "epoch", "best", "processes", "optimizer", "scaler"}
    missing = [f"{name}.safetensors" for name in ("model", "optimizer", "weighting", "generators") if name not in files]
    missing += [f"{name} in state.json" for name in sorted(fields - set(content))]
    if not missing and content["step"] != int(folder.name):
        raise ValueError(f"checkpoint {folder} is of step {content['step']}; give its folder that name, or delete it.")
    if missing:
        raise ValueError(
            f"checkpoint {folder} has no {', no '.join(missing)}; copy it again, or delete it to go on from an older "
            "one."
        )


def _named_parameters(parts: Parts) -> dict[str, nn.Parameter]:
    modules = {"objective": parts.objective, "weighting": parts.weighting}
    return {f"{label}.{name}": p for label, module in modules.items() for name, p in module.named_parameters()}


def _optimizer_state(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's memory by parameter name: tensors, and what is no tensor."""
    tensors, numbers = {}, {}
    for name, parameter in named.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = value
            else:
                numbers[f"{name}.{key}"] = value
    return whole(tensors), numbers


def _restore_optimizer(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
) -> None:
    for full, value in (*tensors.items(), *numbers.items()):
        name, key = full.rsplit(".", 1)
        parameter = named[name]
        if isinstance(value, Tensor) and value.dim():
            value = like(value.to(parameter.device), parameter).clone(memory_format=torch.preserve_format)
        optimizer.state[parameter][key] = value


def _own_generators(parts: Parts) -> dict[str, torch.Generator]:
    """Generators that modules keep under the name `generator`."""
    modules = {"objective": parts.objective, "weighting": parts.weighting}
    return {
        f"{label}.{name}": module.generator
        for label, root in modules.items()
        for name, module in root.named_modules()
        if isinstance(getattr(module, "generator", None), torch.Generator)
    }


def _generators(parts: Parts) -> dict[str, Tensor]:
    """States of all random generators of all processes, as tensors `<process>/<name>`."""
    states = {"cpu": torch.get_rng_state()}
    if parts.accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(parts.accelerator.device)
    states |= {name: generator.get_state() for name, generator in _own_generators(parts).items()}
    gathered: list[dict[str, Tensor]] = [states]
    if parts.accelerator.num_processes > 1:
        gathered = [{} for _ in range(parts.accelerator.num_processes)]
        torch.distributed.all_gather_object(gathered, states)
    return {f"{rank}/{name}": value for rank, each in enumerate(gathered) for name, value in each.items()}


def _restore_generators(parts: Parts, stored: Mapping[str, Tensor]) -> None:
    prefix = f"{parts.accelerator.process_index}/"
    torch.set_rng_state(stored[prefix + "cpu"])
    if parts.accelerator.device.type == "cuda" and prefix + "cuda" in stored:
        torch.cuda.set_rng_state(stored[prefix + "cuda"], parts.accelerator.device)
    for name, generator in _own_generators(parts).items():
        if prefix + name in stored:
            generator.set_state(stored[prefix + name])
