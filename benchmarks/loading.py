"""Loading speed of one core: prepared records against files that are parsed anew for every sample.

python benchmarks/loading.py                # PASCAL-Context's files: 448x576 crops with all five labels
python benchmarks/loading.py --gpu-rate 60  # how many cores feed a GPU that trains on so many images/s

The baseline is a straightforward loader written from the published description of the pipeline: it opens JPEG, PNG and
`.mat` files, thins the contours of the class map, walks the tree of parts, magnifies every map as a whole, crops,
mirrors and distorts colours in 8 bits, each time. Ours reads the same files once (`triptych data prepare`), then draws
from the records with the preset `atrc`. Both give the same targets before augmentation, which is checked first.
Real photographs and label maps of `../shared/samples` where that folder is there, else generated rooms.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import scipy.io
import scipy.ndimage
import torch
from PIL import Image, ImageEnhance
from skimage.morphology import thin

from triptych.augmentation.presets import build_transform
from triptych.data.base import DenseDataset
from triptych.datasets.rooms import Rooms
from triptych.machine import keep_freed_memory
from triptych.prepared.reader import Prepared
from triptych.prepared.write import prepare
from triptych.tasks import pascal_context_tasks
from triptych.types import IGNORE, Sample

SAMPLES = Path(__file__).resolve().parents[1] / "../shared/samples"
SIZE = (448, 576)
LIMBS = {
    **dict.fromkeys(("head", "hair", "lear", "lebrow", "leye", "rear", "rebrow", "reye", "mouth", "nose"), 1),
    **dict.fromkeys(("torso", "neck"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), 6),
}
"""Names of PASCAL-Part to the six parts."""
PERSON = 15
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


class Files(DenseDataset):
    """The baseline's reader: PASCAL-Context's files, parsed for every sample."""

    name, tasks = "files", pascal_context_tasks()

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = sorted(path.stem for path in (root / "JPEGImages").iterdir())

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return self.keys[index]

    def fingerprint(self) -> dict[str, object]:
        return {"name": self.name, "images": len(self)}

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Image `(H, W, 3)` and label maps as published loaders have them in memory."""
        key = self.keys[index]
        classes = scipy.io.loadmat(self.root / f"context/{key}.mat")["LabelMap"].astype(np.float64)
        edges = thin(np.abs(scipy.ndimage.laplace(classes)) > 0)
        normals = 2 * np.asarray(Image.open(self.root / f"normals/{key}.png"), np.float32) / 255 - 1
        normals[classes % 3 == 1] = 0  # normals are kept for some classes only
        return {
            "image": np.asarray(Image.open(self.root / f"JPEGImages/{key}.jpg").convert("RGB")),
            "semseg": np.asarray(Image.open(self.root / f"semseg/{key}.png")),
            "human_parts": self.parts(key, classes.shape),
            "saliency": (np.asarray(Image.open(self.root / f"saliency/{key}.png")) > 127.5).astype(np.uint8),
            "normals": normals,
            "boundary": edges.astype(np.float32),
        }

    def parts(self, key: str, size: tuple[int, ...]) -> np.ndarray:
        """Parts of all people; none are ignored."""
        objects = scipy.io.loadmat(self.root / f"parts/{key}.mat")["anno"][0, 0]["objects"]
        labels = np.zeros(size, np.uint8)
        for thing in objects.ravel():
            if int(thing["class_ind"].item()) == PERSON:
                for part in thing["parts"].ravel():
                    labels[part["mask"] > 0] = LIMBS[str(part["part_name"].item())]
        return labels if labels.any() else np.full(size, IGNORE, np.uint8)

    def __getitem__(self, index: int) -> Sample:
        arrays = self.arrays(index)
        normals = arrays["normals"]
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = np.where(length > 0, normals / np.maximum(length, 1e-6), np.nan)
        targets = {
            **{name: arrays[name].astype(np.int64) for name in ("semseg", "human_parts", "saliency")},
            "normals": normals.transpose(2, 0, 1).astype(np.float32),
            "boundary": arrays["boundary"][None],
        }
        image = arrays["image"].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in targets.items()}
        return Sample(torch.from_numpy(image), tensors, self.keys[index])


