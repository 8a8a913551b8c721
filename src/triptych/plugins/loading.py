"""Find and import plug-ins, and keep track of the parts that each of them registered.

A plug-in is a module that calls `triptych.register` when it is imported; its name is the module's. It is imported by
`--plugin MODULE` (`load_plugin`), or, if installed packages offer it as an entry point of the group `triptych.plugins`,
at the first lookup of an unknown name. Files never choose a module to import: plug-ins that they need have to be loaded
or installed (`require_plugins`).
"""

import importlib
import importlib.metadata
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from threading import RLock
from typing import Any

GROUP = "triptych.plugins"
NOWHERE = "__main__"
"""Module of a notebook, or of a script that cannot be imported: files do not record it as a plug-in."""


class PluginError(ImportError):
    """Error for a plug-in that is missing, cannot be imported, or has another version than required."""


@dataclass(frozen=True)
class Part:
    """A registered part: kind and name, the module that registered it, and a function that removes it."""

    kind: str
    name: str
    module: str
    remove: Callable[[], object]


@dataclass
class State:
    """Plug-ins of this process: loaded, requested or failed, and their parts."""

    parts: list[Part] = field(default_factory=list)
    loaded: dict[str, str] = field(default_factory=dict)
    """Versions of the plug-ins that were imported, by name."""
    asked: list[str] = field(default_factory=list)
    """Plug-ins requested by `--plugin`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Installed plug-ins that failed, with the reason."""
    searched: bool = False


STATE = State()
_SEARCHING = RLock()


def load_plugin(name: str) -> None:
    """Import a requested plug-in; `PluginError` where that fails, or where it registers nothing.

    It may be a module in the current folder.

    >>> load_plugin("triptych_of_nobody")
    Traceback (most recent call last):
    ...
    triptych.plugins.loading.PluginError: plug-in 'triptych_of_nobody' was not found: it is not installed, and the \
current folder has no triptych_of_nobody.py.
    """
    if not name or name.startswith("-"):
        raise PluginError("--plugin names no module; write --plugin my_module, once for each.")
    if name.endswith(".py") or "/" in name or "-" in name:
        module = name.removesuffix(".py").rpartition("/")[2].replace("-", "_")
        raise PluginError(f"plug-in '{name}' is no module; give the name that it is imported by, such as {module}.")
    if name not in STATE.loaded:
        entries = _installed().get(name, [])
        if not entries and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # last: a local file does not hide an installed module
        _import(name, entries)
    if name not in STATE.asked:
        STATE.asked.append(name)


def load_installed() -> None:
    """Import the plug-ins of installed packages, once; failures are warnings. Other threads wait until that is done."""
    with _SEARCHING:
        if STATE.searched:
            return
        STATE.searched = True  # first, as plug-ins that look names up come here again
        for name, entries in sorted(_installed().items()):
            if name in STATE.loaded:
                continue
            try:
                _import(name, entries)
            except PluginError as error:
                STATE.failed[name] = str(error)
                warnings.warn(f"left out: {error}", stacklevel=2)


