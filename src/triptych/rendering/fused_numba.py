"""The fused rendering of `rendering.fused` for CPUs: loops compiled by numba, image rows shared out among threads.

One ray's hidden layer exists at a time, samples x channels, in the first or second level of cache. The costly loops run
over the whole of it: a call for the channels of each sample would take three times as long. Threads are Python's (the
loops release its lock), as many as torch's: numba's own would be one more pool, unsafe after a fork.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from numba.extending import overload, register_jitable
from torch import Tensor

from triptych.kernels import compiled
from triptych.rendering.fused import TENSORS, Arguments, Marched
from triptych.rendering.volume import LARGEST_EXPONENT

# Sums may be reordered, which fills vector registers; NaN and infinity keep their meaning.
REORDERED = frozenset({"reassoc", "contract", "nsz", "arcp"})

LEAST_PER_THREAD = 2**22
"""Hidden values, some two milliseconds: torch's idle threads spin for a while, and share the cores with ours."""
# Polynomials of least relative error, 2e-8 and 1e-8 with factors in float32, which itself rounds by 6e-8; highest power
# first.
EXP = (0.0013836835, 0.008374824, 0.041668226, 0.1666642, 0.49999992, 1.00000004, 1.0)
"""exp(f), |f| <= log(2) / 2."""
ATANH = (0.14089517, 0.13980233, 0.20012459, 0.33333157, 1.0)
"""atanh(u) / u in powers of u^2, u <= 1/3."""


@no_type_check
def exp_moderate(x):
    """exp(x) for x <= 88."""
    return math.exp(x)


@no_type_check
def log_one_plus(x):
    """log(1 + x) for x in [0, 1]."""
    return math.log1p(x)


@register_jitable
@no_type_check
def _exp_by_polynomial(x):
    """2^n exp(f), |f| <= log(2) / 2: unlike a call of the C library it can be put into vector registers."""
    x = max(x, np.float32(-87))
    n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    f = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    p = np.float32(EXP[0])
    for factor in EXP[1:]:
        p = p * f + np.float32(factor)
    return p * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@register_jitable
@no_type_check
def _log_by_polynomial(x):
    """log(1 + x) = 2 atanh(u), u = x / (2 + x) <= 1/3."""
    u = x / (np.float32(2) + x)
    square = u * u
    p = np.float32(ATANH[0])
    for factor in ATANH[1:]:
        p = p * square + np.float32(factor)
    return np.float32(2) * u * p


@overload(exp_moderate, inline="always")
@no_type_check
def _exp_of_type(x):
    return (lambda x: _exp_by_polynomial(x)) if x == numba.float32 else (lambda x: math.exp(x))


@overload(log_one_plus, inline="always")
@no_type_check
def _log_of_type(x):
    return (lambda x: _log_by_polynomial(x)) if x == numba.float32 else (lambda x: math.log1p(x))


