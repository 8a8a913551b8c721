"""The search of ATRC: the context that each task takes from each other (Bruggemann et al., ICCV 2021, arXiv
2104.13874).

Every pair of tasks holds all contexts; its output is their sum, weighted by a Gumbel-softmax over one learned logit for
each of them and one for "none". Weights and logits learn in the same steps. A pair is frozen on its best context once
that leads by `margin`; the genotype is the best context of every pair, and trains anew as `atrc`.

Paper and published code. Published logits have an optimizer of their own, Adam at 5e-4 without weight decay, beside SGD
for the weights. Here one optimizer trains both, without weight decay for the logits either, and
`optimizer.fusion_lr_factor` sets their rate. Whether the entropy is summed over pairs or averaged is not stated; here
it is summed, so that the gradient of a pair does not depend on the number of pairs.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triptych.decoders.atrc import ATRC, BUILDERS, CONTEXTS, pool
from triptych.decoders.layers import BatchNorm2d
from triptych.tasks import Task

TEMPERATURE = (1.0, 0.05)
ENTROPY_WEIGHT = (-0.02, 0.06)
"""Weight of the entropy, linear from the first to the last step: entropy is rewarded for a quarter of the search, then
punished.
"""


class Architecture(nn.Module):
    """Logits of the contexts of all pairs, `(targets, sources, contexts)`, tasks sorted by name; and their schedule.

    `step` counts labelled batches (`advance`), `steps` are those of the whole search. A task's own regions are both
    the target's and the source's: "source-label" is not offered for a task with itself.
    """

    undecayed: ClassVar[bool] = True
    """Weight decay would pull logits towards 0 (equal contexts), most those of the earliest decisions."""
    starts_anew: ClassVar[bool] = True
    """A search from another's weights has its own schedule; logits that lead would freeze their pairs at once."""
    offered: Tensor
    frozen: Tensor
    step: Tensor

    def __init__(self, num_tasks: int, *, steps: int, margin: float) -> None:
        super().__init__()
        self.steps, self.margin = steps, margin
        self.logits = nn.Parameter(torch.zeros(num_tasks, num_tasks, len(CONTEXTS)))
        own = torch.eye(num_tasks, dtype=torch.bool)[..., None]
        last = torch.arange(len(CONTEXTS)) == CONTEXTS.index("source-label")
        self.register_buffer("offered", ~(own & last), persistent=False)
        self.register_buffer("frozen", torch.zeros(num_tasks, num_tasks, dtype=torch.bool))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Float[Tensor, "targets sources contexts"]:
        """Weights of the contexts: a Gumbel-softmax in training, the softmax without noise in evaluation."""
        noise = torch.zeros_like(self.logits)
        if self.training:
            self._freeze()
            noise = -(-torch.rand_like(self.logits).clamp(min=1e-20).log()).log()
        weights = ((self._masked() + noise) / self._at(TEMPERATURE)).softmax(dim=2)
        best = nn.functional.one_hot(self.best(), len(CONTEXTS)).to(weights)
        return torch.where(self.frozen[..., None], best, weights)

    def advance(self) -> None:
        """Count one labelled batch, in training mode; other forward passes (of unlabelled images) do not count."""
        if self.training:
            self.step += 1

    def best(self) -> Tensor:
        """Codes of the contexts found so far, `(targets, sources)`."""
        return self._masked().argmax(dim=2)

    def probabilities(self) -> Float[Tensor, "targets sources contexts"]:
        return self._masked().softmax(dim=2)

    def penalty(self) -> Float[Tensor, ""]:
        """The weighted entropy of the pairs that are not frozen."""
        logs = self._masked().log_softmax(dim=2)
        entropy = -(logs.exp() * logs).sum(dim=2)
        return self._at(ENTROPY_WEIGHT) * entropy.masked_fill(self.frozen, 0.0).sum()

    def _masked(self) -> Tensor:
        # Not minus infinity: zero times that has no gradient.
        return self.logits.masked_fill(~self.offered, -1e6)

    def _at(self, schedule: tuple[float, float]) -> Tensor:
        first, last = schedule
        progress = (self.step.to(self.logits) / self.steps).clamp(max=1.0)
        return first + (last - first) * progress

    @torch.no_grad()
    def _freeze(self) -> None:
        leading = self.probabilities().topk(2, dim=2).values
        # In place: a buffer that is saved, and read by the same step.
        self.frozen |= leading[..., 0] - leading[..., 1] >= self.margin


