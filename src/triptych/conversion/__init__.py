"""Convert published checkpoints to our models.

>>> model = from_published("survey", read_state_dict("best_model.pth.tar"), tasks=nyuv2_tasks())  # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from triptych.backbones.weights import read_state_dict
from triptych.conversion import atrc, densemtl, invpt, survey
from triptych.conversion.base import Checkpoint, CodeBase, ConversionReport, Network, apply_renames
from triptych.conversion.normals import turn_normals
from triptych.labels.axes import CAMERA
from triptych.lookup import named_choice, require_options
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import TASKS, Task

__all__ = ["FAMILIES", "convert_checkpoint", "find_network", "from_published", "read_state_dict"]

FAMILIES: dict[str, CodeBase] = {
    "atrc": atrc.CODE_BASE,
    "densemtl": densemtl.CODE_BASE,
    "invpt": invpt.CODE_BASE,
    "survey": survey.CODE_BASE,
}


def from_published(
    family: str, state_dict: Mapping[str, Tensor], *, tasks: Mapping[str, Task], **options: Any
) -> MultiTaskModel:
    """Our model, in eval mode, with the tensors of a published checkpoint.

    `tasks` are those it was trained for, with its channels. The order of training is the option `order` (ATRC, InvPT,
    MTI-Net, NDDR) or `orders` (DenseMTL; by default that of `tasks`). `options` depend on the network: `mean` and `std`
    replace the image normalisation of its code base, `names` maps our task names to published ones where they are
    unusual. `normals_axes` says where the components of its normals point (those of the archive that it was trained on,
    in words as `("left", "up", "backward")`): they are turned to ours, right, down and forward. Raises
    `ValueError` for a checkpoint of another family, other tasks or shapes, and for any tensor that is not accounted
    for.
    """
    return convert_checkpoint(family, state_dict, tasks=tasks, **options)[0]


def convert_checkpoint(
    family: str,
    state_dict: Mapping[str, Tensor],
    *,
    tasks: Mapping[str, Task],
    names: Mapping[str, str] | None = None,
    normals_axes: Sequence[str] = CAMERA,
    **options: Any,
) -> tuple[MultiTaskModel, ConversionReport]:
    """`from_published`, with the report of every tensor."""
    found = named_choice("family", family, FAMILIES)
    state = {key.removeprefix("module."): value for key, value in state_dict.items()}
    network = find_network(family, state)
    published = {name: found.task_names.get(name, name) for name in tasks} | dict(names or {})
    require_options(f"{family} {network.name}", network.convert, options)
    conversion = network.convert(Checkpoint(state, tasks, published), **options)
    report = apply_renames(conversion, state, family=family, network=network.name)
    turn_normals(conversion.model, network, report, published, normals_axes)
    return conversion.model.eval(), report


def find_network(family: str, state_dict: Mapping[str, Any]) -> Network:
    """Find the network of a code base that has such tensor names; `ValueError` with examples of them where none has."""
    found = named_choice("family", family, FAMILIES)
    keys = [key.removeprefix("module.") for key in state_dict]
    for network in found.networks:
        if network.fits(keys):
            return network
    for other, candidate in FAMILIES.items():
        for network in candidate.networks:
            if network.fits(keys):
                raise ValueError(
                    f"the checkpoint is not of family '{family}': its keys look like {network.name} of '{other}'."
                )
    if not keys:
        raise ValueError("the checkpoint holds no tensors; give the state dict of a network.")
    shown = ", ".join(keys[:: max(len(keys) // 3, 1)][:4])
    networks = ", ".join(network.name for network in found.networks)
    raise ValueError(
        f"the checkpoint is none of the networks of '{family}' ({networks}): its keys look like {shown}{_advise(keys)}."
    )


def _advise(keys: list[str]) -> str:
    """Advice for a checkpoint that is of no published network."""
    if any(key.startswith("backbone.body.") for key in keys):
        return ", as this library names them: evaluate or predict from its run folder, there is nothing to convert"
    names = {*TASKS, *(name for family in FAMILIES.values() for name in family.task_names.values())}
    if not names.intersection(part for key in keys for part in key.split(".")):
        return ", and name no task: a backbone alone is loaded by model.weights of a recipe"
    return ""
