"""What leaving torch brings and costs: torch, and onnxruntime in float32 and in int8, on a CPU.

    python benchmarks/deploy.py --runs runs/deploy                             # all of it: an hour on two cores
    python benchmarks/deploy.py --runs runs/deploy --parts rooms --minutes 4   # a piece of it
    python benchmarks/deploy.py --table                                        # only docs/deploy.md

*Time, size, memory*: the networks of published recipes on NYUv2, with their trunks, at 240 x 320. Their weights are
random: none of the three depends on these. torch, float32 and int8 are processes of their own with two threads each,
whose passes are timed in turn, so that a machine of changing load slows them alike.

*Scores*: the same decoders, as small as the recipes on `rooms` have them, are trained for a few hundred steps on
`rooms` and on CamVid, exported, and scored on the test split. int8 is calibrated on images of the training split.
Beside them stands the best constant prediction.

*The runtime*: what an environment of `triptych-runtime` alone takes on the disk, and when and with how much memory it
has the network of `rooms-demo` ready.

Runs, files and scores stay in the folder `--runs`; what is there is not made again. Results join results/deploy.json.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from deploy_table import tables
from model_table import write_table
from PIL import Image

from triptych import assemble
from triptych.evaluation.run import evaluate_run
from triptych.evaluation.scores import read_scores
from triptych.export import export_run, exported_program
from triptych.export.description import versions
from triptych.export.onnx_file import quantize, write_onnx
from triptych.files import write_text, written_whole
from triptych.prediction.pretrained import FILES, read_run_tasks, save_folder
from triptych.recipes import RECIPES
from triptych.recipes.config import DataConfig, Recipe
from triptych.tasks import nyuv2_tasks
from triptych.training.loop import train

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "results" / "deploy.json", ROOT / "docs" / "deploy.md"
CAMVID = ROOT / "examples" / "real-data" / "camvid.toml"
CAMVID_DATA = ROOT.parent / "shared" / "data" / "camvid"
SIZE = (240, 320)
"""Of the images that are timed."""
TURNS = 9
NETWORKS = {
    "four-level": ("nyuv2-vit", "rooms-vit"),
    "deeplab": ("nyuv2-survey", "rooms-deeplab"),
    "mti-net": ("nyuv2-mti-net-hrnet18", "rooms-mti-net"),
    "invpt": ("nyuv2-invpt-vit-b", "rooms-invpt"),
    "densemtl": ("nyuv2-densemtl", "rooms-densemtl"),
    "fcn": ("nyuv2-hrnet18", "rooms-fcn"),
}
"""The recipe whose network is timed, and the one whose network is trained and scored."""
TIMED_TASKS = ("semseg", "depth", "normals", "boundary")
FORMATS = ("torch", "fp32", "int8")


class Scored(NamedTuple):
    """Data to train on and to score, with batches of 8: steps, images of the test split, their size, and of which
    networks.
    """

    data: DataConfig
    steps: int
    images: int
    size: tuple[int, int]
    networks: tuple[str, ...]


SETS = {
    "rooms": Scored(DataConfig(size=(64, 80), options={"size": (64, 80)}), 200, 100, (64, 80), tuple(NETWORKS)),
    # Contours at this size take a second an image.
    "camvid": Scored(
        DataConfig(dataset="folder", root=str(CAMVID), size=(96, 128)),
        150,
        16,
        (360, 480),
        ("four-level", "deeplab", "fcn"),
    ),
}
LONGER = {"deeplab": 4, "fcn": 4}
"""Times as many steps for those whose loss by int8 has a goal: one head on coarse maps begins slowly."""
PICTURES = 32
"""Images of the training split that int8 is calibrated on."""


def timed_files(name: str, runs: Path) -> dict[str, Path]:
    """A run folder with the published network of random weights, and its files, written where they are missing."""
    run = runs / "timed" / name
    files = {"torch": run, "fp32": run / "fp32.onnx", "int8": run / "int8.onnx"}
    if not files["fp32"].is_file():
        recipe = RECIPES[NETWORKS[name][0]]
        data = replace(recipe.data, tasks=TIMED_TASKS, auxiliary_tasks=(), task_options={})
        options = dict(recipe.model.backbone_options)
        if "image_size" in options:
            options["image_size"] = SIZE
        recipe = replace(recipe, data=data, model=replace(recipe.model, weights="", backbone_options=options))
        torch.manual_seed(0)
        model = assemble.build_model(recipe, {task: nyuv2_tasks()[task] for task in TIMED_TASKS})
        save_folder(run, model, recipe, overwrite=True)
        with written_whole(files["fp32"]) as partial:
            write_onnx(exported_program(model, SIZE), partial)
    if not files["int8"].is_file():
        images = torch.rand(2, 1, 3, *SIZE, generator=torch.Generator().manual_seed(0)).numpy()
        with written_whole(files["int8"]) as partial:
            quantize(files["fp32"], partial, list(images))
    return files


def trained_files(name: str, data_name: str, runs: Path) -> dict[str, Path]:
    """A trained run folder and its files; all of it is made where it is missing."""
    chosen = SETS[data_name]
    recipe = RECIPES[NETWORKS[name][1]]
    training = replace(recipe.training, evaluate_every=0, checkpoint_every=50)
    schedule = replace(recipe.schedule, steps=chosen.steps * LONGER.get(name, 1))
    recipe = replace(recipe, data=chosen.data, schedule=schedule, training=training)
    run = runs / data_name / name
    files = {"torch": run, "fp32": run / "fp32.onnx", "int8": run / "int8.onnx"}
    if not files["fp32"].is_file():
        train(recipe, run, resume=run.is_dir(), device="cpu", progress=False)
        export_run(run, files["fp32"], size=chosen.size, images=2)
    if not files["int8"].is_file():
        pictures = write_pictures(recipe, run / "calibration")
        # What it loses is what is measured here, so none is too much.
        export_run(
            run, files["int8"], size=chosen.size, precision="int8", calibrate=pictures, max_loss=math.inf, images=2
        )
    return files


def write_pictures(recipe: Recipe, folder: Path) -> Path:
    """Images of the training split, spread over it, as PNG."""
    folder.mkdir(exist_ok=True)
    dataset = assemble.build_dataset(recipe, recipe.data.train_split)
    for number in range(PICTURES):
        image = dataset[number * len(dataset) // PICTURES].image
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / f"{number:03}.png")
    return folder


def scores(files: dict[str, Path], data_name: str) -> dict[str, dict[str, Any]]:
    """By task: its primary number, whether higher is better, and its value by format and of a constant."""
    found: dict[str, Any] = {}
    for kind, network in files.items():
        results = network if network.is_dir() else network.with_name(network.name + ".results")
        path = results / "evaluation-test.json"
        if not path.is_file():
            constant, limit = kind == "torch", SETS[data_name].images
            evaluate_run(network, split="test", limit=limit, constant=constant, device="cpu", progress=False)
        saved = read_scores(path)
        for task, entry in read_run_tasks(files["torch"]).items():
            metric = entry.metric()
            row = found.setdefault(
                task, {"metric": metric.primary, "higher_is_better": metric.better[metric.primary], "images": 0}
            )
            row[kind] = saved.metrics[task][metric.primary]
            if kind == "torch":
                row["constant"] = saved.content["constant"][task][metric.primary]
            row["images"] = len(saved.keys[task])
    return found


class Pass:
    """A process that runs one network, a pass at a time."""

    def __init__(self, kind: str, path: Path) -> None:
        engine = "torch" if kind == "torch" else "onnxruntime"
        words = [sys.executable, str(ROOT / "benchmarks" / "deploy_pass.py"), engine, str(path), *map(str, SIZE)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Pass":
        self.read()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def read(self) -> str:
        assert self.process.stdout is not None, "it was opened with a pipe"
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended")  # type: ignore[arg-type]
        return line

    def seconds(self) -> float:
        """One pass."""
        assert self.process.stdin is not None, "it was opened with a pipe"
        time.sleep(0.05)  # threads of the one before go on turning for a while
        print(file=self.process.stdin, flush=True)
        return float(self.read())

    def peak(self) -> int:
        """Bytes; the process ends."""
        assert self.process.stdin is not None, "it was opened with a pipe"
        self.process.stdin.close()
        return int(self.read())


def time_network(files: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Median seconds, bytes of the file and of the peak by format, and how many times faster than torch in the same
    turns.
    """
    with ExitStack() as stack:
        passes = {kind: stack.enter_context(Pass(kind, files[kind])) for kind in FORMATS}
        turns = [{kind: one.seconds() for kind, one in passes.items()} for _ in range(TURNS)]
        peaks = {kind: one.peak() for kind, one in passes.items()}
    weights = {"torch": files["torch"] / FILES["weights"]}
    return {
        kind: {
            "seconds": statistics.median(turn[kind] for turn in turns),
            "faster": statistics.median(turn["torch"] / turn[kind] for turn in turns),
            "bytes": weights.get(kind, files[kind]).stat().st_size,
            "peak_bytes": peaks[kind],
        }
        for kind in FORMATS
    }


