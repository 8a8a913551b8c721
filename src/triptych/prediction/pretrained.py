"""Networks as folders: `recipe.json`, `tasks.json`, `model.safetensors` and a card, in a run folder or on a hub."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from triptych.backbones.base import find_backbones
from triptych.backbones.size import built_for
from triptych.backbones.weights import load_weights as load_backbone
from triptych.decoders.base import Decoder
from triptych.files import (
    check_signed,
    count_numbers,
    exchange,
    hash_file,
    hash_tensors,
    partial_path,
    read_tensors,
    save_tensors,
    sign,
    write_text,
    written_whole,
)
from triptych.lookup import parse_json
from triptych.machine import hub_reason, memory_advice, unreachable_hub_is_offline
from triptych.models.multitask import MultiTaskModel
from triptych.models.parts import find_part
from triptych.plugins.loading import require_plugins
from triptych.prediction import calibration
from triptych.prediction.exported import SUFFIX
from triptych.prediction.model_card import UNSAID, describe_trunk, model_card
from triptych.recipes.config import Recipe, to_json
from triptych.recipes.resolved import FILE as RESOLVED
from triptych.recipes.resolved import read_run_recipe, write_resolved
from triptych.tasks import Task
from triptych.tasks.stored import read_tasks, write_tasks

TENSORS = "adapters.safetensors"
TRUNK = "trunk.json"


class Trunk(NamedTuple):
    """Trunk that adapters were trained on: its backbone, the source of its weights, and their SHA-256."""

    backbone: str
    weights: str
    sha256: str


def split_trunk(model: MultiTaskModel, freeze: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the bodies of trunks that training leaves as they are, and all others; `freeze` is the recipe's."""
    kept = {parameter for name in freeze for parameter in find_part(model, name).parameters}
    kept |= {parameter for parameter in model.parameters() if not parameter.requires_grad}
    names = set()
    for path, backbone in find_backbones(model).items():
        own = dict(backbone.own_body.named_parameters())
        fixed = {name for name, parameter in own.items() if parameter in kept}
        buffers = set(backbone.own_body.state_dict()) - set(own) if len(fixed) == len(own) else set()
        names |= {f"{path}.{backbone.body_prefix}{name}" for name in fixed | buffers}
    state = model.state_dict()
    return {name: state[name] for name in state if name in names}, {
        name: state[name] for name in state if name not in names
    }


def save_adapters(folder: Path, model: MultiTaskModel, recipe: Recipe) -> None:
    """Write everything but the frozen trunk, and a description of it; `ValueError` where none of it is frozen."""
    trunk, rest = split_trunk(model, recipe.model.freeze)
    if not trunk:
        raise ValueError(
            "adapters_only leaves out a frozen trunk, and the whole trunk of this network was trained; save it whole."
        )
    with written_whole(folder / TENSORS) as partial:
        save_tensors(partial, rest)
    found = Trunk(recipe.model.backbone, recipe.model.weights, hash_tensors(trunk))
    write_text(folder / TRUNK, json.dumps(sign(found._asdict()), indent=2) + "\n")


def read_trunk(folder: Path) -> Trunk:
    """Read the description of the trunk of a folder's adapters; `ValueError` where it is damaged."""
    path = folder / TRUNK
    try:
        return Trunk(**check_signed(parse_json(path.read_text(encoding="utf-8"))))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say what the adapters stand on ({error}); copy it again.") from error


def load_trunk(folder: Path, model: MultiTaskModel, trunk: str) -> str:
    """Load the trunk of a folder's adapters, and return its source: `trunk`, a file or a run folder, or the weights
    that the run was trained from. `ValueError` where the source is not known, `FileNotFoundError` where it is missing.
    """
    expected = read_trunk(folder)
    source = trunk or expected.weights
    if trunk and Path(trunk).is_dir():
        source = str(Path(trunk) / FILES["weights"])
    alone = f"{folder} holds adapters alone, and their trunk ({expected.backbone}, SHA-256 {expected.sha256[:12]}...)"
    cure = (
        "give trunk= to Predictor.load, a file of its weights or the run folder that has it; save_pretrained then "
        "writes a whole folder, which all commands take."
    )
    if not source:
        raise ValueError(f"{alone} is not known by a name or a file; {cure}")
    for backbone in find_backbones(model).values():
        try:
            backbone.load_report = load_backbone(backbone, source, without_updates=True)
        except FileNotFoundError as error:
            reason = str(error).partition(";")[0]  # its advice is for recipes
            raise FileNotFoundError(f"{alone} is not here: {reason}; {cure}") from error
    return source


