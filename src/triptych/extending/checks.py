"""Check custom decoders, tasks, datasets and regularizers for the properties that the library relies on.

Each check is a function whose docstring is the property; it raises an error where that does not hold.
"""

import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from triptych.datasets import DATASETS
from triptych.decoders import DECODERS
from triptych.extending import dataset_checks, decoder_checks, regularizer_checks, task_checks
from triptych.extending.cases import require
from triptych.lookup import option_defaults
from triptych.machine import own_random_numbers
from triptych.plugins.loading import load_plugin, parts_of
from triptych.regularizers import REGULARIZERS
from triptych.tasks import TASKS


class Checked(NamedTuple):
    """One property of one part, and its `problem`, empty where the property holds."""

    kind: str
    name: str
    property: str
    problem: str = ""


def check_plugin(plugin: str, *, root: str = "") -> list[Checked]:
    """Check what a plug-in registers: each property that the library relies on, with its `problem`.

    `root` is the folder of datasets that need one. Decoders, tasks, datasets and regularizers have checks; parts of
    other kinds are only imported.
    """
    load_plugin(plugin)
    dataset_checks.open_train.cache_clear()  # a class may have been defined anew since, and files mended
    found = []
    for kind, name in parts_of(plugin):
        for check in CHECKS.get(kind, ()):
            words = " ".join((check.__doc__ or check.__name__).split()).rstrip(".")
            try:
                with own_random_numbers():
                    check(name, root)
                found.append(Checked(kind, name, words))
            except Exception as error:  # code of plug-ins may raise any error; the other checks still run
                found.append(Checked(kind, name, words, f"{type(error).__name__}: {error}"))
        if kind not in CHECKS:
            found.append(Checked(kind, name, "It is imported; parts of this kind have no other check"))
    return found


def takes_options_by_keyword(kind: dict[str, Any]) -> Callable[[str, str], None]:
    """Make a check that options of a part can be stored in files."""

    def check(name: str, root: str) -> None:
        """Its options are keywords whose defaults go into a file."""
        json.dumps(option_defaults(kind[name]))
        told = 4 if getattr(kind[name], "copies_decoder", False) else 1  # positional arguments
        for one in list(inspect.signature(kind[name]).parameters.values())[told:]:
            require(
                one.kind is not one.POSITIONAL_OR_KEYWORD or one.default is one.empty,
                f"'{one.name}' may be given by its place, and is no option: put a * before it.",
            )

    return check


CHECKS: dict[str, tuple[Callable[[str, str], None], ...]] = {
    "tasks": (
        task_checks.is_stored,
        task_checks.ignores_missing_labels,
        task_checks.learns_from_labelled_pixels,
        task_checks.decodes,
        task_checks.is_scored,
        task_checks.targets_move,
        takes_options_by_keyword(TASKS),
    ),
    "decoders": (
        decoder_checks.has_shapes,
        decoder_checks.learns_every_part,
        decoder_checks.sees_single_images,
        decoder_checks.is_saved,
        decoder_checks.takes_any_tasks,
        takes_options_by_keyword(DECODERS),
    ),
    "datasets": (
        dataset_checks.has_samples,
        dataset_checks.has_images,
        dataset_checks.has_targets,
        dataset_checks.has_cameras,
        dataset_checks.reads_alike,
        dataset_checks.is_identified,
        dataset_checks.refuses_unknown_splits,
        takes_options_by_keyword(DATASETS),
    ),
    "regularizers": (
        regularizer_checks.has_terms,
        regularizer_checks.acts,
        regularizer_checks.has_its_own_chance,
        takes_options_by_keyword(REGULARIZERS),
    ),
}
"""The checks of a part, by kind."""
