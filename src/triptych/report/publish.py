"""A run on the Hugging Face hub: the folder that `from_pretrained` reads, and a card with its scores and licences."""

import json
import math
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from triptych.evaluation.protocols import OWN as NO_PROTOCOL
from triptych.evaluation.protocols import Scoring
from triptych.evaluation.scores import read_scores, require_weights
from triptych.evaluation.tables import ARROWS
from triptych.export.onnx_file import describe_onnx
from triptych.files import hash_file, shorten_paths, write_text
from triptych.machine import unreachable_hub_is_offline
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import pretrained
from triptych.prediction.calibration import read_calibration
from triptych.prediction.exported import SUFFIX, ExportedNetwork
from triptych.prediction.model_card import TAGS, as_code, as_text, describe_trunk, loaded_trunk, model_card
from triptych.recipes.config import Recipe, from_json, to_json
from triptych.tasks import Task

OWN = "Triptych's own"
"""The protocol of `triptych evaluate`: docs/protocols.md defines each of its numbers."""
HUB_TASKS = {
    "labels": "image-segmentation",
    "probability": "image-segmentation",
    "length": "depth-estimation",
}
"""The hub's names of tasks, by kind; it has none for others."""


class Result(NamedTuple):
    """One number of the card."""

    task: str
    metric: str
    value: float
    higher_is_better: bool
    protocol: str
    data: str
    split: str
    images: int
    file: str = ""
    """Name of the exported file that it was measured on; empty for the weights."""
    calibrated: bool = False
    """Whether it is of metres scaled by the file's calibration, which the weights do not have."""

    @property
    def mark(self) -> str:
        """Suffix of the file in lists."""
        return ", calibrated" * self.calibrated


def push_run(
    run: Path,
    name: str,
    *,
    dry_run: Path | None = None,
    scores: Sequence[Path] = (),
    exported: Sequence[Path] = (),
    license: str = "other",
    private: bool = False,
) -> str:
    """Upload the network of a run folder to the hub as `name` (organisation/name) and return its address.

    The card lists what `triptych evaluate` and, in `scores`, `triptych score --out` wrote. `exported` are ONNX files of
    this run (`triptych export`) that lie beside its weights. Absolute paths of this machine are shortened to their last
    part. `dry_run` is a folder to write instead; then nothing is uploaded. Raises `ValueError` for a name that the hub
    does not take and files of other networks, `OSError` where it cannot be reached or does not let us in, all before
    anything is uploaded.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"'{name}' is no name of a network on the hub ({error}); write organisation/name.") from error
    if "/" not in name:
        raise ValueError(f"'{name}' has no owner; write organisation/name.")
    if dry_run is not None:
        if dry_run.exists() and any(dry_run.iterdir()):
            raise FileExistsError(
                f"{dry_run} is not empty; --dry-run writes a new folder: choose another, or delete it."
            )
        write_folder(run, name, dry_run, scores=scores, exported=exported, license=license)
        return str(dry_run)
    way = f"write the folder with --dry-run FOLDER and upload it elsewhere: hf upload {name} FOLDER."
    with unreachable_hub_is_offline() as away, tempfile.TemporaryDirectory() as folder:
        if away:
            raise OSError(f"{name} was not uploaded, {away}; {way}")
        write_folder(run, name, Path(folder), scores=scores, exported=exported, license=license)
        try:
            api = HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload with triptych push")
        except (HfHubHTTPError, OSError, RuntimeError) as error:  # the last: an upload that broke off
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise OSError(f"{name} was not uploaded ({reason}); log in with `hf auth login`, or {way}") from error
    return f"{api.endpoint}/{name}"


def write_folder(
    run: Path, name: str, folder: Path, *, scores: Sequence[Path], exported: Sequence[Path] = (), license: str
) -> None:
    """Write the files to upload: weights, recipe, tasks, exported files and the card."""
    twice = [path.name for path in exported if sum(path.name == other.name for other in exported) > 1]
    if twice:
        raise ValueError(f"several exported files are called {twice[0]}, and one folder holds them; rename them.")
    scales = read_calibration(run, pretrained.weights_file(run))
    described = {path: _read_description(path, run) for path in exported}
    model, recipe = pretrained.load_model(run)
    recipe = from_json(json.dumps(shorten_paths(json.loads(to_json(recipe)))))
    results = list(read_results(run, scores, model.tasks, exported=described))
    pretrained.save_folder(folder, model, recipe, scales=scales)
    for path, description in described.items():
        shutil.copyfile(path, folder / path.name)
        describe_onnx(folder / path.name, description)
        write_text(folder / f"{path.name}.json", json.dumps(description, indent=2) + "\n")
    card = model_card(
        model.tasks,
        recipe,
        name,
        header=make_header(model.tasks, name, results, license, loaded_trunk(model, recipe)),
        results="\n".join(
            [_result_table(results), *_file_list(name, described), _licences(model, recipe, run)],
        ),
        scales=scales,
    )
    write_text(folder / pretrained.FILES["card"], card)


def _read_description(path: Path, run: Path) -> dict[str, Any]:
    """Description of an exported file, without local folders; `ValueError` unless it is of this run's weights."""
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} is not uploaded: files to be shared end with {SUFFIX}; export the run to such a one.")
    description = shorten_paths(ExportedNetwork(path).metadata)
    if description.get("weights_sha256") != pretrained.hash_weights(run):
        raise ValueError(f"{path} was exported from other weights than those of {run}; export the run again.")
    return description