def read_adapters(folder: Path, model: MultiTaskModel, recipe: Recipe, source: str) -> dict[str, Tensor]:
    """The whole state of a network whose trunk is loaded from `source`; `ValueError` where it is another trunk than
    that of the adapters.
    """
    expected = read_trunk(folder)
    trunk, _ = split_trunk(model, recipe.model.freeze)
    if (found := hash_tensors(trunk)) != expected.sha256:
        raise ValueError(
            f"the adapters of {folder} stand on another trunk: {expected.backbone} with SHA-256 "
            f"{expected.sha256[:12]}..., and {source} gives {found[:12]}...; give trunk= to Predictor.load, a "
            "file of its weights or the run folder that has it."
        )
    return trunk | read_tensors(folder / TENSORS)


FILES = {
    "recipe": "recipe.json",
    "resolved": RESOLVED,
    "tasks": "tasks.json",
    "weights": "model.safetensors",
    "card": "README.md",
    "adapters": TENSORS,
    "trunk": TRUNK,
}


def weights_file(folder: Path) -> Path:
    """File of a network's own tensors: its weights, or adapters alone."""
    whole, adapters = folder / FILES["weights"], folder / FILES["adapters"]
    return adapters if adapters.is_file() and not whole.is_file() else whole


def hash_weights(run: Path) -> str:
    """SHA-256 of the file that holds a network's own tensors, or of an exported file; empty where there is none."""
    file = run if run.is_file() else weights_file(run)
    return hash_file(file) if file.is_file() else ""


