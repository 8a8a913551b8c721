"""Plug-ins as files: modules in a folder, and packages that offer them, as pip would have installed them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych.named_parts import REGISTRIES
from triptych.plugins import loading


@contextmanager
def as_in_a_new_process() -> Iterator[None]:
    """No plug-in is loaded; afterwards everything is as before."""
    before = {kind: dict(registry) for kind, registry in REGISTRIES.items()}
    state, loading.STATE = loading.STATE, loading.State()
    for part in state.parts:
        part.remove()
    try:
        yield
    finally:
        loading.STATE = state
        for kind, registry in REGISTRIES.items():
            registry.clear()
            registry.update(before[kind])


def install(folder: Path, package: str, version: str, *modules: str, requires: str = "triptych") -> None:
    """What pip leaves behind of a package that offers `modules` as plug-ins."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nRequires-Dist: {requires}\n"
    )
    lines = [f"{module} = {module}\n" for module in modules]
    (info / "entry_points.txt").write_text("[triptych.plugins]\n" + "".join(lines))
