"""What the library itself registers: another test module may have added a part of its own in the same process."""

from collections.abc import Mapping


def own_entries(registry: Mapping[str, object]) -> list[str]:
    """The names whose class or function is defined in the package; of several names of one entry the first."""
    own = {name: entry for name, entry in registry.items() if _module(entry).partition(".")[0] == "triptych"}
    return [name for name, entry in own.items() if next(other for other in own if own[other] is entry) == name]


def _module(entry: object) -> str:
    return getattr(entry, "func", entry).__module__
