"""Checks of fused kernels, whichever module and device: also run by a process in which Triton interprets."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.rendering import fused
from triptych.rendering.triplane import PlaneFeatures
from triptych.rendering.volume import composite, density_from_raw, render_opacity, render_weights

SHAPES = [(2, 3, 5, 4, 6), (1, 1, 1, 1, 1), (1, 2, 9, 3, 17)]
"""Batch, height, width, samples, channels: no powers of two, and less than a block."""
WEIGHTS = ["given", "softplus", "exp", "kept"]
"""Where rendering weights come from; `kept`: from an exponential density, and they are returned."""


def readings(
    shape: tuple[int, ...], *, weights: str = "softplus", dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> tuple[list[Tensor], dict[str, Any]]:
    """Readings of three planes, and the other arguments of `march`."""
    batch, height, width, samples, channels = shape
    generator = torch.Generator().manual_seed(2)

    def draw(*size: int) -> Tensor:
        values = torch.randn(size, generator=generator, dtype=torch.float64)
        return values.to(device, dtype).requires_grad_()

    xy = draw(batch, height, width, 1, channels)
    xz = draw(batch, 1, width, samples, channels)
    yz = draw(batch, height, 1, samples, channels)
    lengths = draw(batch, 1, 1, samples).detach().abs()
    rest: dict[str, Any] = {"intervals": lengths, "depths": lengths.cumsum(-1)}
    if weights == "given":
        return [xy, xz, yz], rest | {"weights": draw(batch, height, width, samples)}
    return [xy, xz, yz], rest | {
        "row": draw(channels),
        "bias": draw(),
        "exponential": weights in ("exp", "kept"),
        "kept": weights == "kept",
    }


def densely(features: PlaneFeatures, *, intervals: Tensor, depths: Tensor, **density: Any) -> list[Tensor]:
    hidden = F.softplus(features.xy + features.xz + features.yz)
    weights = density.get("weights")
    if weights is None:
        raw = hidden @ density["row"] + density["bias"]
        weights = render_weights(density_from_raw(raw, exponential=density["exponential"]), intervals)
    kept = weights if density.get("kept") else weights[..., :0]
    return [composite(weights, hidden), render_opacity(weights), (weights * depths).sum(dim=-1), kept]


def check_kernels(shape: tuple[int, ...], *, weights: str, device: str = "cpu") -> None:
    """Outputs and gradients, of all outputs and, for the first shape, of each one alone."""
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        features, rest = readings(shape, weights=weights, dtype=dtype, device=device)
        inputs = [*features, *(rest[name] for name in ("row", "bias", "weights") if name in rest)]
        found = [*fused.march(PlaneFeatures(*features), **rest)]
        expected = densely(PlaneFeatures(*features), **rest)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=bound, atol=bound)
        used = (slice(None), slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4))
        for chosen in used if dtype == torch.float64 and shape == SHAPES[0] else used[:1]:
            gradients = [
                torch.autograd.grad(
                    sum(o.sin().sum() for o in outputs[chosen]), inputs, materialize_grads=True, retain_graph=True
                )
                for outputs in (found, expected)
            ]
            for one, other in zip(*gradients, strict=True):  # sums over samples, some of which cancel
                torch.testing.assert_close(one, other, rtol=0, atol=bound * max(1.0, other.abs().max().item()))


def check_gradients() -> None:
    for weights in WEIGHTS:
        features, rest = readings((1, 2, 2, 3, 2), weights=weights)
        names = [name for name in ("row", "bias", "weights") if name in rest]
        fixed = {name: rest[name] for name in ("intervals", "depths", "exponential", "kept") if name in rest}

        def run(xy: Tensor, xz: Tensor, yz: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
            return tuple(fused.march(PlaneFeatures(xy, xz, yz), **fixed, **dict(zip(names, others, strict=True))))  # noqa: B023

        assert torch.autograd.gradcheck(run, (*features, *(rest[name] for name in names)))


def check_half_precision(weights: str = "softplus", device: str = "cpu") -> None:
    """bf16 readings are rounded once: results are those of the rounded readings, in float32."""
    features, rest = readings((2, 3, 5, 4, 6), weights=weights, dtype=torch.float32, device=device)
    halves = [feature.detach().bfloat16().requires_grad_() for feature in features]
    rounded = [half.detach().float().requires_grad_() for half in halves]
    found, expected = (fused.march(PlaneFeatures(*some), **rest) for some in (halves, rounded))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)
    sums = [sum(o.sin().sum() for o in outputs) for outputs in (found, expected)]
    ours, others = (torch.autograd.grad(total, inputs) for total, inputs in zip(sums, (halves, rounded), strict=True))
    for one, other in zip(ours, others, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one, other.bfloat16())


def check_opaque_walls(device: str = "cpu") -> None:
    """Behind exponential densities up to the largest one nothing is seen, and rounding must not be scaled up: float32
    against float64.
    """
    generator = torch.Generator().manual_seed(4)
    shapes = ((1, 3, 5, 1, 8), (1, 1, 5, 16, 8), (1, 3, 1, 16, 8), (8,), ())
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    drawn[3] = drawn[3] * 6
    lengths = torch.full((1, 1, 1, 16), 1 / 8, dtype=torch.float64)

    def run(march: Callable[..., Any], dtype: torch.dtype) -> list[Tensor]:
        inputs = [values.to(device, dtype).requires_grad_() for values in drawn]
        lines = {"intervals": lengths.to(device, dtype), "depths": lengths.cumsum(-1).to(device, dtype)}
        outputs = march(PlaneFeatures(*inputs[:3]), row=inputs[3], bias=inputs[4], exponential=True, kept=True, **lines)
        return [*outputs, *torch.autograd.grad(sum(o.sin().sum() for o in outputs), inputs)]

    expected = run(densely, torch.float64)
    raw = F.softplus(drawn[0] + drawn[1] + drawn[2]) @ drawn[3] + drawn[4]
    assert raw.max() > 16
    assert raw.min() < 0
    for march in (densely, fused.march):
        for one, other in zip(run(march, torch.float32), expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def interpret_triton() -> None:
    """Let CPUs run the Triton kernels, in blocks small enough for tests to need several."""
    from triptych.rendering import fused_triton

    fused.KERNELS["cpu"] = fused_triton.__name__
    fused_triton.BLOCK = 64
    assert fused.fused_runs_on(torch.device("cpu"))


def compile_triton() -> None:
    """Translate every kernel to machine code of GPUs, which needs none."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from triptych.rendering import fused_triton

    integers = [*("height", "width", "samples", "channels"), *("rays", "owns", "others", "own_step", "other_step")]
    planes = ["xy", "xz", "yz", "own", "other", "by_xy", "by_own"]
    for capability, reading, full in ((80, "bf16", "fp32"), (90, "fp32", "fp32"), (90, "fp64", "fp64")):
        for weights in WEIGHTS:
            constants = {
                "GIVEN": weights == "given",
                "KEPT": weights == "kept",
                "EXPONENTIAL": weights in ("exp", "kept"),
                "LARGEST": 15.0,
                "TYPE": getattr(tl, f"float{full[2:]}"),
                "CHANNELS": 64,
                "RAYS": 8,
                "POINTS": 8,
            }
            kinds = dict.fromkeys(constants, "constexpr") | dict.fromkeys(integers, "i32")
            kinds |= dict.fromkeys(planes, f"*{reading}")
            for kernel in (fused_triton._march_rays, fused_triton._retrace_rays, fused_triton._sum_over_rays):
                names = kernel.arg_names
                signature = {name: kinds.get(name, f"*{full}") for name in names}
                places = {(i,): constants[name] for i, name in enumerate(names) if name in constants}
                compiled = triton.compile(
                    ASTSource(kernel, signature, places), target=GPUTarget("cuda", capability, 32)
                )
                assert compiled.asm["cubin"]
