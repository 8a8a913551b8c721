"""Parts that a recipe names: the fields with their names and options, and what they receive from elsewhere."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from triptych.adaptation import ADAPTERS
from triptych.augmentation.presets import TRANSFORMS
from triptych.backbones import BACKBONES, find_backbone
from triptych.data.base import DenseDataset
from triptych.datasets import DATASETS
from triptych.decoders import DECODERS
from triptych.lookup import named_choice, option_defaults, require_options, takes_option
from triptych.models import ARCHITECTURES, CROSS_VIEW, TUNINGS
from triptych.plugins import loading
from triptych.plugins.loading import load_installed, owner, version_of
from triptych.recipes import RECIPES
from triptych.recipes.config import Options, Recipe
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.tasks import TASKS, Task
from triptych.video import VIDEO
from triptych.weighting import WEIGHTINGS


@dataclass(frozen=True)
class Place:
    """The fields of a recipe that name and configure one part."""

    kind: str
    """Name of the kind of part in messages."""
    name: str
    """Dotted field of the recipe that has its name."""
    options: str
    """Dotted field of the recipe that has its options."""
    registries: tuple[str, ...]
    """Keys of `REGISTRIES` in which its name is looked up."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Keywords that come from elsewhere in a recipe, and from where; those without a source may be options too."""
    told: Callable[[Any, Recipe], Options] = lambda build, recipe: {}
    """Function to a constructor's options that follow from the rest of a recipe; explicit options override them."""
    elsewhere: Callable[[str], Any] | None = None
    """Function from a name to its constructor, where names outside the registries are possible too."""

    def find(self, recipe: Recipe) -> Any:
        """The constructor of the part; `ValueError` for an unknown name."""
        name = attrgetter(self.name)(recipe)
        if self.elsewhere is not None:
            return self.elsewhere(name)
        return named_choice(self.kind, name, *(REGISTRIES[key] for key in self.registries))

    def open(self, recipe: Recipe) -> Any:
        """As `find`, with a `ValueError` for an option that the constructor does not take."""
        build = self.find(recipe)
        what = f"{self.kind} '{attrgetter(self.name)(recipe)}'"
        require_options(what, build, attrgetter(self.options)(recipe), given=self.given)
        return build

    def settings(self, recipe: Recipe) -> Options:
        """The options of the part in this recipe, those that follow from the rest of it included."""
        return self.told(self.find(recipe), recipe) | attrgetter(self.options)(recipe)


def _batches(build: Any, recipe: Recipe) -> Options:
    """Number of labelled batches of the run, under the decoder's own name for it (`batches_option`), if any."""
    name = getattr(build, "batches_option", "")
    return {name: recipe.schedule.steps * recipe.training.accumulate} if name else {}


def _seed(build: Any, recipe: Recipe) -> Options:
    return {"seed": recipe.seed} if "seed" in option_defaults(build) else {}


def _steps(build: Any, recipe: Recipe) -> Options:
    return {"schedule_steps": recipe.schedule.steps} if takes_option(build, "schedule_steps") else {}


BACKBONE = Place(
    "backbone",
    "model.backbone",
    "model.backbone_options",
    ("backbones",),
    {"weights": "model.weights"},
    elsewhere=find_backbone,
)
DECODER = Place(
    "decoder",
    "model.decoder",
    "model.decoder_options",
    ("decoders", "architectures"),
    {"strides": "the backbone", "tasks": "data.tasks", "auxiliary_tasks": "data.auxiliary_tasks"},
    _batches,
)
MATCHER = Place("cross_view", "model.cross_view", "model.cross_view_options", ("cross-view",))
TUNING = Place("tuning", "model.tuning", "model.tuning_options", ("tunings",))
DATASET = Place(
    "dataset",
    "data.dataset",
    "data.options",
    ("datasets",),
    {"root": "", "split": "data.train_split, val_split and test_split"},
)
TARGET_DATASET = replace(
    DATASET,
    name="adaptation.dataset",
    options="adaptation.dataset_options",
    given={"root": "", "split": "adaptation.split"},
)
WEIGHTING = Place(
    "weighting", "weighting.name", "weighting.options", ("weightings",), {"weights": "weighting.weights"}, _seed
)
ADAPTER = Place(
    "adapter",
    "adaptation.name",
    "adaptation.options",
    ("adapters",),
    {"size": "data.size", "weights": "weighting.weights", "seed": "seed"},
)
VIDEO_METHOD = Place(
    "self-supervision from video",
    "video.name",
    "video.options",
    ("video",),
    {"task": "video.task", "intermediate_tasks": "model.decoder"},
)
REGULARIZER = Place(
    "regularizer",
    "regularizer.name",
    "regularizer.options",
    ("regularizers",),
    {"strides": "the backbone", "tasks": "data.tasks", "weight": "regularizer.weight"},
    _steps,
)
PLACES = (BACKBONE, DECODER, DATASET, WEIGHTING, MATCHER, TUNING, ADAPTER, TARGET_DATASET, VIDEO_METHOD, REGULARIZER)
"""All parts that a recipe gives options to, in the order in which run folders hold them."""