def _file_list(name: str, described: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """The part of the card about exported files."""
    if not described:
        return
    yield "## Without torch\n\n| file | precision | images | outputs |\n| --- | --- | --- | --- |"
    for path, description in described.items():
        size = description["input"]["size"]
        shown = "any size" if size is None else f"{size[0]} x {size[1]}"
        yield f"| {as_code(path.name)} | {description['precision']} | {shown} | {description['outputs']} |"
    path, description = next(iter(described.items()))
    first, resized = shlex.quote(path.name), " --resize" if description["input"]["size"] else ""
    yield f"\n```\nhf download {name} {first} --local-dir .\ntriptych-runtime {first} photo.jpg{resized}\n```\n"


def read_results(
    run: Path, scores: Sequence[Path], tasks: Mapping[str, Task], *, exported: Mapping[Path, Mapping[str, Any]]
) -> Iterator[Result]:
    """The numbers of a run folder's evaluations, then those of files of `triptych score` and of evaluations of the
    `exported` files, by their descriptions; `ValueError` where they are of other weights.
    """
    files = {hash_file(path): path for path in exported}
    for path in [*sorted(run.glob("evaluation-*.json")), *scores]:
        saved = read_scores(path)
        file = files.get(saved.content.get("weights_sha256", ""))
        if file is None:
            require_weights(saved, run)
        description = exported[file] if file else {}
        scaled = description.get("calibration", {}) if description.get("outputs") == "maps" else {}
        content = saved.content
        data = content.get("data") or {}
        scoring = Scoring.of_scores(content)
        measured = tasks if "tasks" in content else scoring.apply(tasks)
        for task, numbers in saved.metrics.items():
            if task not in tasks:
                continue
            described = (content.get("tasks") or {}).get(task, {})
            better = described.get("higher_is_better") or measured[task].metric().better
            for metric, value in numbers.items():
                if metric in better and math.isfinite(value):
                    yield Result(
                        task,
                        metric,
                        value,
                        better[metric],
                        OWN if scoring.protocol == NO_PROTOCOL else scoring.protocol,
                        data.get("name", "") if isinstance(data, Mapping) else "",
                        content.get("split", ""),
                        (content.get("labelled") or {}).get(task, len(saved.keys[task])),
                        file.name if file else "",
                        task in scaled,
                    )


def make_header(tasks: Mapping[str, Task], name: str, results: Sequence[Result], license: str, timm_name: str) -> str:
    """The card's metadata as YAML, which the hub searches and shows beside it."""
    from huggingface_hub import EvalResult, ModelCardData

    entries = [
        EvalResult(
            task_type=HUB_TASKS.get(tasks[each.task].kind, "other"),
            task_name=each.task,
            dataset_type=each.data or "unnamed",
            dataset_name=each.data or "unnamed",
            dataset_split=each.split or None,
            metric_type=each.metric,
            metric_name=f"{each.task} {each.metric} ({each.protocol} protocol"
            f"{', ' * bool(each.file)}{each.file}{each.mark})",
            metric_value=float(f"{each.value:.5g}"),
        )
        for each in results
    ]
    data = ModelCardData(
        library_name="triptych",
        license=license,
        tags=[*TAGS, *tasks],
        model_name=name.split("/")[-1],
        base_model=f"timm/{timm_name}" if timm_name else None,
        eval_results=entries or None,
    )
    return data.to_yaml() + "\n"


def _result_table(results: Sequence[Result]) -> str:
    if not results:
        return "This network was not scored.\n"
    rows = [
        f"| {as_code(each.file) if each.file else 'weights'}{each.mark} | {as_text(each.task)} | "
        f"{as_text(each.metric)} {ARROWS[each.higher_is_better]} | {each.value:.4g} | {as_text(each.protocol)} | "
        f"{as_text(each.data)} {as_text(each.split)} | {each.images} |"
        for each in results
    ]
    head = [
        "## Results",
        "",
        "| of | task | number | value | protocol | data | images |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows, ""])


def _licences(model: MultiTaskModel, recipe: Recipe, run: Path) -> str:
    """Known licences that the weights inherit."""
    data = [read_scores(path).content.get("data") for path in run.glob("evaluation-*.json")]
    stated = {str(found["licence"]) for found in data if isinstance(found, Mapping) and found.get("licence")}
    known = as_text("; ".join(sorted(stated))) or "no licence is known here"
    return "\n".join(
        [
            "## Licences",
            "",
            f"- Trunk: {describe_trunk(model, recipe)}",
            f"- Data {as_code(recipe.data.dataset)}: {known}",
            "- These weights follow both; `license` above is what their publisher states.",
        ]
    )
