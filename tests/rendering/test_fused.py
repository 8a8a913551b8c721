"""The fused kernels equal dense PyTorch and analytic cases, for every outcome that a loss can use."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from rendering.fused_cases import (
    SHAPES,
    WEIGHTS,
    check_gradients,
    check_half_precision,
    check_kernels,
    check_opaque_walls,
    readings,
)
from torch import Tensor

from triptych.rendering import fused
from triptych.rendering.triplane import PlaneFeatures


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_equal_dense_rendering(shape: tuple[int, ...], weights: str) -> None:
    check_kernels(shape, weights=weights)


def test_gradients_by_finite_differences() -> None:
    check_gradients()


@pytest.mark.parametrize("weights", ["softplus", "exp"])
def test_bf16_readings_are_summed_in_float32(weights: str) -> None:
    check_half_precision(weights)


def test_a_slab_of_constant_density() -> None:
    """opacity 1 - exp(-density length); half of the light of a thick slab ends where exp(-density z) = 1/2."""
    samples, density = 400, 3.0
    flat = torch.zeros(1, 1, 1, samples, 2, dtype=torch.float64)
    distances = ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples).view(1, 1, 1, samples)
    marched = fused.march(
        PlaneFeatures(flat[:, :, :, :1], flat, flat),
        intervals=torch.full_like(distances, 1 / samples),
        depths=distances,
        row=torch.zeros(2, dtype=torch.float64),
        bias=torch.tensor(1 + math.log(math.expm1(density)), dtype=torch.float64),
    )
    opacity = 1 - math.exp(-density)
    assert marched.opacity.item() == pytest.approx(opacity, rel=1e-12)
    assert marched.mixed[0, 0, 0, 0].item() == pytest.approx(math.log(2) * opacity, rel=1e-12)
    moment = (1 - math.exp(-density) * (1 + density)) / density
    assert marched.moment.item() == pytest.approx(moment, rel=1e-4)


def test_an_empty_ray_and_an_opaque_one() -> None:
    flat = torch.zeros(1, 1, 2, 3, 1)
    lengths = torch.ones(1, 1, 1, 3)
    xy = torch.tensor([-200.0, 200.0]).view(1, 1, 2, 1, 1).requires_grad_()
    marched = fused.march(
        PlaneFeatures(xy, flat, flat[:, :, :1]),
        intervals=lengths,
        depths=lengths,
        row=torch.ones(1),
        bias=torch.tensor(-99.0),
    )
    assert marched.opacity.flatten().tolist() == pytest.approx([0, 1], abs=1e-30)
    assert marched.mixed.flatten().tolist() == pytest.approx([0, 200], abs=1e-30)
    marched.mixed.sum().backward()
    assert xy.grad is not None
    assert xy.grad.flatten().tolist() == pytest.approx([0, 1], abs=1e-30)


def test_gradients_of_opaque_walls() -> None:
    check_opaque_walls()


@pytest.mark.parametrize("weights", ["softplus", "exp"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_so_for_its_own_ray(bad: float, weights: str) -> None:
    features, rest = readings((1, 2, 3, 4, 5), weights=weights, dtype=torch.float32)
    with torch.no_grad():
        features[0][0, 1, 2] = bad
    marched = fused.march(PlaneFeatures(*features), **rest)
    finite = marched.mixed.isfinite().all(dim=-1)
    assert finite.flatten().tolist() == [True] * 5 + [False]


def test_any_number_of_threads_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.rendering import fused_numba

    pools = []
    monkeypatch.setattr(fused_numba, "LEAST_PER_THREAD", 1)
    monkeypatch.setattr(
        fused_numba, "ThreadPoolExecutor", lambda count: pools.append(count) or ThreadPoolExecutor(count)
    )
    before = torch.get_num_threads()
    found: list[list[Tensor]] = []
    try:
        for threads in (1, 3, 8):
            torch.set_num_threads(threads)
            features, rest = readings((2, 5, 3, 4, 6))
            outputs = fused.march(PlaneFeatures(*features), **rest)
            gradients = torch.autograd.grad(sum(o.square().sum() for o in outputs), [*features, rest["row"]])
            found.append([*outputs, *gradients])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert set(pools) == {3, 8}


def test_kernels_that_give_other_numbers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = fused._kernels("cpu")
    monkeypatch.setattr(fused, "_kernels", lambda kind: Wrong)
    fused._checked.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"slower route renders on this cpu device"):
            assert not fused.fused_runs_on(torch.device("cpu"))
    finally:
        fused._checked.cache_clear()
    monkeypatch.setattr(fused, "_kernels", lambda kind: kernels)
    assert fused.fused_runs_on(torch.device("cpu"))


class Wrong:
    """Kernels whose gradient is a little off."""

    @staticmethod
    def march(arguments: fused.Arguments) -> fused.Marched:
        from triptych.rendering import fused_numba

        return fused_numba.march(arguments)

    @staticmethod
    def retrace(*arguments: object) -> list[Tensor | None]:
        from triptych.rendering import fused_numba

        first, *others = fused_numba.retrace(*arguments)
        return [first * 1.01, *others]


def run_with_triton(script: str, **environment: str) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    pytest.importorskip("triton", reason="Triton is for Linux on x86-64: pip install triton")
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(tests)!r})\n{script}"]
    finished = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_triton_kernels_interpreted_on_a_cpu() -> None:
    script = """
from rendering import fused_cases
fused_cases.interpret_triton()
for shape in fused_cases.SHAPES:
    for weights in fused_cases.WEIGHTS:
        fused_cases.check_kernels(shape, weights=weights)
for weights in ("softplus", "exp"):
    fused_cases.check_half_precision(weights)
fused_cases.check_opaque_walls()
"""
    run_with_triton(script, TRITON_INTERPRET="1")


@pytest.mark.slow
def test_triton_kernels_compile_for_gpus_that_are_not_here() -> None:
    run_with_triton("from rendering import fused_cases; fused_cases.compile_triton()", TRITON_INTERPRET="0")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_triton_kernels_on_a_gpu(shape: tuple[int, ...], weights: str) -> None:
    check_kernels(shape, weights=weights, device="cuda")
    check_half_precision(device="cuda")
    check_opaque_walls(device="cuda")
