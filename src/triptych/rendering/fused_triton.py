"""The fused rendering of `rendering.fused` for GPUs, as Triton kernels.

Forward, a program renders a block of rays: it walks along the samples and holds one sample's hidden layer, rays x
channels, in registers. Backward, the same walk gives the gradients per ray and, per ray and sample, two scalars: the
weight w and the gradient q of the raw density. Two more programs compute the hidden layer again to sum
(w dL/dmixed + q row) slope over image rows (for xz) and columns (for yz): no atomic additions, so that runs repeat
exactly. What is written beside inputs, outputs and gradients is these two scalars.

The kernels were developed on CPUs: they are tested with Triton's interpreter (TRITON_INTERPRET=1), and compile for
compute capabilities 8.0 and 9.0. No GPU was at hand, so that nothing here has been timed yet
(`benchmarks/regularizer.py --device cuda` does).
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from triptych.rendering.fused import TENSORS, Arguments, Marched
from triptych.rendering.volume import LARGEST_EXPONENT

BLOCK = 512
"""Values of a block, rays (or points) x channels. Chosen by what `ptxas` reports for 64 channels and four warps: 128
registers per thread backward, so that 56x72 rays fit onto a GPU of 132 multiprocessors at once; 1024 takes 234.
"""


@triton.jit
@no_type_check
def _softplus(x):
    """log(1 + exp(x)) and its derivative."""
    e = tl.exp(-tl.abs(x))
    return tl.maximum(x, 0.0) + tl.log(1.0 + e), tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
@no_type_check
def _absorb(depth):
    """1 - exp(-depth), by its series where the difference would cancel."""
    series = tl.full(depth.shape, 1.0, depth.dtype)
    small = tl.minimum(depth, 0.125)
    for k in tl.static_range(8):
        series = 1.0 - small * series * (1.0 / (9 - k))
    return tl.where(depth < 0.125, depth * series, 1.0 - tl.exp(-depth))


@triton.jit
@no_type_check
def _density(raw, EXPONENTIAL: tl.constexpr, LARGEST: tl.constexpr):
    """softplus(raw) or exp(min(raw, LARGEST)), and its derivative."""
    if EXPONENTIAL:
        density = tl.exp(tl.where(raw > LARGEST, LARGEST, raw))  # NaN stays
        return density, tl.where(raw > LARGEST, 0.0, density)
    else:
        return _softplus(raw)


@triton.jit
@no_type_check
def _march_rays(
    xy, xz, yz, row, bias, given, intervals, depths, mixed, opacity, moment, kept,
    height, width, samples, channels,
    GIVEN: tl.constexpr, KEPT: tl.constexpr, EXPONENTIAL: tl.constexpr, LARGEST: tl.constexpr, TYPE: tl.constexpr,
    RAYS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    c = tl.arange(0, CHANNELS)
    known, exists = ray < height * width, c < channels
    block = known[:, None] & exists[None, :]
    place = image * height * width + ray
    x, y = image * width + ray % width, image * height + ray // width
    first = tl.load(xy + place[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
    if not GIVEN:
        line = tl.load(row + c, exists, 0.0).to(TYPE)[None, :]
        shift = tl.load(bias).to(TYPE) - 1.0
    light = tl.full((RAYS,), 1.0, TYPE)
    total = tl.zeros((RAYS, CHANNELS), TYPE)
    weight_sum, depth_sum = tl.zeros((RAYS,), TYPE), tl.zeros((RAYS,), TYPE)
    for s in range(samples):
        second = tl.load(xz + (x * samples + s)[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        third = tl.load(yz + (y * samples + s)[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        hidden, _ = _softplus(first + second + third)
        if GIVEN:
            weight = tl.load(given + place * samples + s, known, 0.0).to(TYPE)
        else:
            density, _ = _density(tl.sum(hidden * line, 1) + shift, EXPONENTIAL, LARGEST)
            absorbed = _absorb(density * tl.load(intervals + image * samples + s).to(TYPE))
            weight = light * absorbed
            light = light * (1.0 - absorbed)
        if KEPT:
            tl.store(kept + place * samples + s, weight, known)
        total += weight[:, None] * hidden
        weight_sum += weight
        depth_sum += weight * tl.load(depths + image * samples + s).to(TYPE)
    tl.store(mixed + place[:, None] * channels + c[None, :], total, block)
    tl.store(opacity + place, weight_sum, known)
    tl.store(moment + place, depth_sum, known)


@triton.jit
@no_type_check
def _retrace_rays(
    xy, xz, yz, row, bias, given, intervals, depths, mixed, opacity, moment, by_mixed, by_opacity, by_moment,
    by_kept, kept_sum, by_xy, by_row, by_bias, weights, by_raw,
    height, width, samples, channels,
    GIVEN: tl.constexpr, KEPT: tl.constexpr, EXPONENTIAL: tl.constexpr, LARGEST: tl.constexpr, TYPE: tl.constexpr,
    RAYS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradients by xy, row and bias (a part per program), and the two scalars per ray and sample. Where weights are
    given, `by_raw` receives their gradient.
    """
    image = tl.program_id(1).to(tl.int64)
    ray = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    c = tl.arange(0, CHANNELS)
    known, exists = ray < height * width, c < channels
    block = known[:, None] & exists[None, :]
    place = image * height * width + ray
    x, y = image * width + ray % width, image * height + ray // width
    first = tl.load(xy + place[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
    upstream = tl.load(by_mixed + place[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
    by_weight_sum = tl.load(by_opacity + place, known, 0.0).to(TYPE)
    by_depth_sum = tl.load(by_moment + place, known, 0.0).to(TYPE)
    if not GIVEN:
        line = tl.load(row + c, exists, 0.0).to(TYPE)[None, :]
        shift = tl.load(bias).to(TYPE) - 1.0
        # sum_j g_j w_j over all samples is known from the outputs, and so is the sum over those behind sample s.
        composite = tl.load(mixed + place[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        behind = tl.sum(upstream * composite, 1)
        behind += by_weight_sum * tl.load(opacity + place, known, 0.0).to(TYPE)
        behind += by_depth_sum * tl.load(moment + place, known, 0.0).to(TYPE)
        if KEPT:
            behind += tl.load(kept_sum + place, known, 0.0).to(TYPE)
        light = tl.full((RAYS,), 1.0, TYPE)
        row_sum, bias_sum = tl.zeros((RAYS, CHANNELS), TYPE), tl.zeros((RAYS,), TYPE)
    total = tl.zeros((RAYS, CHANNELS), TYPE)
    for s in range(samples):
        second = tl.load(xz + (x * samples + s)[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        third = tl.load(yz + (y * samples + s)[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        hidden, slope = _softplus(first + second + third)
        by_weight = tl.sum(hidden * upstream, 1) + by_weight_sum
        by_weight += by_depth_sum * tl.load(depths + image * samples + s).to(TYPE)
        if KEPT:
            by_weight += tl.load(by_kept + place * samples + s, known, 0.0).to(TYPE)
        if GIVEN:
            weight = tl.load(given + place * samples + s, known, 0.0).to(TYPE)
            tl.store(by_raw + place * samples + s, by_weight, known)
            total += weight[:, None] * upstream * slope
        else:
            interval = tl.load(intervals + image * samples + s).to(TYPE)
            density, steepness = _density(tl.sum(hidden * line, 1) + shift, EXPONENTIAL, LARGEST)
            absorbed = _absorb(density * interval)
            weight = light * absorbed
            light = light * (1.0 - absorbed)
            behind -= by_weight * weight
            # Nothing passes a depth of 32, and what rounding left of `behind` must not be scaled by a steep density.
            left = tl.where(density * interval > 32.0, 0.0, by_weight * light - behind)
            raw = left * interval * steepness
            tl.store(weights + place * samples + s, weight, known)
            tl.store(by_raw + place * samples + s, raw, known)
            total += (weight[:, None] * upstream + raw[:, None] * line) * slope
            row_sum += raw[:, None] * hidden
            bias_sum += raw
    tl.store(by_xy + place[:, None] * channels + c[None, :], total, block)
    if not GIVEN:
        part = image * tl.num_programs(0) + tl.program_id(0)
        tl.store(by_row + part * channels + c, tl.sum(row_sum, 0), exists)
        tl.store(by_bias + part, tl.sum(bias_sum, 0))


@triton.jit
@no_type_check
def _sum_over_rays(
    xy, own, other, row, by_mixed, weights, by_raw, by_own,
    rays, owns, others, own_step, other_step, samples, channels,
    GIVEN: tl.constexpr, TYPE: tl.constexpr, POINTS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradient by one plane's readings `own`, (owns x samples) points: a sum over the rays that share each of them. A
    ray's number is `own_step` times its place in this plane plus `other_step` times its place in the `other` one.
    """
    image = tl.program_id(1).to(tl.int64)
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    c = tl.arange(0, CHANNELS)
    known, exists = point < owns * samples, c < channels
    block = known[:, None] & exists[None, :]
    s = point % samples
    target = (image * owns * samples + point)[:, None] * channels + c[None, :]
    second = tl.load(own + target, block, 0.0).to(TYPE)
    if not GIVEN:
        line = tl.load(row + c, exists, 0.0).to(TYPE)[None, :]
    total = tl.zeros((POINTS, CHANNELS), TYPE)
    for k in range(others):
        place = image * rays + point // samples * own_step + k * other_step
        first = tl.load(xy + place[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        third = ((image * others + k) * samples + s)[:, None] * channels + c[None, :]
        _, slope = _softplus(first + second + tl.load(other + third, block, 0.0).to(TYPE))
        upstream = tl.load(by_mixed + place[:, None] * channels + c[None, :], block, 0.0).to(TYPE)
        by_sum = tl.load(weights + place * samples + s, known, 0.0).to(TYPE)[:, None] * upstream
        if not GIVEN:
            by_sum += tl.load(by_raw + place * samples + s, known, 0.0).to(TYPE)[:, None] * line
        total += by_sum * slope
    tl.store(by_own + target, total, block)


def march(arguments: Arguments) -> Marched:
    """The forward pass."""
    arguments, sizes, options = _prepare(arguments)
    batch, height, width, _ = arguments.xy.shape
    mixed = _empty(arguments.xy, *arguments.xy.shape)
    opacity, moment = (_empty(arguments.xy, batch, height, width) for _ in range(2))
    kept = _empty(arguments.xy, batch, height, width, arguments.xz.shape[2] if arguments.kept else 0)
    blocks = triton.cdiv(height * width, options["RAYS"])
    with torch.cuda.device_of(arguments.xy):
        _march_rays[(blocks, batch)](*_pointers(arguments), mixed, opacity, moment, kept, *sizes, **options)
    return Marched(mixed, opacity, moment, kept)


def retrace(arguments: Arguments, outputs: Marched, gradients: Marched) -> list[Tensor | None]:
    """The backward pass: gradients of the first six arguments."""
    arguments, sizes, options = _prepare(arguments)
    xy, xz, yz, row, bias, given = arguments[:6]
    batch, height, width, channels = xy.shape
    samples = xz.shape[2]
    blocks = triton.cdiv(height * width, options["RAYS"])
    by_mixed, by_opacity, by_moment, by_kept = (gradient.contiguous() for gradient in gradients)
    kept_sum = (by_kept * outputs.weights).sum(dim=-1)
    by_xy, by_xz, by_yz = (torch.empty_like(reading) for reading in (xy, xz, yz))
    by_row, by_bias = _empty(xy, batch * blocks, channels), _empty(xy, batch * blocks)
    by_raw = _empty(xy, batch, height, width, samples)
    weights = torch.empty_like(by_raw) if given is None else given
    points = {"POINTS" if name == "RAYS" else name: options[name] for name in ("GIVEN", "TYPE", "RAYS", "CHANNELS")}
    with torch.cuda.device_of(xy):
        _retrace_rays[(blocks, batch)](
            *_pointers(arguments), *outputs[:3], by_mixed, by_opacity, by_moment,
            by_kept, kept_sum, by_xy, by_row, by_bias, weights, by_raw, *sizes, **options,
        )  # fmt: skip
        for own, other, by_own, steps in ((xz, yz, by_xz, (1, width)), (yz, xz, by_yz, (width, 1))):
            owns, others = own.shape[1], other.shape[1]
            _sum_over_rays[(triton.cdiv(owns * samples, points["POINTS"]), batch)](
                xy, own, other, xy if row is None else row, by_mixed, weights, by_raw, by_own,
                height * width, owns, others, *steps, samples, channels, **points,
            )  # fmt: skip
    if row is None or bias is None:
        return [by_xy, by_xz, by_yz, None, None, by_raw.to(weights.dtype)]
    return [by_xy, by_xz, by_yz, by_row.sum(0).to(row.dtype), by_bias.sum().to(bias.dtype), None]


def _prepare(arguments: Arguments) -> tuple[Arguments, tuple[int, int, int, int], dict[str, object]]:
    """Contiguous arguments, the sizes that kernels take, and their compile-time options."""
    tensors = (None if tensor is None else tensor.contiguous() for tensor in arguments[:TENSORS])
    arguments = Arguments._make((*tensors, *arguments[TENSORS:]))
    _, height, width, channels = arguments.xy.shape
    padded = triton.next_power_of_2(channels)
    options = {
        "GIVEN": arguments.weights is not None,
        "KEPT": arguments.kept,
        "EXPONENTIAL": arguments.exponential,
        "LARGEST": LARGEST_EXPONENT,
        "TYPE": tl.float64 if arguments.xy.dtype == torch.float64 else tl.float32,
        "RAYS": max(BLOCK // padded, 1),
        "CHANNELS": padded,
    }
    return arguments, (height, width, arguments.xz.shape[2], channels), options


def _pointers(arguments: Arguments) -> list[Tensor]:
    """A kernel does not read what is absent, but takes a pointer."""
    return [arguments.xy if tensor is None else tensor for tensor in arguments[:TENSORS]]


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Room for sums: float32 at least."""
    return torch.empty(shape, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