def straightforward(files: Files, index: int, draw: np.random.Generator) -> dict[str, torch.Tensor]:
    """One sample of the baseline: magnify by 0.5 to 2, crop, mirror, distort colours, normalise, pad."""
    maps = files.arrays(index)
    scale = draw.uniform(0.5, 2.0)
    height, width = (int(side * scale) for side in maps["semseg"].shape)
    rows = np.minimum((np.arange(height) / scale).astype(int), maps["semseg"].shape[0] - 1)[:, None]
    columns = np.minimum((np.arange(width) / scale).astype(int), maps["semseg"].shape[1] - 1)
    image = np.asarray(Image.fromarray(maps.pop("image")).resize((width, height), Image.Resampling.BILINEAR))
    maps = {"image": image, **{name: array[rows, columns] for name, array in maps.items()}}
    crop = min(height, SIZE[0]), min(width, SIZE[1])
    for _ in range(11):
        top, left = (int(draw.integers(side - part + 1)) for side, part in zip((height, width), crop, strict=True))
        window = slice(top, top + crop[0]), slice(left, left + crop[1])
        classes = maps["semseg"][window]
        counts = np.bincount(classes[classes != IGNORE], minlength=1)
        if np.count_nonzero(counts) > 1 and counts.max() < 0.75 * counts.sum():
            break
    maps = {name: array[window] for name, array in maps.items()}
    if draw.random() < 0.5:
        maps = {name: array[:, ::-1] for name, array in maps.items()}
        maps["normals"] = maps["normals"] * np.float32([-1, 1, 1])
    maps["image"] = (distort(maps["image"], draw) / np.float32(255) - MEAN) / STD
    pad = [((goal - side) // 2, goal - side - (goal - side) // 2) for goal, side in zip(SIZE, crop, strict=True)]
    fill = {"semseg": IGNORE, "human_parts": IGNORE, "saliency": IGNORE, "boundary": IGNORE}
    result = {}
    for name, array in maps.items():
        margins = pad + [(0, 0)] * (array.ndim - 2)
        array = np.pad(array, margins, constant_values=fill.get(name, 0))
        result[name] = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0) if array.ndim == 3 else array))
    result["normals"][:, (result["normals"] == 0).all(dim=0)] = IGNORE
    return {name: value.long() if value.dtype == torch.uint8 else value.float() for name, value in result.items()}


