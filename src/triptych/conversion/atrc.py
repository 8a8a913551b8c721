"""Checkpoints of ATRC's repository (Bruggemann et al., ICCV 2021), `brdav/atrc`."""

import re
from collections.abc import Sequence

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.conversion.base import Assumption, Checkpoint, CodeBase, Conversion, Network, Rename, move, rename, unused
from triptych.conversion.invpt import PARSER_ORDER
from triptych.conversion.trunks import reorder_inputs, training_order, trunk_name, trunk_renames
from triptych.decoders.atrc import GENOTYPES, Genotype, genotype_codes, read_genotype
from triptych.recipes.config import ModelConfig

LOSS_BUFFERS: tuple[Rename, ...] = (unused(r"(.*\.)?(criterion|criteria|loss)\w*\..+", "buffer of the losses"),)
"""Tensors that Lightning stores beside the network."""
LOGITS = r"head\.final_logits\.(\w+)\.weight"


def convert_fcn(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """HRNet with one FCN head per task, without contexts."""
    checkpoint.require_tasks(r"head\.final_logits\.(\w+)\..+")
    trunk = trunk_name(checkpoint.state, "backbone.")
    options = {"double_resize": True, "mean": tuple(mean), "std": tuple(std)}
    config = ModelConfig(backbone=trunk, backbone_options=options, decoder="fcn")
    renames = [*trunk_renames("backbone"), *LOSS_BUFFERS]
    for name, published in checkpoint.pairs():
        renames += [
            move(f"head.bottleneck.{published}.conv", f"decoder.heads.{name}.0.0"),
            move(f"head.bottleneck.{published}.bn", f"decoder.heads.{name}.0.1"),
            move(f"head.final_logits.{published}", f"decoder.heads.{name}.2"),
        ]
    return Conversion(checkpoint.create(config), renames, config)


RELEASED = {
    ("hrnet_w18_small_v2", 4): "nyud-w18",
    ("hrnet_w48", 4): "nyud-w48",
    ("hrnet_w18_small_v2", 5): "pascal-w18",
}
"""Released genotypes by trunk and number of tasks."""


def convert_atrc(
    checkpoint: Checkpoint,
    *,
    genotype: str | Genotype = "",
    order: Sequence[str] = (),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Conversion:
    """ATRC with HRNet.

    A checkpoint does not tell contexts from one another: `genotype` gives them, as the decoder takes it (our task
    names); the default is the released one of the trunk and the tasks, which the report names as assumed. `order` are
    our names of all tasks in the order of training, in which contexts were joined: by default that of the published
    configurations.
    """
    checkpoint.require_tasks(r"head\.final_logits\.(\w+)\..+")
    trained, ordered = training_order(checkpoint.pairs(), checkpoint.find(LOGITS), order, PARSER_ORDER)
    trunk = trunk_name(checkpoint.state, "backbone.")
    chosen = genotype or _released(trunk, checkpoint)
    contexts = read_genotype(chosen, list(checkpoint.tasks))
    _require_pairs(checkpoint, contexts)
    options = {"double_resize": True, "mean": tuple(mean), "std": tuple(std)}
    config = ModelConfig(
        backbone=trunk,
        backbone_options=options,
        decoder="atrc",
        decoder_options={"genotype": genotype_codes(chosen, list(checkpoint.tasks))},
    )
    renames = [*trunk_renames("backbone"), *LOSS_BUFFERS]
    for name, published in checkpoint.pairs():
        for old, new in (("bottleneck", "features"), ("aux_conv", "regions")):
            renames += _conv_renames(f"head.{old}.{published}", f"decoder.{new}.{name}")
        renames += [
            move(f"head.aux_logits.{published}", f"decoder.region_logits.{name}"),
            move(f"head.final_logits.{published}", f"decoder.heads.{name}"),
        ]
        renames += _context_renames(checkpoint, name, list(contexts[name]), trained)
    assumed = () if genotype else (_assume_genotype(checkpoint, chosen, trunk),)
    return Conversion(checkpoint.create(config), renames, config, assumed=(*assumed, *ordered))


def _assume_genotype(checkpoint: Checkpoint, chosen: str | Genotype, trunk: str) -> Assumption:
    """Assume a genotype: every one that takes the same pairs has the same tensors."""
    readings = [
        name
        for name, genotype in GENOTYPES.items()
        if set(genotype) == set(checkpoint.tasks) and not _other_pairs(checkpoint, read_genotype(name, list(genotype)))
    ]
    why = f"the released one for {trunk} with these tasks; any with the same pairs has the same tensors"
    return Assumption("genotype", chosen, tuple(readings), why, exhaustive=False)


def _released(trunk: str, checkpoint: Checkpoint) -> str:
    """The released genotype for a checkpoint, which must have its tasks."""
    name = RELEASED.get((trunk, len(checkpoint.tasks)), "")
    if not name or set(GENOTYPES[name]) != set(checkpoint.tasks):
        raise ValueError(
            f"no released genotype is for {trunk} with {', '.join(checkpoint.tasks)}; give genotype, the contexts that "
            "the checkpoint was trained with."
        )
    return name


def _require_pairs(checkpoint: Checkpoint, contexts: dict[str, dict[str, str]]) -> None:
    """Fail unless the genotype skips the pairs that the checkpoint has no tensors for."""
    for name, held in _other_pairs(checkpoint, contexts).items():
        raise ValueError(
            f"the checkpoint has contexts of {checkpoint.names[name]} from {', '.join(sorted(held)) or 'none'}, "
            f"genotype says {', '.join(contexts[name]) or 'none'}; give the genotype that it was trained with."
        )


def _other_pairs(checkpoint: Checkpoint, contexts: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """Targets of which the checkpoint has other sources than `contexts`, with those it has (published names)."""
    held = {
        name: set(checkpoint.find(rf"head\.atrc_module\.cp_blocks\.{re.escape(published)}\.(\w+)\..+"))
        for name, published in checkpoint.pairs()
    }
    return {
        name: sources
        for name, sources in held.items()
        if sources != {checkpoint.names[source] for source in contexts[name]}
    }


def _context_renames(checkpoint: Checkpoint, name: str, sources: Sequence[str], trained: Sequence[str]) -> list[Rename]:
    """The blocks of one target; they are joined in the order of training there, sorted by our names here."""
    published, module = checkpoint.names[name], "head.atrc_module"
    renames = []
    for source in sources:
        old, new = f"{module}.cp_blocks.{published}.{checkpoint.names[source]}", f"decoder.contexts.{name}.{source}"
        for projection in ("query", "key"):
            for stage in (0, 1):
                renames += _conv_renames(f"{old}.{projection}_project.{stage}", f"{new}.{projection}.{stage}")
        renames += _conv_renames(f"{old}.value_project", f"{new}.value")
    joined = [source for source in trained if source in sources]
    positions = [joined.index(source) for source in sources]
    out = f"{module}.out_proj.{published}"
    renames += [rename(re.escape(out) + r"\.conv\.weight", f"decoder.joins.{name}.0.weight", reorder_inputs(positions))]
    renames += _conv_renames(out, f"decoder.joins.{name}")
    return renames + _conv_renames(f"{module}.bottleneck.{published}.0", f"decoder.mixes.{name}")


def _conv_renames(old: str, new: str) -> list[Rename]:
    return [move(f"{old}.conv", f"{new}.0"), move(f"{old}.bn", f"{new}.1")]


CODE_BASE = CodeBase(
    task_names={"saliency": "sal", "boundary": "edge"},
    networks=(
        Network("atrc", (r"backbone\.stage4\..+", r"head\.atrc_module\..+"), convert_atrc, logits=LOGITS),
        Network("fcn", (r"backbone\.stage4\..+", r"head\.bottleneck\.\w+\.conv\..+"), convert_fcn, logits=LOGITS),
    ),
)
