"""The fused rendering of `rendering.fused` for CPUs: loops compiled by numba, image rows shared out among threads.

One ray's hidden layer exists at a time, samples x channels, in the first or second level of cache. Threads are Python's
(the loops release its lock), as many as torch's: numba's own would be one more pool, unsafe after a fork.
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

from triptych.rendering.fused import TENSORS, Arguments, Marched
from triptych.rendering.volume import LARGEST_EXPONENT

# Sums may be reordered, which fills vector registers; NaN and infinity keep their meaning.
COMPILED = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}


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
    p = np.float32(1 / 5040)
    for factor in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        p = p * f + np.float32(factor)
    return p * np.int32((np.int32(n) + 127) << 23).view(np.float32)


@register_jitable
@no_type_check
def _log_by_polynomial(x):
    """log(1 + x) = 2 atanh(u), u = x / (2 + x) <= 1/3."""
    u = x / (np.float32(2) + x)
    square = u * u
    p = np.float32(1 / 15)
    for factor in (1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0):
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


@numba.njit(**COMPILED)
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


@numba.njit(**COMPILED)
@no_type_check
def exponential_density(raw, density, steepness):
    """exp(min(raw, 15)), and its derivative."""
    top = raw.dtype.type(LARGEST_EXPONENT)
    for s in range(len(raw)):
        density[s] = exp_moderate(top if raw[s] > top else raw[s])  # NaN stays
        steepness[s] = raw.dtype.type(0) if raw[s] > top else density[s]


@numba.njit(**COMPILED)
@no_type_check
def weigh(hidden, row, bias, exponential, intervals, weights, after, steepness):
    """Rendering weights of a ray, the transmittance after each sample, and d density / d raw."""
    one = hidden.dtype.type(1)
    raw = np.empty_like(weights)
    for s in range(len(hidden)):
        total, line = bias[()] - one, hidden[s]
        for c in range(len(line)):
            total += line[c] * row[c]
        raw[s] = total
    density = np.empty_like(raw)
    if exponential:
        exponential_density(raw, density, steepness)
    else:
        nothing = np.zeros_like(raw)
        softplus(raw, nothing, nothing, density, steepness)
    light = one
    for s in range(len(hidden)):
        absorbed = -math.expm1(-density[s] * intervals[s])
        weights[s] = light * absorbed
        light = light * (one - absorbed)
        after[s] = light


@numba.njit(**COMPILED)
@no_type_check
def look(xy, xz, yz, hidden, slope):
    """The hidden layer of every sample of one ray, and its derivative."""
    for s in range(len(hidden)):
        softplus(xy, xz[s], yz[s], hidden[s], slope[s])


@numba.njit(**COMPILED)
@no_type_check
def march_rows(
    start, stop, exponential, xy, xz, yz, row, bias, given, intervals, depths, mixed, opacity, moment, kept,
):  # fmt: skip
    """Image rows `start` to `stop` of one image: what `fused.march` returns."""
    samples, channels = xz.shape[1:]
    hidden, slope = np.empty((samples, channels), xy.dtype), np.empty((samples, channels), xy.dtype)
    weights, after, steepness = np.empty(samples, xy.dtype), np.empty(samples, xy.dtype), np.empty(samples, xy.dtype)
    for y in range(start, stop):
        for x in range(xy.shape[1]):
            look(xy[y, x], xz[x], yz[y], hidden, slope)
            if given.size:
                weights[:] = given[y, x]
            else:
                weigh(hidden, row, bias, exponential, intervals, weights, after, steepness)
            if kept.size:
                kept[y, x] = weights
            total = mixed[y, x]
            total[:] = 0
            for s in range(samples):
                weight, line = weights[s], hidden[s]
                opacity[y, x] += weight
                moment[y, x] += weight * depths[s]
                for c in range(channels):
                    total[c] += weight * line[c]


@numba.njit(**COMPILED)
@no_type_check
def retrace_rows(
    start, stop, exponential, xy, xz, yz, row, bias, given, intervals, depths, by_mixed, by_opacity, by_moment,
    by_kept, by_xy, by_xz, by_yz, by_row, by_bias, by_given,
):  # fmt: skip
    """Gradients of the same. `by_xz`, `by_row` and `by_bias` are sums over these rows."""
    samples, channels = xz.shape[1:]
    hidden, slope = np.empty((samples, channels), xy.dtype), np.empty((samples, channels), xy.dtype)
    weights, after, steepness = np.empty(samples, xy.dtype), np.empty(samples, xy.dtype), np.empty(samples, xy.dtype)
    by_weight, by_raw, part = np.empty(samples, xy.dtype), np.zeros(samples, xy.dtype), np.empty_like(row)
    for y in range(start, stop):
        for x in range(xy.shape[1]):
            look(xy[y, x], xz[x], yz[y], hidden, slope)
            ray = by_mixed[y, x]
            for s in range(samples):
                total, line = by_opacity[y, x] + by_moment[y, x] * depths[s], hidden[s]
                for c in range(channels):
                    total += ray[c] * line[c]
                by_weight[s] = total
            if by_kept.size:
                by_weight += by_kept[y, x]
            if given.size:
                weights[:] = given[y, x]
                by_given[y, x] = by_weight
            else:
                weigh(hidden, row, bias, exponential, intervals, weights, after, steepness)
                behind = xy.dtype.type(0)
                for s in range(samples - 1, -1, -1):
                    by_raw[s] = (by_weight[s] * after[s] - behind) * intervals[s] * steepness[s]
                    behind += by_weight[s] * weights[s]
            # Sums over all points go by way of sums over one ray: adding each point to a large total would round more.
            first, shift = by_xy[y, x], xy.dtype.type(0)
            part[:] = 0
            for s in range(samples):
                weight, raw, line, steep = weights[s], by_raw[s], hidden[s], slope[s]
                second, third = by_xz[x, s], by_yz[y, s]
                shift += raw
                for c in range(channels):
                    by_sum = (weight * ray[c] + raw * row[c]) * steep[c]
                    first[c] += by_sum
                    second[c] += by_sum
                    third[c] += by_sum
                    part[c] += raw * line[c]
            by_bias[0] += shift
            for c in range(channels):
                by_row[c] += part[c]


def march(arguments: Arguments) -> Marched:
    """The forward pass."""
    xy, xz, yz, row, bias, given, intervals, depths = _arrays(arguments)
    mixed, opacity, moment = np.zeros_like(xy), np.zeros(xy.shape[:3], xy.dtype), np.zeros(xy.shape[:3], xy.dtype)
    kept = np.zeros((*xy.shape[:3], xz.shape[2] if arguments.kept else 0), xy.dtype)

    def work(i: int, start: int, stop: int) -> None:
        image = (xy[i], xz[i], yz[i], row, bias, given[i], intervals[i], depths[i])
        march_rows(start, stop, arguments.exponential, *image, mixed[i], opacity[i], moment[i], kept[i])

    _share_out(work, xy)
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

    for i, part, by_row_part, by_bias_part in _share_out(work, xy):
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


def _share_out(work: Callable[[int, int, int], Any], xy: np.ndarray) -> list[Any]:
    """`work(image, first row, row after the last)` for all rows, in about as many chunks as torch has threads."""
    images, height = xy.shape[:2]
    threads = torch.get_num_threads()
    parts = min(height, -(-threads // images))
    jobs = [(i, height * k // parts, height * (k + 1) // parts) for i in range(images) for k in range(parts)]
    if threads == 1 or len(jobs) == 1:
        return [work(*job) for job in jobs]
    with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
        return list(pool.map(lambda job: work(*job), jobs))
