"""The base of every metric: sums in float64, mergeable across batches and processes."""

import inspect
import math
from contextlib import suppress
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from triptych.machine import declare_missing_operators

declare_missing_operators()  # before torchmetrics, which imports torchvision
import torchmetrics  # noqa: E402

Number = TypeVar("Number", float, np.ndarray)


class Sum(NamedTuple):
    """A state that starts at zero and is added up, declared as `name: Annotated[Tensor, Sum(shape, dtype)]`."""

    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float64


Count = Annotated[Tensor, Sum((), torch.int64)]
PARTS = 3
"""Parts of a sum by `exact_sum`."""
Total = Annotated[Tensor, Sum((PARTS,))]
"""State for sums of real values by `exact_sum`."""


class Metric(torchmetrics.Metric):
    """A metric whose states are sums, so that the result does not depend on the order, the batch size or the process.

    Subclasses declare states by annotations (`Sum`) or with `add_sum`, accumulate in `update(prediction, target)` (a
    batch, prediction decoded to physical units, target in the layout of its task), and return named numbers from
    `compute()`. `primary` names the number that model selection and delta_mtl use, never below 0 unless `below_zero`
    says so; `better` says which way every returned number is better. A metric without a valid pixel computes NaN.

    Counts are int64; real values are added up with `exact_sum`, so that the same pixels give the same bits however
    they were split into batches and processes.
    """

    full_state_update = False
    primary: ClassVar[str]
    better: ClassVar[dict[str, bool]]
    """Whether higher is better, for every number of `compute()`."""
    perfect: ClassVar[float | None] = None
    """The primary number of a perfect prediction, where there is one."""
    below_zero: ClassVar[bool] = False
    """Whether the primary number may be below 0, and is compared by how far it is from `perfect`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.below_zero and cls.perfect is None:
            raise TypeError(
                f"{cls.__name__} is `below_zero` without the number that is `perfect`, from which its numbers would be "
                "compared; give it, or choose a primary number that is never below 0, such as the exponential of a "
                "log-likelihood."
            )

    def __init__(self) -> None:
        super().__init__()
        for part in reversed(type(self).__mro__):
            for name, annotation in _annotations(part).items():
                for state in getattr(annotation, "__metadata__", ()):
                    self.add_sum(name, *state)

    @property
    def update_called(self) -> bool:
        """Always true: an empty metric computes NaN and that is no reason to warn."""
        return True

    def add_sum(self, name: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> None:
        """Declare a state that starts at zero and is added up over batches and processes."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def sums(self) -> dict[str, Tensor]:
        """The states by name, kept per image for paired statistics."""
        return {name: getattr(self, name).clone() for name in self._defaults}

    def add_sums(self, sums: dict[str, Tensor]) -> None:
        """Add states that another instance of this metric collected."""
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value)
        self._update_count += 1
        self._computed = None

    def upgrade_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """States as this version adds them up, `(images, *state)`, from those that an earlier one saved: sums of real
        values had two parts.
        """
        found = {}
        for name, value in sums.items():
            state = self._defaults.get(name)
            older = isinstance(state, Tensor) and state.shape[-1:] == (PARTS,) and value.shape[-1] == PARTS - 1
            found[name] = pad(value, (0, 1)) if older else value
        return found

    def compute_resample(self, whole: "Metric") -> dict[str, Any]:
        """The numbers of images drawn from those of `whole`, with replacement: as `compute`, unless a number says
        something of what occurs nowhere, which is then nowhere in `whole`.
        """
        return type(self).compute(self)

    def comparable(self, number: Number, name: str = "") -> Number:
        """Scale on which a number of `compute()` (by default `primary`), or an array of such, is compared: for a
        primary number that may be `below_zero` the distance from `perfect`, negative where higher is `better`; else
        itself.
        """
        if not self.below_zero or self.perfect is None or name not in ("", self.primary):
            return number
        distance = abs(number - self.perfect)
        return -distance if self.better[self.primary] else distance

    def per_class(self) -> dict[str, float]:
        """The primary number class by class, where the metric has classes; NaN for a class that occurs nowhere."""
        return {}

    def set_dtype(self, dst_type: str | torch.dtype) -> "Metric":
        """States stay in double precision whatever the model's precision."""
        return self

    def half(self) -> "Metric":
        return self

    def float(self) -> "Metric":
        return self


ROUNDING = 1e-4
"""Tolerance of probabilities beyond [0, 1]: resizing maps of ones gives 1.0000002 in places."""


def check_probabilities(prediction: Tensor) -> None:
    """Raise `ValueError` where a predicted map is NaN or leaves [0, 1] by more than rounding."""
    if not prediction.numel():
        return
    low, high = (edge.item() for edge in prediction.aminmax())
    if math.isnan(low):
        raise ValueError(f"prediction holds {int(prediction.isnan().sum())} NaN pixels; probabilities are in [0, 1].")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"prediction has values in [{low:g}, {high:g}]; probabilities are in [0, 1]: apply the sigmoid or softmax."
        )


def _annotations(part: type) -> dict[str, Any]:
    """Annotations of a class, evaluated where they are texts (`from __future__ import annotations`) and can be: some
    name what is there for type checkers alone.
    """
    with suppress(Exception):
        return inspect.get_annotations(part, eval_str=True)
    return inspect.get_annotations(part)


FRACTION_STEPS = 2.0**24


def exact_sum(values: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Sum in three float64 parts along a new last axis, whose sum is the total: whole numbers, steps of 2^-24 and what
    is left in steps of 2^-48, to which values are rounded.

    The parts are exact, whatever the order, up to 2^53 of their steps: sums that are added up in any order, and in any
    grouping, have the same bits. NaN and infinity stay. Squares of errors count down to errors of 1e-7.

    >>> exact_sum(torch.tensor([1.25, 2.5, -0.5])).tolist()
    [2.0, 1.25, 0.0]
    """
    values = values.double()
    whole = values.floor()
    fraction = (values - whole) * FRACTION_STEPS
    coarse = fraction.floor()
    fine = ((fraction - coarse) * FRACTION_STEPS).round() / FRACTION_STEPS
    return torch.stack([part.sum(dim=dim) for part in (whole, coarse / FRACTION_STEPS, fine / FRACTION_STEPS)], dim=-1)
