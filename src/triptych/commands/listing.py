"""`triptych list`: what a recipe can name, and the plug-ins that add to it."""

import inspect
from typing import Annotated, Any

import tyro
from tyro.conf import Positional


def list_names(
    kind: Annotated[Positional[str], tyro.conf.arg(metavar="KIND")] = "",
    long: bool = False,
    timm: str = "",
) -> None:
    """List what can be named in a recipe.

    Args:
        kind: One of recipes, datasets, tasks, transforms, backbones, decoders, architectures, tunings, regularizers,
            weightings, adapters, video, cross-view, plugins; all of them if left out.
        long: Also say what each name is, and of recipes what the paper reports.
        timm: Pattern of timm models with pretrained weights, such as "vit_small*dinov*"; with the kind backbones.
    """
    if timm:
        if kind != "backbones":
            raise ValueError(
                f"--timm lists backbones, not {kind or 'everything'}; write: triptych list backbones --timm ..."
            )
        from triptych.backbones.timm_models import find_pretrained

        print("\n".join(f"  {name:<52} {licence}" for name, licence in find_pretrained(timm).items()))
        return
    if kind != "plugins":
        _list_registries(kind, long=long)
    if kind in ("", "plugins"):
        _list_plugins()


def _list_registries(kind: str, *, long: bool) -> None:
    """Print the names of one kind, or of every kind; with `long` what each is, and what the paper of a recipe reports.

    >>> _list_registries("tasks", long=False)
    tasks: boundary, depth, human_parts, normals, saliency, semseg
    """
    from triptych.lookup import named_choice
    from triptych.named_parts import REGISTRIES
    from triptych.plugins.loading import load_installed
    from triptych.recipes.published import PUBLISHED

    load_installed()
    kinds = {kind: named_choice("kind", kind, REGISTRIES)} if kind else REGISTRIES
    for title, registry in kinds.items():
        if not long:
            print(f"{title}: {', '.join(sorted(registry))}")
            continue
        print(f"{title}:")
        for name, entry in sorted(registry.items()):
            print(f"  {name}: {_summarize(entry)}")
            if title == "recipes" and name in PUBLISHED:
                print(f"    {PUBLISHED[name].describe()}")


def _summarize(entry: Any) -> str:
    """One line about an entry of a registry: a recipe's description, or the first sentence of its documentation."""
    text = getattr(entry, "description", inspect.getdoc(getattr(entry, "func", entry)))
    return " ".join((text or "").split("\n\n")[0].split())


def _list_plugins() -> None:
    """Print the plug-ins that are loaded, with what they registered, and why others were left out."""
    from triptych.lookup import grouped
    from triptych.plugins import loading

    loading.load_installed()
    for reason in loading.STATE.failed.values():
        print(f"left out: {reason}")
    for name, version in sorted(loading.STATE.loaded.items()):
        kinds = grouped(loading.parts_of(name))
        lists = "; ".join(f"{part_kind} {', '.join(parts)}" for part_kind, parts in kinds.items())
        print(f"plug-in {name} {version}: {lists}")
