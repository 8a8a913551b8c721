"""Does it work on this GPU, and what does it cost? `benchmarks/gpu.sh check`

Each part runs in a process of its own, in order of what matters, until the time is over; its numbers are appended to
`gpu-check.jsonl` at once, with the device and the versions. A part that fails or runs out of time leaves a row that
says so. Parts: `kernels` (compiled rendering against the naive route: outputs and gradients), `tests` (the fused
kernels' own tests on the device), `branch` (a training step with and without the 3D branch), and one per network and
execution: a training step of MTI-Net on HRNet-48 and of InvPT on ViT-L in fp32, bf16 and compiled bf16.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from gpu_clock import REHEARSAL, ROOT, Clock, parse, source_digest, start, stop, stopped_at_the_end

from triptych.tasks import Task
from triptych.types import Sample

NETWORKS = {"mti-net hrnet_w48": ("mti-net", "hrnet_w48"), "invpt vit_large": ("invpt", "vit_large_patch16_384")}
EXECUTIONS = ("fp32", "bf16", "bf16 compiled")
PARTS = ("kernels", "tests", "branch", *(f"{network}, {how}" for network in NETWORKS for how in EXECUTIONS))
LIMIT = 75
"""Seconds of one part at most."""


def kernels(device: str) -> dict[str, Any]:
    """Largest relative difference of the fused route to the naive one, by density activation: outputs, gradients."""
    from triptych.regularizers.fields import ROUTES, Field, SamplePoints, render_field
    from triptych.rendering.cameras import orthographic_rays, points_on_rays
    from triptych.rendering.fused import fused_runs_on
    from triptych.rendering.triplane import Triplane
    from triptych.rendering.volume import sample_distances, sample_intervals

    found: dict[str, Any] = {"fused": fused_runs_on(torch.device(device))}
    size, samples = ((8, 10), 8) if REHEARSAL else ((56, 72), 64)
    distances = sample_distances(samples, near=0.0, far=2.0, device=device)
    points = points_on_rays(orthographic_rays(size, device=device), distances)
    intervals = sample_intervals(distances, last=2 / samples)[:, None, None]
    place = SamplePoints(points, intervals, (distances - 1)[:, None, None], None, True)
    for name, exponential in (("softplus", False), ("exp", True)):
        torch.manual_seed(0)
        field = Field(32, 20, values_init="unit", density_init="unit", exponential=exponential).to(device)
        sizes = (size, size, (size[1], size[0]))
        planes = [torch.randn(1, 32, *each, device=device, requires_grad=True) for each in sizes]
        results = []
        for route in ("naive", "fused"):
            rendered = render_field(field, Triplane(*planes), place, route=ROUTES[route])
            total = rendered.values.square().mean() + rendered.opacity.mean() + rendered.depth.square().mean()
            gradients = torch.autograd.grad(total, [*planes, *field.parameters()])
            results.append([*rendered, *gradients])
        differences = [
            ((one - other).abs().max() / one.abs().max()).item() for one, other in zip(*results, strict=True)
        ]
        found[f"{name}, outputs"] = max(differences[:3])
        found[f"{name}, gradients"] = max(differences[3:])
    return found


def tests(device: str) -> dict[str, Any]:
    """The last line of the kernels' own tests on the device."""
    chosen = "tests/rendering/test_volume.py" if REHEARSAL else "tests/rendering/test_fused.py"
    environment = {**os.environ, "TRIPTYCH_TEST_DEVICE": device}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", chosen],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {"passed": done.returncode == 0, "last line": lines[-1] if lines else ""}