@compiled(fastmath=REORDERED)
@no_type_check
def softplus(first, second, third, value, slope):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) of a sum of three, and its derivative."""
    zero, one = value.dtype.type(0), value.dtype.type(1)
    for i in range(len(value)):
        x = first[i] + second[i] + third[i]
        e = exp_moderate(-abs(x))
        share = one / (one + e)
        slope[i] = share if x >= zero else e * share
        value[i] = max(x, zero) + log_one_plus(e)


@compiled(fastmath=REORDERED)
@no_type_check
def softplus_alone(first, second, third, value):
    """The same without the derivative."""
    zero = value.dtype.type(0)
    for i in range(len(value)):
        x = first[i] + second[i] + third[i]
        value[i] = max(x, zero) + log_one_plus(exp_moderate(-abs(x)))


@compiled(fastmath=REORDERED)
@no_type_check
def exponential_density(raw, density, steepness):
    """exp(min(raw, 15)), and its derivative."""
    top = raw.dtype.type(LARGEST_EXPONENT)
    for s in range(len(raw)):
        density[s] = exp_moderate(top if raw[s] > top else raw[s])  # NaN stays
        steepness[s] = raw.dtype.type(0) if raw[s] > top else density[s]


@compiled(fastmath=REORDERED)
@no_type_check
def repeat(line, tile):
    """The same channels for every sample."""
    samples, channels = tile.shape
    for s in range(samples):
        for c in range(channels):
            tile[s, c] = line[c]


@compiled(fastmath=REORDERED)
@no_type_check
def weigh(hidden, row, bias, exponential, intervals, weights, after, steepness):
    """Rendering weights of a ray, the transmittance after each sample, and d density / d raw."""
    samples, channels = hidden.shape
    one = hidden.dtype.type(1)
    raw = np.empty_like(weights)
    for s in range(samples):
        total = bias[()] - one
        for c in range(channels):
            total += hidden[s, c] * row[c]
        raw[s] = total
    density = np.empty_like(raw)
    if exponential:
        exponential_density(raw, density, steepness)
    else:
        nothing = np.zeros_like(raw)
        softplus(raw, nothing, nothing, density, steepness)
    light = one
    for s in range(samples):
        absorbed = -math.expm1(-density[s] * intervals[s])
        weights[s] = light * absorbed
        light = light * (one - absorbed)
        after[s] = light


@compiled(fastmath=REORDERED)
@no_type_check
def march_rows(
    start, stop, exponential, xy, xz, yz, row, bias, given, intervals, depths, mixed, opacity, moment, kept,
):  # fmt: skip
    """Image rows `start` to `stop` of one image: what `fused.march` returns."""
    samples, channels = xz.shape[1:]
    tile, hidden = np.empty((samples, channels), xy.dtype), np.empty((samples, channels), xy.dtype)
    weights, after, steepness = np.empty(samples, xy.dtype), np.empty(samples, xy.dtype), np.empty(samples, xy.dtype)
    for y in range(start, stop):
        for x in range(xy.shape[1]):
            repeat(xy[y, x], tile)
            softplus_alone(tile.reshape(-1), xz[x].reshape(-1), yz[y].reshape(-1), hidden.reshape(-1))
            if given.size:
                weights[:] = given[y, x]
            else:
                weigh(hidden, row, bias, exponential, intervals, weights, after, steepness)
            if kept.size:
                kept[y, x] = weights
            total = mixed[y, x]
            total[:] = 0
            for s in range(samples):
                weight = weights[s]
                opacity[y, x] += weight
                moment[y, x] += weight * depths[s]
                for c in range(channels):
                    total[c] += weight * hidden[s, c]


@compiled(fastmath=REORDERED)
@no_type_check
def retrace_rows(
    start, stop, exponential, xy, xz, yz, row, bias, given, intervals, depths, by_mixed, by_opacity, by_moment,
    by_kept, by_xy, by_xz, by_yz, by_row, by_bias, by_given,
):  # fmt: skip
    """Gradients of the same. `by_xz`, `by_row` and `by_bias` are sums over these rows."""
    samples, channels = xz.shape[1:]
    tile, hidden = np.empty((samples, channels), xy.dtype), np.empty((samples, channels), xy.dtype)
    slope, part = np.empty((samples, channels), xy.dtype), np.empty_like(row)
    weights, after, steepness = np.empty(samples, xy.dtype), np.empty(samples, xy.dtype), np.empty(samples, xy.dtype)
    by_weight, by_raw = np.empty(samples, xy.dtype), np.empty(samples, xy.dtype)
    for y in range(start, stop):
        for x in range(xy.shape[1]):
            repeat(xy[y, x], tile)
            around = xz[x].reshape(-1), yz[y].reshape(-1)
            softplus(tile.reshape(-1), *around, hidden.reshape(-1), slope.reshape(-1))
            ray, first = by_mixed[y, x], by_xy[y, x]
            for s in range(samples):
                total = by_opacity[y, x] + by_moment[y, x] * depths[s]
                for c in range(channels):
                    total += ray[c] * hidden[s, c]
                by_weight[s] = total
            if by_kept.size:
                by_weight += by_kept[y, x]
            if given.size:
                by_given[y, x] = by_weight
                for s in range(samples):
                    weight = given[y, x, s]
                    for c in range(channels):
                        tile[s, c] = weight * ray[c] * slope[s, c]
            else:
                weigh(hidden, row, bias, exponential, intervals, weights, after, steepness)
                behind, shift = xy.dtype.type(0), xy.dtype.type(0)
                for s in range(samples - 1, -1, -1):
                    by_raw[s] = (by_weight[s] * after[s] - behind) * intervals[s] * steepness[s]
                    behind += by_weight[s] * weights[s]
                    shift += by_raw[s]
                # Sums over all points go by way of sums over one ray: adding each to a large total would round more.
                part[:] = 0
                for s in range(samples):
                    weight, raw = weights[s], by_raw[s]
                    for c in range(channels):
                        tile[s, c] = (weight * ray[c] + raw * row[c]) * slope[s, c]
                    for c in range(channels):
                        part[c] += raw * hidden[s, c]
                by_bias[0] += shift
                for c in range(channels):
                    by_row[c] += part[c]
            add(tile.reshape(-1), by_xz[x].reshape(-1), by_yz[y].reshape(-1))
            for s in range(samples):
                for c in range(channels):
                    first[c] += tile[s, c]


@compiled(fastmath=REORDERED)
@no_type_check
def add(tile, second, third):
    """Adds a tile to two others."""
    for i in range(len(tile)):
        second[i] += tile[i]
        third[i] += tile[i]


def march(arguments: Arguments) -> Marched:
    """The forward pass."""
    xy, xz, yz, row, bias, given, intervals, depths = _arrays(arguments)
    mixed, opacity, moment = np.zeros_like(xy), np.zeros(xy.shape[:3], xy.dtype), np.zeros(xy.shape[:3], xy.dtype)
    kept = np.zeros((*xy.shape[:3], xz.shape[2] if arguments.kept else 0), xy.dtype)

    def work(i: int, start: int, stop: int) -> None:
        image = (xy[i], xz[i], yz[i], row, bias, given[i], intervals[i], depths[i])
        march_rows(start, stop, arguments.exponential, *image, mixed[i], opacity[i], moment[i], kept[i])

    _share_out(work, xy, xz.shape[2])
    return Marched(*map(torch.from_numpy, (mixed, opacity, moment, kept)))


def retrace(arguments: Arguments, outputs: Marched, gradients: Marched) -> list[Tensor | None]:
    """The backward pass: gradients of the first six arguments."""
    xy, xz, yz, row, bias, given, intervals, depths = _arrays(arguments)
    by_outputs = [_array(gradient, output.dtype) for gradient, output in zip(gradients, outputs, strict=True)]
    by_xy, by_xz, by_yz, by_given = (np.zeros_like(array) for array in (xy, xz, yz, given))
    by_row, by_bias = np.zeros_like(row), np.zeros(1, xy.dtype)

    def work(i: int, start: int, stop: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        image = (xy[i], xz[i], yz[i], row, bias, given[i], intervals[i], depths[i])
        sums = (np.zeros_like(xz[i]), np.zeros_like(row), np.zeros_like(by_bias))
        own = (by_xy[i], sums[0], by_yz[i], *sums[1:], by_given[i])
        retrace_rows(start, stop, arguments.exponential, *image, *(array[i] for array in by_outputs), *own)
        return i, *sums

    for i, part, by_row_part, by_bias_part in _share_out(work, xy, xz.shape[2]):
        by_xz[i] += part
        by_row += by_row_part
        by_bias += by_bias_part
    found = dict(zip(Arguments._fields, (by_xy, by_xz, by_yz, by_row, by_bias[0], by_given), strict=False))
    return [
        None if getattr(arguments, name) is None else torch.as_tensor(array).to(getattr(arguments, name).dtype)
        for name, array in found.items()
    ]


def _arrays(arguments: Arguments) -> list[np.ndarray]:
    """float64 if the readings are, else float32; zeros for a density, and no weights, where there are none."""
    batch, *_, channels = arguments.xy.shape
    full = torch.promote_types(arguments.xy.dtype, torch.float32)
    absent = {"row": torch.zeros(channels), "bias": torch.zeros(()), "weights": torch.empty(batch, 0, 0, 0)}
    given = zip(Arguments._fields, arguments[:TENSORS], strict=False)
    named = {name: absent[name] if tensor is None else tensor for name, tensor in given}
    # Parameters are copied: a storage that numpy has seen can no longer be freed, which sharding (FSDP) does.
    return [_array(tensor.clone() if name in ("row", "bias") else tensor, full) for name, tensor in named.items()]


def _array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    return tensor.detach().to(dtype).contiguous().numpy()


def _share_out(work: Callable[[int, int, int], Any], xy: np.ndarray, samples: int) -> list[Any]:
    """`work(image, first row, row after the last)` for all rows, in about as many chunks as torch has threads."""
    images, height = xy.shape[:2]
    threads = max(1, min(torch.get_num_threads(), xy.size * samples // LEAST_PER_THREAD))
    parts = min(height, -(-threads // images))
    jobs = [(i, height * k // parts, height * (k + 1) // parts) for i in range(images) for k in range(parts)]
    if threads == 1 or len(jobs) == 1:
        return [work(*job) for job in jobs]
    with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
        return list(pool.map(lambda job: work(*job), jobs))
