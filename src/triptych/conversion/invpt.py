"""Checkpoints of InvPT's repository (Ye and Xu, ECCV 2022), `prismformore/Multi-Task-Transformer`."""

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.conversion.base import (
    Assumption,
    Checkpoint,
    CodeBase,
    Conversion,
    Network,
    Rename,
    join_parts,
    move,
    part,
    rename,
    unused,
)
from triptych.conversion.trunks import training_order
from triptych.decoders.invpt import STAGES
from triptych.recipes.config import ModelConfig

PARSER_ORDER = ("semseg", "depth", "human_parts", "sal", "normals", "edge")
"""The order in which the published code sorts the tasks of every run (published names)."""

DECODER, INVPT = "multi_task_decoder", "multi_task_decoder.invpt"
_VITS = {
    (192, 12): "vit_tiny_patch16_384",
    (384, 12): "vit_small_patch16_384",
    (768, 12): "vit_base_patch16_384",
    (1024, 24): "vit_large_patch16_384",
}


def convert_invpt(
    checkpoint: Checkpoint,
    *,
    image_size: tuple[int, int] | None = None,
    order: Sequence[str] = (),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Conversion:
    """InvPT with a ViT.

    `image_size` is the (height, width) of the training images, on which the position embeddings depend. A checkpoint
    holds only their number; the default is the grid nearest to a square, wider than high, which is right for NYUD
    (448 x 576) and PASCAL (512 x 512); other grids that fit are among the report's assumptions. Other sizes work
    afterwards, by interpolation. `order` are our task names in the order of training, which numbers some tensors and is
    not stored either (see `orders.training_order`). `tasks` may have another order.
    """
    checkpoint.require_tasks(rf"{DECODER}\.preliminary_decoder\.(\w+)\..+")
    first = checkpoint.pairs()[0][1]
    trunk, patch = _vit_name(checkpoint)
    size, sized = _image_size(checkpoint, patch, image_size)
    config = ModelConfig(
        backbone=trunk,
        backbone_options={"image_size": size, "mean": tuple(mean), "std": tuple(std)},
        decoder="invpt",
        decoder_options={
            "width": len(checkpoint.tensor(f"{INVPT}.mix_proj.{first}.0.bias")),
            "preliminary_width": len(checkpoint.tensor(f"{DECODER}.preliminary_decoder.{first}.1.bn1.bias")),
            "heads": len(checkpoint.tensor(f"{INVPT}.invpt_stages.1.blocks.0.attn.fuse_attn.bias")),
        },
    )
    model = checkpoint.create(config)
    stacked = model.decoder.stacked
    named = checkpoint.find(rf"{DECODER}\.preliminary_decoder\.(\w+)\..+")
    trained, ordered = training_order(checkpoint.pairs(), named, order, PARSER_ORDER)
    positions = [trained.index(name) for name in stacked]
    renames = [unused(r"backbone\.head\..+", "classifier"), move("backbone", "backbone.body")]
    renames += _shared_renames(lambda value: value.unflatten(0, (len(positions), -1))[positions].flatten())
    for name, published in checkpoint.pairs():
        renames += _task_renames(name, published)
        renames += _numbered_renames(name, trained.index(name), stacked.index(name))
    return Conversion(model, renames, config, finish=join_parts, assumed=(*sized, *ordered))


def _vit_name(checkpoint: Checkpoint) -> tuple[str, int]:
    """Our name of the trunk, and the side of its patches in pixels."""
    width = checkpoint.tensor("backbone.pos_embed").shape[2]
    found = (width, len(checkpoint.find(r"backbone\.blocks\.(\d+)\..+")))
    if found not in _VITS:
        raise ValueError(
            f"the trunk is a ViT of width {found[0]} with {found[1]} blocks; known are {', '.join(_VITS.values())}."
        )
    return _VITS[found], checkpoint.tensor("backbone.patch_embed.proj.weight").shape[-1]


LARGEST_ASPECT = 2
"""Training images longer than this times their other side are not considered."""


def _image_size(
    checkpoint: Checkpoint, patch: int, given: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[Assumption, ...]]:
    """(height, width) of the training images, and what had to be assumed: the checkpoint holds only its product."""
    count = checkpoint.tensor("backbone.pos_embed").shape[1] - 1
    if given:
        height, width = given
        if (height // patch) * (width // patch) != count:
            raise ValueError(
                f"image_size {height} x {width} makes {height // patch} x {width // patch} positions, the checkpoint "
                f"has {count}; give the size it was trained at."
            )
        return given, ()
    heights = [side for side in range(1, count + 1) if count % side == 0]
    # Nearest to a square first, of two alike the wider one.
    heights.sort(key=lambda side: (max(side, count // side), side))
    sizes = [(side * patch, count // side * patch) for side in heights]
    near = [size for size in sizes if max(size) <= LARGEST_ASPECT * min(size)]
    why = f"the grid of {count} positions that is nearest to a square, wider than high"
    return sizes[0], (Assumption("image_size", sizes[0], tuple(near or sizes), why),)


def _shared_renames(reorder: Callable[[Tensor], Tensor]) -> list[Rename]:
    """Renames of tensors that all tasks share, and of those that no output depends on."""
    dead = ((f"{DECODER}.scale_embed.2", "skip of the first stage"), (f"{INVPT}.norm_mt", "last norm"))
    dead += ((f"{INVPT}.redu_chan.0", "projection of the first stage"),)
    dead += ((f"{INVPT}.invpt_stages.0.blocks.0.attn.fuse_attn", "messages to the first stage"),)
    renames = [unused(re.escape(old) + r"\..+", f"{what}: computed or built, never used") for old, what in dead]
    renames += [
        *(move(f"{DECODER}.scale_embed.{i}", f"decoder.skips.{STAGES - 1 - i}") for i in (0, 1)),
        rename(re.escape(f"{INVPT}.norm_mts.") + r"(.+)", r"decoder.norms.\1", reorder),
    ]
    for i in range(STAGES):
        old, new = f"{INVPT}.invpt_stages.{i}.blocks.0", f"decoder.stages.{i}"
        names = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
        names |= {"attn.proj_q": "attention.query", "attn.proj_k": "attention.key", "attn.proj_v": "attention.value"}
        names |= {"attn.proj": "attention.output", "attn.fuse_attn": "attention.fuse"}
        renames += [move(f"{old}.{theirs}", f"{new}.{ours}") for theirs, ours in names.items()]
    return renames


def _task_renames(name: str, published: str) -> list[Rename]:
    """Renames of tensors that the published code keeps by the names of tasks."""
    renames = []
    for i in (0, 1):
        old, new = f"{DECODER}.preliminary_decoder.{published}.{i}", f"decoder.preliminary.{name}.{i}"
        renames += [
            move(f"{old}.conv", f"{new}.0"),
            move(f"{old}.bn1", f"{new}.1"),
            move(f"{INVPT}.mt_proj.{published}.{i}", f"decoder.projections.{name}.{i}"),
        ]
    return [
        *renames,
        move(f"{DECODER}.intermediate_head.{published}", f"decoder.initial.{name}"),
        move(f"{INVPT}.mix_proj.{published}.0", f"decoder.mix.{name}"),
        move(f"heads.{published}.linear_pred", f"decoder.heads.{name}"),
    ]


def _numbered_renames(name: str, theirs: int, ours: int) -> list[Rename]:
    """Renames of tensors that the published code keeps by the numbers of tasks."""
    renames = []
    for i in range(STAGES):
        stage, new = re.escape(f"{INVPT}.invpt_stages.{i}."), f"decoder.stages.{i}"
        query = stage + re.escape(f"blocks.0.attn.conv_proj_q.{theirs}.")
        renames += [
            rename(query + r"conv\.(\w+)", part(rf"{new}.attention.query_conv.\1", ours)),
            rename(query + r"bn\.(\w+)", part(rf"{new}.attention.query_norm.\1", ours)),
        ]
        for layer, (conv, norm) in enumerate(((1, 2), (4, 5))):
            old = f"{INVPT}.invpt_stages.{i}.patch_embed.{theirs}.proj"
            renames += [
                move(f"{old}.{conv}", f"{new}.up.{name}.{layer}.0"),
                move(f"{old}.{norm}", f"{new}.up.{name}.{layer}.1"),
            ]
    reductions = [move(f"{INVPT}.redu_chan.{i}.{theirs}", f"decoder.reductions.{i - 1}.{name}") for i in (1, 2)]
    return renames + reductions


CODE_BASE = CodeBase(
    task_names={"saliency": "sal", "boundary": "edge"},
    networks=(
        Network(
            "invpt",
            (r"backbone\.pos_embed", r"multi_task_decoder\.invpt\..+"),
            convert_invpt,
            logits=r"heads\.(\w+)\.linear_pred\.weight",
        ),
    ),
)
