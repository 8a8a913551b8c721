"""Where scores and pages of a network lie: its run folder, or a folder beside its exported file that says of which."""

import json
from pathlib import Path
from typing import Any

from triptych.files import hash_file, write_text
from triptych.prediction.exported import SUFFIX, ExportedNetwork

MADE_OF = "network.json"
"""In a folder of results: the SHA-256 of the file that they are of, how that was exported, and from what data."""


def results_path(run: Path) -> Path:
    """Where scores and pages of a network lie: its run folder, or for a file the folder `FILE.results` beside it, which
    is there once the file was scored.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where the folder is of another one, which this
    one took the place of.
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
    """`results_path`, made where it is not there yet, with the file's recipe and tasks, and how it was exported."""
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
"""What scores depend on of a file's description, and what files of older versions are, which do not say it."""


def read_export(folder: Path) -> dict[str, Any]:
    """How the network of a folder of results was exported, by dotted name; nothing for a run folder. Folders of older
    versions do not say: their file stands for it.
    """
    origin = _read_origin(folder)
    if not origin:
        return {}
    size, unsaid = origin.get("size"), origin["sha256"][:12]
    outputs = origin.get("outputs", unsaid)
    # Scales are of a network, as weights are: seeds differ in them. Raw maps are scored without.
    scaled = ", ".join(origin.get("calibration", {})) if outputs == "maps" else ""
    return {
        "exported as precision": origin.get("precision", unsaid),
        "exported as size": "x".join(str(side) for side in size) if size else "free",
        "exported as outputs": outputs,
        "exported as calibration": scaled or "none",
    }


def exported_data(folder: Path) -> dict[str, Any]:
    """Fingerprints of what the network of a folder of results was trained on, by dotted name, as `data_fingerprints`
    has them of a run; none where nothing tells of them.
    """
    return _read_origin(folder).get("data", {})


def _read_origin(folder: Path) -> dict[str, Any]:
    file = folder / MADE_OF
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _as_text(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