def require_folder(folder: Path) -> None:
    """Raise `FileNotFoundError` where a run folder is needed and there is a file, or nothing."""
    if folder.is_file():
        packed = folder.suffix == ".zip" and zipfile.is_zipfile(folder)  # archives of torch are zip files too
        way = f"`unzip {folder} -d RUN` makes one" if packed else "give the run it was made from"
        raise FileNotFoundError(f"{folder} is a file, and a run folder is needed here; {way}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"run folder {folder} does not exist; give the --out of a `triptych train`.")


def load_model(folder: Path, *, merge: bool = False, trunk: str = "") -> tuple[MultiTaskModel, Recipe]:
    """Rebuild the network of a folder, in evaluation mode, with its recipe.

    With `merge` low-rank updates become weights like any other, and the recipe that of such a network. A folder of
    adapters alone takes its trunk from where the run took it, or from `trunk`, a file of weights or a run folder.

    Raises `FileNotFoundError` naming the file that is missing, and `ValueError` where the weights belong to other
    tasks or shapes.
    """
    from triptych.assemble import build_model  # all parts there are: importing a predictor stays quick

    require_folder(folder)
    alone = weights_file(folder).name == FILES["adapters"]
    for name in ("recipe", "tasks", "trunk" if alone else "weights"):
        if not (folder / FILES[name]).is_file():
            raise FileNotFoundError(
                f"{folder} has no {FILES[name]}; give a run folder of `triptych train`, or one written by "
                "save_pretrained."
            )
    recipe = read_run_recipe(folder)
    tasks = read_run_tasks(folder)
    if missing := [name for name in recipe.data.auxiliary_tasks if name not in tasks]:
        raise ValueError(f"{folder / FILES['tasks']} has no task {', '.join(missing)}, which the recipe names.")
    auxiliary = {name: tasks.pop(name) for name in recipe.data.auxiliary_tasks}
    # Where the stored weights are whole, those that training started from are not needed, and may be out of reach.
    bare = replace(recipe, model=replace(recipe.model, weights=""))
    advice = f"the network of {folder / FILES['recipe']} is too large for this machine"
    limit = nullcontext() if alone else built_for(count_numbers(folder / FILES["weights"]))
    try:
        with memory_advice(advice), limit:
            model = build_model(bare, tasks, auxiliary, stored=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / FILES['recipe']}: {error}") from error
    if alone:
        source = load_trunk(folder, model, trunk)
        load_state(model, read_adapters(folder, model, recipe, source), folder / FILES["adapters"])
    else:
        load_weights(model, folder / FILES["weights"])
    if merge:
        tuning, options = model.merge()
        recipe = replace(recipe, model=replace(recipe.model, tuning=tuning, tuning_options=options))
    return model.eval(), recipe


def read_run_tasks(folder: Path) -> dict[str, Task]:
    """The tasks of a run folder, auxiliary ones too; `PluginError` names the plug-ins that it needs and that are not
    loaded.
    """
    require_plugins(read_run_recipe(folder).plugins, f"run {folder}")
    return read_tasks(folder / FILES["tasks"])


def load_weights(model: nn.Module, path: Path) -> None:
    """Load every tensor of a safetensors file; `ValueError`, before anything is changed, unless names and shapes
    agree exactly.
    """
    load_state(model, read_tensors(path), path)


def load_state(model: nn.Module, stored: dict[str, Tensor], path: Path) -> None:
    """Load every tensor of a state that was read from `path`, as `load_weights` does."""
    if isinstance(decoder := getattr(model, "decoder", None), Decoder):
        inside = "decoder."
        decoder.accept({name.removeprefix(inside): each for name, each in stored.items() if name.startswith(inside)})
    if problems := differences(stored, model.state_dict()):
        raise ValueError(
            f"{path} does not fit this model: {'; '.join(problems)}. It was trained with other tasks, classes or "
            "model options."
        )
    if broken := [name for name, value in stored.items() if value.is_floating_point() and value.isnan().any()]:
        raise ValueError(
            f"{path} holds NaN in {len(broken)} tensors, such as {broken[0]}: its training ran away; take another "
            "checkpoint."
        )
    model.load_state_dict(stored)


def differences(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """In which tensors a file and a model differ, by name and shape: a line for each kind of difference."""
    reshaped = [
        f"{name} is {tuple(stored[name].shape)} in the file and {tuple(expected[name].shape)} in the model"
        for name in expected
        if name in stored and stored[name].shape != expected[name].shape
    ]
    lists = {
        "missing from the file": [name for name in expected if name not in stored],
        "unknown to the model": [name for name in stored if name not in expected],
        "of another shape": reshaped,
    }
    return [f"{len(names)} tensors {what}, such as {names[0]}" for what, names in lists.items() if names]


def save_folder(
    folder: Path,
    model: MultiTaskModel,
    recipe: Recipe | None,
    *,
    card: str = "",
    overwrite: bool = False,
    adapters_only: bool = False,
    scales: Mapping[str, calibration.Scale] | None = None,
) -> Path:
    """Write the network so that `Predictor.from_pretrained(folder)` gives it back; with `adapters_only` without its
    frozen trunk. `scales` are its calibration.
    """
    from triptych.named_parts import resolve_options, used_plugins

    if recipe is None:
        raise ValueError(
            "this predictor has no recipe, from which a network is rebuilt; pass Predictor(model, recipe=...), or "
            "use Predictor.load."
        )
    if not isinstance(model, MultiTaskModel):
        raise ValueError(
            "this predictor runs a file, or a wrapped network: copy the file, or save the run it was made from."
        )
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} is not empty; choose another folder or pass overwrite=True.")
    with _replaced(folder) as place:
        tasks: dict[str, Task] = model.tasks | model.auxiliary_tasks
        recipe = replace(recipe, plugins=used_plugins(recipe, tasks))
        write_tasks(place / FILES["tasks"], tasks, recipe.data.task_options)
        write_text(place / FILES["recipe"], to_json(recipe) + "\n")
        write_resolved(place, resolve_options(recipe))
        if adapters_only:
            save_adapters(place, model, recipe)
        else:
            with written_whole(place / FILES["weights"]) as partial:
                save_tensors(partial, model.state_dict())
        if scales:
            calibration.write_calibration(place, scales, hash_weights(place), {})
        licences = f"- Trunk: {describe_trunk(model, recipe)}\n\n{UNSAID}"
        text = model_card(model.tasks, recipe, folder.name, card, results=licences, scales=scales)
        write_text(place / FILES["card"], text)
    return folder


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Context with the folder to write a network to, which replaces that in `folder` if the block succeeds: a mix of
    two would load, and give wrong results. A folder with a network alone is exchanged in one step; one that holds more,
    or the working directory, stays with its other files, and the network's are renamed into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        yield folder
        return
    folder = folder.resolve()
    own = {*FILES.values(), calibration.FILE}
    is_alone = {path.name for path in folder.iterdir()} <= own and not Path.cwd().is_relative_to(folder)
    beside = partial_path(folder)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        shutil.copymode(folder, beside)
        yield beside
        if is_alone:
            exchange(beside, folder)
        else:
            for name in own - {path.replace(folder / path.name).name for path in beside.iterdir()}:
                (folder / name).unlink(missing_ok=True)  # of another network
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def find_folder(
    name_or_folder: str | os.PathLike,
    *,
    revision: str | None = None,
    files: Sequence[str] = (*FILES.values(), calibration.FILE),
) -> Path:
    """A local folder or file as it is; anything else is downloaded from the Hugging Face hub, with a message: only
    `files`, by default those of a network.

    `FileNotFoundError` where the hub has no such network, and for a missing local path: the name of a file, or a path
    in an existing folder.
    """
    folder = Path(name_or_folder)
    if folder.exists():
        return folder
    if folder.suffix in (SUFFIX, ".zip"):
        raise FileNotFoundError(
            f"no file {folder}; check the path, or write it with `triptych export` or `save_pretrained`."
        )
    if folder.parent != Path() and folder.parent.is_dir():  # a typo must not become somebody else's network
        raise FileNotFoundError(f"{folder.parent} has no {folder.name}; check the path.")
    print(f"{name_or_folder} is no folder here: the Hugging Face hub is asked for it", file=sys.stderr)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    with unreachable_hub_is_offline(str(name_or_folder)) as away:
        try:
            return Path(snapshot_download(str(name_or_folder), revision=revision, allow_patterns=list(files)))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise FileNotFoundError(
                f"{name_or_folder} is no local folder, and the hub did not give it ({hub_reason(error, away)}); copy "
                "the folder here and give its path."
            ) from error
