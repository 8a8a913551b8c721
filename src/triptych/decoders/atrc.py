"""ATRC: adaptive task-relational context (Bruggemann et al., ICCV 2021, arXiv 2104.13874).

Every task (target) attends to the features of every task (source), itself included, through one of four contexts or
none; which one it is for each pair, the genotype, was found by differentiable search.

Paper and published code. Region maps are a softmax over pixels, padded ones included: the code means to leave padding
out and compares with a value that padding never has. Local attention counts neighbors outside the image with logit 0.
Both are kept. Published auxiliary heads classify normals by 40 clusters of the training set's own (k-means); here by 40
directions that are spread evenly (`tasks.constructors.normals_clusters`, which takes others, for `regions`), in the
papers' recipes too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.base import Decoder, require_at_least
from triptych.decoders.layers import BatchNorm2d, ConvNormReLU, JoinedConvNormReLU, initialize_heads
from triptych.lookup import named_choice
from triptych.losses.pixel import at_least_float32
from triptych.tasks import Task, boundary, depth_bins, normals_clusters, saliency
from triptych.tasks.task import Kind

CONTEXTS = ("none", "global", "local", "target-label", "source-label")
"""Contexts in the order of their published codes."""

Maps = Float[Tensor, "batch channels height width"]
Source = Float[Tensor, "batch channels source_height source_width"]
"""Maps, or vectors as (B, C, K, 1)."""
Inner = Float[Tensor, "batch inner height width"]
InnerSource = Float[Tensor, "batch inner source_height source_width"]


def not_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Context without autocast; nothing changes where there is none, as in exported programs."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class Conv1x1(nn.Sequential):
    """1x1 convolution and batch norm, with a ReLU unless `relu` is off."""

    def __init__(self, in_channels: int, out_channels: int, *, relu: bool = True) -> None:
        layers = [nn.Conv2d(in_channels, out_channels, 1, bias=False), BatchNorm2d(out_channels)]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Context(nn.Module):
    """Queries of the target, keys and values of the source, at half the width.

    `activation` follows the second stage of queries and keys.
    """

    activation: type[nn.Module] = nn.ReLU

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.query, self.key = (
            nn.Sequential(Conv1x1(channels, inner), Conv1x1(inner, inner, relu=False), self.activation())
            for _ in range(2)
        )
        self.value = Conv1x1(channels, inner)

    def forward(self, target: Maps, source: Source) -> Inner:
        return self.attend(self.query(target), self.key(source), self.value(source))

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        raise NotImplementedError(f"{type(self).__name__} does not define attend")


class GlobalContext(Context):
    """Linear attention over all pixels: (V K^T) q / sum_n k_n . q with positive features (Katharopoulos et al., 2020).

    >>> GlobalContext(8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)).shape
    torch.Size([1, 4, 5, 6])
    """

    activation = nn.Softplus

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        # Sums over all pixels pass what fp16 holds (65504).
        with not_autocast(query):
            q, k, v = (at_least_float32(x).flatten(2) for x in (query, key, value))
            summed = torch.bmm(torch.bmm(v, k.transpose(1, 2)), q)
            norm = torch.bmm(k.sum(dim=2)[:, None], q).clamp(min=1e-12)
            return (summed / norm).view_as(query).to(query.dtype)


class LocalContext(Context):
    """Attention of a pixel over its 9 x 9 neighborhood, logits divided by the square root of the width.

    Neighbors outside the image have logit 0 and value 0 and stay in the softmax.

    >>> LocalContext(8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)).shape
    torch.Size([1, 4, 5, 6])
    """

    size = 9

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        height = query.shape[2]
        radius = self.size // 2
        # Views of (B, C, H + 8, W, 9): no neighborhood is copied, one row of neighbors is worked on at a time.
        keys, values = (F.pad(x, (radius,) * 4).unfold(3, self.size, 1) for x in (key, value))
        scaled = (query / query.shape[1] ** 0.5)[..., None]
        rows = range(self.size)
        logits = torch.stack([(scaled * keys[:, :, i : i + height]).sum(dim=1) for i in rows], dim=-1)
        weights = logits.flatten(3).softmax(dim=3).view_as(logits)[:, None]
        parts = [(weights[..., i] * values[:, :, i : i + height]).sum(dim=4) for i in rows]
        return torch.stack(parts).sum(dim=0)


class LabelContext(Context):
    """Attention over one vector per region, the mean of the source's features there: `source` is (B, C, K, 1).

    >>> LabelContext(8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 40, 1)).shape
    torch.Size([1, 4, 5, 6])
    """

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        q, k, v = (x.flatten(2).transpose(1, 2)[:, None] for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(query.shape)


Genotype = Mapping[str, Mapping[str, str | int]]

_NYUD = ("semseg", "depth", "normals", "boundary")
_PASCAL = ("semseg", "human_parts", "saliency", "normals", "boundary")


def _from_codes(names: Sequence[str], codes: str) -> Genotype:
    rows = codes.split()
    if [len(row) for row in rows] != [len(names)] * len(names):
        raise ValueError(
            f"genotype {codes!r} must have {len(names)} rows of {len(names)} digits, for {', '.join(names)}."
        )
    return {target: dict(zip(names, map(int, row), strict=True)) for target, row in zip(names, rows, strict=True)}


def genotype_codes(genotype: str | Genotype, tasks: Sequence[str]) -> str:
    """A genotype as rows of codes, which a recipe can hold.

    >>> genotype_codes("nyud-w18", ["depth", "semseg"])
    '34 33'
    """
    found = read_genotype(genotype, tasks)
    return " ".join("".join(str(CONTEXTS.index(found[t].get(s, "none"))) for s in tasks) for t in tasks)


GENOTYPES: dict[str, Genotype] = {
    "nyud-w18": _from_codes(_NYUD, "3344 4344 4334 3313"),
    "nyud-w48": _from_codes(_NYUD, "3004 4114 4114 3333"),
    "pascal-w18": _from_codes(_PASCAL, "33404 33434 33343 33334 33313"),
}
"""The released genotypes, by dataset and width of the HRNet they were searched with."""


class ATRC(Decoder):
    """The ATRC decoder on all feature maps, concatenated at the finest size; published on HRNet.

    `genotype[target][source]` is `"none"`, `"global"`, `"local"`, `"target-label"` or `"source-label"` (or 0 to 4, the
    published codes). Short forms: the name of a released one in `GENOTYPES`, or rows of codes such as `"34 40"`, a row
    per target and a digit per source in the order of `tasks`. By default a task pools over its own regions for itself
    and over the source's for others, as the released ones mostly do.

    `regions[task]` is the task whose classes partition the image for label contexts, by default a classification of
    the task, by its kind: bins for depth, clusters for normals, two classes for boundaries and saliency. A quantity of
    another kind has its own channels for regions, as it has no classes. `width` is that of the tasks' maps, by default
    a quarter of the concatenation. `head_std` is that of `FCN`.

    Returns the region logits of the tasks that need them, which `intermediate_tasks` supervises, then the final maps.

    >>> from triptych.tasks import nyuv2_tasks
    >>> decoder = ATRC((8, 16), strides=(4, 8), tasks=nyuv2_tasks(), genotype="nyud-w18")
    >>> regions, final = decoder([torch.randn(1, 8, 7, 9), torch.randn(1, 16, 4, 5)])
    >>> regions["depth"].shape, final["depth"].shape
    (torch.Size([1, 40, 7, 9]), torch.Size([1, 1, 7, 9]))
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        genotype: str | Genotype = "",
        regions: Mapping[str, Task] | None = None,
        width: int | None = None,
        dropout: float = 0.05,
        head_std: float | str = 0.01,
    ) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        require_at_least(2, width=width)  # contexts have half of it
        total = sum(self.channels)
        inner = max(total // 4, 2) if width is None else width
        self.genotype = read_genotype(genotype, list(tasks))
        for name in regions or {}:
            named_choice("task in regions", name, self.tasks)
        needed = {label for pairs in self.region_sources().values() for label in pairs.values()}
        self.region_tasks = {
            name: (regions or {}).get(name) or _REGIONS.get(t.kind, lambda task: task)(t) for name, t in tasks.items()
        }
        self.features = nn.ModuleDict({name: JoinedConvNormReLU(total, inner) for name in tasks})
        self.regions = nn.ModuleDict({name: JoinedConvNormReLU(total, total, 1) for name in tasks if name in needed})
        self.region_logits = nn.ModuleDict(
            {name: nn.Conv2d(total, self.region_tasks[name].channels, 1) for name in self.regions}
        )
        self.contexts = nn.ModuleDict(
            {t: nn.ModuleDict({s: BUILDERS[c](inner) for s, c in row.items()}) for t, row in self.genotype.items()}
        )
        self.joins = nn.ModuleDict(
            {t: Conv1x1(len(row) * (inner // 2), inner, relu=False) for t, row in self.genotype.items() if row}
        )
        self.mixes = nn.ModuleDict(
            {t: ConvNormReLU(2 * inner if row else inner, inner, 1) for t, row in self.genotype.items()}
        )
        self.dropout = nn.Dropout2d(dropout)
        self.heads = nn.ModuleDict({name: nn.Conv2d(inner, task.channels, 1) for name, task in tasks.items()})
        self._initialize(head_std)

    @property
    def intermediate_tasks(self) -> dict[str, Task]:
        return {name: self.region_tasks[name] for name in self.regions}

    def accept(self, stored: Mapping[str, Tensor]) -> None:
        # Older versions knew regions by names alone: tasks of other names had their own channels.
        for name, logits in self.region_logits.items():
            bias, task = stored.get(f"region_logits.{name}.bias"), self.tasks[name]
            if bias is not None and len(bias) == task.channels != logits.out_channels:
                self.region_tasks[name] = task
                self.region_logits[name] = nn.Conv2d(logits.in_channels, task.channels, 1)

    def region_sources(self) -> dict[str, dict[str, str]]:
        """By target and source, the task whose regions a label context pools over."""
        return {
            t: {s: {"target-label": t, "source-label": s}[c] for s, c in row.items() if c.endswith("label")}
            for t, row in self.genotype.items()
        }

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        maps = {name: layer(features) for name, layer in self.features.items()}
        # Supervision of the regions must not reach the trunk.
        trunk = [x.detach() for x in features]
        regions = {name: self.region_logits[name](layer(trunk)) for name, layer in self.regions.items()}
        contexts = self.attend(maps, regions)
        final = {}
        for target, x in maps.items():
            if contexts[target]:
                x = torch.cat([x, self.joins[target](torch.cat(contexts[target], dim=1))], dim=1)
            final[target] = self.heads[target](self.dropout(self.mixes[target](x)))
        return [regions, final] if regions else [final]

    def attend(self, maps: Mapping[str, Tensor], regions: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Contexts of each target from its sources, sorted by name."""
        labels = self.region_sources()
        pooled = pool(maps, regions, [(label, source) for row in labels.values() for source, label in row.items()])
        return {
            target: [
                context(maps[target], pooled[labels[target][s], s] if s in labels[target] else maps[s])
                for s, context in row.items()
            ]
            for target, row in self.contexts.items()
        }

    def _initialize(self, head_std: float | str) -> None:
        for module in self.contexts.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        for join in self.joins.values():
            # Contexts start at zero: the network begins as plain multi-task heads.
            nn.init.zeros_(join[1].weight)
        initialize_heads(self.heads.values(), head_std)


BUILDERS: dict[str, Callable[[int], Context]] = {
    "global": GlobalContext,
    "local": LocalContext,
    "target-label": LabelContext,
    "source-label": LabelContext,
}
"""Every context but "none", in the order of its code."""


def pool(
    maps: Mapping[str, Tensor], regions: Mapping[str, Tensor], pairs: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Tensor]:
    """For pairs (label, source) of tasks, the source's features averaged over the label's regions: (B, C, K, 1)."""
    # Several targets read the same pair: once is enough.
    wanted = list(dict.fromkeys(pairs))
    # Shares of one pixel among all are less than fp16 holds.
    with not_autocast(next(iter(maps.values()))):
        shares = {
            label: at_least_float32(regions[label]).flatten(2).softmax(dim=2)
            for label in dict.fromkeys(label for label, _ in wanted)
        }
        rows = {
            source: at_least_float32(maps[source]).flatten(2).transpose(1, 2)
            for source in dict.fromkeys(source for _, source in wanted)
        }
        return {
            (label, source): torch.bmm(shares[label], rows[source]).transpose(1, 2)[..., None].to(maps[source].dtype)
            for label, source in wanted
        }


def read_genotype(genotype: str | Genotype, tasks: Sequence[str]) -> dict[str, dict[str, str]]:
    """Contexts by name for `tasks`, without the skipped pairs; sources sorted, so that joined weights mean the same in
    whatever order tasks are declared.

    >>> read_genotype({"depth": {"depth": 1, "semseg": 0}, "semseg": {"depth": 4, "semseg": 2}}, ["semseg", "depth"])
    {'semseg': {'depth': 'source-label', 'semseg': 'local'}, 'depth': {'depth': 'global'}}
    """
    if genotype == "":
        found: Genotype = {t: {s: "target-label" if s == t else "source-label" for s in tasks} for t in tasks}
    elif isinstance(genotype, str) and genotype.replace(" ", "").isdigit():
        found = _from_codes(tasks, genotype)
    else:
        found = named_choice("genotype", genotype, GENOTYPES) if isinstance(genotype, str) else genotype
    for name in tasks:
        if name not in found or any(source not in found[name] for source in tasks):
            raise ValueError(
                f"genotype does not say what target '{name}' takes from each of {', '.join(tasks)}; it has the targets "
                f"{', '.join(found)}. Give genotype[target][source] for all of them."
            )
    named = {t: {s: _context(found[t][s]) for s in sorted(tasks)} for t in tasks}
    return {t: {s: context for s, context in row.items() if context != "none"} for t, row in named.items()}


def _context(value: str | int) -> str:
    if isinstance(value, int) and 0 <= value < len(CONTEXTS):
        return CONTEXTS[value]
    return named_choice("context of the genotype", str(value), {name: name for name in CONTEXTS})


def _two_classes(task: Task) -> Task:
    if task.target_channels is None:
        return saliency(channels=2)
    # A loss may carry settings, such as the weight of boundary pixels.
    weight = getattr(task.loss_function, "keywords", {}).get("positive_weight")
    options: dict[str, Any] = {} if weight is None else {"positive_weight": weight}
    return boundary(channels=2, **options)


_REGIONS: dict[Kind, Callable[[Task], Task]] = {
    "length": lambda task: depth_bins(),
    "direction": lambda task: normals_clusters(),
    "probability": _two_classes,
}
"""By the kind of a task, whatever its name; others are regions as they are."""
