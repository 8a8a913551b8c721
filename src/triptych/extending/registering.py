"""Register custom parts."""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

from triptych.adaptation.base import Adapter
from triptych.backbones.base import Backbone
from triptych.data.base import DenseDataset
from triptych.decoders import DECODERS
from triptych.decoders.base import Decoder
from triptych.lookup import named_choice
from triptych.models import ARCHITECTURES
from triptych.models.cvm import CvM
from triptych.models.multitask import MultiTaskModel
from triptych.named_parts import REGISTRIES
from triptych.plugins import loading
from triptych.plugins.loading import Part, calling_module, owner
from triptych.recipes.config import Recipe
from triptych.regularizers.base import Regularizer
from triptych.tasks.constructors import GENERIC
from triptych.video.base import VideoSupervision
from triptych.weighting.base import Weighting


def _is_class(base: type) -> Callable[[Any], bool]:
    return lambda entry: isinstance(entry, type) and issubclass(entry, base)


def _makes(base: type) -> Callable[[Any], bool]:
    """Make a check for a subclass of `base`, a `partial` of one, or a function, whose result is not checked."""
    return lambda entry: (
        _is_class(base)(getattr(entry, "func", entry)) or isinstance(getattr(entry, "func", entry), FunctionType)
    )


ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "recipes": (lambda entry: isinstance(entry, Recipe), "a triptych.Recipe"),
    "datasets": (_is_class(DenseDataset), "a subclass of triptych.DenseDataset"),
    "transforms": (callable, "a function of size, tasks and train"),
    "tasks": (callable, "a function that makes a triptych.Task"),
    "backbones": (_makes(Backbone), "a subclass of triptych.Backbone, or a function that makes one"),
    "decoders": (_is_class(Decoder), "a subclass of triptych.Decoder"),
    "architectures": (_makes(MultiTaskModel), "a subclass of triptych.MultiTaskModel, or a function that makes one"),
    "cross-view": (_is_class(CvM), "a subclass of triptych.models.cvm.CvM"),
    "tunings": (callable, "a function that gives the network that is trained, as triptych.models.lora.lora does"),
    "regularizers": (_is_class(Regularizer), "a subclass of triptych.Regularizer"),
    "weightings": (_is_class(Weighting), "a subclass of triptych.Weighting"),
    "adapters": (_is_class(Adapter), "a subclass of triptych.Adapter"),
    "video": (_is_class(VideoSupervision), "a subclass of triptych.VideoSupervision"),
}
"""Kinds of parts that can be registered: a check of an entry, and its description in errors."""
BESIDE: dict[str, dict[str, Any]] = {"decoders": ARCHITECTURES, "architectures": DECODERS, "tasks": GENERIC}
"""Other registries whose names are used in the same field of a recipe or file."""


def register(kind: str, name: str, entry: Any) -> None:
    """Register a custom part for recipes and files: `register("decoders", "mine", MyDecoder)`.

    `kind` is one of those of `available`. Register before anything is built, in every process; a module that does so
    when it is imported is a plug-in (`--plugin MODULE`). Raises `TypeError` for a part of the wrong base class, and
    `ValueError` for a name that is taken, except by the same entry or an earlier version of it, as in a notebook.

    >>> register("tasks", "depth", lambda: None)
    Traceback (most recent call last):
    ...
    ValueError: tasks has a 'depth' already (triptych.tasks.constructors); choose another name.
    """
    registry = named_choice("kind", kind, REGISTRIES)
    before = registry.get(name)
    if before is entry:
        return
    taken = {**BESIDE.get(kind, {}), **registry}
    if name in taken and (before is None or not _is_defined_anew(kind, name, before, entry)):
        home = owner(kind, name) or getattr(getattr(taken[name], "func", taken[name]), "__module__", "triptych.recipes")
        raise ValueError(f"{kind} has a '{name}' already ({home}); choose another name.")
    if not name or name != name.strip() or any(sign in name for sign in " ,;="):
        raise ValueError(f"{name!r} is no name for {kind}: it stands on command lines; write it like 'my-part'.")
    fits, wanted = ENTRIES[kind]
    if not fits(entry):
        raise TypeError(f"{kind} takes {wanted}; '{name}' is {entry!r}.")
    registry[name] = entry
    if before is None:
        loading.STATE.parts.append(Part(kind, name, calling_module(), remove=partial(registry.pop, name, None)))


def _is_defined_anew(kind: str, name: str, before: Any, entry: Any) -> bool:
    """Whether an entry is a new version of the registered one: of the same module and name, or, for recipes and
    functions without a name, registered by the same module.
    """
    old, new = (_place_of(each) for each in (before, entry))
    if old is None and new is None:
        here = (kind, name, calling_module())
        return any((part.kind, part.name, part.module) == here for part in loading.STATE.parts)
    return old == new


def _place_of(entry: Any) -> tuple[str, str] | None:
    """Module and name of a class or function."""
    name = getattr(entry, "__qualname__", "<lambda>")
    return None if name.endswith("<lambda>") else (getattr(entry, "__module__", ""), name)
