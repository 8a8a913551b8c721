"""Which plug-ins there are, their import, and which parts each of them registered.

A plug-in is a module that calls `triptych.register` when it is imported; its name is the module's. Two things import
one: `--plugin MODULE` (`load_plugin`), and a name that is not known yet, which imports the modules that installed
packages offer as entry points of the group `triptych.plugins`. A file never does: what it needs is compared with what
is loaded (`require_plugins`).
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
from typing import Any

GROUP = "triptych.plugins"
NOWHERE = "__main__"
"""Module of a notebook, or of a script that cannot be imported: what it registers is recorded in no file."""


class PluginError(ImportError):
    """A plug-in that is missing, cannot be imported, or is of another version than what needs it."""


@dataclass(frozen=True)
class Part:
    """What was registered: kind and name, the module that did it, and how it is taken back."""

    kind: str
    name: str
    module: str
    remove: Callable[[], object]


@dataclass
class State:
    """Plug-ins that this process loaded, refused, or was asked for."""

    parts: list[Part] = field(default_factory=list)
    loaded: dict[str, str] = field(default_factory=dict)
    """Versions of the plug-ins that were imported, by name."""
    asked: list[str] = field(default_factory=list)
    """Those that someone named, by `--plugin`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Installed ones that were left out, with the reason."""
    searched: bool = False


STATE = State()


def load_plugin(name: str) -> None:
    """Import a plug-in that someone asked for; `PluginError` where that fails, or where it registers nothing.

    A module in the current folder will do.

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
            sys.path.append(os.getcwd())  # last: nothing that is installed is hidden by a file that lies about
        _import(name, entries)
    if name not in STATE.asked:
        STATE.asked.append(name)


def load_installed() -> None:
    """Import the plug-ins of installed packages, once; one that fails is named in a warning, and the rest works."""
    if STATE.searched:
        return
    STATE.searched = True
    for name, entries in sorted(_installed().items()):
        if name in STATE.loaded:
            continue
        try:
            _import(name, entries)
        except PluginError as error:
            STATE.failed[name] = str(error)
            warnings.warn(f"left out: {error}", stacklevel=2)


def _installed() -> dict[str, list[EntryPoint]]:
    """Entry points by module: one that several distributions offer is nobody's."""
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
    importlib.invalidate_caches()  # a notebook may have written it a moment ago
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # code of others: whatever it does, the rest goes on
        for part in [part for part in STATE.parts[before:] if _is_of(name, part)]:
            part.remove()
            STATE.parts.remove(part)
        for half_done in set(sys.modules) - imported:
            if half_done.startswith(f"{name}."):
                del sys.modules[half_done]  # else it would not register again once the rest is mended
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
    """Packages say which versions of Triptych they were made for; pip checks that once, upgrades may come later."""
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
    """The version of a module that is imported: its own, else that of its package; empty where there is none."""
    top = module.partition(".")[0]
    stated = getattr(sys.modules.get(top), "__version__", "")
    packages = [] if stated else importlib.metadata.packages_distributions().get(top, [])
    return str(stated or (importlib.metadata.version(packages[0]) if packages else ""))


def calling_module() -> str:
    """The module whose code called into the library: who imports it has what it registers."""
    frame = sys._getframe(1)
    while True:
        name = str(frame.f_globals.get("__name__", "__main__"))
        # Where shapes are checked, a function of jaxtyping stands around each of ours.
        if name.partition(".")[0] not in ("triptych", "jaxtyping") or frame.f_back is None:
            return _imported_as(frame.f_globals) if name == NOWHERE else name
        frame = frame.f_back


def _imported_as(script: Mapping[str, Any]) -> str:
    """The name by which the program that runs can be imported; that of no module where it cannot, as a notebook."""
    spec, stem = script.get("__spec__"), Path(script.get("__file__") or "").stem
    if spec is not None:
        return str(spec.name).removesuffix(f".{NOWHERE}")
    return stem if stem.isidentifier() else NOWHERE


def owner(kind: str, name: str) -> str:
    """The plug-in that registered a part, or else the top package of the module that did; empty for the library's own,
    and for what was registered where nothing can import it.

    >>> owner("decoders", "invpt")
    ''
    """
    for part in STATE.parts:
        if (part.kind, part.name) == (kind, name):
            package = part.module.partition(".")[0].replace(NOWHERE, "")
            return max((plugin for plugin in STATE.loaded if _is_of(plugin, part)), key=len, default=package)
    return ""


def parts_of(plugin: str) -> list[tuple[str, str]]:
    """Kind and name of what a plug-in registered."""
    return [(part.kind, part.name) for part in STATE.parts if _is_of(plugin, part)]


def _is_of(plugin: str, part: Part) -> bool:
    return part.module == plugin or part.module.startswith(f"{plugin}.")


def version_of(plugin: str) -> str | None:
    """The version of a plug-in, `None` where it is not loaded; importing its module counts."""
    if plugin in STATE.loaded:
        return STATE.loaded[plugin]
    return _version(plugin) if parts_of(plugin) else None


def require_plugins(plugins: Mapping[str, str], what: str) -> None:
    """Fail unless the `plugins` that a file names, with their versions, are here; the file imports none of them.

    >>> require_plugins({"my_lab": "1.2"}, "run runs/a")
    Traceback (most recent call last):
    ...
    triptych.plugins.loading.PluginError: run runs/a needs plug-in 'my_lab' 1.2, which is not loaded; install it, or \
add --plugin my_lab where its module lies (in Python: import my_lab). Files never import code by themselves.
    """
    for name, version in plugins.items():
        if name == NOWHERE:
            continue  # of older versions: what is missing will be named itself
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
