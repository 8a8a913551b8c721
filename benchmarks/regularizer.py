"""What the triplane regularizer costs: its routes against the naive one, and its share of a training step.

python benchmarks/regularizer.py                            # routes, 64 samples, two repeats
python benchmarks/regularizer.py --samples 16 32 64 128
python benchmarks/regularizer.py --bf16                     # the same under autocast
python benchmarks/regularizer.py --device cuda --samples 128
python benchmarks/regularizer.py --compiled                 # also torch.compile of the factored route: a minute more
python benchmarks/regularizer.py --steps                    # InvPT ViT-B and MTI-Net HRNet-18 at 448x576: minutes
python benchmarks/regularizer.py --table                    # all: results/regularizer-cost.csv, docs/study-3d-tables.md
python benchmarks/regularizer.py --table --device cuda      # adds the rows of a GPU

Routes: one image, three planes of 32 channels at 56x72, 56x72 parallel rays, the four tasks of NYUv2, hidden layer 64,
one forward and backward pass. Each route runs in its own process. Added memory is its peak minus what was there before
the first pass, when compiled loops were loaded already (about 110 MiB for numba's compiler, once per process).
Multiply-adds are those of the forward pass's convolutions and matrix products; the fused loops do those of `late`, and
routes that recompute do them once more in the backward pass.

Steps: batch 1, losses as in training, no optimizer. The regularizer's share is the time of its own forward and
backward pass, from the shared features to its losses, over the base step's.

`--table` goes on where it stopped: a row is measured once for a device, number of threads and clock (`--again`: anew).
All routes of a repeat are measured one after another, so that their ratios are of one time.

torch.compile does not pay on a CPU (64 samples, one thread, torch 2.13): after 60 s of compilation the factored route
takes 0.6 to 0.9 of the naive route's time and three quarters of its memory, `late` 0.9 of the time. numba's loops, the
route that CPUs take by default, take 0.07 to 0.08 of the time and 0.03 of the memory.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import regularizer_table as kept
import torch
from regularizer_clock import forget_peak, memory_now, peak_since, seconds
from regularizer_steps import measure_steps, networks
from torch.utils.flop_counter import FlopCounterMode

from triptych.regularizers.fields import ROUTES, Field, SamplePoints, read_parallel, render_field
from triptych.rendering.cameras import orthographic_rays, points_on_rays
from triptych.rendering.fused import fused_runs_on
from triptych.rendering.triplane import Triplane
from triptych.rendering.volume import sample_distances, sample_intervals

SIZE, CHANNELS, VALUES = (56, 72), 32, (40, 1, 3, 1)
TABLE_SAMPLES = (16, 32, 64, 128)


def measure(route: str, samples: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds (fastest pass after the first), added MiB, forward multiply-adds (10^9) and parameters of a route."""
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    fields = [Field(CHANNELS, values).to(device) for values in VALUES]
    sizes = (SIZE, SIZE, (SIZE[1], SIZE[0]))
    planes = Triplane(*(torch.randn(1, CHANNELS, *size, device=device, requires_grad=True) for size in sizes))
    distances = sample_distances(samples, near=0.0, far=2.0, device=device)
    points = points_on_rays(orthographic_rays(SIZE, device=device), distances)
    intervals = sample_intervals(distances, last=2 / samples)[:, None, None]
    place = SamplePoints(points, intervals, (distances - 1)[:, None, None], None, True)

    def render(name: str = route.removesuffix(" compiled")) -> list[torch.Tensor]:
        how = {"route": ROUTES[name], "readings": read_parallel(planes, place, ROUTES[name])}
        return [render_field(field, planes, place, **how).values for field in fields]

    timed = torch.compile(render) if route.endswith(" compiled") else render

    def work() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.bf16):
            rendered = timed()
        torch.stack([values.float().square().mean() for values in rendered]).sum().backward()

    if not fused_runs_on(device):
        raise RuntimeError(f"there are no fused kernels for {device}")
    forget_peak(device)
    before = memory_now(device)
    times = [seconds(work, arguments) for _ in range(arguments.passes + 1)]
    peak = peak_since(device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        render("late" if route == "fused" else route.removesuffix(" compiled"))
    parameters = sum(parameter.numel() for field in fields for parameter in field.parameters())
    return {
        "seconds": min(times[1:]),
        "mib": peak - before,
        "gmacs": counter.get_total_flops() / 2e9,
        "parameters": parameters,
    }


def in_own_process(arguments: argparse.Namespace, *more: str) -> Any:
    """What this file prints as JSON with the same setting and `more`."""
    command = [sys.executable, __file__, "--passes", str(arguments.passes), "--device", arguments.device]
    command += ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
    command += ["--bf16"] * arguments.bf16 + ["--processor-time"] * arguments.processor_time
    return json.loads(subprocess.run([*command, *more], check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure_routes(
    routes: Iterable[str], samples: int, repeat: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One repeat of all routes, printed; naive first."""
    rows: list[dict[str, Any]] = []
    for route in routes:
        found = in_own_process(arguments, "--route", route, "--samples", str(samples))
        rows.append({"name": route, "samples": samples, "repeat": repeat, **found})
        ratios = [found[key] / rows[0][key] for key in ("seconds", "mib")]
        print(
            f"{samples:4} samples  repeat {repeat}  {route:17}  {found['seconds'] * 1e3:8.1f} ms"
            f"  {ratios[0]:5.2f}x naive  {found['mib']:6.0f} MiB  {ratios[1]:5.2f}x naive",
            flush=True,
        )
    return rows


def compare_routes(arguments: argparse.Namespace) -> None:
    """A table of routes for every number of samples; naive first."""
    routes = [*ROUTES, *(["factored compiled"] if arguments.compiled else [])]
    for samples in arguments.samples:
        for repeat in range(arguments.repeats):
            measure_routes(routes, samples, repeat + 1, arguments)


def compare_steps(arguments: argparse.Namespace, titles: Iterable[str]) -> list[dict[str, Any]]:
    """The share of a training step, for each number of samples; each network in its own process."""
    rows = []
    for title in titles:
        samples = [str(count) for count in arguments.samples]
        rows += (found := in_own_process(arguments, "--network", title, "--samples", *samples))
        for row in found:
            print(
                f"{title}  repeat {row['repeat']}  step {row['step_seconds']:7.3f} s  {row['samples']:4} samples  "
                f"regularizer {row['seconds']:6.3f} s  {row['seconds'] / row['step_seconds']:6.1%}",
                flush=True,
            )
    return rows


def fill_table(arguments: argparse.Namespace) -> None:
    """Measure what the CSV lacks, and write the tables of the page."""
    setting = {
        "device": arguments.device,
        "threads": arguments.threads,
        "clock": "processor" if arguments.processor_time else "wall",
    }
    command = ["python benchmarks/regularizer.py --table", f"--device {arguments.device} --threads {arguments.threads}"]
    origin = {
        "hardware": _hardware(arguments.device),
        "torch": torch.__version__,
        "commit": _commit(),
        "command": " ".join([*command, *["--processor-time"] * arguments.processor_time]),
    }
    known = set() if arguments.again else {kept.key(row) for row in kept.read_rows()}

    def has(kind: str, name: str, samples: int, repeat: int) -> bool:
        return kept.key({"kind": kind, "name": name, **setting, "samples": samples, "repeat": repeat}) in known

    arguments.samples = TABLE_SAMPLES
    repeats = range(1, arguments.repeats + 1)
    for samples, repeat in ((samples, repeat) for samples in TABLE_SAMPLES for repeat in repeats):
        if not all(has("route", name, samples, repeat) for name in ROUTES):
            rows = measure_routes(ROUTES, samples, repeat, arguments)
            kept.add_rows({"kind": "route", **setting, **origin, **row} for row in rows)
    for title in networks(arguments.device):
        if not all(has("step", title, samples, repeat) for samples in TABLE_SAMPLES for repeat in repeats):
            rows = compare_steps(arguments, [title])
            kept.add_rows({"kind": "step", **setting, **origin, **row} for row in rows)
    kept.write_page()


def _hardware(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return models[0].split(":")[1].strip() if models else "CPU"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=kept.ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[64])
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with --threads 1")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile of the factored route")
    parser.add_argument("--steps", action="store_true", help="the share of a training step instead")
    parser.add_argument("--table", action="store_true", help="measure what the CSV lacks, and write it and the page")
    parser.add_argument("--again", action="store_true", help="with --table: measure anew what the CSV has")
    parser.add_argument("--route", help="measure one route in this process and print JSON")
    parser.add_argument("--network", help="measure the steps of one network in this process and print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.route:
        print(json.dumps(measure(arguments.route, arguments.samples[0], arguments)))
    elif arguments.network:
        print(json.dumps(measure_steps(arguments.network, arguments)))
    elif arguments.table:
        fill_table(arguments)
    elif arguments.steps:
        compare_steps(arguments, networks(arguments.device))
    else:
        compare_routes(arguments)


if __name__ == "__main__":
    main()
