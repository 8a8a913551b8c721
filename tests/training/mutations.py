"""Changes files of every kind of a run, and images, at random; reads them, and checks that they are refused in one line
that names the file, or are read as something that may be: never another error, and weights only as they were written.

Run as a script: `python tests/training/mutations.py FOLDER --count 2000`.
"""

import argparse
import random
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import RECIPE, change

from triptych.data.photos import read_image, read_image_size, read_photo
from triptych.evaluation.run import evaluate_run
from triptych.evaluation.scores import read_scores
from triptych.prediction.predictor import Predictor
from triptych.report.values import read_run
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train

SHARES = {"images": 0.6, "network": 0.2, "scores and log": 0.14, "checkpoints": 0.06}
"""Of the mutations: those of a checkpoint each take a start of a training."""
EXPECTED = (ValueError, OSError)
RUN = change(RECIPE, schedule__steps=2, training__checkpoint_every=2, training__evaluate_every=2, training__log_every=1)


def mutate(path: Path, generator: random.Random) -> None:
    """Change, cut or empty a file."""
    content = bytearray(path.read_bytes())
    kind = generator.choice(["byte", "byte", "byte", "cut", "empty", "other encoding", "bytes", "longer"])
    if kind == "byte":
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "other encoding":
        content[generator.randrange(len(content))] = 0xFF
    elif kind == "bytes":  # of the start, where headers are
        for _ in range(4):
            content[generator.randrange(min(64, len(content)))] = generator.randrange(256)
    elif kind == "longer":
        content += generator.randbytes(20)
    else:
        content = content[: generator.randrange(len(content)) if kind == "cut" else 0]
    path.write_bytes(content)


def one_line_about(error: BaseException, path: Path) -> bool:
    """Whether an error is one line that names a file, or the folder it lies in."""
    return "\n" not in str(error) and (path.name in str(error) or path.parent.name in str(error))


class Judge:
    """Counts what became of mutations."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def of(self, path: Path, read: Callable[[], str]) -> None:
        """`read` returns what is wrong with a file that was read; empty where nothing is."""
        try:
            wrong = read()
            self.counts["read"] += 1
        except EXPECTED as error:
            wrong = "" if one_line_about(error, path) else f"{type(error).__name__}: {error}"
            self.counts["refused"] += 1
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            self.wrong.append(f"{path.parent.name}/{path.name}: {wrong}")
            print(self.wrong[-1], flush=True)


def make_images(folder: Path) -> list[Path]:
    """One of every form that photographs come in."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (24, 31, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(pixels)
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm"):
        picture.save(folder / f"color{suffix}")
    picture.save(folder / "turned.jpg", exif=exif)
    picture.save(folder / "packed.tif", compression="tiff_lzw")
    picture.convert("P").save(folder / "palette.png", transparency=1)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 255).save(folder / "deep.png")
    np.save(folder / "array.npy", pixels)
    np.savez(folder / "array.npz", image=pixels)
    return sorted(folder.iterdir())


def mutate_images(judge: Judge, folder: Path, count: int, generator: random.Random) -> None:
    whole = make_images(folder / "images")
    for number in range(count):
        source = whole[number % len(whole)]
        path = folder / "image" / source.name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
        mutate(path, generator)

        def read(path: Path = path) -> str:
            read_image_size(path)
            image, photo = read_image(path), read_photo(path)
            fits = image.ndim == 3 and photo.size == tuple(image.shape[1:])
            return "" if fits and image.isfinite().all() else f"an image of {tuple(image.shape)}"

        judge.of(path, read)


def mutate_network(judge: Judge, run: Path, count: int, generator: random.Random) -> None:
    image = torch.rand(3, 32, 48)
    expected = Predictor.load(run)(image)
    names = ("model.safetensors", "recipe.json", "tasks.json", "resolved.json")
    for number in range(count):
        name = names[number % len(names)]
        original = (run / name).read_bytes()
        mutate(run / name, generator)

        def read(name: str = name) -> str:
            found = Predictor.load(run)(image)
            equal = all(np.array_equal(found[task], expected[task]) for task in expected if task in found)
            return "" if equal or name.endswith(".json") else "other weights were read"

        judge.of(run / name, read)
        (run / name).write_bytes(original)


def mutate_scores(judge: Judge, run: Path, count: int, generator: random.Random) -> None:
    scores = run / "evaluation-test.json"
    names = (scores.name, "evaluation-test.safetensors", "metrics.jsonl", "environment.json", "resolved.json")
    for number in range(count):
        name = names[number % len(names)]
        original = (run / name).read_bytes()
        mutate(run / name, generator)

        def read() -> str:
            read_scores(scores).read_sums()
            read_run(run)
            return ""

        judge.of(run / name, read)
        (run / name).write_bytes(original)


def mutate_checkpoints(judge: Judge, run: Path, count: int, generator: random.Random) -> None:
    last = list_checkpoints(run)[-1]
    names = sorted(path.name for path in last.iterdir())
    for number in range(count):
        name = names[number % len(names)]
        copy = Path(shutil.copytree(run, run.with_name("resumed"), dirs_exist_ok=True))
        path = copy / "checkpoints" / last.name / name
        mutate(path, generator)

        def read(copy: Path = copy) -> str:
            train(RUN, copy, resume=True, device="cpu", progress=False)
            same = (copy / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
            return "" if same else "a run resumed from it to other weights"

        judge.of(path, read)
        shutil.rmtree(copy)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run = train(RUN, arguments.folder / "run", device="cpu", progress=False)
    evaluate_run(run, split="test", device="cpu", progress=False)
    judge, generator = Judge(), random.Random(arguments.seed)
    kinds = {
        "images": lambda count: mutate_images(judge, arguments.folder, count, generator),
        "network": lambda count: mutate_network(judge, run, count, generator),
        "scores and log": lambda count: mutate_scores(judge, run, count, generator),
        "checkpoints": lambda count: mutate_checkpoints(judge, run, count, generator),
    }
    for kind, work in kinds.items():
        before, wrong, count = judge.counts.copy(), len(judge.wrong), round(arguments.count * SHARES[kind])
        work(count)
        told = ", ".join(f"{judge.counts[name] - before[name]} {name}" for name in ("refused", "read"))
        print(f"{kind}: {count} mutations, {told}, {len(judge.wrong) - wrong} wrong", flush=True)
    print(f"{arguments.count} mutations, {len(judge.wrong)} wrong")
    return int(bool(judge.wrong))


if __name__ == "__main__":
    sys.exit(main())