START = """
import json, re, sys, time
started = time.perf_counter()
from triptych_runtime import Network
network = Network(sys.argv[1], threads=2)
seconds = time.perf_counter() - started
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "torch": "torch" in sys.modules}))
"""


def bare_environment(runs: Path) -> Path:
    """A Python in which `triptych-runtime` and what it needs is installed, and nothing else."""
    folder = runs / "bare"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "triptych-runtime").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        words = ["-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(ROOT / "runtime")]
        subprocess.run([str(python), *words], check=True)
    return python


def measure_runtime(python: Path, demo: Path) -> dict[str, float]:
    """Bytes of the packages without pip, and start of the network: the median of five processes."""
    site = next((python.parents[1] / "lib").glob("python*/site-packages"))
    packages = sum(
        path.stat().st_blocks * 512
        for path in site.rglob("*")
        if not path.is_symlink() and not path.relative_to(site).parts[0].startswith("pip")
    )
    # Without the variables of this process, which would lead to packages from elsewhere.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    starts = [
        json.loads(subprocess.check_output([str(python), "-c", START, str(demo)], text=True, env=environment))
        for _ in range(5)
    ]
    if any(start["torch"] for start in starts):
        raise RuntimeError(f"{python} has torch")
    medians = {key: statistics.median(start[key] for start in starts) for key in ("seconds", "peak_bytes")}
    return {"packages_bytes": packages, **medians}


