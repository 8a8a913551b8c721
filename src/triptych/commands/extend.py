"""The verbs `triptych new` and `check`: parts of one's own."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def new(
    kind: Positional[Literal["decoder", "dataset", "task", "regularizer"]],
    name: Positional[str],
    out: Path = Path("."),
) -> None:
    """Write a small package with a part of your own that works as it is: module, entry point, test.

    Args:
        kind: What to write.
        name: Name of the part in recipes, such as my-decoder.
        out: Folder that the package `triptych-NAME` is written into.
    """
    from triptych.extending.new import new_package
    from triptych.terminal import as_word

    package = new_package(kind, name, out)
    module = package.name.replace("-", "_")
    print(f"wrote {package}: {', '.join(sorted(path.name for path in package.iterdir()))}")
    print(f"next: cd {as_word(package)} && triptych check {module}; edit {module}.py; pip install -e .")


def check(plugin: Positional[str], root: str = "") -> None:
    """Check parts of your own: the properties of decoders, tasks, datasets and regularizers that the library relies on.

    The exit code is 1 where one does not hold.

    Args:
        plugin: Module that registers them, installed or in the current folder.
        root: Folder of the files, for datasets that need one.
    """
    from triptych.extending.checks import check_plugin

    found = check_plugin(plugin, root=root)
    for one in found:
        print(f"{'FAILED' if one.problem else 'ok':<6} {one.kind} {one.name}: {one.property}")
        if one.problem:
            print(f"       {' '.join(one.problem.split())}")
    failed = sum(bool(one.problem) for one in found)
    print(f"{len(found) - failed} of {len(found)} hold")
    if failed:
        raise SystemExit(1)
