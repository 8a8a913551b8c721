"""Models of timm: build them, and look up their families, licences and statistics."""

import difflib
import importlib
import inspect
from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from triptych.backbones.base import Statistics
from triptych.machine import declare_missing_operators


def build_timm(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """A timm model by name, with random weights unless `pretrained`."""
    return _timm().create_model(name, pretrained=pretrained, **options)


def check_timm_options(name: str, options: Iterable[str]) -> None:
    """Fail where one of the `options` of a network is timm's own: some of these fetch an address or open a file, and a
    recipe that came from elsewhere must not.

    >>> check_timm_options("convnext_atto", ["checkpoint_path"])
    Traceback (most recent call last):
    ...
    ValueError: backbone 'convnext_atto' has no option 'checkpoint_path'; where weights come from is said by weights.
    """
    timm = _timm()
    builders = (timm.create_model, timm.models.build_model_with_cfg)
    own = {parameter for builder in builders for parameter in inspect.signature(builder).parameters}
    for option in own.intersection(options):
        raise ValueError(f"backbone '{name}' has no option '{option}'; where weights come from is said by weights.")


def find_pretrained(pattern: str) -> dict[str, str]:
    """Pretrained models of timm by a pattern with `*`, such as `*dinov2*`, and the licence of each one's weights.

    Raises `ValueError` where nothing fits.

    >>> find_pretrained("resnet18.tv*")
    {'resnet18.tv_in1k': 'bsd-3-clause'}
    """
    names = _timm().list_models(pattern, pretrained=True)
    if not names:
        raise ValueError(f"no pretrained model of timm fits {pattern!r}; try a wider pattern, such as '*{pattern}*'.")
    return {name: pretrained_license(name) for name in names}


def family_module(name: str, ours: Collection[str] = ()) -> str:
    """The module of timm that defines a model, such as `resnet`; `ValueError` with near names, of timm's and of `ours`,
    where timm has no such model.

    >>> family_module("vit_tiny_patch16_224.augreg_in21k")
    'vision_transformer'
    """
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ValueError(_unknown(name, ours, timm.list_models()))
    if tag and name not in timm.list_models(f"{architecture}.*", include_tags=True):
        known = timm.list_models(f"{architecture}.*", pretrained=True)
        raise ValueError(
            f"timm has no weights '{tag}' of {architecture}; choose from {', '.join(known) or 'none'}, or leave the "
            "tag out."
        )
    return timm.model_entrypoint(architecture).__module__.rpartition(".")[2]


def pretrained_license(name: str) -> str:
    """The licence that timm states for its pretrained weights; empty where it states none.

    >>> pretrained_license("vit_base_patch16_dinov3.lvd1689m")
    'dinov3-license'
    """
    known = _timm().get_pretrained_cfg(name, allow_unregistered=False)
    return (known.license or "") if known is not None else ""


def pretrained_place(name: str) -> str:
    """The name on the Hugging Face hub of timm's pretrained weights, or their address; empty where it has none.

    >>> pretrained_place("resnet18.tv_in1k"), pretrained_place("resnet50_mlp")
    ('timm/resnet18.tv_in1k', '')
    """
    known = _timm().get_pretrained_cfg(name)
    return (known.hf_hub_id or known.url or "") if known is not None else ""


def pretrained_statistics(name: str) -> Statistics | None:
    """Mean and standard deviation with which timm's pretrained weights of a name see images; `None` where it has none.

    >>> pretrained_statistics("vit_tiny_patch16_384.augreg_in21k_ft_in1k")
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    known = _timm().get_pretrained_cfg(name)
    return (tuple(known.mean), tuple(known.std)) if known is not None else None


def _unknown(name: str, ours: Collection[str], timm_names: list[str]) -> str:
    near = difflib.get_close_matches(name, ours, n=1, cutoff=0.5)
    near += [match for match in difflib.get_close_matches(name, timm_names, n=2, cutoff=0.7) if match not in near]
    hint = f"did you mean {' or '.join(repr(match) for match in near)}? Choose" if near else "choose"
    return f"unknown backbone '{name}'; {hint} from {', '.join(sorted(ours))}, or any feature model of timm."


def _timm() -> Any:
    """timm, imported here alone: it takes seconds, so it waits until a model is built."""
    declare_missing_operators()
    return importlib.import_module("timm")
