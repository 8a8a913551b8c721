"""Checkpoints: folders of safetensors and one JSON, written whole or not at all; nothing is pickled."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = Mapping[str, Tensor]


def write_checkpoint(run: Path, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
    """Write `checkpoints/<step>/`: one safetensors file per entry of `files`, and `state.json`.

    Everything goes to a temporary folder first, which is flushed to the disk and then renamed. Where writing fails (a
    full disk), the temporary folder goes, older checkpoints stay and an `OSError` says so in one line.
    """
    folder = run / "checkpoints" / f"{step:08d}"
    if folder.exists():  # the same step of the same run: written whole, by the rename below
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    with _explained(f"checkpoint of step {step}", run, partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in files.items():
            save_tensors(partial / f"{name}.safetensors", tensors)
        _write_text(partial / "state.json", json.dumps(state, indent=1))
        _flush(partial)
        partial.rename(folder)
        _flush(folder.parent)
    return folder


def read_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by file name, and the state, of a checkpoint folder."""
    try:
        files = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {folder} is damaged ({error}); delete it to go on from an older one.") from error
    return files, state


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("[0-9]*") if path.is_dir())


def prune_checkpoints(run: Path, *, keep: int, protect: int = -1) -> None:
    """Delete all but the last `keep` checkpoints (at least one) and that of step `protect`, and half written ones."""
    for partial in (run / "checkpoints").glob(".*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    for folder in list_checkpoints(run)[: -max(keep, 1)]:
        if int(folder.name) != protect:
            shutil.rmtree(folder, ignore_errors=True)


def replace_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file in place of an older one, which stays intact if writing fails."""
    partial = path.with_name(f".{path.name}.partial")
    with _explained(path.name, path.parent, partial):
        save_tensors(partial, tensors)
        partial.replace(path)
        _flush(path.parent)


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Write tensors, on whatever device and in whatever layout, and flush them to the disk."""
    # Cloned only where memory is shared, which safetensors refuses.
    seen: set[int] = set()
    ready = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    save_file(ready, path, metadata={"format": "pt"})
    _flush(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    """fsync: a rename must not reach the disk before what it renames."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some file systems cannot flush folders; they order the rename themselves.
        with suppress(OSError) if path.is_dir() else _nothing():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


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
