"""Checkpoints: folders of safetensors and one JSON, written whole or not at all; nothing is pickled."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from triptych.files import (
    check_signed,
    flush,
    partial_path,
    read_tensors,
    remove_partials,
    save_tensors,
    sign,
    written_whole,
)
from triptych.lookup import parse_json

Tensors = Mapping[str, Tensor]


def write_checkpoint(run: Path, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
    """Write `checkpoints/<step>/`: one safetensors file per entry of `files`, and `state.json`.

    Everything goes to a temporary folder first, which is flushed to the disk and then renamed. Where writing fails (a
    full disk), the temporary folder goes, older checkpoints stay and an `OSError` says so in one line.
    """
    folder = run / "checkpoints" / f"{step:08d}"
    if folder in list_checkpoints(run):  # the same step of the same run: written whole, by the rename below
        return folder
    partial = partial_path(folder)
    with _explained(f"checkpoint of step {step}", run, partial):
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in files.items():
            save_tensors(partial / f"{name}.safetensors", tensors)
        (partial / STATE).write_text(json.dumps(sign(state), indent=1), encoding="utf-8")
        flush(partial / STATE)
        flush(partial)
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
    return files, state


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    return [path for path in _folders(run) if (path / STATE).is_file()]


def incomplete_checkpoints(run: Path) -> list[Path]:
    """Folders of checkpoints that hold no state, whoever emptied them: a run goes on from the one before."""
    return [path for path in _folders(run) if not (path / STATE).is_file()]


def _folders(run: Path) -> list[Path]:
    # A copy that somebody made beside them ("00000004.old") is none.
    return sorted(path for path in (run / "checkpoints").glob("[0-9]*") if path.name.isdecimal() and path.is_dir())


def prune_checkpoints(run: Path, *, keep: int, protect: int = -1) -> None:
    """Delete all but the last `keep` checkpoints (at least one) and that of step `protect`, and half written ones."""
    remove_partials(run / "checkpoints")
    for folder in list_checkpoints(run)[: -max(keep, 1)]:
        if int(folder.name) != protect:
            shutil.rmtree(folder, ignore_errors=True)


def replace_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file in place of an older one, which stays intact if writing fails."""
    with _explained(path.name, path.parent, partial_path(path)), written_whole(path) as partial:
        save_tensors(partial, tensors)


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
