"""Adapters alone: all that a run has besides its frozen trunk, which is named with the hash of its weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from triptych.backbones.base import Backbone
from triptych.files import (
    check_signed,
    hash_tensors,
    read_tensors,
    save_tensors,
    sign,
    write_text,
    written_whole,
)
from triptych.lookup import parse_json
from triptych.models.multitask import MultiTaskModel
from triptych.models.parts import find_part
from triptych.recipes.config import Recipe

TENSORS = "adapters.safetensors"
TRUNK = "trunk.json"


class Trunk(NamedTuple):
    """The trunk that adapters stand on: its backbone, where its weights came from, and their SHA-256."""

    backbone: str
    weights: str
    sha256: str


def split_trunk(model: MultiTaskModel, freeze: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the bodies of trunks that training leaves as they are, and all others; `freeze` is the recipe's."""
    kept = {parameter for name in freeze for parameter in find_part(model, name).parameters}
    kept |= {parameter for parameter in model.parameters() if not parameter.requires_grad}
    names = set()
    for path, backbone in model.named_modules():
        if isinstance(backbone, Backbone):
            own = dict(backbone.body.named_parameters())
            fixed = {name for name, parameter in own.items() if parameter in kept}
            buffers = set(backbone.body.state_dict()) - set(own) if len(fixed) == len(own) else set()
            names |= {f"{path}.body.{name}" for name in fixed | buffers}
    state = model.state_dict()
    return {name: state[name] for name in state if name in names}, {
        name: state[name] for name in state if name not in names
    }


def save_adapters(folder: Path, model: MultiTaskModel, recipe: Recipe) -> None:
    """Write everything but the frozen trunk, and what that trunk is; `ValueError` where none of it is frozen."""
    trunk, rest = split_trunk(model, recipe.model.freeze)
    if not trunk:
        raise ValueError(
            "adapters_only leaves out a frozen trunk, and the whole trunk of this network was trained; save it whole."
        )
    with written_whole(folder / TENSORS) as partial:
        save_tensors(partial, rest)
    found = Trunk(recipe.model.backbone, recipe.model.weights, hash_tensors(trunk))
    write_text(folder / TRUNK, json.dumps(sign(found._asdict()), indent=2) + "\n")


def read_trunk(folder: Path) -> Trunk:
    """The trunk that the adapters of a folder stand on; `ValueError` where its description is damaged."""
    path = folder / TRUNK
    try:
        return Trunk(**check_signed(parse_json(path.read_text(encoding="utf-8"))))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say what the adapters stand on ({error}); copy it again.") from error


def find_weights(folder: Path, trunk: str) -> str:
    """Where the weights of the trunk are taken from: `trunk`, a file or a run folder, or what the run was trained
    from.
    """
    expected = read_trunk(folder)
    if trunk and Path(trunk).is_dir():
        return str(Path(trunk) / "model.safetensors")
    if not (trunk or expected.weights):
        raise ValueError(
            f"{folder} holds adapters alone, and their trunk ({expected.backbone}, SHA-256 {expected.sha256[:12]}...) "
            "is not known by a name or a file; give trunk=, a file of its weights or the run folder that has it."
        )
    return trunk or expected.weights


def read_adapters(folder: Path, model: MultiTaskModel, recipe: Recipe, source: str) -> dict[str, Tensor]:
    """The whole state of a network whose trunk is loaded from `source`; `ValueError` where it is another trunk than
    that of the adapters.
    """
    expected = read_trunk(folder)
    trunk, _ = split_trunk(model, recipe.model.freeze)
    if (found := hash_tensors(trunk)) != expected.sha256:
        raise ValueError(
            f"the adapters of {folder} stand on another trunk: {expected.backbone} with SHA-256 "
            f"{expected.sha256[:12]}..., and {source} gives {found[:12]}...; give trunk=, a file of its weights "
            "or the run folder that has it."
        )
    return trunk | read_tensors(folder / TENSORS)
