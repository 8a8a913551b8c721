"""Memory that `triptych predict --tile` takes, by the size of the image: generates photographs, predicts each in a
process of its own with every product, and prints the peak of what was resident, files that were mapped included.

    python benchmarks/memory.py FOLDER                      # 1000x750, 4000x3000 and 12000x9000: minutes
    python benchmarks/memory.py FOLDER --run runs/mine      # the network of a run instead of one with 45 channels
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIZES = ("1000x750", "4000x3000", "12000x9000")
ROWS = 100


def photograph(width: int, height: int) -> Iterator[np.ndarray]:
    """Rows of slow colors with noise, as a camera's."""
    generator = np.random.default_rng(0)
    columns = np.arange(width) / width
    for top in range(0, height, ROWS):
        lines = np.arange(top, min(top + ROWS, height))[:, None] / height
        colors = np.stack([columns + 0 * lines, lines + 0 * columns, (columns + lines) / 2], axis=-1)
        yield (200 * colors + generator.integers(0, 20, colors.shape)).astype(np.uint8)


def predict(run: str, image: Path, out: Path, tile: int) -> None:
    """What the process that is measured does."""
    from triptych.prediction.outputs import predict_images
    from triptych.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(run, tile=tile) if run else Predictor(small_network(), tile=tile)
    predict_images(predictor, [image], out, fov=60)
    print(f"peak {peak()}")


def peak() -> int:
    """The most that was resident in this process, in KiB; getrusage would tell that of the parent, were it larger."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def small_network():
    """45 channels by one convolution, so that the time goes where the memory does."""
    import torch
    from torch import nn

    from triptych.backbones.base import Backbone
    from triptych.decoders.base import Decoder
    from triptych.models.multitask import MultiTaskModel
    from triptych.tasks import boundary, depth, normals, semseg

    class Pixels(Backbone):
        channels, strides = (3,), (1,)

        def forward(self, image):
            return [image]

    class Heads(Decoder):
        def __init__(self, channels, *, strides, tasks):
            super().__init__(channels, strides=strides, tasks=tasks)
            self.heads = nn.ModuleDict(
                {name: nn.Conv2d(3, task.channels, 3, padding=1) for name, task in tasks.items()}
            )

        def forward(self, features):
            return [{name: head(features[0]) for name, head in self.heads.items()}]

    torch.manual_seed(0)
    tasks = {task.name: task for task in (semseg(40), depth(), normals(), boundary())}
    model = MultiTaskModel(Pixels(), Heads((3,), strides=(1,), tasks=tasks))
    with torch.no_grad():
        model.decoder.heads["depth"].bias.fill_(2.0)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--run", default="")
    parser.add_argument("--most", type=float, default=3.0, help="GB above which the command fails")
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.image:
        predict(arguments.run, arguments.image, arguments.folder, arguments.tile)
        return 0
    from triptych.prediction.strip_files import write_png

    arguments.folder.mkdir(parents=True, exist_ok=True)
    peaks = []
    print("| width x height | megapixels | peak, GB | seconds |\n| --- | --- | --- | --- |", flush=True)
    for size in arguments.sizes:
        width, height = map(int, size.split("x"))
        image, out = arguments.folder / f"{size}.png", arguments.folder / size
        if not image.exists():
            write_png(image, (height, width), photograph(width, height))
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, __file__, str(out), "--image", str(image), "--tile", str(arguments.tile)]
        started = time.perf_counter()
        done = subprocess.run([*command, "--run", arguments.run], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            return 1
        peaks.append(int(done.stdout.split()[-1]) * 1024 / 1e9)
        seconds = time.perf_counter() - started
        print(f"| {size} | {width * height / 1e6:.3g} | {peaks[-1]:.2f} | {seconds:.0f} |", flush=True)
        shutil.rmtree(out)
        image.unlink()
    return int(max(peaks) > arguments.most)


if __name__ == "__main__":
    sys.exit(main())
