"""The one place that imports timm: it takes seconds, so it waits until a model is built."""

import difflib
import importlib
from typing import Any

from torch import nn

from triptych.machine import declare_missing_operators


def build_timm(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """A timm model by name, with random weights unless `pretrained`."""
    return _timm().create_model(name, pretrained=pretrained, **options)


def family_module(name: str) -> str:
    """The module of timm that defines a model, such as `resnet`; `ValueError` with near names where timm has no such
    model.

    >>> family_module("vit_tiny_patch16_224.augreg_in21k")
    'vision_transformer'
    """
    timm = _timm()
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(_unknown(name, timm.list_models()))
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2]


def _unknown(name: str, timm_names: list[str]) -> str:
    from triptych.backbones import BACKBONES

    near = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.5)
    near += [match for match in difflib.get_close_matches(name, timm_names, n=2, cutoff=0.7) if match not in near]
    hint = f"; did you mean {' or '.join(repr(match) for match in near)}?" if near else ";"
    return f"unknown backbone '{name}'{hint} Choose from {', '.join(sorted(BACKBONES))}, or any feature model of timm."


def _timm() -> Any:
    declare_missing_operators()
    return importlib.import_module("timm")
