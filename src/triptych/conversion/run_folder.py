"""A published checkpoint file becomes a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.backbones.weights import read_state_dict
from triptych.conversion import FAMILIES, convert_checkpoint, find_style
from triptych.conversion.base import ConversionReport, Family
from triptych.lookup import named_choice
from triptych.prediction.pretrained import save_folder
from triptych.recipes.config import DataConfig, Options, Recipe
from triptych.tasks import TASKS

REPORT_FILE = "conversion.txt"
ORDER = ("semseg", "depth", "human_parts", "saliency", "normals", "boundary")
"""Order of the tasks where none is given: that of InvPT's and DenseMTL's code."""
CLASSES = {True: 21, False: 40}
"""Classes of semseg where none are given: PASCAL-Context with its human parts and saliency, NYUv2 otherwise."""


def convert_file(
    family: str,
    checkpoint: str | Path,
    out: Path,
    *,
    tasks: Sequence[str] = (),
    auxiliary_tasks: Sequence[str] = (),
    classes: int = 0,
    overwrite: bool = False,
    **options: Any,
) -> ConversionReport:
    """Convert a checkpoint and write a run folder that `Predictor.load` and `triptych evaluate` read.

    `tasks` are our names, in the order of training; by default those that the tensors name. `classes` are those of
    semseg: by default 40 (NYUv2), or 21 where the checkpoint has human parts or saliency (PASCAL-Context). `options`
    are those of the network's converter. The report of every tensor is written as `conversion.txt`.
    """
    code_base = named_choice("family", family, FAMILIES)
    state = read_state_dict(checkpoint)
    find_style(family, state)  # before its tasks are looked for, which another checkpoint may not name
    names = tuple(tasks) or find_tasks(code_base, state)
    task_options = published_options(code_base, (*names, *auxiliary_tasks), classes)
    built = {name: TASKS[name](**task_options[name]) for name in (*names, *auxiliary_tasks)}
    if auxiliary_tasks:
        options["auxiliary_tasks"] = {name: built[name] for name in auxiliary_tasks}
    model, report = convert_checkpoint(family, state, tasks={name: built[name] for name in names}, **options)
    recipe = Recipe(
        description=f"{report.style} of the code base '{family}', converted from {Path(checkpoint).name}.",
        data=DataConfig(
            dataset="folder", tasks=names, auxiliary_tasks=tuple(auxiliary_tasks), task_options=task_options
        ),
        model=report.config,
    )
    save_folder(out, model, recipe, overwrite=overwrite)
    (out / REPORT_FILE).write_text(f"{report.summary}\n\n{report.table()}\n", encoding="utf-8")
    return report


def find_tasks(family: Family, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Our names of the tasks that tensor names mention."""
    parts = {part for key in state for part in key.split(".")}
    found = tuple(name for name in ORDER if family.task_names.get(name, name) in parts)
    if not found:
        shown = ", ".join(list(state)[:3])
        raise ValueError(f"no task is named in the checkpoint's keys ({shown}, ...); give --tasks.")
    return found


def published_options(family: Family, names: Sequence[str], classes: int = 0) -> dict[str, Options]:
    """Keyword arguments that make our tasks those of a code base, by task name."""
    for name in names:
        named_choice("task", name, TASKS)
    options = {name: dict(family.task_options.get(name, {})) for name in names}
    if "semseg" in options:
        options["semseg"]["classes"] = classes or CLASSES[bool({"human_parts", "saliency"} & set(names))]
    return options
