"""What the triplane regularizer costs: its routes against the naive one, and its share of a training step.

python benchmarks/regularizer.py                            # routes, 64 samples, two repeats
python benchmarks/regularizer.py --samples 16 32 64 128
python benchmarks/regularizer.py --bf16                     # the same under autocast
python benchmarks/regularizer.py --device cuda --samples 128
python benchmarks/regularizer.py --compiled                 # also torch.compile of the factored route: a minute more
python benchmarks/regularizer.py --steps                    # InvPT ViT-B and MTI-Net HRNet-18 at 448x576: minutes

Routes: one image, three planes of 32 channels at 56x72, 56x72 parallel rays, the four tasks of NYUv2, hidden layer 64,
one forward and backward pass. Each route runs in its own process. Added memory is its peak minus what was there before
the first pass, when compiled loops were loaded already (about 110 MiB for numba's compiler, once per process).

Steps: batch 1, losses as in training, no optimizer. The regularizer's share is the time of its own forward and
backward pass, from the shared features to its losses, over the base step's.

torch.compile does not pay on a CPU (64 samples, one thread, torch 2.13): after 60 s of compilation the factored route
takes 0.6 to 0.9 of the naive route's time and three quarters of its memory, `late` 0.9 of the time. numba's loops, the
route that CPUs take by default, take 0.13 to 0.17 of the time and 0.04 of the memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import triptych
from triptych.regularizers.fields import ROUTES, Field, SamplePoints, render_field
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.cameras import orthographic_rays, points_on_rays
from triptych.rendering.fused import fused_runs_on
from triptych.rendering.triplane import Triplane
from triptych.rendering.volume import sample_distances, sample_intervals
from triptych.training.objective import Objective
from triptych.types import Output, Sample

SIZE, CHANNELS, VALUES = (56, 72), 32, (40, 1, 3, 1)
STEPS = {"InvPT, ViT-B": ("invpt", "vit_base_patch16_384"), "MTI-Net, HRNet-18": ("mti-net", "hrnet_w18_small_v2")}
LARGER_STEPS = {"InvPT, ViT-L": ("invpt", "vit_large_patch16_384"), "MTI-Net, HRNet-48": ("mti-net", "hrnet_w48")}
IMAGE = (448, 576)


def resident() -> float:
    """MiB now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def seconds(work: Callable[[], None], arguments: argparse.Namespace) -> float:
    """Wall time, until the device is done; or processor time."""
    clock = time.process_time if arguments.processor_time else time.perf_counter
    start = clock()
    work()
    if arguments.device != "cpu":
        torch.cuda.synchronize(arguments.device)
    return clock() - start


def measure(route: str, samples: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds (fastest pass after the first) and added MiB of a route."""
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    fields = [Field(CHANNELS, values).to(device) for values in VALUES]
    sizes = (SIZE, SIZE, (SIZE[1], SIZE[0]))
    planes = Triplane(*(torch.randn(1, CHANNELS, *size, device=device, requires_grad=True) for size in sizes))
    distances = sample_distances(samples, near=0.0, far=2.0, device=device)
    points = points_on_rays(orthographic_rays(SIZE, device=device), distances)
    intervals = sample_intervals(distances, last=2 / samples)[:, None, None]
    place = SamplePoints(points, intervals, (distances - 1)[:, None, None], None, True)
    chosen = ROUTES[route.removesuffix(" compiled")]

    def render() -> list[torch.Tensor]:
        return [render_field(field, planes, place, route=chosen).values for field in fields]

    if route.endswith(" compiled"):
        render = torch.compile(render)

    def work() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.bf16):
            rendered = render()
        torch.stack([values.float().square().mean() for values in rendered]).sum().backward()

    if not fused_runs_on(device):
        raise RuntimeError(f"there are no fused kernels for {device}")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else resident()
    times = [seconds(work, arguments) for _ in range(arguments.passes + 1)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    return {"seconds": min(times[1:]), "mib": peak - before}


def compare_routes(arguments: argparse.Namespace) -> None:
    """A table of routes for every number of samples; naive first."""
    routes = [*ROUTES, *(["factored compiled"] if arguments.compiled else [])]
    shared = ["--passes", str(arguments.passes), "--device", arguments.device]
    shared += ["--bf16"] * arguments.bf16 + ["--processor-time"] * arguments.processor_time
    for samples in arguments.samples:
        for repeat in range(arguments.repeats):
            numbers = {}
            for route in routes:
                command = [sys.executable, __file__, "--route", route, "--samples", str(samples), *shared]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                numbers[route] = json.loads(printed)
                ratios = [numbers[route][key] / numbers["naive"][key] for key in ("seconds", "mib")]
                print(
                    f"{samples:4} samples  repeat {repeat + 1}  {route:17}  {numbers[route]['seconds'] * 1e3:8.1f} ms"
                    f"  {ratios[0]:5.2f}x naive  {numbers[route]['mib']:6.0f} MiB  {ratios[1]:5.2f}x naive",
                    flush=True,
                )


def labels(tasks: dict[str, triptych.Task]) -> dict[str, torch.Tensor]:
    """Valid labels of one image."""
    targets = {}
    for name, task in tasks.items():
        target = task.invalid_target(IMAGE)[None]
        targets[name] = torch.ones_like(target) if target.is_floating_point() else torch.zeros_like(target)
    return targets


def share_of_steps(arguments: argparse.Namespace) -> None:
    """The regularizer's time over that of the base step, for each number of samples."""
    device = torch.device(arguments.device)
    tasks = triptych.nyuv2_tasks()
    sample = Sample(torch.rand(1, 3, *IMAGE), labels(tasks)).to(device)
    for title, (decoder, backbone) in (STEPS if device.type == "cpu" else LARGER_STEPS).items():
        options = {"image_size": IMAGE} if decoder == "invpt" else {}
        model = triptych.create_model(decoder, backbone=backbone, tasks=tasks, backbone_options=options).to(device)
        objective = Objective(model)

        def base(objective: Objective = objective) -> None:
            torch.stack(list(objective(sample).tasks.values())).sum().backward()

        with torch.no_grad():
            features = [feature.detach().requires_grad_() for feature in model(sample.image).features]
        output = Output({}, [], features)
        for repeat in range(arguments.repeats):
            if repeat == 0:
                base()
            step = seconds(base, arguments)
            for samples in arguments.samples:
                regularizer = Triplane3D(
                    model.feature_channels, strides=model.feature_strides, tasks=tasks, num_samples=samples
                ).to(device)

                def work(regularizer: Triplane3D = regularizer, output: Output = output) -> None:
                    torch.stack(list(regularizer(output, sample).values())).sum().backward()

                work()
                own = min(seconds(work, arguments) for _ in range(arguments.passes))
                print(
                    f"{title}  repeat {repeat + 1}  step {step:7.3f} s  {samples:4} samples  regularizer {own:6.3f} s"
                    f"  {own / step:6.1%}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[64])
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with OMP_NUM_THREADS=1")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile of the factored route")
    parser.add_argument("--steps", action="store_true", help="the share of a training step instead")
    parser.add_argument("--route", help="measure one route in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.steps:
        share_of_steps(arguments)
    elif arguments.route:
        print(json.dumps(measure(arguments.route, arguments.samples[0], arguments)))
    else:
        compare_routes(arguments)


if __name__ == "__main__":
    main()
