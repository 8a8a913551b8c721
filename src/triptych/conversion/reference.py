"""Outputs of the published network, against which a conversion is checked and what its tensors do not tell is tried."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from triptych.conversion.base import Assumption, ConversionReport, describe_reading
from triptych.models.multitask import MultiTaskModel

TOLERANCE = 1e-3
"""Largest difference of an output, relative to its largest absolute value, that still counts as the same network:
another order or size changes outputs by more, another operation order by 1e-5.
"""

Convert = Callable[[Mapping[str, Any]], tuple[MultiTaskModel, ConversionReport]]
"""Options of a converter to its network."""


@dataclass(frozen=True)
class Reference:
    """An image, `(1, 3, H, W)` as our networks take it, and the published network's raw outputs for it,
    `(1, C, H, W)` by our task names.
    """

    path: Path
    image: Tensor
    outputs: Mapping[str, Tensor]

    def errors(self, model: nn.Module) -> dict[str, float]:
        """The largest difference of every output, relative to its largest absolute value."""
        with torch.no_grad():
            predictions = model(self.image).predictions
        found = {}
        for name, expected in self.outputs.items():
            if predictions[name].shape != expected.shape:
                raise ValueError(
                    f"{self.path}: the output of '{name}' is {tuple(expected.shape)}, the network's for this image "
                    f"{tuple(predictions[name].shape)}; give raw outputs at the image's size."
                )
            scale = expected.abs().max().clamp(min=1e-12)
            found[name] = float((predictions[name] - expected).abs().max() / scale)
        return found


def read_reference(path: Path, names: Mapping[str, str]) -> Reference:
    """A `.npz` with `image`, `(3, H, W)` or `(1, 3, H, W)` as the network was fed, and the raw output of at least one
    task by our name or the published one (`names`: ours to theirs).

    Raises `ValueError` naming what is missing or of another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as .npz ({error}); write it with numpy.savez.") from error
    arrays = {name: array[None] if array.ndim == 3 else array for name, array in arrays.items()}
    image = arrays.pop("image", None)
    outputs = {ours: arrays[key] for ours, theirs in names.items() for key in (theirs, ours) if key in arrays}
    if image is None or image.ndim != 4 or image.shape[1] != 3 or not outputs:
        raise ValueError(
            f"{path} holds {', '.join([*arrays] if image is None else ['image', *arrays]) or 'nothing'}; give `image` "
            f"(3, H, W) and the raw output (C, H, W) of at least one of {', '.join(names)}."
        )
    return Reference(path, image, outputs)


def settle(convert: Convert, options: Mapping[str, Any], assumed: Sequence[Assumption], reference: Reference) -> dict:
    """Options with the readings under which the network gives the reference's outputs.

    What all outputs depend on is tried together; what one task's output depends on, after that and by itself.
    Raises `ValueError` with the differences where no reading that can be listed agrees.
    """
    open_questions = [assumption for assumption in assumed if assumption.ambiguous]
    shared = [assumption for assumption in open_questions if not assumption.tasks]
    settled = dict(options)
    if shared:
        combinations = list(product(*(assumption.readings for assumption in shared)))
        candidates = [_merge(settled, shared, readings) for readings in combinations]
        affected = {name for assumption in open_questions for name in assumption.tasks}
        judged = [name for name in reference.outputs if name not in affected] or list(reference.outputs)
        titles = [", ".join(map(describe_reading, readings)) for readings in combinations]
        settled = _best(convert, candidates, titles, shared[0].option, judged, reference)
    for assumption in open_questions:
        judged = [name for name in assumption.tasks if name in reference.outputs]
        if assumption.tasks and not judged:
            raise ValueError(
                f"{assumption.option} of {assumption.key} changes the output of {', '.join(assumption.tasks)}, which "
                f"{reference.path} does not hold; add it, or give --{assumption.option.replace('_', '-')}."
            )
        if assumption.tasks:
            candidates = [assumption.merge_into(settled, reading) for reading in assumption.readings]
            titles = [describe_reading(reading) for reading in assumption.readings]
            settled = _best(convert, candidates, titles, f"{assumption.option} {assumption.key}", judged, reference)
    return settled


def _merge(options: Mapping[str, Any], assumed: Iterable[Assumption], readings: Iterable[Any]) -> dict[str, Any]:
    merged = dict(options)
    for assumption, reading in zip(assumed, readings, strict=True):
        merged = assumption.merge_into(merged, reading)
    return merged


def _best(
    convert: Convert,
    candidates: Sequence[dict[str, Any]],
    titles: Sequence[str],
    what: str,
    judged: Sequence[str],
    reference: Reference,
) -> dict[str, Any]:
    errors = []
    for candidate in candidates:
        found = reference.errors(convert(candidate)[0])
        errors.append(max(found[name] for name in judged))
    best = min(range(len(errors)), key=errors.__getitem__)
    if errors[best] > TOLERANCE:
        tried = "; ".join(f"{title}: {error:.1e}" for title, error in zip(titles, errors, strict=True))
        raise ValueError(
            f"no {what} that was tried gives the outputs of {reference.path} (largest relative differences: {tried}); "
            "give the one it was trained with."
        )
    return candidates[best]
