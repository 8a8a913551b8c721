"""The routes of the triplane regularizer: time and added memory of one forward and backward pass, against naive.

python benchmarks/regularizer.py                # 64 samples, two repeats
python benchmarks/regularizer.py --samples 128

One image, three planes of 32 channels at 56x72, 56x72 parallel rays, the four tasks of NYUv2, hidden layer 64. Each
route runs in its own process; added memory is its peak minus the resident size before the first pass.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from triptych.regularizers.fields import ROUTES, Field, SamplePoints, render_field
from triptych.rendering.cameras import orthographic_rays, points_on_rays
from triptych.rendering.triplane import Triplane
from triptych.rendering.volume import sample_distances, sample_intervals

SIZE, CHANNELS, VALUES = (56, 72), 32, (40, 1, 3, 1)


def resident() -> float:
    """MiB now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def measure(route: str, samples: int, passes: int) -> dict[str, float]:
    """Seconds (fastest pass after the first) and added MiB of a route."""
    torch.manual_seed(0)
    fields = [Field(CHANNELS, values) for values in VALUES]
    sizes = (SIZE, SIZE, (SIZE[1], SIZE[0]))
    planes = Triplane(*(torch.randn(1, CHANNELS, *size, requires_grad=True) for size in sizes))
    distances = sample_distances(samples, near=0.0, far=2.0)
    points = points_on_rays(orthographic_rays(SIZE), distances)
    intervals = sample_intervals(distances, last=2 / samples)[:, None, None]
    place = SamplePoints(points, intervals, (distances - 1)[:, None, None], None, True)
    before, seconds = resident(), []
    for _ in range(passes + 1):
        start = time.perf_counter()
        rendered = [render_field(field, planes, place, route=ROUTES[route]) for field in fields]
        sum(one.values.square().mean() for one in rendered).backward()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": min(seconds[1:]), "mib": peak - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--route", choices=ROUTES)
    arguments = parser.parse_args()
    if arguments.route:
        print(json.dumps(measure(arguments.route, arguments.samples, arguments.passes)))
        return
    options = ["--samples", str(arguments.samples), "--passes", str(arguments.passes)]
    for repeat in range(arguments.repeats):
        numbers = {}
        for route in ROUTES:
            command = [sys.executable, __file__, "--route", route, *options]
            numbers[route] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            time_ratio, memory_ratio = (numbers[route][key] / numbers["naive"][key] for key in ("seconds", "mib"))
            print(
                f"repeat {repeat + 1}  {route:10}  {numbers[route]['seconds']:6.2f} s  {time_ratio:5.2f}x naive  "
                f"{numbers[route]['mib']:6.0f} MiB  {memory_ratio:5.2f}x naive",
                flush=True,
            )


if __name__ == "__main__":
    main()