PARTS = (*SETS, "files", "time", "runtime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/deploy"), help="folder of runs, files and scores")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="do these alone")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="of these alone")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start nothing new after that time")
    parser.add_argument("--table", action="store_true", help="measure nothing, only write docs/deploy.md")
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if not options.table:
        end = time.monotonic() + 60 * options.minutes
        for part in options.parts:
            for name in options.networks:
                if time.monotonic() > end:
                    print("the minutes are over; call again to go on")
                    return
                print(f"{part}: {name}", flush=True)
                measure(part, name, options.runs.resolve(), found)
                write_text(RESULTS, json.dumps(found, indent=1) + "\n")
        print("all is there")
    for name, text in tables(found).items():
        write_table(PAGE, text, name)
        print(text, end="\n\n")


def measure(part: str, name: str, runs: Path, found: dict[str, Any]) -> None:
    """Add the results of one network to those that were found."""
    if part == "files":
        timed_files(name, runs)
    elif part == "time":
        timed = {"recipe": NETWORKS[name][0], **time_network(timed_files(name, runs))}
        found.setdefault("timed", {})[name] = timed
        found["settings"] = {"size": SIZE, "turns": TURNS, "threads": 2, **versions("torch", "onnxruntime")}
    elif part == "runtime":
        if name == "four-level":  # trained, it is the network of rooms-demo
            demo = trained_files(name, "rooms", runs)["fp32"]
            found["runtime"] = measure_runtime(bare_environment(runs), demo)
    elif name in SETS[part].networks and (part != "camvid" or CAMVID_DATA.is_dir()):
        found.setdefault("scores", {}).setdefault(part, {})[name] = scores(trained_files(name, part, runs), part)


if __name__ == "__main__":
    main()