class ATRCSearch(ATRC):
    """ATRC with every context for every pair, weighted by the searched architecture: `found` and `codes` give the
    result.

    `steps` are the labelled batches of the whole search, 40000 as published, which temperature and entropy follow; by a
    recipe they are its steps times `accumulate`. Each call of `penalties`, one per batch, is a step. The other options
    are those of `ATRC`.

    >>> from triptych.tasks import depth, semseg
    >>> decoder = ATRCSearch((8, 16), strides=(4, 8), tasks={"semseg": semseg(4), "depth": depth()}, steps=100)
    >>> with torch.no_grad():
    ...     decoder.architecture.logits[0, 1, 1] = 9.0  # depth takes the global context from semseg
    >>> decoder.found()["depth"], decoder.codes()
    ({'semseg': 'global', 'depth': 'none'}, '00 10')
    """

    batches_option = "steps"

    def __init__(
        self,
        channels: Sequence[int],
        *,
        strides: Sequence[int],
        tasks: Mapping[str, Task],
        steps: int = 40_000,
        margin: float = 0.3,
        regions: Mapping[str, Task] | None = None,
        width: int | None = None,
        dropout: float = 0.0,
        head_std: float | str = 0.01,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps of a search are {steps}; give those of the recipe, 1 or more.")
        # Any genotype without "none" gives every region and the widest joins.
        everything = {t: dict.fromkeys(tasks, "source-label") for t in tasks}
        super().__init__(
            channels,
            strides=strides,
            tasks=tasks,
            genotype=everything,
            regions=regions,
            width=width,
            dropout=dropout,
            head_std=head_std,
        )
        inner = next(iter(self.mixes.values()))[0].out_channels
        self.names = sorted(tasks)
        self.architecture = Architecture(len(tasks), steps=steps, margin=margin)
        self.contexts = nn.ModuleDict(
            {t: nn.ModuleDict({s: _all_contexts(inner, own=s == t) for s in self.names}) for t in tasks}
        )
        self._initialize(head_std)

    @property
    def fusion_modules(self) -> list[nn.Module]:
        """Modules whose learning rate `optimizer.fusion_lr_factor` scales."""
        return [self.architecture]

    def penalties(self) -> dict[str, Tensor]:
        self.architecture.advance()
        return {"entropy": self.architecture.penalty()}

    def found(self) -> dict[str, dict[str, str]]:
        """The genotype so far, by target and source, as `ATRC(genotype=...)` takes it."""
        codes = dict(zip(self.names, self.architecture.best().tolist(), strict=True))
        return {t: {s: CONTEXTS[codes[t][self.names.index(s)]] for s in self.tasks} for t in self.tasks}

    def codes(self) -> str:
        """The genotype so far as rows of codes in the order of the tasks, which a recipe of `atrc` can hold."""
        return " ".join("".join(str(CONTEXTS.index(c)) for c in row.values()) for row in self.found().values())

    def describe(self) -> str:
        """The genotype so far as a table, with the probability of every choice; `*` marks pairs that are frozen."""
        likely, frozen = self.architecture.probabilities().amax(dim=2), self.architecture.frozen
        rows = [["target", *(f"from {source}" for source in self.tasks)]]
        for target, row in self.found().items():
            places = {source: (self.names.index(target), self.names.index(source)) for source in row}
            rows.append(
                [target, *(f"{c} {likely[places[s]]:.2f}{'*' * int(frozen[places[s]])}" for s, c in row.items())]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, f'genotype "{self.codes()}" for the tasks {", ".join(self.tasks)}'])

    def attend(self, maps: Mapping[str, Tensor], regions: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        weights = self.architecture()
        pooled = pool(maps, regions, product(self.names, self.names))
        found: dict[str, list[Tensor]] = {target: [] for target in maps}
        for (i, target), (j, source) in product(enumerate(self.names), repeat=2):
            own, theirs = pooled[target, source], pooled[source, source]
            read = (maps[source], maps[source], own, theirs)
            parts = [
                weights[i, j, code] * context(maps[target], read[code - 1])
                for code, context in enumerate(self.contexts[target][source], start=1)
            ]
            found[target].append(torch.stack(parts).sum(dim=0))
        return found


def _all_contexts(channels: int, *, own: bool) -> nn.ModuleList:
    """Every context of a pair in the order of the codes from 1; of a task with itself, those that are offered."""
    contexts = nn.ModuleList(build(channels) for build in list(BUILDERS.values())[: 3 if own else 4])
    for context in contexts:
        # Without a scale of its own, lest values grow in place of weights.
        context.value[1] = BatchNorm2d(channels // 2, affine=False)
    return contexts
