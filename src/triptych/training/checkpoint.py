"""The state of a run, and its checkpoints: safetensors and one JSON, written whole or not at all, without pickle."""

import dataclasses
import difflib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from triptych.files import (
    check_signed,
    checksum,
    exchange,
    flush,
    hash_tensors,
    naming_damage,
    partial_path,
    read_tensors,
    remove_partials,
    save_tensors,
    sign,
    written_whole,
)
from triptych.lookup import build, parse_json
from triptych.processes import gather_objects
from triptych.training.parts import Parts
from triptych.training.sharding import like, load_tensors, whole
from triptych.training.step import StepNumbers

Tensors = Mapping[str, Tensor]


def write_checkpoint(run: Path, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
    """Write `checkpoints/<step>/`: one safetensors file per entry of `files`, and `state.json`.

    Everything goes to a temporary folder first, which is flushed to the disk and then renamed, or exchanged for an
    older checkpoint of that step. Where writing fails (a full disk), the temporary folder goes, older checkpoints stay
    and an `OSError` says so in one line.
    """
    folder = run / "checkpoints" / f"{step:08d}"
    partial = partial_path(folder)
    with _explained(f"checkpoint of step {step}", run, partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        written = {name: save_tensors(partial / f"{name}.safetensors", tensors) for name, tensors in files.items()}
        (partial / STATE).write_text(json.dumps(sign({**state, "files": written}), indent=1), encoding="utf-8")
        flush(partial / STATE)
        flush(partial)
        if folder.exists():
            exchange(partial, folder)
            shutil.rmtree(partial)
        else:
            partial.rename(folder)
        flush(folder.parent)
    return folder


STATE = "state.json"


def read_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by file name, and the state, of a checkpoint folder.

    Raises `ValueError` naming the file that is damaged, and how to go on.
    """
    cure = f"delete {folder} to go on from an older checkpoint"
    try:
        files = {path.stem: read_tensors(path) for path in sorted(folder.glob("*.safetensors"))}
    except ValueError as error:
        raise ValueError(f"{error} Or {cure}.") from error
    path = folder / STATE
    try:
        state = check_signed(parse_json(path.read_text(encoding="utf-8")))
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{path} is damaged ({error}); {cure}.") from error
    written = state.pop("files", {})  # of earlier versions not known
    if missing := [f"{name}.safetensors" for name in written if name not in files]:
        raise ValueError(f"checkpoint {folder} has no {', no '.join(missing)}; copy it again, or {cure}.")
    for name, tensors in files.items():
        if name in written and written[name] != checksum(tensors):
            raise ValueError(f"{folder / name}.safetensors is not the file that was written beside {STATE}; {cure}.")
    return files, state


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    return [path for path in _folders(run) if (path / STATE).is_file()]


def incomplete_checkpoints(run: Path) -> list[Path]:
    """Folders of checkpoints without a state: a run resumes from the one before."""
    return [path for path in _folders(run) if not (path / STATE).is_file()]


def _folders(run: Path) -> list[Path]:
    # A user's copy beside them ("00000004.old") does not count.
    return sorted(path for path in (run / "checkpoints").glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def prune_checkpoints(run: Path, *, keep: int, protect: int = -1) -> None:
    """Delete all but the last `keep` checkpoints (at least one) and that of step `protect`, and half written ones."""
    remove_partials(run / "checkpoints")
    for folder in list_checkpoints(run)[: -max(keep, 1)]:
        if int(folder.name) != protect:
            shutil.rmtree(folder, ignore_errors=True)


def replace_tensors(path: Path, tensors: Tensors) -> str:
    """Write a safetensors file in place of an older one, which stays intact if writing fails; returns the checksum."""
    with _explained(path.name, path.parent, partial_path(path)), written_whole(path) as partial:
        return save_tensors(partial, tensors)


@contextmanager
def _explained(what: str, run: Path, partial: Path) -> Iterator[None]:
    """Remove what is half written, and say in one line what failed and what is left."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        kept = list_checkpoints(run)
        rest = f"{kept[-1].name} and older checkpoints are intact" if kept else "no checkpoint was written before"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OSError(
            f"cannot write {what} to {run}: {reason}; {rest}. Free space or fix the folder, then go on with --resume."
        ) from error


FROZEN = "frozen.safetensors"
OPTIMIZERS = "optimizer", "adapter_optimizer"


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
    weights are deployed, with their checksum. `processes` is how many the run has. `seconds` counts time spent
    training, in all starts.
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
        **{name: whole(module.state_dict()) for name, module in parts.objective.beside.items()},
    }
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
        if (log := run / "metrics.jsonl").is_file():
            flush(log)  # its lines before a checkpoint are not written again
        write_checkpoint(run, state.step, files, content)
    parts.accelerator.wait_for_everyone()
    return folder


def restore(folder: Path, parts: Parts) -> TrainingState:
    """Load a checkpoint into `parts`, and return the state of the run."""
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
    modules = {"model": parts.objective.model, "weighting": parts.weighting, **parts.objective.beside}
    into = {name: module.state_dict() for name, module in modules.items()}
    if parts.average is not None:
        into["average"] = parts.average.tensors
    for name, tensors in into.items():
        load_tensors(tensors, files.get(name, {}), f"{folder}/{name}.safetensors")
    named = _named_parameters(parts)
    cure = "delete it to go on from an older checkpoint"
    with naming_damage(folder, cure):  # what no checksum guards
        memory = [name for place in (files, content) for part in OPTIMIZERS for name in place.get(part, {})]
    _require_parameters(folder, memory, named, cure)
    with naming_damage(folder, cure):
        _restore_optimizer(parts.optimizer, named, files["optimizer"], content.pop("optimizer"))
        numbers = content.pop("adapter_optimizer", {})
        if parts.adapter_optimizer is not None:
            _restore_optimizer(parts.adapter_optimizer, named, files.get("adapter_optimizer", {}), numbers)
        scaler = content.pop("scaler")
        if parts.accelerator.scaler is not None and scaler:
            parts.accelerator.scaler.load_state_dict(scaler)
        _restore_generators(parts, files["generators"])
        state: TrainingState = build(TrainingState, content, STATE)
        if state.best is not None and not {"step", "score", "metrics"} <= state.best.keys():
            raise ValueError(f"{STATE} does not say which evaluation was the best")
    return state


def deployable(folder: Path, parts: Parts) -> dict[str, Tensor]:
    """Weights that a checkpoint would deploy, before an adapter changes them."""
    files, _ = read_checkpoint(folder)
    kept = read_frozen(folder.parent.parent, parts.frozen) if parts.frozen else {}
    return {**kept, **files["average" if parts.average is not None else "model"]}


def frozen_tensors(parts: Parts) -> dict[str, Tensor]:
    """Tensors of the network that stay as they are; every process must call it."""
    names = parts.objective.model.frozen_names()
    return whole({name: value for name, value in parts.objective.model.state_dict().items() if name in names})


def read_frozen(run: Path, expected: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the frozen tensors, stored once for all checkpoints of a run; `ValueError` where their hash is not the
    expected one.
    """
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
    """The optimizer's memory by parameter name: tensors, and other values."""
    tensors, numbers = {}, {}
    for name, parameter in named.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = value
            else:
                numbers[f"{name}.{key}"] = value
    return whole(tensors), numbers


def _require_parameters(folder: Path, memory: Iterable[str], named: Mapping[str, nn.Parameter], cure: str) -> None:
    """Raise `ValueError` naming the parameters that an optimizer remembers and the network does not have."""
    stored = {full.rpartition(".")[0] or full for full in memory}
    unknown = sorted(stored - named.keys())
    if unknown:
        new = [name for name, parameter in named.items() if parameter.requires_grad and name not in stored]
        near = difflib.get_close_matches(unknown[0], new, 1)
        hint = f" (there is {near[0]}, of which it has none)" if near else ""
        more = f" and {len(unknown) - 1} more parameters" if len(unknown) > 1 else ""
        raise ValueError(
            f"{folder} has an optimizer's memory of {unknown[0]}{more}, not in this network{hint}: another version of "
            "the code wrote it. Resume with that version, start another run from its weights (model.initialize_from), "
            f"or {cure}."
        )


def _restore_optimizer(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
) -> None:
    # Steps are counted on the host unless a kernel on the parameter's device counts them: as torch restores them.
    counted = {p for group in optimizer.param_groups if _counts_on_device(group) for p in group["params"]}
    for full, value in (*tensors.items(), *numbers.items()):
        name, key = full.rsplit(".", 1)
        parameter = named[name]
        if isinstance(value, Tensor) and key == "step":
            value = value.to(parameter.device) if parameter in counted else value
        elif isinstance(value, Tensor):
            value = like(value.to(parameter.device), parameter).clone(memory_format=torch.preserve_format)
        optimizer.state[parameter][key] = value


def _counts_on_device(group: Mapping[str, Any]) -> bool:
    return bool(group.get("fused") or group.get("capturable"))


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
    every = enumerate(gather_objects(states))
    return {f"{rank}/{name}": value for rank, each in every for name, value in each.items()}


def _restore_generators(parts: Parts, stored: Mapping[str, Tensor]) -> None:
    prefix = f"{parts.accelerator.process_index}/"
    torch.set_rng_state(stored[prefix + "cpu"])
    if parts.accelerator.device.type == "cuda" and prefix + "cuda" in stored:
        torch.cuda.set_rng_state(stored[prefix + "cuda"], parts.accelerator.device)
    for name, generator in _own_generators(parts).items():
        if prefix + name in stored:
            generator.set_state(stored[prefix + name])
