"""Fused rendering of one field on parallel rays: what it reads and writes grows with what planes say along them, not
with the points.

Per ray, with the first layer applied to the readings already (`regularizers.fields`), and samples s near to far:

    h_s = softplus(xy + xz_s + yz_s)                      the hidden layer, from three broadcast readings
    density_s = softplus(row . h_s + bias - 1)            or, exponential, exp(min(row . h_s + bias - 1, 15))
    w_s = T_s (1 - exp(-density_s delta_s))               T_s as in `rendering.volume`
    mixed = sum_s w_s h_s,  opacity = sum_s w_s,  moment = sum_s w_s z_s

and, where they are kept for other fields, the w_s themselves: one number per point.

The backward pass computes h_s and w_s again. With g_s = dL/dw_s = h_s . dL/dmixed + dL/dopacity + z_s dL/dmoment, and
what other fields add to it where weights are kept,

    dL/d(density_s delta_s) = g_s T_{s+1} - sum_{j>s} g_j w_j

and the gradient of the sum of readings is (w_s dL/dmixed + dL/draw_s row) sigmoid(xy + xz_s + yz_s). No value of size
rays x samples x channels reaches memory in either direction. Where the weights are given, rather than made from a
density, g_s is their gradient and the row has none.

One module per kind of device has the loops (`KERNELS`); sums are float32 at least, whatever type the readings have.
"""

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from triptych.rendering.triplane import PlaneFeatures
from triptych.rendering.volume import composite, density_from_raw, render_opacity, render_weights

KERNELS = {"cpu": "triptych.rendering.fused_numba", "cuda": "triptych.rendering.fused_triton"}
"""The module of each kind of device: `march(arguments)` and `retrace(arguments, outputs, gradients)`."""


class Arguments(NamedTuple):
    """Inputs of a kernel: either a density (`row`, `bias`, `exponential`, `kept`) or given `weights`; the others are
    None.
    """

    xy: Float[Tensor, "batch height width channels"]
    xz: Float[Tensor, "batch width samples channels"]
    yz: Float[Tensor, "batch height samples channels"]
    row: Float[Tensor, " channels"] | None
    bias: Float[Tensor, ""] | None
    weights: Float[Tensor, "batch height width samples"] | None
    intervals: Float[Tensor, "batch samples"]
    depths: Float[Tensor, "batch samples"]
    exponential: bool
    kept: bool


TENSORS: Final = 8
"""Number of `Arguments` that are tensors; they come first."""


class Marched(NamedTuple):
    """What a kernel returns per ray, or gradients of the same."""

    mixed: Float[Tensor, "batch height width channels"]
    opacity: Float[Tensor, "batch height width"]
    moment: Float[Tensor, "batch height width"]
    weights: Float[Tensor, "batch height width kept"]
    """Of every sample, or of none."""


def march(
    features: PlaneFeatures,
    *,
    intervals: Float[Tensor, "batch 1 1 samples"],
    depths: Float[Tensor, "batch 1 1 samples"],
    row: Float[Tensor, " channels"] | None = None,
    bias: Float[Tensor, ""] | None = None,
    weights: Float[Tensor, "batch height width samples"] | None = None,
    exponential: bool = False,
    kept: bool = False,
) -> Marched:
    """Render the readings of `sample_planes_parallel`. `intervals` and `depths` receive no gradient. `exponential`: see
    `volume.density_from_raw`. `kept`: whether the weights that a density makes are returned, too.

    >>> features = PlaneFeatures(torch.zeros(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 3, 2), torch.zeros(1, 1, 1, 3, 2))
    >>> ones = torch.ones(1, 1, 1, 3)
    >>> march(features, intervals=ones, depths=ones, weights=ones / 3).mixed.flatten().tolist()  # softplus(0)
    [0.6931471824645996, 0.6931471824645996]
    """
    xy, xz, yz = features.xy.squeeze(3), features.xz.squeeze(1), features.yz.squeeze(2)
    along = (intervals[:, 0, 0], depths[:, 0, 0])
    return Marched(*_March.apply(xy, xz, yz, row, bias, weights, *along, exponential, kept))


def fused_runs_on(device: torch.device) -> bool:
    """Whether there are kernels for a kind of device, which give the right numbers there.

    >>> fused_runs_on(torch.device("cpu")), fused_runs_on(torch.device("meta"))
    (True, False)
    """
    return _checked(device.type)


class _March(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Marched:
        arguments = Arguments._make(inputs)
        outputs = _kernels(arguments.xy.device.type).march(arguments)
        ctx.save_for_backward(*inputs[:TENSORS], *outputs)
        ctx.how = inputs[TENSORS:]
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        arguments = Arguments(*ctx.saved_tensors[:TENSORS], *ctx.how)
        outputs = Marched._make(ctx.saved_tensors[TENSORS:])
        found = _kernels(arguments.xy.device.type).retrace(arguments, outputs, Marched(*gradients))
        return (*found, *[None] * (len(Arguments._fields) - len(found)))


def _kernels(kind: str) -> ModuleType:
    return import_module(KERNELS[kind])


@cache
def _checked(kind: str) -> bool:
    """Once per process, a few rays are rendered in both ways: kernels that somebody's device cannot compile, or that
    give other numbers there, shall cost time and not results.
    """
    if kind not in KERNELS:
        return False
    try:
        _kernels(kind)
    except ImportError:
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False):
            for exponential, kept in ((False, False), (True, False), (True, True)):
                ours, others = (_example(route, kind, exponential, kept) for route in (march, _march_densely))
                for one, other in zip(ours, others, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    except Exception as error:
        warnings.warn(f"a slower route renders on this {kind} device, where kernels fail: {error}", stacklevel=2)
        return False
    return True


def _example(march: Callable[..., Marched], kind: str, exponential: bool, kept: bool) -> list[Tensor]:
    """Outputs and gradients for three rays of four samples."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 1, 3, 1, 5), (1, 1, 3, 4, 5), (1, 1, 1, 4, 5), (5,), ())
    inputs = [torch.randn(shape, generator=generator).to(kind).requires_grad_() for shape in shapes]
    lengths = torch.full((1, 1, 1, 4), 0.5, device=kind)
    density = {"row": inputs[3], "bias": inputs[4], "exponential": exponential, "kept": kept}
    outputs = march(PlaneFeatures(*inputs[:3]), **density, intervals=lengths, depths=lengths)
    total = outputs.mixed.sum() + outputs.opacity.square().sum() + outputs.moment.sum() + outputs.weights.square().sum()
    return [*outputs, *torch.autograd.grad(total, inputs)]


def _march_densely(
    features: PlaneFeatures,
    *,
    row: Tensor,
    bias: Tensor,
    exponential: bool,
    kept: bool,
    intervals: Tensor,
    depths: Tensor,
) -> Marched:
    hidden = F.softplus(features.xy + features.xz + features.yz)
    weights = render_weights(density_from_raw(hidden @ row + bias, exponential=exponential), intervals)
    shown = weights if kept else weights[..., :0]
    return Marched(composite(weights, hidden), render_opacity(weights), (weights * depths).sum(dim=-1), shown)
