"""The one place that imports timm."""

from typing import Any

from torch import nn

from triptych._torchvision import declare_missing_operators


def build_timm(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """A timm model by name, with random weights unless `pretrained`; timm is imported here and nowhere earlier.

    Raises `ValueError` with the nearest names where timm does not know `name`.
    """
    declare_missing_operators()
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ValueError(unknown_model(name))
    return timm.create_model(name, pretrained=pretrained, **options)


def unknown_model(name: str) -> str:
    """One line on a name that neither `BACKBONES` nor timm knows."""
    import difflib

    import timm

    from triptych.backbones import BACKBONES

    near = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.5)
    near += difflib.get_close_matches(name, timm.list_models(), n=3 - len(near), cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(match) for match in near)}?" if near else ";"
    return f"unknown backbone '{name}'{hint} Choose from {', '.join(sorted(BACKBONES))}, or any feature model of timm."