def check_options(recipe: Recipe) -> None:
    """Raise `ValueError` for an option that comes from elsewhere in the recipe."""
    for place in PLACES:
        for name in attrgetter(place.options)(recipe):
            if source := place.given.get(name):
                raise ValueError(
                    f"{place.options} has '{name}', which comes from {source}; leave it out of the options."
                )


def resolve_options(recipe: Recipe, built: Regularizer | None = None) -> dict[str, Options]:
    """All options of every part of the recipe, by place: its own, and the defaults of those that it leaves out.

    `built` is its regularizer, whose options may have been chosen by a preset.

    >>> resolve_options(Recipe())["model.decoder_options"]
    {'width': None, 'dropout': 0.0, 'head_std': 0.01}
    """
    resolved: dict[str, Options] = {}
    for place in PLACES:
        if attrgetter(place.name)(recipe) not in ("none", "full", ""):  # parts that the recipe does not use
            defaults = option_defaults(place.find(recipe))
            left = {name: value for name, value in defaults.items() if name not in place.given}
            resolved[place.options] = left | place.settings(recipe)
    if built is not None:
        resolved[REGULARIZER.options] |= built.chosen
    return resolved


def differing_settings(recipe: Recipe, other: Recipe) -> dict[str, list[Any]]:
    """Names and options of the parts of two recipes' networks that differ, with both values.

    Options left out have their defaults. Rates of dropout are not compared: a trained network does not depend on them.

    >>> from triptych.recipes.config import ModelConfig
    >>> differing_settings(Recipe(), Recipe(model=ModelConfig(decoder_options={"width": 64, "dropout": 0.1})))
    {'model.decoder_options.width': [None, 64]}
    """
    differing: dict[str, list[Any]] = {}
    for place in (BACKBONE, DECODER, MATCHER, TUNING):
        name, theirs = (attrgetter(place.name)(each) for each in (recipe, other))
        if name != theirs:
            differing[place.name] = [name, theirs]
        elif name not in ("none", "full"):
            build = place.find(recipe)
            one, two = (option_defaults(build) | attrgetter(place.options)(each) for each in (recipe, other))
            told = {*place.given, *place.told(build, recipe)}
            for key in one | two:
                values = [one.get(key), two.get(key)]
                if key not in told and "drop" not in key and len({json.dumps(value) for value in values}) > 1:
                    differing[f"{place.options}.{key}"] = values
    return differing


REGISTRIES: dict[str, dict[str, Any]] = {
    "recipes": RECIPES,
    "datasets": DATASETS,
    "transforms": TRANSFORMS,
    "tasks": TASKS,
    "backbones": BACKBONES,
    "decoders": DECODERS,
    "architectures": ARCHITECTURES,
    "cross-view": CROSS_VIEW,
    "tunings": TUNINGS,
    "regularizers": REGULARIZERS,
    "weightings": WEIGHTINGS,
    "adapters": ADAPTERS,
    "video": VIDEO,
}
"""Everything that a recipe can name, by kind."""


def available(kind: str) -> tuple[str, ...]:
    """The names of one kind that a recipe can use: `recipes`, `datasets`, `tasks`, `decoders`, `regularizers`, ...

    >>> available("tasks")
    ('boundary', 'depth', 'human_parts', 'normals', 'saliency', 'semseg')
    """
    load_installed()
    return tuple(sorted(named_choice("kind", kind, REGISTRIES)))


def used_plugins(recipe: Recipe, tasks: Mapping[str, Task], datasets: Iterable[DenseDataset] = ()) -> dict[str, str]:
    """Plug-ins, with their versions, of the parts of a recipe, its tasks and the `datasets` of a mixture, and those
    that the recipe or the command line names.

    >>> used_plugins(Recipe(), {})
    {}
    """
    parts = [(key, attrgetter(place.name)(recipe)) for place in PLACES for key in place.registries]
    parts += [("transforms", each.transform) for each in (recipe.data, recipe.adaptation)]
    parts += [("datasets", name) for each in datasets for name, kind in DATASETS.items() if kind is type(each)]
    parts += [("tasks", name) for key, task in tasks.items() for name in (key, task.constructor)]
    owners = {owner(kind, name) for kind, name in parts} | {*loading.STATE.asked, *recipe.plugins}
    return {plugin: version_of(plugin) or "" for plugin in sorted(owners - {""})}