def _installed() -> dict[str, list[EntryPoint]]:
    """Entry points by module; a module that several distributions offer has several, which `_import` refuses."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(entry.module, []).append(entry)
    return found


def _import(name: str, entries: list[EntryPoint]) -> None:
    packages = [entry.dist for entry in entries if entry.dist is not None]
    if len(entries) > 1:
        offered = ", ".join(f"{package.name} {package.version}" for package in packages)
        raise PluginError(
            f"plug-in '{name}' is offered by {len(entries)} installed packages ({offered}); uninstall all but one."
        )
    for package in packages:
        _require_this_version(name, package)
    before, imported = len(STATE.parts), set(sys.modules)
    importlib.invalidate_caches()  # it may have been written a moment ago, as by a notebook
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # code of plug-ins may raise any error
        for part in [part for part in STATE.parts[before:] if _is_of(name, part)]:
            part.remove()
            STATE.parts.remove(part)
        for half_done in set(sys.modules) - imported:
            if half_done.startswith(f"{name}."):
                del sys.modules[half_done]  # otherwise it would not register its parts on a second import
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            place = f"the current folder has no {name}.py"
            raise PluginError(f"plug-in '{name}' was not found: it is not installed, and {place}.") from error
        line = traceback.extract_tb(error.__traceback__)[-1]  # the innermost line of code
        raise PluginError(
            f"plug-in '{name}' failed on import: {type(error).__name__}: {error} ({line.filename}:{line.lineno}); "
            "mend or uninstall it."
        ) from error
    if not any(_is_of(name, part) for part in STATE.parts):
        raise PluginError(
            f"plug-in '{name}' registers nothing; it has to call triptych.register(kind, name, part) when imported."
        )
    STATE.loaded[name] = packages[0].version if packages else _version(module.__name__)


def _require_this_version(name: str, package: Distribution) -> None:
    """Raise `PluginError` where a package requires another version of Triptych; pip checks it only at installation."""
    from packaging.requirements import InvalidRequirement, Requirement

    from triptych import __version__

    for text in package.requires or []:
        try:
            needs = Requirement(text)
        except InvalidRequirement:
            continue
        if needs.name == "triptych" and not needs.specifier.contains(__version__, prereleases=True):
            raise PluginError(
                f"plug-in '{name}' {package.version} was made for triptych{needs.specifier}, this is {__version__}; "
                "install a version of it that fits."
            )


def _version(module: str) -> str:
    """Version of an imported module: its own, else that of its package; empty where there is none."""
    top = module.partition(".")[0]
    stated = getattr(sys.modules.get(top), "__version__", "")
    packages = [] if stated else importlib.metadata.packages_distributions().get(top, [])
    return str(stated or (importlib.metadata.version(packages[0]) if packages else ""))


def calling_module() -> str:
    """Name of the module that called into the library, under which importing it repeats the registration."""
    frame = sys._getframe(1)
    while True:
        name = str(frame.f_globals.get("__name__", "__main__"))
        # Where shapes are checked, a function of jaxtyping wraps each of ours.
        if name.partition(".")[0] not in ("triptych", "jaxtyping") or frame.f_back is None:
            return _imported_as(frame.f_globals) if name == NOWHERE else name
        frame = frame.f_back


def _imported_as(script: Mapping[str, Any]) -> str:
    """Name under which the running program can be imported; `NOWHERE` where it cannot, as for a notebook."""
    spec, stem = script.get("__spec__"), Path(script.get("__file__") or "").stem
    if spec is not None:
        return str(spec.name).removesuffix(f".{NOWHERE}")
    return stem if stem.isidentifier() else NOWHERE


def owner(kind: str, name: str) -> str:
    """Return the plug-in that registered a part, or else the top package of the module that did.

    Empty for the library's own parts, and for parts registered by a module that cannot be imported (`NOWHERE`).

    >>> owner("decoders", "invpt")
    ''
    """
    for part in STATE.parts:
        if (part.kind, part.name) == (kind, name):
            package = part.module.partition(".")[0].replace(NOWHERE, "")
            return max((plugin for plugin in STATE.loaded if _is_of(plugin, part)), key=len, default=package)
    return ""


def parts_of(plugin: str) -> list[tuple[str, str]]:
    """Kind and name of the parts that a plug-in registered."""
    return [(part.kind, part.name) for part in STATE.parts if _is_of(plugin, part)]


def _is_of(plugin: str, part: Part) -> bool:
    return part.module == plugin or part.module.startswith(f"{plugin}.")


def version_of(plugin: str) -> str | None:
    """The version of a plug-in, `None` where it is not loaded; importing its module counts."""
    if plugin in STATE.loaded:
        return STATE.loaded[plugin]
    return _version(plugin) if parts_of(plugin) else None


def require_plugins(plugins: Mapping[str, str], what: str) -> None:
    """Raise `PluginError` unless the `plugins` that a file names are loaded in their versions.

    Installed plug-ins are loaded for this; no other module is imported.

    >>> require_plugins({"my_lab": "1.2"}, "run runs/a")
    Traceback (most recent call last):
    ...
    triptych.plugins.loading.PluginError: run runs/a needs plug-in 'my_lab' 1.2, which is not loaded; install it, or \
add --plugin my_lab where its module lies (in Python: import my_lab). Files never import code by themselves.
    """
    for name, version in plugins.items():
        if name == NOWHERE:
            continue  # recorded by older versions: a missing part is an error of its own
        if version_of(name) is None:
            load_installed()
        found = version_of(name)
        if found is None and name in STATE.failed:
            raise PluginError(f"{what} needs plug-in '{name}' {version}: {STATE.failed[name]}")
        if found is None:
            raise PluginError(
                f"{what} needs plug-in '{name}'{f' {version}' if version else ''}, which is not loaded; install it, or "
                f"add --plugin {name} where its module lies (in Python: import {name}). Files never import code by "
                "themselves."
            )
        if found and version and found.partition(".")[0] != version.partition(".")[0]:
            raise PluginError(
                f"{what} needs plug-in '{name}' {version}, and {found} is loaded: another major version may compute "
                f"something else; install {name} {version.partition('.')[0]}.x."
            )
