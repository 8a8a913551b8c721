"""Properties of regularizers that the library relies on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from triptych.decoders.baseline import FCN
from triptych.extending.cases import SIZE, labels_of, random_images, raw_of, require, require_finite, small_tasks
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.types import Camera, Output, Sample

CHANNELS, STRIDES = (6, 10), (4, 8)
"""Feature maps that regularizers are checked on."""


def _regularizer(name: str) -> Regularizer:
    torch.manual_seed(1)
    made: Any = REGULARIZERS[name]
    facts: dict[str, Any] = {"strides": STRIDES, "tasks": small_tasks()}
    copied = (FCN(CHANNELS, **facts), 1, 1.0) if made.copies_decoder else ()
    return made(CHANNELS, *copied, **facts, weight=1.0).train()


def _batch(labelled: Sequence[bool]) -> tuple[Output, Sample]:
    generator = torch.Generator().manual_seed(3)
    features = [
        torch.randn(2, number, *(-(-side // stride) for side in SIZE), generator=generator).requires_grad_()
        for number, stride in zip(CHANNELS, STRIDES, strict=True)
    ]
    targets = {}
    for name, task in small_tasks().items():
        found = labels_of(task)
        targets[name] = torch.stack([found[i] if has else task.invalid_target(SIZE) for i, has in enumerate(labelled)])
    raw = {name: raw_of(task) for name, task in small_tasks().items()}
    intrinsics = torch.tensor([[40.0, 0.0, SIZE[1] / 2], [0.0, 40.0, SIZE[0] / 2], [0.0, 0.0, 1.0]])
    camera = Camera(intrinsics.repeat(2, 1, 1), torch.eye(4).repeat(2, 1, 1))
    sample = Sample(random_images(), targets, camera=camera)
    later = {"offset": torch.ones(2, dtype=torch.int64)}
    return Output(raw, [], features), replace(sample, neighbors=(replace(sample, extras=later),))


def has_terms(name: str, root: str) -> None:
    """It returns finite scalars by task, with finite gradients, whatever labels there are."""
    for labelled in ((True, True), (True, False), (False, False)):
        regularizer = _regularizer(name)
        output, sample = _batch(labelled)
        terms = regularizer(output, sample)
        unknown = set(terms) - set(small_tasks())
        require(not unknown, f"it returns {', '.join(sorted(unknown))}, which is no task; see Regularizer.penalties.")
        total = torch.stack([torch.zeros(()), *terms.values(), *regularizer.penalties(output, sample).values()]).sum()
        require_finite(total, f"the sum of terms where labels are {labelled}")
        if total.requires_grad:
            total.backward()
        for tensor in (*output.features, *output.predictions.values(), *regularizer.parameters()):
            require_finite(tensor.grad, f"a gradient where labels are {labelled}")


def acts(name: str, root: str) -> None:
    """Something that the network computes has a gradient from it."""
    output, sample = _batch((True, True))
    regularizer = _regularizer(name)
    terms = [*regularizer(output, sample).values(), *regularizer.penalties(output, sample).values()]
    require(terms and all(term.ndim == 0 for term in terms), "it returns no scalar.")
    total = torch.stack(terms).sum()
    require(total.requires_grad, "its terms depend on nothing that is trained.")
    total.backward()
    tensors = (*output.features, *output.predictions.values())
    require(
        any(tensor.grad is not None and tensor.grad.count_nonzero() for tensor in tensors),
        "neither features nor predictions have a gradient from it.",
    )


def has_its_own_chance(name: str, root: str) -> None:
    """It draws random numbers from `draw` alone, so that the network trains with the dropout it has without it."""
    results = []
    for seed in (5, 6):
        regularizer = _regularizer(name)
        output, sample = _batch((True, True))
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(regularizer(output, sample) | regularizer.penalties(output, sample))
        require(torch.equal(torch.get_rng_state(), before), "it draws from torch's own random numbers.")
    require(all(torch.equal(results[1][key], value) for key, value in results[0].items()), "its terms differ.")
