"""Folder of a network's scores and pages: its run folder, or one beside its exported file with the file's SHA-256."""

import json
from pathlib import Path
from typing import Any

from triptych.files import hash_file, write_text
from triptych.prediction.exported import SUFFIX, ExportedNetwork

MADE_OF = "network.json"
"""File in a folder of results: SHA-256 of the exported file, settings of the export, and training data."""


def results_path(run: Path) -> Path:
    """Folder of a network's scores and pages: its run folder, or for an exported file the folder `FILE.results` beside
    it, which exists once the file was scored.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where the folder belongs to an earlier file of
    that name.
    """
    if run.suffix != SUFFIX:
        return run
    if not run.is_file():
        raise FileNotFoundError(f"no file {run}; check the path, or write it with `triptych export`.")
    folder = run.with_name(run.name + ".results")
    origin = _read_origin(folder)
    if origin and origin["sha256"] != hash_file(run):
        raise ValueError(
            f"{folder} holds scores of another file, which had the name of {run.name}; move it away, or delete it."
        )
    return folder


def results_folder(run: Path) -> Path:
    """`results_path`, created where it is missing, with the file's recipe, tasks and settings of the export."""
    folder = results_path(run)
    origin = _read_origin(folder)
    if folder == run or (folder.is_dir() and (not origin or "outputs" in origin)):
        return folder
    network = ExportedNetwork(run)
    folder.mkdir(exist_ok=True)  # processes that share the work come here together
    write_text(folder / "recipe.json", _as_text(network.metadata["recipe"]))
    write_text(folder / "tasks.json", _as_text(network.metadata["task_file"]))
    told = {name: network.metadata.get(name, default) for name, default in _TOLD.items()}
    write_text(folder / MADE_OF, _as_text({"sha256": hash_file(run), "size": network.fixed_size, **told}))
    return folder


_TOLD: dict[str, Any] = {"precision": "fp32", "outputs": "maps", "calibration": {}, "data": {}}
"""Entries of a file's description that scores depend on, with defaults for files of older versions, which lack them."""


def read_export(folder: Path) -> dict[str, Any]:
    """Settings with which the network of a folder of results was exported, by dotted name; empty for a run folder.
    Folders of older versions lack them: the file's SHA-256 takes their place.
    """
    origin = _read_origin(folder)
    if not origin:
        return {}
    size, unsaid = origin.get("size"), origin["sha256"][:12]
    outputs = origin.get("outputs", unsaid)
    # Only which tasks have scales: their values differ between seeds, as weights do. Raw maps are scored without.
    scaled = ", ".join(origin.get("calibration", {})) if outputs == "maps" else ""
    return {
        "exported as precision": origin.get("precision", unsaid),
        "exported as size": "x".join(str(side) for side in size) if size else "free",
        "exported as outputs": outputs,
        "exported as calibration": scaled or "none",
    }


def exported_data(folder: Path) -> dict[str, Any]:
    """Fingerprints of the training data of the network of a folder of results, by dotted name, as `data_fingerprints`
    has them for a run; empty where they are not recorded.
    """
    return _read_origin(folder).get("data", {})


def _read_origin(folder: Path) -> dict[str, Any]:
    file = folder / MADE_OF
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _as_text(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
