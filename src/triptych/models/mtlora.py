"""MTLoRA: low-rank updates that tasks share, and streams of their own (Agiza, Neseem and Reda, "MTLoRA: A low-rank
adaptation approach for efficient multi-task learning", CVPR 2024).

All linear layers of Swin's blocks have an update that all tasks share. The last block of each stage has, beside the
shared stream, one for every task t: with the output a of the shared attention, before its projection,

    h_t = x + U_t,proj(a),   y_t = h_t + U_t,fc2(GELU(U_t,fc1(norm(h_t)))),   U_t(x) = W x + b + s B_t A_t x

y_t is the stage's map for the head of t; the next stage reads the shared stream alone.

Paper and this file. In the paper's Swin a stage ends with the frozen patch merging of the next one, and heads read what
comes after it; here stages end before it, at strides 4, 8, 16 and 32, where decoders of this library read them. The
paper also trains norms and other small parts where that is asked for; here the trunk's own weights are all frozen.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.backbones.base import Backbone
from triptych.backbones.hierarchical import Pyramid
from triptych.backbones.swin import Swin, traceable_windows
from triptych.backbones.timm_models import family_module
from triptych.models.lora import LoRALinear, LowRank, add_updates, linear_of, require_rank
from triptych.models.multitask import MultiTaskModel
from triptych.types import Output

Maps = Float[Tensor, "batch height width channels"]


class Deferred(LoRALinear):
    """A projection that passes its input on, for each task to project it by itself; `project` is the shared one.

    `layer` is adapted, or merged already.
    """

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.lora = getattr(layer, "lora", None)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch inputs"]:
        return x

    def project(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """W x + b, and the shared update."""
        return self.base(x) if self.lora is None else super().forward(x)

    def merged(self) -> "Deferred":
        return self if self.lora is None else Deferred(super().merged())


class TaskUpdate(LowRank):
    """A task's own update of a layer."""

    def over(self, layer: LoRALinear, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """W x + b of the layer, and the update."""
        return self(x, layer.base(x))

    @torch.no_grad()
    def merge(self, layer: LoRALinear) -> "TaskLinear":
        """The task's layer with a weight of its own."""
        return TaskLinear(linear_of(self.merged(layer.weight), None if layer.bias is None else layer.bias.clone()))


class TaskLinear(nn.Module):
    """A task's own layer in place of one that others share."""

    def __init__(self, own: nn.Linear) -> None:
        super().__init__()
        self.own = own

    def over(self, layer: nn.Module, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """W_t x + b, without the shared layer."""
        return self.own(x)

    def merge(self, layer: nn.Module) -> "TaskLinear":
        """Itself: it is merged."""
        return self


class Shared(NamedTuple):
    """Tensors of the last block of a stage for its tasks: its input, the attention before its projection, its
    output.
    """

    before: Maps
    attended: Maps
    after: Maps


class SwinStreams(Swin):
    """A Swin whose last block of each stage lets tasks branch off; its maps are those of the shared stream."""

    def __init__(self, swin: Pyramid) -> None:
        Backbone.__init__(self)
        self.mean, self.std = swin.mean, swin.std
        self.timm_name, self.load_report = swin.timm_name, swin.load_report
        self.channels, self.strides, self.indices = swin.channels, swin.strides, swin.indices
        self.body, self.norms = swin.body, swin.norms
        for block in self.last_blocks:
            block.attn.proj = Deferred(block.attn.proj)

    @property
    def last_blocks(self) -> list[nn.Module]:
        """The last block of each stage."""
        return [stage.blocks[-1] for stage in self.body.layers]

    def set_checkpointing(self, enabled: bool = True) -> None:
        """Block by block: stages do not run whole here."""
        Backbone.set_checkpointing(self, enabled)

    def stages(self, image: Float[Tensor, "batch 3 height width"]) -> list[Shared]:
        """The shared stream at the end of each stage."""
        with traceable_windows(self.body):
            x = self.body.patch_embed(self.pad(image))
            stages = []
            for stage in self.body.layers:
                x = stage.downsample(x)
                for block in stage.blocks[:-1]:
                    x = self.run(block, x)
                stages.append(self.run(_last_block, stage.blocks[-1], x))
                x = stages[-1].after
        return stages

    def to_maps(self, ends: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Features of an image of `size` from the ends of all stages, of whichever stream."""
        return self.finish([ends[i].permute(0, 3, 1, 2).contiguous() for i in self.indices], size)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        return self.to_maps([shared.after for shared in self.stages(image)], (image.shape[-2], image.shape[-1]))


def _last_block(block: nn.Module, x: Maps) -> Shared:
    attended = block._attn(block.norm1(x))
    h = x + block.drop_path1(block.attn.proj.project(attended))
    return Shared(x, attended, h + block.drop_path2(block.mlp(block.norm2(h))))


def _task_block(block: nn.Module, own: nn.ModuleDict, shared: Shared) -> Maps:
    """h = x + U_proj(a), h + U_fc2(act(U_fc1(norm(h)))) with the updates of a task."""
    mlp = block.mlp
    h = shared.before + block.drop_path1(own["proj"].over(block.attn.proj, shared.attended))
    inner = mlp.norm(mlp.drop1(mlp.act(own["fc1"].over(mlp.fc1, block.norm2(h)))))
    return h + block.drop_path2(mlp.drop2(own["fc2"].over(mlp.fc2, inner)))


class MTLoRA(MultiTaskModel):
    """A network whose heads read streams of their own from an adapted Swin; `Output.features` are the shared maps."""

    takes_features = False

    def __init__(self, model: MultiTaskModel, *, task_rank: int, scale: float, dropout: float) -> None:
        assert isinstance(model.backbone, Pyramid)
        super().__init__(SwinStreams(model.backbone), model.decoder)
        for place, layer in _layers(self.backbone.last_blocks[0]).items():  # the narrowest
            require_rank("task_rank", task_rank, f"layers.0, {place}", layer)
        self.updates = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: nn.ModuleDict(
                        {
                            place: TaskUpdate(layer, rank=task_rank, scale=scale, dropout=dropout)
                            for place, layer in _layers(block).items()
                        }
                    )
                    for name in model.tasks
                }
            )
            for block in self.backbone.last_blocks
        )

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Output:  # type: ignore[override]
        stages, size = self.backbone.stages(image), (image.shape[-2], image.shape[-1])
        raw = {}
        for name in self.tasks:
            streams = [
                self.backbone.run(_task_block, block, updates[name], shared)
                for block, updates, shared in zip(self.backbone.last_blocks, self.updates, stages, strict=True)
            ]
            raw[name] = self.decoder.predict_task(name, self.backbone.to_maps(streams, size))
        features = self.backbone.to_maps([shared.after for shared in stages], size)
        return Output({name: self.resize(each, size) for name, each in raw.items()}, [], features)

    def merge(self) -> tuple[str, dict[str, Any]]:
        for block, tasks in zip(self.backbone.last_blocks, self.updates, strict=True):
            for own in tasks.values():
                for place, layer in _layers(block).items():
                    own[place] = own[place].merge(layer)
        super().merge()
        return "mtlora", {"merged": True}


def _layers(block: Any) -> Mapping[str, nn.Linear]:
    """Layers of a block that tasks update for themselves."""
    return {"proj": block.attn.proj, "fc1": block.mlp.fc1, "fc2": block.mlp.fc2}


def mtlora(
    model: MultiTaskModel,
    *,
    rank: int = 64,
    task_rank: int = 4,
    scale: float = 4.0,
    dropout: float = 0.05,
    merged: bool = False,
) -> MTLoRA:
    """Adapt a network on Swin: updates of `rank` that tasks share, and of `task_rank` for each task.

    `merged` builds the network as `merge` leaves it, with weights of their own in place of updates. Raises `ValueError`
    for another backbone (also Swin V2, whose norms come after what they normalize), for a decoder that reads one list
    of features for all tasks, and for a rank above the size of a layer.
    """
    swin = model.backbone
    if not (isinstance(swin, Swin) and family_module(swin.timm_name) == "swin_transformer"):
        raise ValueError(
            f"mtlora adapts the blocks of Swin, backbone is {getattr(swin, 'timm_name', '') or type(swin).__name__}; "
            "choose swin_tiny, swin_small, swin_base or swin_large, or tuning 'lora'."
        )
    if model.feature_channels != swin.channels:
        raise ValueError(
            "mtlora gives heads maps of the trunk alone, and these read something beside it; leave cross_view out, or "
            "choose tuning 'lora'."
        )
    if not model.has_independent_heads:
        raise ValueError(
            f"mtlora gives every task features of its own, and {type(model.decoder).__name__} reads one list for all; "
            "choose a decoder of independent heads, such as fcn or four-level, or tuning 'lora'."
        )
    if merged:
        rank = task_rank = 1  # their weights replace them below
    add_updates(swin, rank=rank, scale=scale, dropout=dropout, targets=(), within="layers")
    adapted = MTLoRA(model, task_rank=task_rank, scale=scale, dropout=dropout)
    if merged:
        adapted.merge()
    return adapted
