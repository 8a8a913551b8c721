"""Convert a published checkpoint file to a run folder."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from triptych.backbones.cells import predict_maps
from triptych.backbones.weights import read_state_dict
from triptych.conversion import FAMILIES, convert_checkpoint, find_network
from triptych.conversion.base import Assumption, CodeBase, ConversionReport, Network, describe_reading, network_recipe
from triptych.conversion.normals import directions, turn_normals
from triptych.datasets import DATASETS
from triptych.files import write_text
from triptych.labels.axes import CAMERA
from triptych.labels.normals import DIRECTIONS, Normals
from triptych.lookup import named_choice, require_options
from triptych.models.multitask import MultiTaskModel
from triptych.named_parts import check_options
from triptych.prediction.pretrained import save_folder
from triptych.recipes.config import DataConfig, Options, Recipe
from triptych.tasks import TASKS

TOLERANCE = 1e-3
"""Largest difference of an output, relative to its largest absolute value, that still counts as the same network:
another order or size changes outputs by more, another operation order by 1e-5.
"""

Convert = Callable[[Mapping[str, Any]], tuple[MultiTaskModel, ConversionReport]]
"""Options of a converter to its network."""


@dataclass(frozen=True)
class Reference:
    """An image, `(1, 3, H, W)` as our networks take it, and the published network's raw outputs for it,
    `(1, C, H, W)` by our task names.
    """

    path: Path
    image: Tensor
    outputs: Mapping[str, Tensor]

    def errors(self, model: nn.Module) -> dict[str, float]:
        """The largest difference of every output, relative to its largest absolute value."""
        with torch.no_grad():
            predictions = predict_maps(model, self.image)
        found = {}
        for name, expected in self.outputs.items():
            if predictions[name].shape != expected.shape:
                raise ValueError(
                    f"{self.path}: the output of '{name}' is {tuple(expected.shape)}, the network's for this image "
                    f"{tuple(predictions[name].shape)}; give raw outputs at the image's size."
                )
            scale = expected.abs().max().clamp(min=1e-12)
            difference = float((predictions[name] - expected).abs().max() / scale)
            found[name] = difference if math.isfinite(difference) else math.inf
        return found


def read_reference(path: Path, names: Mapping[str, str]) -> Reference:
    """A `.npz` with `image`, `(3, H, W)` or `(1, 3, H, W)` in [0, 1], and the raw output of at least one task by our
    name or the published one (`names`: ours to theirs), which the published network gives for `(image - mean) / std` of
    its loader (DenseMTL's normalizes inside).

    Raises `ValueError` naming what is missing, of another shape or out of range.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as .npz ({error}); write it with numpy.savez.") from error
    if broken := [name for name, array in arrays.items() if not array.isfinite().all()]:
        raise ValueError(f"{path} holds NaN or infinity in {', '.join(broken)}, which nothing can be compared with.")
    arrays = {name: array[None] if array.ndim == 3 else array for name, array in arrays.items()}
    image = arrays.pop("image", None)
    outputs = {ours: arrays[key] for ours, theirs in names.items() for key in (theirs, ours) if key in arrays}
    if image is None or image.ndim != 4 or image.shape[1] != 3 or not outputs:
        raise ValueError(
            f"{path} holds {', '.join([*arrays] if image is None else ['image', *arrays]) or 'nothing'}; give `image` "
            f"(3, H, W) and the raw output (C, H, W) of at least one of {', '.join(names)}."
        )
    if image.min() < 0 or image.max() > 1:
        raise ValueError(
            f"{path} holds an image from {image.min():.3g} to {image.max():.3g}; give it in [0, 1], as it is before "
            "the mean and std of the published loader (normalized * std + mean), and the outputs for it after them."
        )
    return Reference(path, image, outputs)


def settle(convert: Convert, options: Mapping[str, Any], assumed: Sequence[Assumption], reference: Reference) -> dict:
    """Options with the readings under which the network gives the reference's outputs.

    Settings that all outputs depend on are tried together, then those of single tasks one by one. Raises `ValueError`
    with the differences where no reading that can be listed agrees.
    """
    open_questions = [assumption for assumption in assumed if assumption.ambiguous]
    shared = [assumption for assumption in open_questions if not assumption.tasks]
    settled = dict(options)
    if shared:
        combinations = list(product(*(assumption.readings for assumption in shared)))
        candidates = [_merge(settled, shared, readings) for readings in combinations]
        affected = {name for assumption in open_questions for name in assumption.tasks}
        judged = [name for name in reference.outputs if name not in affected] or list(reference.outputs)
        titles = [", ".join(map(describe_reading, readings)) for readings in combinations]
        settled = _best(convert, candidates, titles, shared[0].option, judged, reference)
    for assumption in open_questions:
        judged = [name for name in assumption.tasks if name in reference.outputs]
        if assumption.tasks and not judged:
            raise ValueError(
                f"{assumption.option} of {assumption.key} changes the output of {', '.join(assumption.tasks)}, which "
                f"{reference.path} does not hold; add it, or give --{assumption.option.replace('_', '-')}."
            )
        if assumption.tasks:
            candidates = [assumption.merge_into(settled, reading) for reading in assumption.readings]
            titles = [describe_reading(reading) for reading in assumption.readings]
            settled = _best(convert, candidates, titles, f"{assumption.option} {assumption.key}", judged, reference)
    return settled


def _merge(options: Mapping[str, Any], assumed: Iterable[Assumption], readings: Iterable[Any]) -> dict[str, Any]:
    merged = dict(options)
    for assumption, reading in zip(assumed, readings, strict=True):
        merged = assumption.merge_into(merged, reading)
    return merged


def _best(
    convert: Convert,
    candidates: Sequence[dict[str, Any]],
    titles: Sequence[str],
    what: str,
    judged: Sequence[str],
    reference: Reference,
) -> dict[str, Any]:
    errors = []
    for candidate in candidates:
        found = reference.errors(convert(candidate)[0])
        errors.append(max(found[name] for name in judged))
    best = min(range(len(errors)), key=errors.__getitem__)
    if errors[best] > TOLERANCE:
        tried = "; ".join(f"{title}: {error:.1e}" for title, error in zip(titles, errors, strict=True))
        raise ValueError(
            f"no {what} that was tried gives the outputs of {reference.path} (largest relative differences: {tried}); "
            "give the one it was trained with."
        )
    return candidates[best]


REPORT_FILE = "conversion.txt"
ORDER = ("semseg", "depth", "human_parts", "saliency", "normals", "boundary")
"""Order of the tasks where none is given: that of InvPT's and DenseMTL's code."""
COUNTED = {"semseg": "classes", "human_parts": "classes", "saliency": "channels", "boundary": "channels"}
"""The option of a task's constructor that says how many channels it predicts, where that can vary."""


def convert_file(
    family: str,
    checkpoint: str | Path,
    out: Path,
    *,
    tasks: Sequence[str] = (),
    auxiliary_tasks: Sequence[str] = (),
    classes: int = 0,
    normals_axes: Sequence[str] = (),
    reference: Path | None = None,
    dataset: str = "folder",
    root: str = "",
    dataset_options: Options | None = None,
    overwrite: bool = False,
    **options: Any,
) -> ConversionReport:
    """Convert a checkpoint and write a run folder that `Predictor.load` and `triptych evaluate` read.

    `tasks` are our names; by default those that the tensors name, and `auxiliary_tasks` those of which only
    intermediate predictions are there. Class counts are read from the shapes; `classes` of semseg, where given, must be
    theirs. `options` are those of the network's converter. The report of every tensor, and of what was
    assumed, is written as `conversion.txt`.

    Raises `ValueError` where several settings fit the shapes and none is given: a wrong one would give wrong numbers
    without a sign. `reference` is a `.npz` with an image and outputs of the published network (`read_reference`): the
    settings are then tried against it, and the result must agree with it. No output shows where components of normals
    point: `normals_axes` (as for `from_published`) must be given, and they are turned after that.

    The `dataset` in the folder `root` is what the run is scored on, by the protocol of its code base.
    """
    data: dict[str, Any] = {"dataset": dataset, "root": root, "options": dataset_options or {}}
    reader = named_choice("dataset", dataset, DATASETS)
    require_options(f"dataset '{dataset}'", reader, data["options"], given=("split",))
    check_options(Recipe(data=DataConfig(**data)))
    code_base = named_choice("family", family, FAMILIES)
    state = {key.removeprefix("module."): value for key, value in read_state_dict(checkpoint).items()}
    network = find_network(family, state)
    names = tuple(tasks) or find_tasks(code_base, network, state)
    auxiliary = tuple(auxiliary_tasks) or find_auxiliary_tasks(code_base, network, state, names)
    task_options = published_options(code_base, network, state, (*names, *auxiliary))
    if classes and task_options.get("semseg", {}).get("classes", classes) != classes:
        raise ValueError(
            f"the checkpoint has {task_options['semseg']['classes']} classes of semseg, classes says {classes}; leave "
            "classes out, they are read from the shapes."
        )
    built = {name: TASKS[name](**task_options[name]) for name in (*names, *auxiliary)}
    if directions({name: built[name] for name in names}):
        if not normals_axes:
            raise ValueError(
                "nothing tells where the components of the network's normals point: as in the archive that it was "
                f"trained on. Give --normals-axes, three of {', '.join(DIRECTIONS)}; docs/convert.md says how to find "
                f"them, and {' '.join(CAMERA)} keeps them as they are."
            )
        Normals(axes=(*normals_axes,))  # refuses others before the work
    elif normals_axes:
        raise ValueError("the network predicts no normals; leave --normals-axes out.")
    if auxiliary:
        options["auxiliary_tasks"] = {name: built[name] for name in auxiliary}

    def convert(chosen: Mapping[str, Any]) -> tuple[MultiTaskModel, ConversionReport]:
        return convert_checkpoint(family, state, tasks={name: built[name] for name in names}, **chosen)

    checked = []
    model, report = convert(options)
    published = {name: code_base.task_names.get(name, name) for name in names}
    if reference is not None:
        model, report, line = _check(convert, options, report, reference, published)
        checked.append(line)
    elif open_questions := [assumption for assumption in report.assumed if assumption.ambiguous]:
        raise ValueError(_refuse(open_questions))
    if normals_axes:
        turn_normals(model, network, report, published, normals_axes)
        checked.append(f"components of normals pointed {', '.join(normals_axes)}: turned to {', '.join(CAMERA)}")
    assert report.config is not None, "of something less than a network"
    description = f"{report.network} of the code base '{family}', converted from {Path(checkpoint).name}."
    # A code base is called like the protocol that it scores by.
    data |= {"tasks": names, "auxiliary_tasks": auxiliary, "task_options": task_options, "protocol": family}
    recipe = replace(network_recipe(report.config, **data), description=description)
    save_folder(out, model, recipe, overwrite=overwrite)
    lines = [report.summary, *(f"assumed: {assumption.line}" for assumption in report.assumed), *checked]
    write_text(out / REPORT_FILE, "\n".join([*lines, "", report.table()]) + "\n")
    return report


def _check(
    convert: Convert,
    options: Mapping[str, Any],
    report: ConversionReport,
    path: Path,
    names: Mapping[str, str],
) -> tuple[MultiTaskModel, ConversionReport, str]:
    """The network under the settings that give the reference's outputs, and a line that says how well."""
    reference = read_reference(path, names)
    settled = settle(convert, options, report.assumed, reference)
    model, report = convert(settled)
    errors = reference.errors(model)
    worst = max(errors, key=errors.__getitem__)
    if errors[worst] > TOLERANCE:
        raise ValueError(
            f"the converted network does not give the outputs of {path}: '{worst}' differs by {errors[worst]:.1e} of "
            f"its largest value (at most {TOLERANCE:g} is accepted). They must be those of the published network, in "
            "evaluation mode, for the image as its own loader normalizes it (docs/convert.md has the lines that save "
            "them); --mean and --std are only for a network trained with others."
        )
    found = [name for name in settled if name not in options or settled[name] != options[name]]
    settings = "".join(f"; found {name} = {_describe(settled[name])}" for name in found)
    return model, report, f"agrees with {path.name}: largest relative difference {errors[worst]:.1e}{settings}"


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={','.join(reading)}" for key, reading in value.items())
    return describe_reading(value)


def _refuse(assumed: Sequence[Assumption]) -> str:
    """Message about a checkpoint with several readings: the readings, and the options that choose one."""
    parts = []
    for assumption in assumed:
        flag = f"--{assumption.option.replace('_', '-')}"
        readings = " | ".join(describe_reading(reading) for reading in assumption.readings)
        more = "" if assumption.exhaustive else " | any other with the same pairs"
        parts.append(f"{flag}{assumption.key and ' ' + assumption.key} ({readings}{more})")
    return (
        f"the tensors do not tell {'; '.join(parts)}, and another value gives other numbers: say which, or give "
        "--reference, a .npz with an image and the published outputs to try them against (docs/convert.md)."
    )


def find_tasks(family: CodeBase, network: Network, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Our names of the tasks that have a final prediction; `ValueError` where the tensors do not name them."""
    ours = {theirs: name for name, theirs in _published_names(family).items()}
    held = list(network.channels(state))
    if unknown := [name for name in held if name and name not in ours]:
        raise ValueError(
            f"the checkpoint predicts {', '.join(unknown)}, which is none of this code base's tasks "
            f"({', '.join(ours)}); convert it from Python with names={{ours: theirs}}."
        )
    found = tuple(sorted((ours[name] for name in held if name), key=ORDER.index))
    if not found:
        shown = ", ".join(list(state)[:3])
        raise ValueError(f"no task is named in the checkpoint's keys ({shown}, ...); give --tasks.")
    return found


def find_auxiliary_tasks(
    family: CodeBase, network: Network, state: Mapping[str, Tensor], tasks: Sequence[str]
) -> tuple[str, ...]:
    """Our names of the tasks that have intermediate predictions only."""
    ours = {theirs: name for name, theirs in _published_names(family).items()}
    return tuple(
        ours[name] for name in network.intermediate_channels(state) if name in ours and ours[name] not in tasks
    )


def published_options(
    family: CodeBase, network: Network, state: Mapping[str, Tensor], names: Sequence[str]
) -> dict[str, Options]:
    """Keyword arguments that make our tasks those of a checkpoint, by task name: its code base's losses, and as many
    classes or channels as its last layers have rows.
    """
    published = _published_names(family)
    rows = network.intermediate_channels(state) | network.channels(state)
    options = {}
    for name in names:
        named_choice("task", name, TASKS)
        options[name] = dict(family.task_options.get(name, {}))
        count = rows.get(published[name], rows.get(""))
        if name in COUNTED and count is not None:
            options[name][COUNTED[name]] = count
    return options


def _published_names(family: CodeBase) -> dict[str, str]:
    return {name: family.task_names.get(name, name) for name in ORDER}