def branch(device: str) -> dict[str, Any]:
    """Milliseconds of a training step of D1's network alone, with the branch and with one sample, and peak memory."""
    from geometry_arms import regime_r, with_arm

    from triptych import assemble
    from triptych.datasets.rooms import rooms_tasks
    from triptych.training.objective import Objective

    tasks, size = rooms_tasks(), (32, 40) if REHEARSAL else (128, 160)
    plain, found = regime_r(), {}
    for arm in ("A", "C", "F"):
        recipe = with_arm(replace(plain, model=replace(plain.model, weights="")), arm)
        torch.manual_seed(0)
        model = assemble.build_model(recipe, tasks)
        objective = Objective(model, regularizer=assemble.build_regularizer(recipe, model)).to(device).train()
        sample = random_sample(tasks, size, 8).to(device)
        found |= {f"{arm}, {name}": value for name, value in timed(objective, sample, device, "fp32").items()}
    return found


def network(name: str, how: str, device: str) -> dict[str, Any]:
    """A training step at 448 x 576, batch 1."""
    from model_cases import Case

    from triptych.training.objective import Objective

    decoder, backbone = NETWORKS[name]
    case = Case("mti-net", "resnet18_half", (64, 96)) if REHEARSAL else Case(decoder, backbone)
    torch.manual_seed(0)
    model = case.build().to(device)
    if how.endswith("compiled"):
        model.compile()
    objective = Objective(model).to(device).train()
    return timed(objective, random_sample(model.tasks, case.size, 1).to(device), device, how)


def random_sample(tasks: Mapping[str, Task], size: tuple[int, int], batch: int) -> Sample:
    """Images and labels without meaning."""

    def target(task: Task) -> torch.Tensor:
        form = task.invalid_target(size)
        if not form.is_floating_point():
            return torch.randint(0, task.channels, (batch, *form.shape))
        values = torch.rand(batch, *form.shape)
        return (values > 0.9).float() if task.classes else values + 1

    return Sample(torch.rand(batch, 3, *size), {name: target(task) for name, task in tasks.items()})


def timed(objective: torch.nn.Module, sample: Sample, device: str, how: str) -> dict[str, float]:
    """Median milliseconds of a step of Adam after three, and MiB at the peak."""
    optimizer = torch.optim.Adam(objective.parameters(), fused=device != "cpu")
    cuda = device.startswith("cuda")

    def one() -> float:
        started = time.perf_counter()
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=how.startswith("bf16")):
            total = torch.stack(list(objective(sample).tasks.values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    first = one()
    for _ in range(2):
        one()
    times = [one() for _ in range(3 if REHEARSAL else 10)]
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else float("nan")
    found = {"ms": 1000 * statistics.median(times), "first s": first}
    return found | ({"peak MiB": peak} if cuda else {})


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or "cpu"
    return {"device": name, "torch": torch.__version__, "python": platform.python_version(), "commit": source_digest()}


def main() -> None:
    arguments = parse(__doc__, 180)
    path = arguments.results / "gpu-check.jsonl"
    if arguments.part:
        [part] = arguments.part
        alone = {"kernels": kernels, "tests": tests, "branch": branch}
        name, _, how = part.partition(", ")
        found = network(name, how, arguments.device) if how else alone[part](arguments.device)
        write(path, part, {**found, **machine(arguments.device)})
        return
    with stopped_at_the_end() as children:
        check_all(arguments, path, children)


def check_all(arguments: Any, path: Any, children: list[subprocess.Popen]) -> None:
    """Part by part until the time is over; `children` is given every process that is started."""
    clock = Clock(arguments.seconds)
    for part in PARTS:
        if clock.left < 5:
            print(f"time is over before {part}", flush=True)
            break
        child = start([part], arguments, arguments.out / "check.txt")
        children.append(child)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=min(LIMIT, clock.left - 2))
        if child.poll() != 0:
            why = "failed, see check.txt" if child.poll() is not None else "ran out of time"
            stop(child)
            write(path, part, {"failed": why, "commit": source_digest()})
        print(f"{part}: {'done' if child.returncode == 0 else 'no numbers'}, {clock.left:.0f} s left", flush=True)


def write(path: Any, part: str, numbers: dict[str, Any]) -> None:
    """Append a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"part": part, **numbers, "rehearsal": REHEARSAL}) + "\n")


if __name__ == "__main__":
    main()