def distort(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue, each in half of the cases, in 8 bits."""
    pixels = image.astype(np.float32)
    if draw.random() < 0.5:
        pixels = np.clip(pixels + draw.uniform(-32, 32), 0, 255)
    first, contrast = draw.random() < 0.5, draw.uniform(0.5, 1.5) if draw.random() < 0.5 else 1.0
    if first:
        pixels = np.clip(pixels * contrast, 0, 255)
    picture = Image.fromarray(pixels.astype(np.uint8))
    if draw.random() < 0.5:
        picture = ImageEnhance.Color(picture).enhance(draw.uniform(0.5, 1.5))
    if draw.random() < 0.5:
        hue, saturation, value = picture.convert("HSV").split()
        shift = int(draw.integers(-25, 26))
        hue = hue.point([(level + shift) % 256 for level in range(256)])
        picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    pixels = np.asarray(picture, np.float32)
    return pixels if first else np.clip(pixels * contrast, 0, 255)


def write_tree(root: Path) -> str:
    """PASCAL-Context's files from real photographs and label maps, or from rooms; returns which."""
    pictures = sorted((SAMPLES / "pascal").glob("*/*.jpg"))
    normals = SAMPLES / "nyuv2/labelled/000433_normals.png"
    if pictures and normals.is_file():
        for path in pictures:
            stored = Image.open(path.with_suffix(".png"))
            classes = np.asarray(stored if stored.mode == "P" else stored.quantize(60, dither=Image.Dither.NONE))
            turned = Image.open(normals).convert("RGB").resize(stored.size, Image.Resampling.NEAREST)
            write_sample(root, path.stem, path.read_bytes(), classes, np.asarray(turned), path.parent.name == "person")
        return f"{len(pictures)} real photographs with label maps"
    rooms = Rooms(root / "rooms", split="val", scenes=4, views=2, size=(375, 500))
    for i, sample in enumerate(rooms):
        picture = BytesIO()
        pixels = (sample.image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(picture, "jpeg", quality=95)
        turned = ((sample.targets["normals"].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
        classes = sample.targets["semseg"].numpy().astype(np.uint8)
        write_sample(root, f"{i:06d}", picture.getvalue(), classes, turned, person=i % 3 == 0)
    return f"{len(rooms)} generated rooms"


def write_sample(root: Path, key: str, jpeg: bytes, classes: np.ndarray, normals: np.ndarray, person: bool) -> None:
    """One image in the encodings of the published archive."""
    known = np.where(classes == IGNORE, 0, classes)
    parts = np.empty((1, 6 if person else 0), [("part_name", object), ("mask", object)])
    for i in range(parts.size):
        names = ("head", "torso", "luarm", "llarm", "luleg", "llleg")
        parts[0, i] = names[i], (known % 7 == i + 1).astype(np.uint8)
    objects = np.empty((1, 1), [("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    objects[0, 0] = "person", PERSON, (known > 0).astype(np.uint8), parts
    pictures = {"semseg": np.where(classes == IGNORE, IGNORE, known % 21), "saliency": np.where(known > 0, 255, 0)}
    for folder in ("JPEGImages", "context", "parts", "normals", *pictures):
        (root / folder).mkdir(exist_ok=True)
    (root / f"JPEGImages/{key}.jpg").write_bytes(jpeg)
    scipy.io.savemat(root / f"context/{key}.mat", {"LabelMap": known.astype(np.uint16) * 7}, do_compression=True)
    anno = {"anno": {"imname": key, "objects": objects}}
    scipy.io.savemat(root / f"parts/{key}.mat", anno, do_compression=True)
    Image.fromarray(normals).save(root / f"normals/{key}.png")
    for folder, array in pictures.items():
        Image.fromarray(array.astype(np.uint8)).save(root / f"{folder}/{key}.png")


def seconds(function: Callable[[int], object], count: int, rounds: int) -> list[float]:
    """Seconds of the processor per sample, of each round over all samples: other work on the machine hardly counts."""
    times = []
    for i in range(rounds):
        started = time.process_time()
        for index in range(count):
            function(i * count + index)
        times.append((time.process_time() - started) / count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="times that every sample is read")
    parser.add_argument("--gpu-rate", type=float, default=100.0, help="images/s that the GPU trains on")
    arguments = parser.parse_args()
    # As the loader's processes do.
    torch.set_num_threads(1)
    keep_freed_memory()
    root = Path(tempfile.mkdtemp())
    try:
        origin = write_tree(root)
        files = Files(root)
        done = prepare(files, root / "fast", split="train")
        compare(files, Prepared(root / "fast"), origin, arguments.rounds, arguments.gpu_rate)
        per_image = sum(path.stat().st_size for path in root.glob("*/*.*") if path.parent.name != "train")
        print(
            f"on disk per image: {per_image / len(files) / 1e6:.2f} MB of files, {done.size / len(files) / 1e6:.2f} MB"
        )
    finally:
        shutil.rmtree(root)


def compare(files: Files, prepared: Prepared, origin: str, rounds: int, gpu_rate: float) -> None:
    """Time both, in turn, and print what one core does."""
    count = len(files)
    for index in range(count):
        for name, target in files[index].targets.items():
            assert torch.equal(target.nan_to_num(7), prepared[index].targets[name].nan_to_num(7)), name
    transform = build_transform("atrc", size=SIZE, tasks=prepared.tasks, train=True)
    work: dict[str, Callable[[int], object]] = {
        "files, read": lambda i: files.arrays(i % count),
        "files, read and augmented": lambda i: straightforward(files, i % count, np.random.default_rng(i)),
        "prepared, read": lambda i: prepared[i % count],
        "prepared, read and augmented": lambda i: transform(prepared[i % count], np.random.default_rng(i)),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        seconds(function, count, 1)  # caches, compiled kernels
    # In turn, so that a machine that drifts slows all of them alike.
    for _ in range(rounds):
        for name, function in work.items():
            times[name] += seconds(function, count, 1)
    median = {name: statistics.median(values) for name, values in times.items()}
    print(f"{origin}; 5 labels, crop {SIZE[0]}x{SIZE[1]}, one core, page cache warm, {rounds} rounds")
    for name, value in median.items():
        print(f"  {name:32} {value * 1e3:7.2f} ms {1 / value:8.1f} images/s")
    slow, fast = median["files, read and augmented"], median["prepared, read and augmented"]
    print(
        f"ratio: {slow / fast:.1f}x (goal: 5x); reading alone {median['files, read'] / median['prepared, read']:.1f}x"
    )
    print(f"cores that feed {gpu_rate:g} images/s: {gpu_rate * slow:.1f} with files, {gpu_rate * fast:.1f} prepared")


if __name__ == "__main__":
    main()
